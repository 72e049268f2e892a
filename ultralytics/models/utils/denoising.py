"""Contrastive denoising queries (DINO, arXiv 2203.03605, section 3.3): noised targets that the decoder must repair.

Shapes: B batch, Q matching queries, N targets of all images, m slots of a half group, G groups, D hidden width.
One group is m positive slots (little noise), then m negative slots (more noise). All images share this layout, and an
image with fewer targets leaves slots empty. Slots of an image: [group, positive/negative, m] flattened, 2*m*G in all.
Boxes are cx, cy, w, h in 0..1; targets lie one image after another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor

from ultralytics.utils.torch_tools.transfers import to_device

__all__ = ("DenoisingForm", "DenoisingMeta", "DenoisingNoise", "get_cdn_group")

DUMMY_BOX = (0.5, 0.5, 0.1, 0.1)
"""What is noised for the empty slots of a batch without a target."""


class DenoisingMeta(TypedDict):
    """Layout of the denoising queries, for the loss."""

    dn_pos_idx: Sequence[Tensor]  # positive slots of each image, over all groups
    dn_gt_idx: Sequence[Tensor]  # target indices of each image, of one group
    dn_num_group: int
    dn_num_split: list[int]  # number of denoising and of matching queries


DenoisingGroup = tuple[Tensor, Tensor, Tensor, DenoisingMeta] | tuple[None, None, None, None]


class DenoisingNoise(NamedTuple):
    """Random numbers in 0..1 of n = 2mG slots of each image."""

    flip: Tensor  # (B, n), a label is redrawn below half of the ratio
    label: Tensor  # (B, n), the fraction of the classes below the new label
    sign: Tensor  # (B, n, 4), a corner's coordinate grows from 0.5 on
    part: Tensor  # (B, n, 4), how far it moves


@dataclass(frozen=True)
class DenoisingForm:
    """How families of detectors differ in their denoising queries; the defaults are those of RT-DETR.

    Attributes:
        padded: Slots without a target get the last row of the embedding and an empty box, as in RT-DETRv2 and later;
            the embedding then has one row more than there are classes. Else both are zero.
        capped: Images with more targets than slots get a random subset of them; else the slots grow with the targets.
        dummy: A batch without a target gets one pair of empty slots, so that all processes build the same graph.
        spanned: Where a negative's corners pass each other, the box is what they span; else its side is zero, as in the
            RT-DETRv2 project.
        noise: Called with the number of images and of slots instead of drawing random numbers.
    """

    padded: bool = False
    capped: bool = True
    dummy: bool = False
    spanned: bool = True
    noise: Callable[[int, int], DenoisingNoise] | None = None


class _Layout(NamedTuple):
    """Which target sits in which slot, on the host: `target` (B, m), -1 where empty."""

    target: Tensor
    groups: int

    @property
    def slots(self) -> int:
        """Slots m of a half group."""
        return self.target.shape[1]


def get_cdn_group(
    batch: Mapping[str, Any] | None,
    num_classes: int,
    num_queries: int,
    class_embed: Tensor,
    num_dn: int = 100,
    cls_noise_ratio: float = 0.5,
    box_noise_scale: float = 1.0,
    training: bool = False,
    form: DenoisingForm = DenoisingForm(),
) -> DenoisingGroup:
    """Make the denoising queries of a batch.

    Args:
        batch: `cls` (N,), `bboxes` (N, 4) and `gt_groups`, the number of targets of each image.
        num_classes: Classes that a flipped label is drawn from.
        num_queries: Matching queries Q, which follow the denoising queries.
        class_embed: (nc, D) embedding of labels.
        num_dn: Positive slots to spend; images with more targets get a random subset of this many.
        cls_noise_ratio: Half of this fraction of the labels is redrawn.
        box_noise_scale: Corners of a positive move by up to this many half sides, of a negative by once to twice that.
        training: Denoising exists in training only.
        form: What families differ in.

    Returns:
        Content (B, 2mG, D), box logits (B, 2mG, 4), attention mask (2mG + Q, 2mG + Q) (True = blocked), and the layout
        for the loss: per image `dn_pos_idx` (positive slots over all groups) and `dn_gt_idx` (target indices of one
        group), `dn_num_group`, `dn_num_split`. Four None when not training, `num_dn` is 0, or no image has a target.
    """
    most = 0 if batch is None else max(batch["gt_groups"], default=0)
    if not training or num_dn <= 0 or batch is None or (most == 0 and not form.dummy):
        return None, None, None, None
    layout = _lay_out(batch["gt_groups"], num_dn, form.capped)
    device = class_embed.device
    copies = 2 * layout.groups
    noise = _given_noise(form, layout, device)
    target = to_device(layout.target, device)
    filled = (target >= 0)[:, None, :, None]  # (B, 1, m, 1)
    target = target.clamp(min=0)
    if most:
        labels = to_device(batch["cls"], device).long().flatten()[target]  # (B, m)
        boxes = to_device(batch["bboxes"], device)[target]  # (B, m, 4)
    else:
        labels = target
        boxes = to_device(torch.tensor(DUMMY_BOX), device).expand(*target.shape, 4)
    labels = _noise_labels(labels, copies, num_classes, cls_noise_ratio, noise)  # (B, 2G, m)
    boxes = _noise_boxes(boxes, layout.groups, box_noise_scale, noise, form.spanned)  # (B, 2G, m, 4)
    if form.padded:
        last = len(class_embed) - 1
        labels = torch.where(filled[..., 0], labels, last)
        content = F.embedding(labels, class_embed, padding_idx=last).flatten(1, 2)  # (B, 2mG, D); the last row is fixed
        logits = _logit(torch.where(filled, boxes, 0.0) if most else boxes).flatten(1, 2)  # (B, 2mG, 4)
    else:
        content = torch.where(filled, F.embedding(labels, class_embed), 0.0).flatten(1, 2)  # (B, 2mG, D)
        logits = torch.where(filled, torch.logit(boxes, eps=1e-6), 0.0).flatten(1, 2)  # (B, 2mG, 4)
    return content, logits, _attention_mask(layout, num_queries, device), _describe(layout, num_queries)


def _logit(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Return the logit of values in 0..1, both x and 1 - x held at `eps` or more."""
    return torch.log(x.clamp(min=eps) / (1 - x).clamp(min=eps))


