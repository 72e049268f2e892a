"""AP by hand-made curves and by a slow reading of the definition; matching by exhaustive simulation; golden curves."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from ultralytics.utils.metrics import Metric, ap_per_class, box_iou, compute_ap, match_predictions, smooth

GOLDEN = Path(__file__).parents[2] / "golden"
CASES = [c for c in json.loads((GOLDEN / "cases.json").read_text())["cases"] if c["group"] == "metrics"]
IOUV = torch.linspace(0.5, 0.95, 10)


# ------------------------------------------------------------------------------------------------------- matching
def _slow_match(pred_cls, true_cls, iou, threshold):
    """Predictions in turn claim the best free target of their class."""
    free, out = set(range(len(true_cls))), []
    for i, c in enumerate(pred_cls):
        able = [(iou[j][i], -j) for j in free if true_cls[j] == c and iou[j][i] >= threshold]
        out.append(bool(able))
        if able:
            free.remove(-max(able)[1])
    return out


@pytest.mark.parametrize("n, m", [(0, 0), (0, 4), (4, 0)])
def test_match_empty(n, m):
    result = match_predictions(torch.zeros(n), torch.zeros(m), torch.zeros(m, n), IOUV)
    assert result.shape == (n, 10) and result.dtype == torch.bool and not result.any()


@pytest.mark.parametrize("seed", range(20))
def test_match_against_simulation(seed):
    rng = np.random.default_rng(seed)
    n, m = rng.integers(1, 30), rng.integers(1, 12)
    pred_cls, true_cls = rng.integers(0, 3, n), rng.integers(0, 3, m)
    iou = rng.random((m, n)).round(1 if seed % 2 else 6)  # every other one with many ties
    got = match_predictions(*(torch.from_numpy(x) for x in (pred_cls, true_cls, iou)), IOUV.double())
    for t, threshold in enumerate(IOUV.double().tolist()):
        assert got[:, t].tolist() == _slow_match(pred_cls, true_cls, iou, threshold)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c["id"])
def test_match_golden(case):
    z = np.load(GOLDEN / "metrics.npz")
    pred, gt, tp = (torch.from_numpy(z[f"{case['id']}/{k}"]) for k in ("pred", "gt", "tp"))
    for i in range(case["images"]):
        p, g = pred[pred[:, 0] == i], gt[gt[:, 0] == i]
        got = match_predictions(p[:, 1], g[:, 1], box_iou(g[:, 2:], p[:, 3:]), IOUV)
        assert torch.equal(got, tp[pred[:, 0] == i])


# ------------------------------------------------------------------------------------------------------------- AP
def _slow_ap(recall, precision):
    """The mean height of the envelope's straight-line interpolation, on the 101 points, by trapezoids."""
    points = [(0.0, 1.0), *zip(recall, precision, strict=True), (recall[-1], 0.0), (1.0, 0.0)]
    heights = [max(p for _, p in points[i:]) for i in range(len(points))]

    def at(x):
        last = max(i for i, (r, _) in enumerate(points) if r <= x)
        if last == len(points) - 1 or points[last][0] == x:
            return heights[last]
        (r0, _), (r1, _) = points[last], points[last + 1]
        return heights[last] + (heights[last + 1] - heights[last]) * (x - r0) / (r1 - r0)

    y = [at(i / 100) for i in range(101)]
    return sum((a + b) / 200 for a, b in pairwise(y))


@pytest.mark.parametrize(
    "recall, precision, want",
    [
        ([], [], 0.5),  # upstream's line from (0, 1) to (1, 0); ap_per_class never asks for it
        ([1.0], [1.0], 0.995),
        ([0.5], [1.0], 0.495),
        ([0.5, 1.0], [1.0, 0.5], 0.8725),
    ],
)
def test_compute_ap_by_hand(recall, precision, want):
    ap, envelope, positions = compute_ap(np.array(recall), np.array(precision))
    assert ap == pytest.approx(want, abs=1e-3 if not recall else 1e-9)
    assert (np.diff(envelope) <= 0).all() and (np.diff(positions) >= 0).all()


@pytest.mark.parametrize("seed", range(10))
def test_compute_ap_slowly(seed):
    rng = np.random.default_rng(seed)
    hits = rng.random(rng.integers(3, 40)) < 0.6
    hits[0] = True
    recall, precision = hits.cumsum() / 50.5, hits.cumsum() / np.arange(1, len(hits) + 1)
    assert compute_ap(recall, precision)[0] == pytest.approx(_slow_ap(recall, precision), abs=1e-9)


