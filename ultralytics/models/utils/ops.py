"""One-to-one matching of predictions and targets (DETR, arXiv 2005.12872, section 3.1).

Shapes: K outputs (encoder and decoder layers), B batch, Q queries, nc classes, N targets, n matched pairs.
Boxes are cx, cy, w, h in 0..1. Targets lie one image after another, `gt_groups[i]` of them for image i.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ultralytics.models.utils.denoising import get_cdn_group
from ultralytics.utils.ops import at_least_float32
from ultralytics.utils.torch_tools.transfers import HostCopies, to_device

__all__ = ("HungarianMatcher", "IndexArray", "PendingMatches", "get_cdn_group", "iou_and_giou")

IndexArray = NDArray[np.int64]


def iou_and_giou(a: Tensor, b: Tensor, eps: float = 1e-7) -> tuple[Tensor, Tensor]:
    """Return IoU and generalised IoU (arXiv 1902.09630) of boxes whose FIRST axis is cx, cy, w, h.

    The other axes broadcast, and each coordinate is one contiguous plane: many times faster than a last axis of 4.
    Half precision is computed in float32.

    >>> iou, giou = iou_and_giou(torch.tensor([0.5, 0.5, 0.2, 0.2]), torch.tensor([0.5, 0.5, 0.2, 0.4]))
    >>> round(float(iou), 4), round(float(giou), 4)
    (0.5, 0.5)
    """
    (ax, ay, aw, ah), (bx, by, bw, bh) = (at_least_float32(t).unbind(0) for t in (a, b))
    ax1, ax2, ay1, ay2 = ax - aw / 2, ax + aw / 2, ay - ah / 2, ay + ah / 2
    bx1, bx2, by1, by2 = bx - bw / 2, bx + bw / 2, by - bh / 2, by + bh / 2
    overlap_w = (torch.minimum(ax2, bx2) - torch.maximum(ax1, bx1)).clamp(min=0)
    overlap_h = (torch.minimum(ay2, by2) - torch.maximum(ay1, by1)).clamp(min=0)
    inter = overlap_w * overlap_h
    union = aw * ah + bw * bh - inter + eps
    hull_w = torch.maximum(ax2, bx2) - torch.minimum(ax1, bx1)
    hull_h = torch.maximum(ay2, by2) - torch.minimum(ay1, by1)
    hull = hull_w * hull_h + eps
    iou = inter / union
    return iou, iou - (hull - union) / hull


class HungarianMatcher(nn.Module):
    """Assigns each target one query, at the least total cost.

    cost = class * class cost + bbox * L1 + giou * (1 - GIoU). The class cost is the focal one, or -softmax probability.
    Losses call `costs` alone, for all of their outputs before they wait for any (`PendingMatches`): a subclass that
    replaces it changes every match.

    Args:
        cost_gain: Weights `class`, `bbox`, `giou`; 1, 5, 2 when None.
        use_fl: Focal class cost on sigmoid scores; else softmax.
        alpha: Balance of the focal cost.
        gamma: Exponent of the focal cost.
        iou_power: Above 0 the cost is instead -p * IoU^iou_power, p the sigmoid score (DEIMv2, arXiv 2509.20787).
    """

    def __init__(
        self,
        cost_gain: Mapping[str, float] | None = None,
        use_fl: bool = True,
        alpha: float = 0.25,
        gamma: float = 2.0,
        iou_power: float = 0.0,
    ) -> None:
        super().__init__()
        self.iou_power = iou_power
        self.cost_gain = dict(cost_gain) if cost_gain is not None else {"class": 1.0, "bbox": 5.0, "giou": 2.0}
        self.use_fl = use_fl
        self.alpha = alpha
        self.gamma = gamma

    def extra_repr(self) -> str:
        """Name the weights."""
        return f"cost_gain={self.cost_gain}, use_fl={self.use_fl}, alpha={self.alpha}, gamma={self.gamma}"

    def forward(
        self,
        pred_bboxes: Tensor,
        pred_scores: Tensor,
        gt_bboxes: Tensor,
        gt_cls: Tensor,
        gt_groups: Sequence[int],
    ) -> list[tuple[Tensor, Tensor]]:
        """Match one output.

        Args:
            pred_bboxes: (B, Q, 4).
            pred_scores: (B, Q, nc) logits.
            gt_bboxes: (N, 4).
            gt_cls: (N,) class indices.
            gt_groups: Number of targets of each image.

        Returns:
            For each image query indices and indices into the flat target list, CPU tensors of min(Q, targets) entries.
        """
        (cost,) = self.costs(pred_bboxes[None], pred_scores[None], gt_bboxes, gt_cls, gt_groups).cpu().numpy()
        return [(torch.from_numpy(query), torch.from_numpy(target)) for query, target in _solve(cost, gt_groups)]

    def match_outputs(
        self,
        pred_bboxes: Tensor,
        pred_scores: Tensor,
        gt_bboxes: Tensor,
        gt_cls: Tensor,
        gt_groups: Sequence[int],
    ) -> tuple[Tensor, Tensor]:
        """Match K outputs at once, with one copy to the host and one back.

        Args:
            pred_bboxes: (K, B, Q, 4).
            pred_scores: (K, B, Q, nc) logits.
            gt_bboxes: (N, 4).
            gt_cls: (N,) class indices.
            gt_groups: Number of targets of each image.

        Returns:
            Query slots (image * Q + query) and target indices, two tensors (K, n) on the device of the predictions.
        """
        cost = self.costs(pred_bboxes, pred_scores, gt_bboxes, gt_cls, gt_groups)
        (pairs,) = PendingMatches([cost], gt_groups).pairs()
        both = to_device(torch.from_numpy(pairs), pred_bboxes.device)  # (2, K, n)
        return both[0], both[1]

    @torch.no_grad()
    def costs(
        self, pred_bboxes: Tensor, pred_scores: Tensor, gt_bboxes: Tensor, gt_cls: Tensor, gt_groups: Sequence[int]
    ) -> Tensor:
        """Return the cost (K, N, Q) of each target with the queries of its own image; not finite counts as 0.

        Arguments as those of `match_outputs`. With `PendingMatches` the pairs are found while the device works on.
        """
        if sum(gt_groups) == 0:
            return torch.zeros(len(pred_bboxes), 0, pred_bboxes.shape[2])  # of the host: nothing to wait for
        device = pred_bboxes.device
        image = to_device(torch.repeat_interleave(torch.as_tensor(gt_groups)), device)  # (N,)
        scores = at_least_float32(pred_scores)
        if not self.use_fl:
            scores = scores.softmax(-1)
        labels = to_device(gt_cls, device).long().flatten()
        scores = scores.transpose(2, 3)[:, image, labels]  # (K, N, Q)
        planes = at_least_float32(pred_bboxes).permute(3, 0, 1, 2)[:, :, image]  # (4, K, N, Q)
        target = at_least_float32(gt_bboxes).t()[:, None, :, None]  # (4, 1, N, 1)
        iou, giou = iou_and_giou(planes, target)
        if self.iou_power > 0:
            return (-scores.sigmoid() * iou.clamp(min=0).pow(self.iou_power)).nan_to_num(0.0, 0.0, 0.0)
        l1 = (planes - target).abs().sum(0)
        gain = self.cost_gain
        cost = gain["class"] * self._class_cost(scores) + gain["bbox"] * l1 + gain["giou"] * (1 - giou)
        return cost.nan_to_num(0.0, 0.0, 0.0)

    def _class_cost(self, scores: Tensor) -> Tensor:
        """Return the cost of choosing a query for a class, from its logit (focal) or probability (softmax)."""
        if not self.use_fl:
            return -scores
        p = scores.sigmoid()
        chosen = self.alpha * (1 - p).pow(self.gamma) * -(p + 1e-8).log()
        not_chosen = (1 - self.alpha) * p.pow(self.gamma) * -(1 - p + 1e-8).log()
        return chosen - not_chosen


class PendingMatches:
    """Matchings whose costs are on their way to the host, all in one go; a GPU works on until `pairs` is called.

    Args:
        costs: Of each matching, (K, N, Q), see `HungarianMatcher.costs`; Q and K may differ.
        gt_groups: Number of targets of each image.
    """

    def __init__(self, costs: Sequence[Tensor], gt_groups: Sequence[int]) -> None:
        self._copies = HostCopies(costs)
        self._groups = gt_groups

    def pairs(self) -> list[IndexArray]:
        """Return for each matching slots (image * Q + query) and flat target indices, one array (2, K, n)."""
        return [self._pairs_of(cost.numpy()) for cost in self._copies.wait()]

    def _pairs_of(self, costs: NDArray[np.floating[Any]]) -> IndexArray:
        queries = costs.shape[2]
        pairs = []
        for cost in costs:
            blocks = _solve(cost, self._groups)
            slots = [image * queries + query for image, (query, _) in enumerate(blocks)]
            pairs.append(np.stack((np.concatenate(slots), np.concatenate([target for _, target in blocks]))))
        return np.stack(pairs, 1)


def _solve(cost: NDArray[np.floating[Any]], gt_groups: Sequence[int]) -> list[tuple[IndexArray, IndexArray]]:
    """Return query and flat target indices of each image from the costs (N, Q) of one output."""
    from scipy.optimize import linear_sum_assignment

    ends = np.cumsum(gt_groups)
    blocks = []
    for start, end in zip(ends - gt_groups, ends, strict=True):
        target, query = linear_sum_assignment(cost[start:end])
        blocks.append((query.astype(np.int64), target.astype(np.int64) + start))
    return blocks
