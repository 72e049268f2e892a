"""Anchor points, boxes as distances, and task-aligned label assignment (TOOD, arXiv 2108.07755, section 3.2).

Shapes: B batch, A anchors (cells of all levels), N targets of an image (padded), nc classes, K picks of a target.
Boxes are xyxy unless a name says otherwise. An anchor is the centre of a cell; units are cells or pixels as stated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ultralytics.utils.errors import ConfigError
from ultralytics.utils.metrics import bbox_iou
from ultralytics.utils.torch_tools.transfers import to_device

__all__ = ("Assignment", "TaskAlignedAssigner", "bbox2dist", "dist2bbox", "make_anchors")

CHUNK = 1 << 22
"""Pairs of a target and an anchor that are looked at together: images are taken a few at a time beyond it."""


def make_anchors(
    feats: Sequence[Tensor], strides: Sequence[float] | Tensor, grid_cell_offset: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Return the anchor points (A, 2) as x, y in cells of their level, and the stride (A, 1) of each in pixels.

    `feats` are the maps (B, C, H, W) of the levels; levels follow one another, cells row by row.
    """
    like = feats[0]
    dtype = like.dtype if like.dtype in (torch.float32, torch.float64) else torch.float32
    points, steps = [], []
    for level, feat in enumerate(feats):
        h, w = feat.shape[2:]
        x = torch.arange(w, device=like.device, dtype=dtype) + grid_cell_offset
        y = torch.arange(h, device=like.device, dtype=dtype) + grid_cell_offset
        points.append(torch.stack((x.expand(h, w), y[:, None].expand(h, w)), -1).reshape(-1, 2))  # (H*W, 2)
        stride = strides[level]
        step = stride.to(dtype) if isinstance(stride, Tensor) else torch.tensor(float(stride), dtype=dtype)
        steps.append(to_device(step, like.device).expand(h * w, 1))
    return torch.cat(points), torch.cat(steps)


def dist2bbox(distance: Tensor, anchor_points: Tensor, xywh: bool = True, dim: int = -1) -> Tensor:
    """Turn distances left, top, right, bottom of anchor points into boxes: centre and size, or corners.

    `dim` is the axis of 4 in `distance`, of 2 in `anchor_points`.
    """
    lt, rb = distance.chunk(2, dim)
    x1y1, x2y2 = anchor_points - lt, anchor_points + rb
    if xywh:
        return torch.cat(((x1y1 + x2y2) / 2, x2y2 - x1y1), dim)
    return torch.cat((x1y1, x2y2), dim)


def bbox2dist(anchor_points: Tensor, bbox: Tensor, reg_max: float | None = None) -> Tensor:
    """Turn corner boxes (..., 4) into distances from anchor points (..., 2), limited to 0..`reg_max` - 0.01."""
    x1y1, x2y2 = bbox.chunk(2, -1)
    distance = torch.cat((anchor_points - x1y1, x2y2 - anchor_points), -1)
    return distance if reg_max is None else distance.clamp(0, reg_max - 0.01)


class Assignment(NamedTuple):
    """Targets of every anchor.

    `labels` (B, A), `bboxes` (B, A, 4) in pixels, `scores` (B, A, nc), `fg` (B, A) whether it has a target, and the
    index `gt_idx` (B, A) of that target. What has none reads target 0 and has scores of 0.
    """

    labels: Tensor
    bboxes: Tensor
    scores: Tensor
    fg: Tensor
    gt_idx: Tensor


class _Targets(NamedTuple):
    """Predictions and padded targets of some images."""

    pd_scores: Tensor
    pd_bboxes: Tensor
    gt_labels: Tensor
    gt_bboxes: Tensor
    mask_gt: Tensor


