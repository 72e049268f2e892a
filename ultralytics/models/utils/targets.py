"""The objects of a batch as heads and criteria take them.

Shapes: B batch, N targets of all images.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

import torch
from torch import Tensor

from ultralytics.utils.torch_tools.transfers import to_device

__all__ = ("Targets", "batch_targets")


class Targets(TypedDict):
    """Objects of a batch, one image after another; boxes are cx, cy, w, h in 0..1."""

    cls: Tensor  # (N,) class index
    bboxes: Tensor  # (N, 4)
    batch_idx: Tensor  # (N,) index of the image
    gt_groups: list[int]  # number of objects of each image


def batch_targets(batch: Mapping[str, Any], images: int, device: torch.device) -> Targets:
    """Return the targets of a batch on `device`, sorted by image.

    `batch` holds `cls` (N,) or (N, 1), `bboxes` (N, 4) and `batch_idx` (N,), in any order of the images. They are
    counted where they are, which costs no wait when that is the host.
    """
    index = batch["batch_idx"].view(-1).long()
    groups = torch.bincount(index, minlength=images).tolist()
    cls, boxes = batch["cls"].view(-1).long(), batch["bboxes"]
    if len(index) > 1 and bool((index[1:] < index[:-1]).any()):
        order = index.argsort(stable=True)
        index, cls, boxes = index[order], cls[order.to(cls.device)], boxes[order.to(boxes.device)]
    return {
        "cls": to_device(cls, device),
        "bboxes": to_device(boxes, device),
        "batch_idx": to_device(index, device),
        "gt_groups": groups,
    }