def _given_noise(form: DenoisingForm, layout: _Layout, device: torch.device) -> DenoisingNoise | None:
    """Return prescribed random numbers as (B, 2G, m) and (B, 2G, m, 4), or None."""
    if form.noise is None:
        return None
    copies = 2 * layout.groups
    given = form.noise(len(layout.target), copies * layout.slots)
    return DenoisingNoise(*(t.to(device).unflatten(1, (copies, layout.slots)) for t in given))


def _lay_out(gt_groups: Sequence[int], num_dn: int, capped: bool) -> _Layout:
    """Give each image's targets the first slots; above `num_dn` targets, where capped, a sorted random subset."""
    counts = torch.as_tensor(gt_groups, dtype=torch.long)[:, None]  # (B, 1)
    most = max(int(counts.max()), 1)
    slots = min(most, num_dn) if capped else most
    index = torch.arange(slots).expand(len(counts), slots)
    if most > slots:  # padding slots get the largest key, so they sort last
        key = torch.rand(len(counts), most).masked_fill(torch.arange(most) >= counts, 2.0)
        index = key.topk(slots, largest=False).indices.sort(1).values
    target = torch.where(index < counts, counts.cumsum(0) - counts + index, -1)  # (B, m)
    return _Layout(target, max(num_dn // slots, 1) if int(counts.max()) else 1)


def _noise_labels(
    labels: Tensor, copies: int, num_classes: int, ratio: float, given: DenoisingNoise | None = None
) -> Tensor:
    """Return (B, copies, m) labels, each redrawn with probability ratio / 2 (the old class may come again)."""
    labels = labels[:, None].expand(-1, copies, -1)
    if ratio <= 0:
        return labels
    if given is not None:
        return torch.where(given.flip < ratio * 0.5, (given.label * num_classes).long(), labels)
    flip = torch.rand(labels.shape, device=labels.device) < ratio * 0.5
    return torch.where(flip, torch.randint(num_classes, labels.shape, device=labels.device), labels)


def _noise_boxes(
    boxes: Tensor, groups: int, scale: float, given: DenoisingNoise | None = None, spanned: bool = True
) -> Tensor:
    """Return (B, 2G, m, 4) boxes whose corners moved, clipped to the image; even copies positive, odd ones negative."""
    boxes = boxes[:, None].expand(-1, 2 * groups, -1, -1)
    if scale <= 0:
        return boxes
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    if given is None:
        noise = torch.rand(*boxes.shape[:3], 2, 2, device=boxes.device, dtype=boxes.dtype)  # corner, then x and y
        noise[:, 1::2] += 1.0
        sign = torch.randint(2, noise.shape, device=boxes.device, dtype=torch.int8) * 2 - 1
    else:
        noise = given.part.to(boxes).unflatten(-1, (2, 2)).clone()
        noise[:, 1::2] += 1.0
        sign = torch.where(given.sign >= 0.5, 1, -1).unflatten(-1, (2, 2))
    corners = torch.stack((centre - half, centre + half), -2) + noise * sign * (half * scale).unsqueeze(-2)
    # corners of a negative can pass each other: the box is what they span, not one of negative size
    corners = corners.clamp(0.0, 1.0)
    low, high = corners.aminmax(dim=-2)
    if not spanned:
        return torch.cat(((low + high) / 2, (corners[..., 1, :] - corners[..., 0, :]).clamp(min=0)), -1)
    return torch.cat(((low + high) / 2, high - low), -1)


def _attention_mask(layout: _Layout, num_queries: int, device: torch.device) -> Tensor:
    """Block denoising slots for all but their own group; matching queries are open to everyone."""
    size = 2 * layout.slots
    group = torch.arange(layout.groups * size + num_queries, device=device) // size
    group[layout.groups * size :] = -1
    return (group[:, None] != group) & (group >= 0)  # (2mG + Q, 2mG + Q)


def _describe(layout: _Layout, num_queries: int) -> DenoisingMeta:
    """Return the layout for the loss, on the host."""
    m, groups = layout.slots, layout.groups
    filled = layout.target >= 0  # (B, m)
    slot = torch.arange(groups)[:, None] * (2 * m) + torch.arange(m)  # (G, m)
    counts = filled.sum(1)
    positive = slot.expand(len(filled), -1, -1)[filled[:, None].expand(-1, groups, -1)]
    return {
        "dn_pos_idx": positive.split((counts * groups).tolist()),
        "dn_gt_idx": layout.target[filled].split(counts.tolist()),
        "dn_num_group": groups,
        "dn_num_split": [2 * m * groups, num_queries],
    }