class TaskAlignedAssigner(nn.Module):
    """Give each target the anchors whose predictions fit it best, in class score and overlap together.

    Metric: score of the target's class to the power `alpha`, times CIoU to the power `beta`. Candidates are anchors
    inside of the target's box, whose sides count as at least the second of `stride` pixels. Each target takes its
    `topk` best; an anchor that several want goes to the one that it overlaps most; `topk2` limits what a target keeps.
    Nothing waits for the device, and memory stays bounded: images are taken in chunks.

    Raises ConfigError for counts below 1.
    """

    def __init__(
        self,
        topk: int = 13,
        num_classes: int = 80,
        alpha: float = 1.0,
        beta: float = 6.0,
        stride: Sequence[float] | None = None,
        eps: float = 1e-9,
        topk2: int | None = None,
    ) -> None:
        super().__init__()
        self.topk, self.topk2 = topk, topk if topk2 is None else topk2
        if self.topk < 1 or self.topk2 < 1:
            raise ConfigError(f"topk={topk}, topk2={topk2}: each target needs at least 1 anchor")
        self.num_classes = num_classes
        self.alpha, self.beta, self.eps = alpha, beta, eps
        steps = [8, 16, 32] if stride is None else [float(s) for s in stride]
        self.min_side = float(steps[1] if len(steps) > 1 else steps[0])

    @torch.no_grad()
    def forward(
        self,
        pd_scores: Tensor,
        pd_bboxes: Tensor,
        anc_points: Tensor,
        gt_labels: Tensor,
        gt_bboxes: Tensor,
        mask_gt: Tensor,
    ) -> Assignment:
        """Return the targets of every anchor.

        `pd_scores` (B, A, nc) in 0..1, `pd_bboxes` (B, A, 4), `anc_points` (A, 2), `gt_labels` (B, N, 1), `gt_bboxes`
        (B, N, 4), `mask_gt` (B, N, 1) true where a row is a target. Boxes and points in pixels.
        """
        batch, anchors = pd_scores.shape[:2]
        n = gt_bboxes.shape[1]
        if n == 0 or batch == 0:
            return self._nothing(pd_scores, pd_bboxes)
        targets = _Targets(pd_scores, pd_bboxes, gt_labels, gt_bboxes, mask_gt.bool())
        step = max(1, CHUNK // (n * anchors))
        parts = [self._assign(part, anc_points) for part in _chunks(targets, step)]
        return parts[0] if len(parts) == 1 else Assignment(*(torch.cat(p) for p in zip(*parts, strict=True)))

    def _nothing(self, pd_scores: Tensor, pd_bboxes: Tensor) -> Assignment:
        shape = pd_scores.shape[:2]
        labels = torch.full(shape, self.num_classes, dtype=torch.long, device=pd_scores.device)
        fg = torch.zeros_like(labels, dtype=torch.bool)
        scores = pd_scores.new_zeros(*shape, self.num_classes)
        return Assignment(labels, torch.zeros_like(pd_bboxes), scores, fg, torch.zeros_like(labels))

    def _assign(self, t: _Targets, points: Tensor) -> Assignment:
        """Assign the images of one chunk."""
        candidates = self._inside(points, t.gt_bboxes) & t.mask_gt  # (B, N, A)
        overlaps = _overlaps(t.pd_bboxes, t.gt_bboxes, candidates)
        metric = self._metric(t, candidates, overlaps)
        taken = self._best(metric, self.topk) & candidates
        taken = _settle(taken, overlaps)
        if self.topk2 != self.topk:
            taken = self._best(metric * taken, self.topk2) & taken
        return self._targets(t, taken, metric, overlaps)

    def _inside(self, points: Tensor, boxes: Tensor) -> Tensor:
        """Whether an anchor lies strictly inside of a box, whose sides count as at least `min_side`: (B, N, A)."""
        x1y1, x2y2 = boxes.chunk(2, -1)
        centre, half = (x1y1 + x2y2) / 2, self.min_side / 2
        short = (x2y2 - x1y1) < self.min_side
        x1, y1 = torch.where(short, centre - half, x1y1).unsqueeze(-1).unbind(-2)  # (B, N, 1) each
        x2, y2 = torch.where(short, centre + half, x2y2).unsqueeze(-1).unbind(-2)
        x, y = points.unbind(-1)
        return (x - x1 > self.eps) & (y - y1 > self.eps) & (x2 - x > self.eps) & (y2 - y > self.eps)

    def _metric(self, t: _Targets, candidates: Tensor, overlaps: Tensor) -> Tensor:
        """Alignment of each target with each anchor (B, N, A); 0 beside the candidates."""
        labels = t.gt_labels.long().clamp(0, self.num_classes - 1)  # (B, N, 1)
        scores = t.pd_scores.transpose(1, 2).gather(1, labels.expand(-1, -1, t.pd_scores.shape[1]))  # (B, N, A)
        return (scores * candidates).pow(self.alpha) * overlaps.pow(self.beta)

    @staticmethod
    def _best(metric: Tensor, k: int) -> Tensor:
        """Mark the k greatest values of each target, fewer where there are fewer anchors."""
        picks = metric.topk(min(k, metric.shape[-1]), dim=-1).indices  # (B, N, K)
        return torch.zeros_like(metric, dtype=torch.bool).scatter_(-1, picks, True)

    def _targets(self, t: _Targets, taken: Tensor, metric: Tensor, overlaps: Tensor) -> Assignment:
        """Read box, label and score of each anchor's target; scores are scaled by the best overlap of the target."""
        fg = taken.any(1)  # (B, A)
        index = taken.byte().argmax(1) * fg  # (B, A)
        labels = t.gt_labels.squeeze(-1).long().clamp(min=0).gather(1, index)
        boxes = t.gt_bboxes.gather(1, index.unsqueeze(-1).expand(-1, -1, 4))
        own = metric * taken
        quality = own / (own.amax(-1, keepdim=True) + self.eps) * (overlaps * taken).amax(-1, keepdim=True)
        quality = quality.amax(1).to(t.pd_scores.dtype)  # (B, A)
        scores = t.pd_scores.new_zeros(*fg.shape, self.num_classes)
        at = labels.clamp(max=self.num_classes - 1).unsqueeze(-1)
        scores.scatter_(-1, at, (quality * fg).unsqueeze(-1))
        return Assignment(labels, boxes, scores, fg, index)


def _chunks(targets: _Targets, step: int) -> Iterator[_Targets]:
    for start in range(0, len(targets.pd_scores), step):
        yield _Targets(*(t[start : start + step] for t in targets))


def _overlaps(pd_bboxes: Tensor, gt_bboxes: Tensor, candidates: Tensor) -> Tensor:
    """CIoU of targets and predictions, at least 0, and 0 beside the candidates: (B, N, A).

    On a CPU only the candidates are computed; elsewhere all pairs, since counting candidates would wait for the device.
    """
    if pd_bboxes.is_cpu:
        image, target, anchor = candidates.nonzero(as_tuple=True)
        iou = bbox_iou(gt_bboxes[image, target], pd_bboxes[image, anchor], xywh=False, CIoU=True).squeeze(-1)
        dense = iou.new_zeros(candidates.shape)
        dense[image, target, anchor] = iou.clamp(min=0)
        return dense
    iou = bbox_iou(gt_bboxes.unsqueeze(2), pd_bboxes.unsqueeze(1), xywh=False, CIoU=True).squeeze(-1)
    return torch.where(candidates, iou.clamp(min=0), torch.zeros_like(iou))


def _settle(taken: Tensor, overlaps: Tensor) -> Tensor:
    """Leave each anchor to one target: of several that want it, the one of all targets that it overlaps most."""
    contested = (taken.sum(1, keepdim=True) > 1).expand_as(taken)  # (B, N, A)
    best = torch.zeros_like(taken).scatter_(1, overlaps.argmax(1, keepdim=True), True)
    return torch.where(contested, best, taken)
