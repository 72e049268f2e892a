"""Test-time augmentation for RT-DETR: several views of the same image, whose boxes are fused.

A network without NMS returns one box per object in each view, so the boxes of views cannot simply be joined: those of
one object are fused as in weighted boxes fusion (Solovyev et al. 2021, arXiv 1910.13302, section 3). Shapes: B batch, V
views, K rows of a view, n fused rows. Rows are cx, cy, w, h in 0..1 of the network input, score, class.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torchvision.ops import batched_nms, box_iou

from ultralytics.models.rtdetr.post import output_rows
from ultralytics.nn.families import find_family
from ultralytics.utils.log import LOGGER
from ultralytics.utils.ops import xywh2xyxy, xyxy2xywh

FUSE_IOU = 0.65  # boxes of one class with a larger IoU are one object


class View(NamedTuple):
    """One view of an image: sides times `scale`, and mirrored or not."""

    scale: float
    mirrored: bool


VIEWS = (View(1.0, False), View(1.0, True), View(1.25, False))


def augmented_output(model: Any, im: torch.Tensor, stride: int) -> Any:
    """Return the output of a network (or of what runs it) for several views of `im` (B, C, H, W), put together.

    A family with a post-process has views of its own, by `augment=True`; a head that gives rows has those below. An
    exported file of such a family is run once, with a warning.
    """
    family = find_family(model)
    if family is None or family.postprocess is None:
        return augmented_rows(model, im, stride, getattr(model, "pt", True))
    if getattr(model, "pt", True):
        return model(im, augment=True)
    LOGGER.warning("augment=True has no effect: an exported file gives one view")
    return model(im)


def augmented_rows(
    run: Callable[[torch.Tensor], Any], im: torch.Tensor, stride: int, any_size: bool = True
) -> torch.Tensor:
    """Return the fused rows (B, n, 6) of all views of `im` (B, C, H, W), best first, padded with zeros.

    `run` is the network. Without `any_size` it takes inputs of one size only, and the enlarged view is left out.
    """
    views = [v for v in VIEWS if any_size or v.scale == 1]
    seen = [output_rows(run(apply_view(im, view, stride))).cpu() for view in views]
    for view, rows in zip(views, seen, strict=True):
        if view.mirrored:
            rows[..., 0] = 1 - rows[..., 0]
    fused = [fuse_views(per_image) for per_image in zip(*seen, strict=True)]
    out = seen[0].new_zeros(len(im), max((len(f) for f in fused), default=0), 6)
    for row, f in zip(out, fused, strict=True):
        row[: len(f)] = f
    return out


def apply_view(im: torch.Tensor, view: View, stride: int) -> torch.Tensor:
    """Return the network input of a view; sides stay multiples of `stride`."""
    if view.scale != 1:
        size = [max(stride, round(side * view.scale / stride) * stride) for side in im.shape[2:]]
        im = F.interpolate(im, size=size, mode="bilinear", align_corners=False, antialias=view.scale < 1)
    return im.flip(3) if view.mirrored else im


def fuse_views(views: Sequence[torch.Tensor], iou: float = FUSE_IOU) -> torch.Tensor:
    """Return the fused rows (n, 6) of one image, best first, from the rows (K, 6) of each view.

    The best box of each object and class, and those that overlap it, become one: their mean, weighted by score. Its
    score is the mean over views of the best score in each, so that a box of only one of V views keeps a V-th.
    """
    rows = torch.cat(list(views))
    owner = torch.cat([torch.full((len(v),), i) for i, v in enumerate(views)])
    keep = rows.isfinite().all(1) & (rows[:, 4] > 0)
    rows, owner = rows[keep], owner[keep]
    if not len(rows):
        return rows
    boxes, scores, classes = xywh2xyxy(rows[:, :4]), rows[:, 4], rows[:, 5]
    heads = batched_nms(boxes, scores, classes.long(), iou)
    overlap = box_iou(boxes, boxes[heads]) * (classes[:, None] == classes[heads])  # (rows, n)
    overlap[heads, torch.arange(len(heads))] = 2.0  # a group holds its own best box, also where that overlaps another
    group = overlap.argmax(1)
    weight = torch.zeros(len(heads)).index_add(0, group, scores)
    mean = torch.zeros(len(heads), 4).index_add(0, group, boxes * scores[:, None]) / weight[:, None]
    best = torch.zeros(len(heads) * len(views)).scatter_reduce(0, group * len(views) + owner, scores, "amax")
    score = best.view(len(heads), len(views)).mean(1)  # (n,)
    fused = torch.cat([xyxy2xywh(mean), score[:, None], classes[heads][:, None]], 1)
    return fused[score.argsort(descending=True, stable=True)]
