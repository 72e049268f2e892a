"""Overlap of boxes: pairwise IoU, the GIoU / DIoU / CIoU family, and intersection over area.

Shapes: N and M boxes; boxes are `xyxy` or `xywh` (centre and size) as each function states. Half-precision input is
computed in float32: areas of boxes in pixels pass the range of float16.

Sources: GIoU, Rezatofighi et al., CVPR 2019, algorithm 1; DIoU and CIoU, Zheng et al., AAAI 2020, sections 3 and 4.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ultralytics.utils.ops import at_least_float32
from ultralytics.utils.torch_tools.arrays import BoolArray, Float64Array


class _Sides(NamedTuple):
    """Edges and sizes of boxes, each with a last axis of 1."""

    x1: Tensor
    y1: Tensor
    x2: Tensor
    y2: Tensor
    w: Tensor
    h: Tensor


def _sides(box: Tensor, xywh: bool, eps: float) -> _Sides:
    """Take boxes (..., 4) apart; `eps` keeps the height of a corner box positive for the aspect ratio."""
    a, b, c, d = at_least_float32(box).split(1, -1)
    if xywh:
        half_w, half_h = c / 2, d / 2
        return _Sides(a - half_w, b - half_h, a + half_w, b + half_h, c, d)
    return _Sides(a, b, c, d, c - a, d - b + eps)


def bbox_iou(
    box1: Tensor,
    box2: Tensor,
    xywh: bool = True,
    GIoU: bool = False,
    DIoU: bool = False,
    CIoU: bool = False,
    eps: float = 1e-7,
) -> Tensor:
    """Return the IoU, or one of its variants, of boxes that are paired by broadcasting.

    `box1` and `box2` are (..., 4), in `xywh` or in corners; the result is (..., 1). IoU lies in [0, 1], the variants in
    [-1, 1]. (n, 1, 4) with (1, m, 4) gives all pairs. At most one variant is computed: CIoU before DIoU before GIoU.
    """
    a, b = _sides(box1, xywh, eps), _sides(box2, xywh, eps)
    inter_w = (torch.minimum(a.x2, b.x2) - torch.maximum(a.x1, b.x1)).clamp(min=0)
    inter_h = (torch.minimum(a.y2, b.y2) - torch.maximum(a.y1, b.y1)).clamp(min=0)
    inter = inter_w * inter_h
    union = a.w * a.h + b.w * b.h - inter + eps
    iou = inter / union
    if not (GIoU or DIoU or CIoU):
        return iou
    hull_w = torch.maximum(a.x2, b.x2) - torch.minimum(a.x1, b.x1)
    hull_h = torch.maximum(a.y2, b.y2) - torch.minimum(a.y1, b.y1)
    if not (DIoU or CIoU):
        hull = hull_w * hull_h + eps
        return iou - (hull - union) / hull
    penalty = _centre_distance(a, b) / (hull_w**2 + hull_h**2 + eps)
    if CIoU:
        penalty = penalty + _aspect_penalty(a, b, iou, eps)
    return iou - penalty


def _centre_distance(a: _Sides, b: _Sides) -> Tensor:
    """Return the squared distance of the centres."""
    dx, dy = b.x1 + b.x2 - a.x1 - a.x2, b.y1 + b.y2 - a.y1 - a.y2
    return (dx**2 + dy**2) / 4


def _aspect_penalty(a: _Sides, b: _Sides, iou: Tensor, eps: float) -> Tensor:
    """Return CIoU's weighted difference of aspect ratios; the weight gets no gradient, as in the paper."""
    angle_a, angle_b = (torch.atan(s.w / s.h.clamp(min=eps)) for s in (a, b))
    v = (4 / math.pi**2) * (angle_b - angle_a) ** 2
    with torch.no_grad():
        alpha = v / (v - iou + (1 + eps))
    return alpha * v


def box_iou(box1: Tensor, box2: Tensor, eps: float = 1e-7) -> Tensor:
    """Return the IoU (N, M) of every pair of xyxy boxes (N, 4) and (M, 4).

    >>> a, b = torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[0.0, 0.0, 2.0, 1.0], [5.0, 5.0, 6.0, 6.0]])
    >>> [round(v, 4) for v in box_iou(a, b)[0].tolist()]
    [0.5, 0.0]
    """
    box1, box2 = at_least_float32(box1), at_least_float32(box2)
    top_left = torch.maximum(box1[:, None, :2], box2[None, :, :2])  # (N, M, 2)
    bottom_right = torch.minimum(box1[:, None, 2:], box2[None, :, 2:])  # (N, M, 2)
    inter = (bottom_right - top_left).clamp(min=0).prod(-1)
    area1, area2 = (box1[:, 2:] - box1[:, :2]).prod(-1), (box2[:, 2:] - box2[:, :2]).prod(-1)
    return inter / (area1[:, None] + area2[None] - inter + eps)


def bbox_ioa(
    box1: npt.NDArray[np.floating], box2: npt.NDArray[np.floating], iou: bool = False, eps: float = 1e-7
) -> npt.NDArray[np.floating]:
    """Return the intersection over the area of `box2` (or over the union, with `iou`) of all pairs, (N, M), xyxy.

    >>> bbox_ioa(np.array([[0.0, 0.0, 4.0, 4.0]]), np.array([[2.0, 2.0, 4.0, 6.0]])).round(3).tolist()
    [[0.5]]
    """
    top_left = np.maximum(box1[:, None, :2], box2[None, :, :2])  # (N, M, 2)
    bottom_right = np.minimum(box1[:, None, 2:], box2[None, :, 2:])  # (N, M, 2)
    inter = (bottom_right - top_left).clip(0).prod(-1)
    area = (box2[:, 2:] - box2[:, :2]).prod(-1)[None]
    if iou:
        area = area + (box1[:, 2:] - box1[:, :2]).prod(-1)[:, None] - inter
    return inter / (area + eps)


def pairwise_iou(boxes: Float64Array, targets: Float64Array, crowd: BoolArray | None = None) -> Float64Array:
    """Return the IoU (N, M) of all pairs of xyxy boxes in float64; for a crowd region, the overlap over the box's area.

    Pairs without a common area are 0, without a division by a small number: this is the IoU of COCO's evaluation.

    >>> pairwise_iou(np.array([[0.0, 0.0, 2.0, 2.0]]), np.array([[0.0, 0.0, 2.0, 1.0], [1.0, 1.0, 1.0, 1.0]])).tolist()
    [[0.5, 0.0]]
    """
    size = np.minimum(boxes[:, None, 2:], targets[None, :, 2:]) - np.maximum(boxes[:, None, :2], targets[None, :, :2])
    inter = np.where((size > 0).all(-1), size.prod(-1), 0.0)  # (N, M)
    areas, target_areas = ((b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) for b in (boxes, targets))
    union = areas[:, None] + target_areas - inter
    if crowd is not None:
        union = np.where(crowd, areas[:, None], union)
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)
