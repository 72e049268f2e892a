"""Set losses of DETR-like detectors (arXiv 2005.12872, section 3.1; RT-DETR, arXiv 2304.08069).

Shapes: K outputs (encoder first, then decoder layers), B batch, Q queries, nc classes, N targets of all images, n
pairs. Boxes are cx, cy, w, h in 0..1. A batch of targets is `cls` (N,), `bboxes` (N, 4) and `gt_groups`, the number
of targets of each image; targets lie one image after another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ultralytics.cfg.box_loss_names import parse_box_loss
from ultralytics.models.utils import box_losses
from ultralytics.models.utils.ops import HungarianMatcher, PendingMatches, iou_and_giou
from ultralytics.utils import dist
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.loss import (
    BinaryCrossEntropy,
    ClassificationLoss,
    FocalLoss,
    MatchabilityAwareLoss,
    VarifocalLoss,
)
from ultralytics.utils.torch_tools.transfers import to_device

__all__ = ("DETRLoss", "RTDETRDetectionLoss")

NWD_CONSTANT = 12.8 / 640
"""Constant of `nwd` (arXiv 2110.13389) for normalised boxes: the paper's 12.8 pixels in an image of 640."""

MatchIndices = Sequence[tuple[Tensor, Tensor]]


class _Pairs(NamedTuple):
    """Matched pairs: query slots (image * Q + query) and flat target indices, (K, n), or (1, n) for all outputs."""

    slot: Tensor
    target: Tensor


class _Count(NamedTuple):
    """Number of pairs in all processes, and number of processes, whose gradients will be averaged."""

    pairs: float
    processes: int

    @property
    def divisor(self) -> float:
        """What the sum over the pairs of one process is divided by."""
        return max(self.pairs, 1.0) / self.processes


