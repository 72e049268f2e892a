"""From bytes to what a classifier's network takes, and back. Shapes: B images, S side of the input."""

from __future__ import annotations

import torch
from torch import Tensor

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Of ImageNet, per RGB channel in 0..1: what official SHViT weights were trained with."""


def normalize(images: Tensor) -> Tensor:
    """Turn images (B, 3, S, S) in 0..1 into the network's input."""
    return (images - _column(MEAN, images)) / _column(STD, images)


def to_bytes(inputs: Tensor) -> Tensor:
    """The inverse of `normalize`, as uint8, for plots."""
    images = inputs.detach().float() * _column(STD, inputs) + _column(MEAN, inputs)
    return (images * 255).round().clamp(0, 255).to(torch.uint8)


def _column(values: tuple[float, ...], like: Tensor) -> Tensor:
    column = torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1)  # (1, 3, 1, 1)
    return column.to(like.device, non_blocking=True)
