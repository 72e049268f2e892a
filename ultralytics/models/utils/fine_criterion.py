"""Set loss of RT-DETRv2, D-FINE, DEIM and DEIMv2 (arXiv 2407.17140, 2410.13842, 2412.04234, 2509.20787).

Shapes: L decoder layers, K outputs (the layers, then the first box, then the encoder), B batch, Q queries, nc classes,
N targets of all images, n pairs, R + 1 bins. Boxes are cx, cy, w, h in 0..1. Targets are as those of `DETRLoss`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ultralytics.models.utils.fine_grained_loss import FineGrainedLoss
from ultralytics.models.utils.loss import denoising_indices, sum_over_processes
from ultralytics.models.utils.ops import HungarianMatcher, IndexArray, PendingMatches, iou_and_giou
from ultralytics.models.utils.union_matching import unite_pairs
from ultralytics.utils.errors import ConfigError, DatasetError
from ultralytics.utils.loss import ClassificationLoss
from ultralytics.utils.torch_tools.transfers import to_device

__all__ = ("BoxQuality", "FineCriterion", "FinePredictions", "MatcherPlan", "check_class_range")

GAINS = {"class": 1.0, "bbox": 5.0, "giou": 2.0, "fgl": 0.15, "ddf": 1.5}


class FinePredictions(NamedTuple):
    """What the decoder predicts; parts that a family lacks are None."""

    logits: Tensor  # (L, B, Q, nc)
    boxes: Tensor  # (L, B, Q, 4)
    corners: Tensor | None = None  # (L, B, Q, 4 * (R + 1))
    refs: Tensor | None = None  # (B, Q, 4)
    pre_logits: Tensor | None = None  # (B, Q, nc)
    pre_boxes: Tensor | None = None  # (B, Q, 4)
    enc_logits: Tensor | None = None  # (B, Q, nc), or one class
    enc_boxes: Tensor | None = None  # (B, Q, 4)


class MatcherPlan(NamedTuple):
    """The matcher of each epoch: `late` from `change_epoch` on, counted from 0."""

    early: HungarianMatcher
    late: HungarianMatcher | None = None
    change_epoch: int = 0

    def at(self, epoch: int) -> HungarianMatcher:
        """Return the matcher of an epoch."""
        return self.early if self.late is None or epoch < self.change_epoch else self.late


class BoxQuality(NamedTuple):
    """IoU and GIoU of pairs, (K, n)."""

    iou: Tensor
    giou: Tensor


class _Pairs(NamedTuple):
    """Query slots (image * Q + query) and flat target indices, (K, n)."""

    slot: Tensor
    target: Tensor

    def of(self, outputs: int) -> _Pairs:
        """Return the pairs of the first outputs."""
        return _Pairs(self.slot[:outputs], self.target[:outputs])


class _Outputs(NamedTuple):
    """Outputs of one class count in a row, with the suffix of their loss names."""

    logits: Tensor  # (K, B, Q, nc)
    boxes: Tensor  # (K, B, Q, 4)
    names: list[str]


class FineCriterion(nn.Module):
    """Classification, boxes, and edge distributions of all decoder layers, the first box, the encoder and denoising.

    Args:
        nc: Number of classes.
        classification: Loss of the classes; its key in the result is `cls_name`.
        cls_name: Such as `vfl` or `mal`.
        matchers: Matcher of each epoch.
        gains: Weights `class`, `bbox`, `giou`, `fgl`, `ddf` that differ from 1, 5, 2, 0.15, 1.5.
        local: Loss on the edge distributions; None for heads without.
        union: Boxes and edges of all outputs use the united pairs of all; else each output its own.
        box_weight: Weight the GIoU term of a pair by its `iou` or `giou`, which is then the quality of its class too.

    Raises:
        ConfigError: Unknown `box_weight` or gain.
    """

    def __init__(
        self,
        nc: int,
        classification: ClassificationLoss,
        cls_name: str = "vfl",
        matchers: MatcherPlan | None = None,
        gains: Mapping[str, float] | None = None,
        local: FineGrainedLoss | None = None,
        union: bool = True,
        box_weight: str | None = None,
    ) -> None:
        super().__init__()
        if box_weight not in (None, "iou", "giou"):
            raise ConfigError(f"box_weight={box_weight!r} is not known; choose iou, giou or None")
        if unknown := set(gains or {}) - set(GAINS):
            raise ConfigError(f"loss gains {sorted(unknown)} are not known; there are {', '.join(GAINS)}")
        self.nc = nc
        self.classification = classification
        self.cls_name = cls_name
        plain = HungarianMatcher({"class": 2.0, "bbox": 5.0, "giou": 2.0})
        self.matchers = MatcherPlan(plain) if matchers is None else matchers
        self.gains = {**GAINS, **(gains or {})}
        self.local = local
        self.union = union
        self.box_weight = box_weight

    def forward(
        self,
        preds: FinePredictions,
        batch: Mapping[str, Any],
        dn: FinePredictions | None = None,
        dn_meta: Mapping[str, Any] | None = None,
        epoch: int = 0,
    ) -> dict[str, Tensor]:
        """Return the weighted terms by name; their sum is to be minimised.

        The set of names depends on the predictions alone, never on the targets, so that all processes add up the same.

        Args:
            preds: Predictions for the ordinary queries.
            batch: Targets.
            dn: Predictions for the denoising queries.
            dn_meta: Layout of the denoising queries, from `get_cdn_group`.
            epoch: Epoch, from 0.

        Raises:
            DatasetError: A label lies outside of 0 to nc - 1.
        """
        if batch["cls"].is_cpu:  # on a GPU the host would wait; a network checks them before they go there
            check_class_range(batch["cls"], self.nc)
        device = preds.boxes.device
        targets = to_device(batch["bboxes"], device), to_device(batch["cls"], device).long().flatten()
        parts = self._parts(preds)
        costs = [self._costs(part, targets, batch["gt_groups"], epoch) for part in parts]
        found = PendingMatches(costs, batch["gt_groups"]).pairs()  # of each output, on the host
        united = unite_pairs([s for part in found for s in part[0]], [t for part in found for t in part[1]])
        known = denoising_indices(dn_meta) if dn is not None and dn_meta is not None else []
        counts = [float(found[0][0].shape[1]), float(len(united[0])), float(sum(len(t) for _, t in known))]
        counts, processes = sum_over_processes(counts, device)
        pairs_count, union_count, dn_count = (max(n, 1.0) / processes for n in counts)
        terms: dict[str, Tensor] = {}
        distill_weights = None
        for part, own in zip(parts, found, strict=True):
            pairs = _Pairs(*to_device(torch.from_numpy(own), device))
            joint = _everywhere(united, pairs, device) if self.union else pairs
            terms |= self._outputs(
                part, targets, pairs, joint, (pairs_count, union_count if self.union else pairs_count)
            )
            if part is parts[0] and self.local is not None:
                divisor = union_count if self.union else pairs_count
                local, distill_weights = self._edges(preds, targets, joint.of(len(preds.logits)), divisor, None)
                terms |= self._named(local, part.names)
        if dn is not None and dn_meta is not None:
            terms |= self._denoising(dn, targets, known, dn_count, distill_weights)
        return terms

    def _parts(self, preds: FinePredictions) -> list[_Outputs]:
        """Put all outputs in a row; an encoder that scores one class for all is a row of its own."""
        layers = len(preds.logits)
        logits, boxes = [*preds.logits], [*preds.boxes]
        names = [*(f"_aux_{i}" for i in range(layers - 1)), ""]
        if preds.pre_logits is not None and preds.pre_boxes is not None:
            logits, boxes, names = [*logits, preds.pre_logits], [*boxes, preds.pre_boxes], [*names, "_pre"]
        if preds.enc_logits is None or preds.enc_boxes is None:
            return [_Outputs(torch.stack(logits), torch.stack(boxes), names)]
        if preds.enc_logits.shape[-1] == logits[0].shape[-1]:
            logits, boxes, names = [*logits, preds.enc_logits], [*boxes, preds.enc_boxes], [*names, "_enc_0"]
            return [_Outputs(torch.stack(logits), torch.stack(boxes), names)]
        own = _Outputs(preds.enc_logits[None], preds.enc_boxes[None], ["_enc_0"])
        return [_Outputs(torch.stack(logits), torch.stack(boxes), names), own]

    def _costs(self, part: _Outputs, targets: tuple[Tensor, Tensor], gt_groups: Sequence[int], epoch: int) -> Tensor:
        """Return the costs (K, N, Q) of each output's queries."""
        boxes, labels = targets
        labels = labels if part.logits.shape[-1] == self.nc else torch.zeros_like(labels)
        return self.matchers.at(epoch).costs(part.boxes.detach(), part.logits.detach(), boxes, labels, gt_groups)

    def _outputs(
        self,
        part: _Outputs,
        targets: tuple[Tensor, Tensor],
        pairs: _Pairs,
        joint: _Pairs,
        divisors: tuple[float, float],
    ) -> dict[str, Tensor]:
        """Return the classification terms of each output's own pairs, and the box terms of the joint ones."""
        boxes, labels = targets
        labels = labels if part.logits.shape[-1] == self.nc else torch.zeros_like(labels)
        found = _quality(part.boxes, boxes, pairs)
        quality = (found.giou if self.box_weight == "giou" else found.iou).detach()
        terms = {
            self.cls_name: self._class_terms(part.logits, pairs, labels, quality) / divisors[0] * self.gains["class"]
        }
        return self._named(terms | self._box_terms(part.boxes, boxes, joint, divisors[1]), part.names)

    def _class_terms(self, logits: Tensor, pairs: _Pairs, labels: Tensor, quality: Tensor) -> Tensor:
        """Return the classification loss of each output, summed, (K,): all scores negative, the matched corrected."""
        flat = logits.flatten(1)  # (K, B*Q*nc)
        matched = flat.gather(1, pairs.slot * logits.shape[-1] + labels[pairs.target])  # (K, n)
        correction = self.classification.positive(matched, quality) - self.classification.negative(matched)
        return self.classification.negative(flat).sum(1) + correction.sum(1)

    def _box_terms(self, boxes: Tensor, goals: Tensor, pairs: _Pairs, divisor: float) -> dict[str, Tensor]:
        """Return L1 and GIoU terms of each output, (K,)."""
        found = _of_slots(boxes, pairs.slot)  # (K, n, 4)
        found = found.to(torch.promote_types(found.dtype, torch.float32))
        quality = _quality(boxes, goals, pairs)
        weight = 1.0 if self.box_weight is None else getattr(quality, self.box_weight).detach()
        return {
            "bbox": (found - goals[pairs.target].to(found.dtype)).abs().sum((1, 2)) * (self.gains["bbox"] / divisor),
            "giou": ((1 - quality.giou) * weight).sum(1) * (self.gains["giou"] / divisor),
        }

    def _edges(
        self,
        preds: FinePredictions,
        targets: tuple[Tensor, Tensor],
        pairs: _Pairs,
        divisor: float,
        distill_weights: Tensor | None,
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return the terms of the edge distributions of each layer, (L,), and the weights of the distillation, (L, 2).

        The last layer teaches the others; its own distillation term is left out. `distill_weights`: given ones.
        """
        local, corners, refs = self.local, preds.corners, preds.refs
        if local is None or corners is None or refs is None:
            raise ConfigError("a loss on edge distributions needs a head that predicts them; use local=None")
        goals = targets[0]
        quality = _quality(preds.boxes, goals, pairs).iou.detach()  # (L, n)
        target = local.targets(_of_slots(refs.expand_as(preds.boxes), pairs.slot), goals[pairs.target])
        fgl = local.localisation(_of_slots(corners, pairs.slot), target, quality)
        teacher = preds.logits[-1].detach().float().sigmoid().amax(-1)  # (B, Q)
        weight = teacher.expand(len(corners), -1, -1).flatten(1).clone()
        matched = torch.zeros_like(weight, dtype=torch.bool).scatter_(1, pairs.slot, True).view(corners.shape[:3])
        weight = weight.scatter_(1, pairs.slot, quality.to(weight.dtype)).view(corners.shape[:3])
        distill_weights = local.balance(matched) if distill_weights is None else distill_weights
        earlier = slice(0, len(corners) - 1)
        ddf = local.distillation(
            corners[earlier], corners[-1].detach(), weight[earlier], matched[earlier], distill_weights[earlier]
        )
        terms = {"fgl": fgl * (self.gains["fgl"] / divisor), "ddf": ddf * self.gains["ddf"]}
        return terms, distill_weights

    def _denoising(
        self,
        dn: FinePredictions,
        targets: tuple[Tensor, Tensor],
        known: Sequence[tuple[Tensor, Tensor]],
        count: float,
        distill_weights: Tensor | None,
    ) -> dict[str, Tensor]:
        """Return the terms of the denoising queries, whose pairs are known; without a target all are zero."""
        (part,) = self._parts(dn._replace(enc_logits=None))
        layers, queries = len(dn.logits), dn.boxes.shape[2]
        part = part._replace(names=[f"_dn_{i}" for i in range(layers)] + ["_dn_pre"] * (len(part.names) - layers))
        slot = torch.cat([image * queries + slots for image, (slots, _) in enumerate(known)])
        both = torch.stack((slot, torch.cat([target for _, target in known])))  # (2, n)
        pairs = _Pairs(*to_device(both, part.boxes.device)[:, None].expand(-1, len(part.boxes), -1))
        terms = self._outputs(part, targets, pairs, pairs, (count, count))
        if self.local is not None:
            local, _ = self._edges(dn, targets, pairs.of(layers), count, distill_weights)
            terms |= self._named(local, part.names)
        return terms if len(slot) else {name: value * 0.0 for name, value in terms.items()}

    @staticmethod
    def _named(terms: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
        """Split terms of several outputs into one entry for each."""
        return {
            f"loss_{term}{name}": value
            for term, values in terms.items()
            for name, value in zip(names, values, strict=False)
        }


def check_class_range(labels: Tensor, nc: int) -> None:
    """Raise DatasetError for labels that have no logit: in a loss they would read another image's, or stop a GPU."""
    if labels.numel() and not bool(((labels >= 0) & (labels < nc)).all()):
        low, high = int(labels.min()), int(labels.max())
        raise DatasetError(
            f"labels run from {low} to {high}, but the model has classes 0 to {nc - 1}; "
            "number the classes of the data set from 0 without gaps"
        )


def _of_slots(values: Tensor, slot: Tensor) -> Tensor:
    """Return the rows (K, n, X) of query slots (K, n) from (K, B, Q, X)."""
    flat = values.flatten(1, 2)
    return flat.gather(1, slot[..., None].expand(-1, -1, flat.shape[-1]))


def _quality(boxes: Tensor, goals: Tensor, pairs: _Pairs) -> BoxQuality:
    """Return IoU and GIoU of pairs from boxes (K, B, Q, 4) and targets (N, 4)."""
    found = _of_slots(boxes, pairs.slot)
    return BoxQuality(*iou_and_giou(found.movedim(-1, 0), goals[pairs.target].movedim(-1, 0)))


def _everywhere(united: tuple[IndexArray, IndexArray], like: _Pairs, device: torch.device) -> _Pairs:
    """Return the united pairs (m,) for as many outputs as there are, (K, m)."""
    both = to_device(torch.from_numpy(np.stack(united)), device)  # (2, m)
    return _Pairs(*both[:, None].expand(-1, len(like.slot), -1))
