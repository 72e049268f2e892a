"""Mixing of the images of a finished batch: mixup (DEIM, arXiv 2412.04234), pasted objects (DEIMv2, arXiv 2509.20787).

Pure functions: what is random is an argument. Shapes: B batch, H x W image, N boxes of an image. Boxes are cx, cy, w, h
in 0..1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ultralytics.utils.errors import ConfigError

__all__ = ("ImageLabels", "Paste", "mix_batch", "paste_objects", "paste_sources")


class ImageLabels(NamedTuple):
    """Objects of one image, each with the fraction of it that is visible."""

    cls: Tensor  # (N,)
    bboxes: Tensor  # (N, 4)
    weight: Tensor  # (N,)

    def join(self, other: ImageLabels) -> ImageLabels:
        """Return the objects of both."""
        return ImageLabels(*(torch.cat(pair) for pair in zip(self, other, strict=True)))


class Paste(NamedTuple):
    """One object to paste: its index in `paste_sources`, the pixel of its upper left corner, and the enlargement."""

    source: int
    x: int
    y: int
    enlarge: float


def _check_beta(beta: float) -> None:
    if not 0 <= beta <= 1:
        raise ConfigError(f"beta={beta} must be between 0 and 1: it is the weight of the image itself")


def mix_batch(images: Tensor, labels: Sequence[ImageLabels], beta: float) -> tuple[Tensor, list[ImageLabels]]:
    """Blend each image with the one before it in the batch, the first with the last; objects of both are kept.

    Args:
        images: (B, C, H, W), floating point.
        labels: Objects of each image.
        beta: Weight of the image itself.

    Returns:
        Images, and the objects: an image's own first.

    Raises:
        ConfigError: `beta` is not in 0..1.
    """
    _check_beta(beta)
    mixed = images * beta + images.roll(1, 0) * (1 - beta)
    found = []
    for i, own in enumerate(labels):
        before = labels[i - 1]
        seen = own._replace(weight=own.weight * beta)
        found.append(seen.join(before._replace(weight=before.weight * (1 - beta))))
    return mixed, found


class PasteSource(NamedTuple):
    """An object that can be pasted: its image, its index there, and its corners in pixels."""

    image: int
    row: int
    corners: tuple[int, int, int, int]


def paste_sources(
    labels: Sequence[ImageLabels], height: int, width: int, least_area: float = 100.0
) -> list[PasteSource]:
    """Return the objects of a batch whose box covers at least `least_area` pixels and one whole pixel."""
    found = []
    scale = torch.tensor([width, height, width, height], dtype=torch.float32)
    for i, own in enumerate(labels):
        boxes = own.bboxes.float() * scale
        for j, (cx, cy, w, h) in enumerate(boxes.tolist()):
            corners = (int(max(cx - w / 2, 0)), int(max(cy - h / 2, 0)), int(cx + w / 2), int(cy + h / 2))
            visible = corners[2] > corners[0] and corners[3] > corners[1]
            if visible and w * h >= least_area:
                found.append(PasteSource(i, j, corners))
    return found


def paste_objects(
    images: Tensor,
    labels: Sequence[ImageLabels],
    sources: Sequence[PasteSource],
    pastes: Sequence[Sequence[Paste]],
    beta: float,
) -> tuple[Tensor, list[ImageLabels]]:
    """Blend objects of the batch into its images at other places.

    The patch is larger than the object by a fraction of its sides at each border, as far as both images reach; the
    label is the object's box.

    Args:
        images: (B, C, H, W), floating point.
        labels: Objects of each image.
        sources: See `paste_sources`.
        pastes: Objects to paste into each image.
        beta: Share of the image below.

    Returns:
        Images, and the objects: an image's own first.

    Raises:
        ConfigError: `beta` is not in 0..1, or an object does not fit where it shall go.
    """
    _check_beta(beta)
    out = images.clone()
    found = []
    for i, (own, wanted) in enumerate(zip(labels, pastes, strict=True)):
        joined = own
        for paste in wanted:
            source = sources[paste.source]
            box = _blend(out[i], images[source.image], source.corners, paste, beta)
            label = labels[source.image].cls[source.row : source.row + 1]
            weight = own.weight.new_full((1,), 1 - beta)
            joined = joined.join(ImageLabels(label, box.to(own.bboxes)[None], weight))
        found.append(joined)
    return out, found


def _blend(target: Tensor, source: Tensor, corners: tuple[int, int, int, int], paste: Paste, beta: float) -> Tensor:
    """Blend a patch of `source` into `target` (C, H, W), in place; return the box of the object there."""
    height, width = target.shape[1:]
    x1, y1, x2, y2 = corners
    w, h = x2 - x1, y2 - y1
    if not (0 <= paste.x <= width - w and 0 <= paste.y <= height - h):
        raise ConfigError(
            f"an object of {w} x {h} px at {paste.x}, {paste.y} leaves the image of {width} x {height} px"
        )
    more_x, more_y = int(w * paste.enlarge), int(h * paste.enlarge)
    left, right = min(more_x, x1, paste.x), min(more_x, width - x2, width - paste.x - w)
    up, down = min(more_y, y1, paste.y), min(more_y, height - y2, height - paste.y - h)
    part = source[:, y1 - up : y2 + down, x1 - left : x2 + right]
    place = target[:, paste.y - up : paste.y + h + down, paste.x - left : paste.x + w + right]
    place.copy_(place * beta + part * (1 - beta))
    return torch.tensor([(paste.x + w / 2) / width, (paste.y + h / 2) / height, w / width, h / height])
