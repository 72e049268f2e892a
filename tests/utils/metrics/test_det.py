"""DetMetrics: upstream's numbers by hand-built objects, COCO's by the validator's, tables, curves, empty sets."""

import json
from pathlib import Path

import numpy as np
import pytest

from ultralytics.utils.metrics import DetMetrics

GOLDEN = Path(__file__).parents[2] / "golden"
CASES = [c for c in json.loads((GOLDEN / "cases.json").read_text())["cases"] if c["group"] == "metrics"]
NONE = np.zeros(0)


def _stat(tp=None, conf=NONE, pred_cls=NONE, target_cls=NONE, **more):
    tp = np.zeros((len(conf), 10), bool) if tp is None else tp
    return {"tp": tp, "conf": conf, "pred_cls": pred_cls, "target_cls": target_cls, **more}


def _golden(case, coco):
    """A DetMetrics that has seen a stored data set."""
    z = np.load(GOLDEN / "metrics.npz")
    pred, gt, tp = (z[f"{case['id']}/{k}"] for k in ("pred", "gt", "tp"))
    metrics = DetMetrics({i: f"c{i}" for i in range(case["nc"])}, coco=coco)
    for i in range(case["images"]):
        p, g = pred[pred[:, 0] == i], gt[gt[:, 0] == i]
        boxes = {"pred_boxes": p[:, 3:], "target_boxes": g[:, 2:], "im_name": f"folder/{i}.jpg"}
        metrics.update_stats(_stat(tp[pred[:, 0] == i], p[:, 2], p[:, 1], g[:, 1], **boxes))
    return metrics, z


@pytest.mark.parametrize("case", CASES, ids=lambda c: c["id"])
def test_reports_coco(case):
    metrics, z = _golden(case, coco=True)
    metrics.process()
    np.testing.assert_allclose(list(metrics.coco_stats.values()), case["coco_stats"], atol=1e-9)
    ap, ap50, ap75 = case["coco_stats"][:3]
    box = metrics.box
    np.testing.assert_allclose([box.map, box.map50, box.map75, metrics.fitness], [ap, ap50, ap75, ap], atol=1e-9)
    # P, R and F1 stay upstream's
    np.testing.assert_allclose([box.mp, box.mr], z[f"{case['id']}/summary"][:2], rtol=1e-6)
    present = np.unique(z[f"{case['id']}/gt"][:, 1]).astype(int)
    assert metrics.ap_class_index.tolist() == present.tolist()
    absent = np.setdiff1d(np.arange(case["nc"]), present)
    np.testing.assert_allclose(metrics.maps[absent], ap)
    np.testing.assert_allclose(metrics.maps[present].mean(), ap)


def test_results_dict_and_counts():
    metrics, z = _golden(CASES[0], coco=False)
    gt = z[f"{CASES[0]['id']}/gt"]
    columns = metrics.process()
    assert len(columns["tp"]) == CASES[0]["counts"]["predictions"]
    assert list(metrics.results_dict) == [
        "metrics/precision(B)", "metrics/recall(B)", "metrics/mAP50(B)", "metrics/mAP50-95(B)", "fitness",
    ]  # fmt: skip
    assert metrics.results_dict["fitness"] == metrics.box.map
    assert metrics.nt_per_class.tolist() == [int((gt[:, 1] == c).sum()) for c in range(5)]
    assert metrics.nt_per_image.tolist() == [len(np.unique(gt[gt[:, 1] == c, 0])) for c in range(5)]
    assert len(metrics.curves) == len(metrics.curves_results) == 4
    assert metrics.speed.keys() == {"preprocess", "inference", "loss", "postprocess"}


@pytest.mark.parametrize("coco", [False, True])
def test_nothing_at_all(coco):
    metrics = DetMetrics(["a", "b"], coco=coco)
    assert metrics.process() == {}
    assert metrics.mean_results() == [0, 0, 0, 0] and metrics.fitness == 0 and metrics.summary() == []


@pytest.mark.parametrize(
    "conf, target_cls",
    [(NONE, NONE), (np.array([0.9]), NONE), (NONE, np.array([1.0]))],
    ids=["empty images", "no target", "no prediction"],
)
@pytest.mark.parametrize("coco", [False, True])
def test_one_side_empty(conf, target_cls, coco, tmp_path):
    metrics = DetMetrics({0: "a", 1: "b"}, coco=coco)
    boxes = {"pred_boxes": np.zeros((len(conf), 4)), "target_boxes": np.ones((len(target_cls), 4))}
    for _ in range(2):
        metrics.update_stats(_stat(None, conf, np.zeros(len(conf)), target_cls, **boxes))
    metrics.process(tmp_path, plot=not coco)  # the pictures are the same
    assert metrics.mean_results() == [0, 0, 0, 0]
    assert metrics.maps.tolist() == [0, 0]
    assert len(metrics.summary()) == len(np.unique(target_cls))


