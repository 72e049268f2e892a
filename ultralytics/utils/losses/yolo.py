"""The losses of the YOLO family: class scores, boxes by CIoU, and distances as distributions (or plain numbers).

Positives come from the task-aligned assigner. Shapes: B batch, A anchors (cells of all levels), R bins of each
side's distribution, nc classes, N targets of the whole batch, P positives. Boxes are xyxy unless a name says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.utils import dist
from ultralytics.utils.metrics import bbox_iou
from ultralytics.utils.ops import constant_like, xywh2xyxy
from ultralytics.utils.tal import Assignment, TaskAlignedAssigner, bbox2dist, dist2bbox, make_anchors
from ultralytics.utils.torch_tools.transfers import to_device

__all__ = (
    "DFLoss",
    "E2ELoss",
    "RawBranch",
    "YOLOLossModel",
    "class_frequency_weights",
    "pad_targets",
    "v8DetectionLoss",
)

Items = dict[str, Tensor]
RawBranch = dict[str, Any]  # boxes (B, 4R, A), scores (B, nc, A), feats: the maps of the levels
ALPHA, BETA = 0.5, 6.0  # exponents of the assigner's metric


class YOLOLossModel(Protocol):
    """What a loss reads of a network: training arguments, and a last layer with nc, reg_max and stride."""

    model: Any
    args: Any


class DFLoss(nn.Module):
    """Distribution Focal Loss: cross entropy to the two bins beside a distance (arXiv 2006.04388, section 3.2)."""

    def __init__(self, reg_max: int = 16) -> None:
        super().__init__()
        self.reg_max = reg_max

    def forward(self, pred_dist: Tensor, target: Tensor) -> Tensor:
        """Return the mean over the sides (P, 1) of logits (4P, R) and distances (P, 4) in bins.

        Distances are limited to 0..R - 1.01: nothing beyond the last bin can be learnt.
        """
        target = target.clamp(0, self.reg_max - 1 - 0.01)
        left = target.long()
        weight = target - left  # of the bin above
        log_p = pred_dist.view(*target.shape, self.reg_max).log_softmax(-1)  # (P, 4, R)
        below = log_p.gather(-1, left.unsqueeze(-1)).squeeze(-1)
        above = log_p.gather(-1, left.unsqueeze(-1) + 1).squeeze(-1)
        return -(below * (1 - weight) + above * weight).mean(-1, keepdim=True)


class _Decoded(NamedTuple):
    """Predictions of a branch in float32, anchors first."""

    logits: Tensor  # (B, A, nc)
    distances: Tensor  # (B, A, 4R)
    boxes: Tensor  # (B, A, 4), in cells
    points: Tensor  # (A, 2), in cells
    strides: Tensor  # (A, 1), in pixels
    size: Tensor  # (2,), width and height of the image in pixels


class v8DetectionLoss:
    """Loss of one branch: class scores, boxes, and distances to the sides.

    Reads `model.args` (gains `box`, `cls`, `dfl`), the last layer and, where it has them, `model.class_weights` (nc,).
    `tal_topk` and `tal_topk2` go to the assigner.
    """

    def __init__(self, model: YOLOLossModel, tal_topk: int = 10, tal_topk2: int | None = None) -> None:
        head = model.model[-1]
        self.nc, self.reg_max = int(head.nc), int(head.reg_max)
        self.stride = [float(s) for s in head.stride]
        self.gains = tuple(float(_argument(model.args, k, d)) for k, d in (("box", 7.5), ("cls", 0.5), ("dfl", 1.5)))
        weights = getattr(model, "class_weights", None)
        self.class_weights: Tensor | None = weights if isinstance(weights, Tensor) else None
        self.assigner = TaskAlignedAssigner(tal_topk, self.nc, ALPHA, BETA, self.stride, topk2=tal_topk2)
        self.dfl = DFLoss(self.reg_max)

    @property
    def loss_names(self) -> tuple[str, str, str]:
        """Names of the three terms."""
        return "box_loss", "cls_loss", "dfl_loss" if self.reg_max > 1 else "l1_loss"

    def __call__(self, preds: Any, batch: Mapping[str, Any]) -> tuple[Tensor, Items]:
        """Return the three terms (3,) times the batch size of all processes, and them detached by name, not multiplied.

        `preds` is the raw dict of a branch, or what the head gives in eval mode. `batch` holds `batch_idx` (N,), `cls`
        (N,) or (N, 1) and `bboxes` (N, 4) as cx, cy, w, h in 0..1, in any order; N may be 0.
        """
        raw: RawBranch = preds[1] if isinstance(preds, (tuple, list)) else preds
        terms = self.terms(raw, batch)
        images = raw["boxes"].shape[0] * dist.training_processes()
        return terms * images, dict(zip(self.loss_names, terms.detach(), strict=True))

    def terms(self, raw: RawBranch, batch: Mapping[str, Any]) -> Tensor:
        """The three terms (3,) with their gains."""
        with torch.autocast(raw["boxes"].device.type, enabled=False):
            pred = self._decode(raw)
            found = self._assign(pred, batch)
            total = _over_processes(found.scores.sum())
            cls = F.binary_cross_entropy_with_logits(pred.logits, found.scores, reduction="none")
            if self.class_weights is not None:
                cls = cls * self.class_weights.to(cls)
            box, side = self._box_terms(pred, found, len(batch["batch_idx"]))
            return torch.stack((box / total, cls.sum() / total, side / total)) * constant_like(self.gains, pred.logits)

    def _decode(self, raw: RawBranch) -> _Decoded:
        logits = _full(raw["scores"]).transpose(1, 2).contiguous()  # (B, A, nc)
        distances = _full(raw["boxes"]).transpose(1, 2).contiguous()  # (B, A, 4R)
        feats: Sequence[Tensor] = raw["feats"]
        points, strides = make_anchors(feats, self.stride)
        points, strides = points.to(logits), strides.to(logits)
        h, w = feats[0].shape[2:]
        size = constant_like([w * self.stride[0], h * self.stride[0]], logits)
        ltrb = distances
        if self.reg_max > 1:
            bins = torch.arange(self.reg_max, device=logits.device, dtype=logits.dtype)
            ltrb = distances.unflatten(-1, (4, self.reg_max)).softmax(-1) @ bins  # (B, A, 4)
        return _Decoded(logits, distances, dist2bbox(ltrb, points, xywh=False), points, strides, size)

    @torch.no_grad()
    def _assign(self, pred: _Decoded, batch: Mapping[str, Any]) -> Assignment:
        labels, boxes, mask = pad_targets(batch, len(pred.logits), pred.logits)
        boxes = xywh2xyxy(boxes) * pred.size.repeat(2)
        scores, pixels = pred.logits.detach().sigmoid(), pred.boxes.detach() * pred.strides
        found: Assignment = self.assigner(scores, pixels, pred.points * pred.strides, labels, boxes, mask)
        return found

    def _positives(self, fg: Tensor, targets: int) -> tuple[Tensor, Tensor]:
        """Image and anchor (P,) of each positive, from `fg` (B, A).

        On a GPU, where counting them would make the host wait, as many as the targets can have: anchors whose scores
        are 0 make up the number.
        """
        if fg.is_cpu:
            image, anchor = fg.nonzero(as_tuple=True)
            return image, anchor
        first = fg.flatten().byte().argsort(descending=True, stable=True)[: targets * self.assigner.topk]
        return first // fg.shape[1], first % fg.shape[1]

    def _box_terms(self, pred: _Decoded, found: Assignment, targets: int) -> tuple[Tensor, Tensor]:
        """Sums over the positives of `targets` of 1 - CIoU, and of the distances' term, weighted by target scores."""
        image, anchor = self._positives(found.fg, targets)
        weight = found.scores[image, anchor].sum(-1)  # (P,)
        points, strides = pred.points[anchor], pred.strides[anchor]
        target = found.bboxes[image, anchor] / strides  # in cells
        iou = bbox_iou(pred.boxes[image, anchor], target, xywh=False, CIoU=True).squeeze(-1)
        distances = pred.distances[image, anchor]
        if self.reg_max > 1:
            sides = bbox2dist(points, target, self.reg_max - 1)
            side = self.dfl(distances.view(-1, self.reg_max), sides).squeeze(-1)
        else:
            scale = strides / pred.size.repeat(2)  # (P, 4): from cells to parts of the image
            side = ((distances - bbox2dist(points, target)) * scale).abs().mean(-1)
        return ((1 - iou) * weight).sum(), (side * weight).sum()