class DETRLoss(nn.Module):
    """Classification, L1 and GIoU losses of matched pairs, for the last output and, summed, for the others.

    Args:
        nc: Number of classes.
        loss_gain: Weights `class`, `bbox`, `giou`; 1, 5, 2 when None.
        aux_loss: Also train all outputs but the last.
        use_fl: Focal loss for the classes; else plain cross entropy.
        use_vfl: Varifocal loss where there are targets.
        use_uni_match: Match one output, and use its pairs for all but the last.
        uni_match_ind: Which output that is.
        gamma: Exponent of the classification loss.
        alpha: Balance of the classification loss.
        loss: `vfl`, `mal` or `focal` by name, instead of the two switches.
        box_loss: Overlap term, a name of `box_losses`. Matching costs are those of GIoU, and the term keeps its name.
        nwd_weight: Part of the overlap term, 0 to 1, that `nwd` replaces.

    Attributes:
        iou_mean: Running mean of 1 - IoU of the matched pairs, which `wiou2` and `wiou3` use; it moves in training.

    Raises:
        ConfigError: An unknown `loss` or `box_loss`, or an `nwd_weight` outside 0..1.
    """

    iou_mean: Tensor

    def __init__(
        self,
        nc: int = 80,
        loss_gain: Mapping[str, float] | None = None,
        aux_loss: bool = True,
        use_fl: bool = True,
        use_vfl: bool = False,
        use_uni_match: bool = False,
        uni_match_ind: int = 0,
        gamma: float = 1.5,
        alpha: float = 0.25,
        loss: str | None = None,
        box_loss: str = "giou",
        nwd_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.nc = nc
        self.loss_gain = dict(loss_gain) if loss_gain is not None else {"class": 1.0, "bbox": 5.0, "giou": 2.0}
        self.matcher = HungarianMatcher(cost_gain={"class": 2.0, "bbox": 5.0, "giou": 2.0})
        if not 0 <= nwd_weight <= 1:
            raise ConfigError(f"nwd_weight={nwd_weight} must be in 0..1; 0 leaves nwd out")
        self.box_loss = str(parse_box_loss(box_loss))
        self.nwd_weight = nwd_weight
        self.register_buffer("iou_mean", torch.ones(()), persistent=False)
        self.aux_loss = aux_loss
        self.use_uni_match = use_uni_match
        self.uni_match_ind = uni_match_ind
        self.fl = FocalLoss(gamma, alpha) if use_fl else BinaryCrossEntropy()
        self.cls_loss = self._choose(loss, use_vfl, gamma, alpha)

    def _choose(self, loss: str | None, use_vfl: bool, gamma: float, alpha: float) -> ClassificationLoss:
        """Return the classification loss of batches that have targets."""
        if loss is None:
            loss = "vfl" if use_vfl else "focal"
        if loss == "focal":
            return self.fl
        if loss == "vfl":
            return VarifocalLoss(gamma, alpha)
        if loss == "mal":
            return MatchabilityAwareLoss(gamma)
        raise ConfigError(f"loss={loss!r} is not known; choose vfl, mal or focal")

    def forward(
        self,
        pred_bboxes: Tensor,
        pred_scores: Tensor,
        batch: Mapping[str, Any],
        postfix: str = "",
        match_indices: MatchIndices | None = None,
        partial: bool = False,
    ) -> dict[str, Tensor]:
        """Return the loss terms by name, weighted; their sum is to be minimised.

        Args:
            pred_bboxes: (K, B, Q, 4).
            pred_scores: (K, B, Q, nc) logits.
            batch: Targets.
            postfix: Appended to the names.
            match_indices: For each image the query and target indices that all outputs use, instead of matching.
            partial: Other batches belong to the same optimizer step: one without targets then counts like the others.

        Returns:
            `loss_class`, `loss_bbox`, `loss_giou`, and with `aux_loss` the same with `_aux`, each plus the postfix.
        """
        if not self.aux_loss:
            pred_bboxes, pred_scores = pred_bboxes[-1:], pred_scores[-1:]
        if match_indices is not None:
            pairs = _from_indices(match_indices, pred_bboxes)
        else:
            (pairs,) = self._pairs(self._start([(pred_bboxes, pred_scores)], batch), pred_bboxes)
        (count,) = _count_over_processes([pairs], pred_bboxes.device)
        return self._name(self._terms(pred_bboxes, pred_scores, batch, pairs, count, partial), postfix)

    def _start(self, outputs: Sequence[tuple[Tensor, Tensor]], batch: Mapping[str, Any]) -> PendingMatches:
        """Begin to match boxes (K, B, Q, 4) and logits (K, B, Q, nc), each output by itself; see `_pairs`.

        With `use_uni_match` all outputs but the last will share the pairs of one.
        """
        chosen = [self.uni_match_ind, -1]
        if self.use_uni_match and len(outputs[0][0]) > 1:
            outputs = [(boxes[chosen], scores[chosen]) for boxes, scores in outputs]
        targets = batch["bboxes"], batch["cls"], batch["gt_groups"]
        costs = [self.matcher.costs(boxes.detach(), scores.detach(), *targets) for boxes, scores in outputs]
        return PendingMatches(costs, batch["gt_groups"])

    def _pairs(self, pending: PendingMatches, pred_bboxes: Tensor) -> list[_Pairs]:
        """Return the pairs of each matching, on the device of the predictions (K, B, Q, 4)."""
        found = []
        for indices in pending.pairs():
            slot, target = to_device(torch.from_numpy(indices), pred_bboxes.device)  # (K, n) each
            if self.use_uni_match and len(pred_bboxes) > 1:
                shared = len(pred_bboxes) - 1
                slot, target = (torch.cat((rows[:1].expand(shared, -1), rows[1:])) for rows in (slot, target))
            found.append(_Pairs(slot, target))
        return found

    def _terms(
        self,
        pred_bboxes: Tensor,
        pred_scores: Tensor,
        batch: Mapping[str, Any],
        pairs: _Pairs,
        count: _Count,
        partial: bool = False,
    ) -> dict[str, Tensor]:
        """Return the weighted terms of each output, (K,)."""
        slot, target = (index.expand(len(pred_bboxes), -1) for index in pairs)
        boxes = pred_bboxes.flatten(1, 2).gather(1, slot[..., None].expand(-1, -1, 4))  # (K, n, 4)
        wanted = batch["bboxes"].to(boxes.device)[target]  # (K, n, 4)
        planes, wanted_planes = boxes.movedim(-1, 0), wanted.movedim(-1, 0)  # (4, K, n)
        iou, giou = iou_and_giou(planes, wanted_planes)  # (K, n)
        overlap = self._overlap(boxes, wanted, iou.detach(), giou)  # (K, n)
        labels = batch["cls"].to(boxes.device).long().flatten()[target]  # (K, n)
        return {
            "class": self._class_terms(pred_scores, slot, labels, iou.detach(), count, partial)
            * self.loss_gain["class"],
            "bbox": (planes - wanted_planes).abs().sum((0, 2)) * (self.loss_gain["bbox"] / count.divisor),
            "giou": overlap.sum(1) * (self.loss_gain["giou"] / count.divisor),
        }

    def _overlap(self, boxes: Tensor, wanted: Tensor, iou: Tensor, giou: Tensor) -> Tensor:
        """Return the chosen overlap loss of each pair, (K, n)."""
        if self.box_loss == "giou" and not self.nwd_weight:
            return 1 - giou
        if self.training and torch.is_grad_enabled():
            self.iou_mean.copy_(torch.as_tensor(box_losses.updated_iou_mean(self.iou_mean, iou)))
        return box_losses.box_loss(
            self.box_loss,
            boxes,
            wanted,
            nwd_weight=self.nwd_weight,
            constant=NWD_CONSTANT,
            iou_mean=self.iou_mean,
        )

    def _class_terms(
        self, scores: Tensor, slot: Tensor, labels: Tensor, quality: Tensor, count: _Count, partial: bool = False
    ) -> Tensor:
        """Return the classification loss of each output, (K,).

        All scores count as negatives at first; the few matched ones are then put right, so no target tensor of the size
        of the scores is built. Without a target in the whole step the focal loss is used. Plain cross entropy, which
        does not fade out easy negatives, is divided by the number of queries instead of pairs.
        """
        loss = self.cls_loss if count.pairs or partial else self.fl
        flat = scores.flatten(1)  # (K, B*Q*nc)
        matched = flat.gather(1, slot * scores.shape[-1] + labels)  # (K, n)
        correction = loss.positive(matched, quality) - loss.negative(matched)
        divisor = scores.shape[2] / count.processes if isinstance(loss, BinaryCrossEntropy) else count.divisor
        return (loss.negative(flat).sum(1) + correction.sum(1)) / divisor

    def _name(self, terms: Mapping[str, Tensor], postfix: str) -> dict[str, Tensor]:
        """Split the terms of all outputs into the last one and the sum of the others."""
        named = {f"loss_{name}{postfix}": values[-1] for name, values in terms.items()}
        if self.aux_loss:
            named |= {f"loss_{name}_aux{postfix}": values[:-1].sum() for name, values in terms.items()}
        return named


class RTDETRDetectionLoss(DETRLoss):
    """Loss of RT-DETR: matched outputs plus denoising outputs, whose pairs are known beforehand."""

    def forward(  # type: ignore[override]
        self,
        preds: tuple[Tensor, Tensor],
        batch: Mapping[str, Any],
        dn_bboxes: Tensor | None = None,
        dn_scores: Tensor | None = None,
        dn_meta: Mapping[str, Any] | None = None,
        group: int = 0,
        partial: bool = False,
    ) -> dict[str, Tensor]:
        """Return twelve weighted terms; their sum is to be minimised.

        In training over several processes, pairs are counted over all of them and divided by their number, so that the
        mean of the gradients over processes is the gradient of the whole batch.

        Args:
            preds: Boxes (K, B, Q, 4) and score logits (K, B, Q, nc); the encoder's output first.
            batch: Targets.
            dn_bboxes: (layers, B, slots, 4) boxes of the denoising queries.
            dn_scores: (layers, B, slots, nc) their logits.
            dn_meta: Layout of the denoising queries, from `get_cdn_group`.
            group: Queries of a group; those behind the first group are matched group by group, and the mean of their
                terms is added to those with `_aux`. 0: all queries are one group.
            partial: As in `DETRLoss.forward`.

        Returns:
            `loss_class`, `loss_bbox`, `loss_giou`, these with `_aux`, and all six with `_dn` (zero without denoising).
        """
        boxes, scores = preds
        if not self.aux_loss:
            boxes, scores = boxes[-1:], scores[-1:]
        outputs = [(boxes, scores)]
        if 0 < group < boxes.shape[2]:
            outputs = list(zip(boxes.split(group, 2), scores.split(group, 2), strict=True))
            boxes, scores = outputs[0]
        pending = self._start(outputs, batch)
        dn_pairs = None
        if dn_meta is not None and dn_bboxes is not None and dn_scores is not None:
            dn_bboxes, dn_scores = (dn_bboxes, dn_scores) if self.aux_loss else (dn_bboxes[-1:], dn_scores[-1:])
            dn_pairs = _from_indices(denoising_indices(dn_meta), dn_bboxes)
        pairs, *further = self._pairs(pending, boxes)
        count, dn_count, *counts = _count_over_processes([pairs, dn_pairs, *further], boxes.device)
        terms = self._name(self._terms(boxes, scores, batch, pairs, count, partial), "")
        for (more, logits), own, n in zip(outputs[1:], further, counts, strict=True):
            for name, values in self._terms(more, logits, batch, own, n, partial).items():
                terms[f"loss_{name}_aux"] = terms[f"loss_{name}_aux"] + values.sum() / len(further)
        if dn_pairs is None or dn_bboxes is None or dn_scores is None:
            return terms | {f"{name}_dn": value.new_zeros(()) for name, value in terms.items()}
        return terms | self._name(self._terms(dn_bboxes, dn_scores, batch, dn_pairs, dn_count, partial), "_dn")


def denoising_indices(dn_meta: Mapping[str, Any]) -> list[tuple[Tensor, Tensor]]:
    """Return for each image the positive slots and their targets, in the form of `match_indices`."""
    groups = dn_meta["dn_num_group"]
    pairs = zip(dn_meta["dn_pos_idx"], dn_meta["dn_gt_idx"], strict=True)
    return [(slot, target.repeat(groups)) for slot, target in pairs]


def _from_indices(indices: MatchIndices, pred_bboxes: Tensor) -> _Pairs:
    """Put pairs given image by image into one row that serves all outputs."""
    queries = pred_bboxes.shape[2]
    slot = torch.cat([image * queries + query for image, (query, _) in enumerate(indices)])
    target = torch.cat([target for _, target in indices])
    pairs = torch.stack((slot, target))[:, None]  # (2, 1, n)
    return _Pairs(*to_device(pairs, pred_bboxes.device).unbind(0))


def _count_over_processes(found: Sequence[_Pairs | None], device: torch.device) -> list[_Count]:
    """Count the pairs of each kind over all processes, see `sum_over_processes`."""
    counts, processes = sum_over_processes([p.slot.shape[1] if p is not None else 0 for p in found], device)
    return [_Count(n, processes) for n in counts]


def sum_over_processes(counts: Sequence[float], device: torch.device) -> tuple[list[float], int]:
    """Return counts summed over the processes of a distributed training run, and the number of processes.

    Every rank must call this once a step (collective), also one whose images hold no target. Without gradients
    (validation) processes may see different numbers of batches, so nothing is exchanged.
    """
    own = [float(n) for n in counts]
    processes = dist.training_processes()
    if processes == 1:
        return own, 1
    total = dist.all_reduce_sum(torch.tensor(own, dtype=torch.float64, device=device))
    return total.tolist(), processes