def test_missing_statistics_are_named():
    with pytest.raises(KeyError, match="pred_boxes, target_boxes"):
        DetMetrics(["a"], coco=True).update_stats(_stat())
    with pytest.raises(KeyError, match="missing: tp"):
        DetMetrics(["a"]).update_stats({"conf": NONE, "pred_cls": NONE, "target_cls": NONE})


def test_image_metrics():
    metrics = DetMetrics(["a"])
    hit = np.ones((2, 10), bool)
    hit[1] = False
    metrics.update_stats(_stat(hit, np.array([0.9, 0.8]), np.zeros(2), np.zeros(3), im_name="one/x.jpg"))
    metrics.update_stats(_stat(im_name="two/x.jpg"))
    metrics.update_stats(_stat(target_cls=np.zeros(2), im_name="three/x.jpg"))
    first, empty, missed = metrics.box.image_metrics.values()
    assert first == {
        "precision": 0.5,
        "recall": pytest.approx(1 / 3),
        "f1": pytest.approx(0.4),
        "tp": 1,
        "fp": 1,
        "fn": 2,
    }
    assert empty == {"precision": 1, "recall": 1, "f1": 1, "tp": 0, "fp": 0, "fn": 0}
    assert missed == {"precision": 0, "recall": 0, "f1": 0, "tp": 0, "fp": 0, "fn": 2}


def test_areas_and_crowds_reach_coco():
    box, stat = (
        np.array([[0.0, 0, 50, 50]]),
        {"conf": np.array([0.9]), "pred_cls": np.zeros(1), "target_cls": np.zeros(1)},
    )
    metrics = DetMetrics(["a"], coco=True)
    metrics.update_stats(
        _stat(np.ones((1, 10), bool), **stat, pred_boxes=box, target_boxes=box, areas=np.array([100.0]))
    )
    metrics.process()
    assert metrics.coco_stats["AP_small"] == 1 and metrics.coco_stats["AP_medium"] == -1


def test_crowds_are_targets_for_coco_alone():
    boxes = np.array([[0.0, 0, 50, 50], [100, 100, 300, 300]])
    inside = np.array([[0.0, 0, 50, 50], [120, 120, 160, 160], [170, 170, 250, 250]])
    hit = np.zeros((3, 10), bool)
    hit[0] = True
    metrics = DetMetrics(["a", "b"], coco=True)
    metrics.update_stats(
        _stat(hit, np.array([0.5, 0.9, 0.8]), np.zeros(3), np.zeros(2), pred_boxes=inside, target_boxes=boxes,
              crowd=np.array([False, True]), im_name="x")
    )  # fmt: skip
    metrics.process()
    assert metrics.box.map == 1 and metrics.coco_stats["AR100"] == 1  # what lies in the crowd counts for nothing
    assert metrics.nt_per_class.tolist() == [1, 0] and metrics.box.image_metrics["x"]["fn"] == 0
    assert [image.crowd.tolist() for image in metrics.coco_images()] == [[False, True]]


def test_tables():
    metrics, _ = _golden(CASES[0], coco=True)
    metrics.process()
    rows = metrics.summary()
    assert list(rows[0]) == [
        "Class", "Images", "Instances", "Box-P", "Box-R", "Box-F1", "mAP50", "mAP75", "mAP50-95",
    ]  # fmt: skip
    assert metrics.summary(normalize=False, decimals=3)[0]["mAP50"] == round(rows[0]["mAP50"] * 100, 3)
    assert json.loads(metrics.to_json()) == rows
    assert metrics.to_df().shape == (5, 9) and metrics.to_csv().startswith("Class,Images")
    assert sum(r["mAP50-95"] for r in rows) / 5 == pytest.approx(metrics.box.map, abs=1e-5)


def test_curves_are_drawn_with_the_reported_ap(tmp_path, monkeypatch):
    seen = {}
    from ultralytics.utils.metrics import ap as module

    draw = module.plot_pr_curve
    monkeypatch.setattr(module, "plot_pr_curve", lambda x, y, ap, *rest: seen.update(ap=ap) or draw(x, y, ap, *rest))
    metrics, _ = _golden(CASES[0], coco=True)
    drawn = []
    metrics.process(tmp_path, plot=True, on_plot=drawn.append)
    np.testing.assert_array_equal(seen["ap"], metrics.box.ap50)
    names = ["BoxF1_curve.png", "BoxPR_curve.png", "BoxP_curve.png", "BoxR_curve.png"]
    assert sorted(f.name for f in tmp_path.iterdir()) == names == sorted(f.name for f in drawn)


def test_clear_keeps_results():
    metrics, _ = _golden(CASES[0], coco=False)
    metrics.process()
    before = metrics.results_dict
    metrics.clear_stats()
    assert metrics.process() == {} and metrics.results_dict == before