@pytest.mark.parametrize("y, f", [([1.0], 0.1), ([1.0, 2.0, 4.0, 8.0, 9.0, 3.0, 1.0], 0.4), (list(range(100)), 0.1)])
def test_smooth(y, f):
    y = np.array(y, dtype=float)
    half = (round(len(y) * f * 2) // 2 + 1) // 2
    want = [np.mean([y[min(max(k, 0), len(y) - 1)] for k in range(i - half, i + half + 1)]) for i in range(len(y))]
    if (round(len(y) * f * 2) // 2 + 1) % 2:
        np.testing.assert_allclose(smooth(y, f), want)
    assert smooth(y, f).shape == y.shape


# ---------------------------------------------------------------------------------------------------- ap_per_class
def test_ap_per_class_empty():
    none = np.zeros(0)
    result = ap_per_class(np.zeros((0, 10), bool), none, none, none)
    assert result.ap.shape == (0, 10) and result.p_curve.shape == (0, 1000)


def test_ap_per_class_without_predictions():
    none = np.zeros(0)
    result = ap_per_class(np.zeros((0, 10), bool), none, none, np.array([3.0, 3.0, 7.0]))
    assert result.unique_classes.tolist() == [3, 7] and not result.ap.any() and not result.tp.any()


@pytest.mark.parametrize("case", CASES, ids=lambda c: c["id"])
def test_golden_curves(case):
    z = np.load(GOLDEN / "metrics.npz")
    pred, gt, tp = (z[f"{case['id']}/{k}"] for k in ("pred", "gt", "tp"))
    result = ap_per_class(tp, pred[:, 2], pred[:, 1], gt[:, 1])
    for name in ("p_curve", "r_curve", "f1_curve"):
        np.testing.assert_allclose(getattr(result, name)[:, ::50], z[f"{case['id']}/{name}_every50"], atol=1e-6)


def test_order_of_predictions_does_not_matter():
    z = np.load(GOLDEN / "metrics.npz")
    pred, gt, tp = (z[f"metrics_main/{k}"] for k in ("pred", "gt", "tp"))
    shuffled = np.random.default_rng(0).permutation(len(pred))
    a = ap_per_class(tp, pred[:, 2], pred[:, 1], gt[:, 1])
    b = ap_per_class(tp[shuffled], pred[shuffled, 2], pred[shuffled, 1], gt[:, 1])
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x, y)


def test_confidence_curves_follow_the_definition():
    conf, tp = np.array([0.9, 0.6, 0.3]), np.repeat([[True], [False], [True]], 10, 1)
    result = ap_per_class(tp, conf, np.zeros(3), np.zeros(4))
    at = [int(c * 999) for c in (0.95, 0.89, 0.29)]
    np.testing.assert_allclose(result.r_curve[0, at], [0, 0.25, 0.5], atol=0.01)
    np.testing.assert_allclose(result.p_curve[0, at], [1, 1, 2 / 3], atol=0.03)


# ---------------------------------------------------------------------------------------------------------- Metric
def test_metric_before_update():
    metric = Metric(nc=3)
    assert metric.mean_results() == [0, 0, 0, 0] and metric.map75 == 0 and metric.fitness() == 0
    assert metric.maps.tolist() == [0, 0, 0] and metric.curves_results == []


def test_metric_maps_fill_absent_classes():
    tp = np.ones((2, 10), bool)
    metric = Metric(nc=4)
    metric.update(ap_per_class(tp, np.array([0.9, 0.8]), np.array([1.0, 2.0]), np.array([1.0, 2.0, 2.0])))
    assert metric.ap_class_index.tolist() == [1, 2]
    np.testing.assert_allclose(metric.maps, [metric.map, 0.995, metric.ap[1], metric.map])
    assert metric.class_result(0)[2:] == pytest.approx((0.995, 0.995))
    assert [len(c) for c in metric.curves_results] == [4] * len(metric.curves)
    shown = (metric.prec_values, metric.f1_curve, metric.p_curve, metric.r_curve)
    assert all(np.array_equal(y, c[1]) for y, c in zip(shown, metric.curves_results, strict=True))
    assert np.array_equal(metric.px, metric.curves_results[0][0])
