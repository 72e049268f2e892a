"""Criterion, matching and post-processing of the golden cases of the newer DETR families."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ultralytics.models.utils.fine_criterion import FineCriterion, FinePredictions, MatcherPlan
from ultralytics.models.utils.fine_grained_loss import FineGrainedLoss
from ultralytics.models.utils.loss import denoising_indices
from ultralytics.models.utils.ops import HungarianMatcher
from ultralytics.models.utils.union_matching import unite_pairs
from ultralytics.nn.modules.query_head import QueryHead
from ultralytics.utils.loss import ClassificationLoss, MatchabilityAwareLoss, VarifocalLoss
from ultralytics.utils.ops import xywh2xyxy

Config = dict[str, Any]


def targets_of(targets: Sequence[Mapping[str, Tensor]]) -> dict[str, Any]:
    """Return targets in the form that heads and losses take."""
    counts = [len(t["labels"]) for t in targets]
    return {
        "cls": torch.cat([t["labels"] for t in targets]),
        "bboxes": torch.cat([t["boxes"] for t in targets]),
        "batch_idx": torch.repeat_interleave(torch.tensor(counts)),
        "gt_groups": counts,
    }


def plan_of(c: Mapping[str, Any]) -> MatcherPlan:
    """Return the matchers of a configuration."""
    cost = c.get("cost", {"class": 2.0, "bbox": 5.0, "giou": 2.0})
    early = HungarianMatcher(cost, alpha=c.get("alpha", 0.25), gamma=c.get("gamma", 2.0))
    late = HungarianMatcher(cost, iou_power=c["iou_power"]) if "iou_power" in c else None
    return MatcherPlan(early, late, c.get("change_epoch", 0))


def criterion(c: Config) -> FineCriterion:
    """Return the criterion of a configuration."""
    mal = "mal" in c["losses"]
    cls: ClassificationLoss = VarifocalLoss(c["gamma"], c["alpha"], detached=True)
    if mal:
        cls = MatchabilityAwareLoss(c["gamma"], c.get("mal_alpha") or 1.0, detached=True)
    name = "mal" if mal else "vfl"
    gains = {key.removeprefix("loss_"): float(value) for key, value in c["weights"].items()}
    gains["class"] = gains.pop(name)
    local = FineGrainedLoss(c["reg_max"], c["reg_scale"]) if "local" in c["losses"] else None
    union = c["family"] != "rtdetrv2" and c.get("union", True)
    return FineCriterion(
        c["nc"], cls, name, plan_of(c.get("matcher", {})), gains, local, union, c.get("boxes_weight")
    )


def denoising_meta(counts: Sequence[int], groups: int) -> dict[str, Any]:
    """Return the layout of denoising queries for images with these numbers of targets."""
    most = max(counts, default=0)
    starts = np.cumsum(counts) - counts
    return {
        "dn_num_group": groups,
        "dn_pos_idx": [torch.tensor([g * 2 * most + j for g in range(groups) for j in range(n)]).long() for n in counts],
        "dn_gt_idx": [torch.arange(n) + int(start) for n, start in zip(counts, starts, strict=True)],
    }


def run_criterion(
    obj: FineCriterion, c: Config, targets: Any, epoch: int = 0, dn_groups: int = 0, meta: Any = None, **kwargs: Tensor
) -> dict[str, Tensor]:
    """Run a criterion on outputs by the names of the cases."""
    parts = {key: value for key, value in kwargs.items() if not key.startswith("dn_")}
    dn = {key.removeprefix("dn_"): value for key, value in kwargs.items() if key.startswith("dn_")}
    batch = targets_of(targets)
    if dn and meta is None:
        meta = denoising_meta(batch["gt_groups"], dn_groups)
    noised = FinePredictions(**dn) if dn else None
    terms = obj(FinePredictions(**parts), batch, noised, meta, epoch)
    if c["family"] == "dfine" and noised is not None and obj.local is not None:
        last = f"loss_ddf_dn_{len(noised.logits) - 1}"  # D-FINE reports the term of the teacher itself, which is zero
        terms[last] = torch.zeros(())
    return terms


def matcher(c: Config, logits: Tensor, boxes: Tensor, targets: Any, epoch: int = 0) -> list[list[Tensor]]:
    """Return the pairs of each image, targets counted within the image, in the order of the queries."""
    batch = targets_of(targets)
    found = plan_of(c).at(epoch)(boxes, logits, batch["bboxes"], batch["cls"], batch["gt_groups"])
    starts = np.cumsum(batch["gt_groups"]) - batch["gt_groups"]
    pairs = []
    for (query, target), start in zip(found, starts, strict=True):
        order = query.argsort()
        pairs.append([query[order], target[order] - int(start)])
    return pairs


def union(c: Config, last: Any, others: Any) -> list[list[Tensor]]:
    """Return the united pairs of each image."""
    images = []
    for image in range(len(last)):
        all_pairs = [output[image] for output in (last, *others)]
        sides = [[np.array(pair[k], np.int64) for pair in all_pairs] for k in (0, 1)]
        images.append([torch.from_numpy(side) for side in unite_pairs(*sides)])
    return images


def denoising_match(c: Config, counts: list[int], groups: int) -> list[list[Tensor]]:
    """Return the pairs of denoising queries, targets counted within the image."""
    starts = np.cumsum(counts) - counts
    found = denoising_indices(denoising_meta(counts, groups))
    return [[query, target - int(start)] for (query, target), start in zip(found, starts, strict=True)]


def post(c: Config, logits: Tensor, boxes: Tensor, sizes: Any) -> dict[str, Tensor]:
    """Return scores, labels and pixel boxes of the best pairs of query and class."""
    head = QueryHead()
    head.num_queries = c["top"]
    rows = head.postprocess(boxes, logits)
    scale = torch.tensor([[w, h, w, h] for w, h in sizes], dtype=boxes.dtype)[:, None]
    return {"scores": rows[..., 4], "labels": rows[..., 5].long(), "boxes": xywh2xyxy(rows[..., :4]) * scale}
