"""Overlaps against formulas written out for one pair at a time, torchvision, and hand-made cases."""

import math

import numpy as np
import pytest
import torch
import torchvision

from ultralytics.utils.metrics import bbox_ioa, bbox_iou, box_iou
from ultralytics.utils.ops import xywh2xyxy


def _boxes(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    xy, wh = torch.rand(n, 2, generator=generator) * 40, torch.rand(n, 2, generator=generator) * 30 + 0.5
    return torch.cat([xy, xy + wh], 1).double()


def _slow(a, b, kind):
    """One variant for one pair of corner boxes, in plain Python."""
    inter = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    aw, ah, bw, bh = a[2] - a[0], a[3] - a[1], b[2] - b[0], b[3] - b[1]
    union = aw * ah + bw * bh - inter
    iou = inter / union
    hull_w, hull_h = max(a[2], b[2]) - min(a[0], b[0]), max(a[3], b[3]) - min(a[1], b[1])
    if kind == "IoU":
        return iou
    if kind == "GIoU":
        return iou - (hull_w * hull_h - union) / (hull_w * hull_h)
    centre_a, centre_b = ((a[0] + a[2]) / 2, (a[1] + a[3]) / 2), ((b[0] + b[2]) / 2, (b[1] + b[3]) / 2)
    diou = iou - math.dist(centre_a, centre_b) ** 2 / (hull_w**2 + hull_h**2)
    if kind == "DIoU":
        return diou
    v = 4 / math.pi**2 * (math.atan(bw / bh) - math.atan(aw / ah)) ** 2
    return diou - v * v / (v - iou + 1) if v else diou


@pytest.mark.parametrize("kind", ["IoU", "GIoU", "DIoU", "CIoU"])
@pytest.mark.parametrize("xywh", [False, True])
def test_against_formula(kind, xywh):
    a, b = _boxes(40, 1), _boxes(40, 2)
    b[0] = a[0]
    want = [_slow(x, y, kind) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    flags = {} if kind == "IoU" else {kind: True}
    convert = (lambda x: torch.cat([(x[:, :2] + x[:, 2:]) / 2, x[:, 2:] - x[:, :2]], 1)) if xywh else (lambda x: x)
    got = bbox_iou(convert(a), convert(b), xywh=xywh, **flags)
    assert got.shape == (40, 1)
    np.testing.assert_allclose(got[:, 0], want, atol=1e-6)


def test_torchvision_agrees():
    a, b = _boxes(20, 3), _boxes(30, 4)
    torch.testing.assert_close(box_iou(a, b), torchvision.ops.box_iou(a, b), atol=1e-7, rtol=1e-6)
    grid = bbox_iou(a[:, None], b[None], xywh=False, GIoU=True)[..., 0]
    torch.testing.assert_close(grid, torchvision.ops.generalized_box_iou(a, b), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("n, m", [(0, 0), (0, 3), (3, 0)])
def test_empty(n, m):
    a, b = torch.zeros(n, 4), torch.zeros(m, 4)
    assert box_iou(a, b).shape == (n, m)
    assert bbox_ioa(a.numpy(), b.numpy()).shape == (n, m)
    assert bbox_iou(a[:, None], b[None]).shape == (n, m, 1)


def test_half_precision_does_not_overflow():
    a = torch.tensor([[0.0, 0.0, 600.0, 600.0]], dtype=torch.float16)  # its area passes 65504
    assert box_iou(a, a).item() == pytest.approx(1, abs=1e-3)
    assert bbox_iou(a, a, xywh=False, CIoU=True).item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("kind", ["GIoU", "DIoU", "CIoU"])
def test_degenerate_boxes_stay_finite(kind):
    boxes = torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.5, 0.5, 1e-9, 0.3], [2.0, 2.0, 0.1, 0.1]], requires_grad=True)
    value = bbox_iou(boxes[:, None], boxes[None] + 0, **{kind: True})
    assert value.isfinite().all()
    assert value.min() >= -1.01 and value.max() <= 1.01


@pytest.mark.parametrize("kind", ["GIoU", "DIoU"])
def test_gradient(kind):
    a = torch.tensor([[0.4, 0.5, 0.3, 0.2], [0.6, 0.3, 0.2, 0.5]], dtype=torch.float64, requires_grad=True)
    b = torch.tensor([[0.45, 0.52, 0.25, 0.33], [0.1, 0.9, 0.1, 0.1]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: bbox_iou(x, b, **{kind: True}), a)


def test_ioa_is_over_the_second_box():
    a, b = _boxes(6, 5).numpy(), _boxes(5, 6).numpy()
    for i in range(6):
        for j in range(5):
            inter = max(min(a[i, 2], b[j, 2]) - max(a[i, 0], b[j, 0]), 0) * max(
                min(a[i, 3], b[j, 3]) - max(a[i, 1], b[j, 1]), 0
            )
            area = (b[j, 2] - b[j, 0]) * (b[j, 3] - b[j, 1])
            assert bbox_ioa(a, b)[i, j] == pytest.approx(inter / area, abs=1e-6)
            assert bbox_ioa(a, b, iou=True)[i, j] == pytest.approx(_slow(a[i], b[j], "IoU"), abs=1e-6)


def test_xywh_and_corners_agree():
    x = torch.rand(10, 4, dtype=torch.float64) + 0.1
    y = torch.rand(10, 4, dtype=torch.float64) + 0.1
    torch.testing.assert_close(
        bbox_iou(x, y, GIoU=True), bbox_iou(xywh2xyxy(x), xywh2xyxy(y), xywh=False, GIoU=True), atol=1e-5, rtol=1e-5
    )