class E2ELoss:
    """Loss of a dual head: many anchors for a target in one branch, one in the other, whose weight grows by the epoch.

    The weight of the one-to-many branch falls from 0.8 to 0.1 over `args.epochs`, by `update` once an epoch (YOLO26).
    Items are those of the one-to-one branch, in validation those of the branch that is validated.
    """

    START, END = 0.8, 0.1

    def __init__(self, model: YOLOLossModel, loss_fn: type[v8DetectionLoss] = v8DetectionLoss) -> None:
        self.one2many = loss_fn(model, tal_topk=10)
        self.one2one = loss_fn(model, tal_topk=7, tal_topk2=1)
        self.epochs = int(_argument(model.args, "epochs", 100))
        self.updates = 0
        self.o2m, self.o2o = self.START, 1 - self.START

    @property
    def loss_names(self) -> tuple[str, str, str]:
        """Names of the three terms."""
        return self.one2one.loss_names

    def __call__(self, preds: Any, batch: Mapping[str, Any]) -> tuple[Tensor, Items]:
        """Return the weighted sum of both branches' terms (3,) times the batch size, and the detached items.

        `preds` is the pair of raw dicts, or what the head gives in eval mode. Of a fused head, which has one branch,
        it is that branch's loss.
        """
        pair = preds[1] if isinstance(preds, (tuple, list)) else preds
        if not (pair.get("one2many") and pair.get("one2one")):
            return self._of_one_branch(pair, batch)
        many, _ = self.one2many(pair["one2many"], batch)
        one, items = self.one2one(pair["one2one"], batch)
        return many * self.o2m + one * self.o2o, items

    def _of_one_branch(self, raw: Mapping[str, Any], batch: Mapping[str, Any]) -> tuple[Tensor, Items]:
        """Return terms and items of a head that fusing has left one branch: a raw dict, or a pair with one empty."""
        if raw.get("one2one"):
            return self.one2one(raw["one2one"], batch)
        return self.one2many(raw.get("one2many") or raw, batch)

    def update(self, epochs: int = 1) -> None:
        """Advance by finished epochs; a resumed run gives all of them at once."""
        self.start_epoch(self.updates + epochs, self.epochs)

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Set the weights of the branches for epoch `epoch` (from 0) of `epochs`."""
        self.updates, self.epochs = epoch, epochs
        left = max(1 - self.updates / max(self.epochs - 1, 1), 0.0)
        self.o2m = left * (self.START - self.END) + self.END
        self.o2o = max(1 - self.o2m, 0.0)


def pad_targets(batch: Mapping[str, Any], images: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sort the targets of a batch by image and pad them to the fullest one.

    Returns labels (B, n, 1), boxes (B, n, 4) in their own format, and whether a row is a target with an area (B, n, 1);
    all on the device of `like`.
    """
    index = batch["batch_idx"].detach().reshape(-1).long()
    cls = batch["cls"].detach().reshape(-1, 1).to(index.device, like.dtype)
    rows = torch.cat((cls, batch["bboxes"].detach().reshape(-1, 4).to(index.device, like.dtype)), 1)  # (N, 5)
    index, order = index.sort(stable=True)
    counts = torch.bincount(index, minlength=images)
    slot = torch.arange(len(index), device=index.device) - (counts.cumsum(0) - counts)[index]
    padded = rows.new_zeros(images, int(counts.max()) if len(index) else 0, 6)
    padded[index, slot, :5] = rows[order]
    padded[index, slot, 5] = 1
    padded = to_device(padded, like.device)
    boxes = padded[..., 1:5]
    real = (padded[..., 5:6] > 0) & (boxes[..., 2:] > 0).all(-1, keepdim=True)
    return padded[..., :1].long(), boxes, real


def class_frequency_weights(counts: Tensor, power: float) -> Tensor:
    """Return weights (nc,) of mean 1 that fall with the count of a class: (1 / count) ** `power`.

    A class without an instance gets the mean of the others.
    """
    present = counts > 0
    weights = torch.ones_like(counts, dtype=torch.float32)
    if bool(present.any()):
        weights[present] = counts[present].float().pow(-power)
        weights[~present] = weights[present].mean()
    return weights / weights.mean()


def _argument(args: Any, name: str, default: float) -> Any:
    """A training argument from a mapping or a namespace; the default where it is missing or null."""
    value = args.get(name) if isinstance(args, Mapping) else getattr(args, name, None)
    return default if value is None else value


def _over_processes(total: Tensor) -> Tensor:
    """The divisor of a loss, from this process's sum of target scores; averaged gradients are then those of one batch.

    Every rank must call this equally often in a training step (collective).
    """
    processes = dist.training_processes()
    if processes > 1:
        total = dist.all_reduce_sum(total.clone())
    return total.clamp(min=1) / processes


def _full(x: Tensor) -> Tensor:
    return x if x.dtype in (torch.float32, torch.float64) else x.float()
