"""A small detector with SHSA, and batches for it."""

from __future__ import annotations

import copy
from typing import Any

import torch
import yaml
from torch import Tensor

from tests.nn.yamls import TINY
from ultralytics.nn.tasks import RTDETRDetectionModel

TINY_DICT: dict[str, Any] = yaml.safe_load(TINY.replace("None", "null"))


def tiny(seed: int = 0, **kwargs: Any) -> RTDETRDetectionModel:
    """Build the detector of `TINY` with random weights; `kwargs` are arguments of the model."""
    torch.manual_seed(seed)
    return RTDETRDetectionModel(copy.deepcopy(TINY_DICT), verbose=False, **kwargs)


def batch_of(images: int = 2, side: int = 64, nc: int = 4, counts: tuple[int, ...] = (2, 1)) -> dict[str, Tensor]:
    """Return square images with `counts` boxes each, as a loader gives them."""
    index = torch.tensor([i for i, n in enumerate(counts) for _ in range(n)], dtype=torch.float32)
    n = len(index)
    centre = torch.linspace(0.3, 0.7, max(n, 1))[:n, None].repeat(1, 2)
    return {
        "img": torch.linspace(0, 1, images * 3 * side * side).view(images, 3, side, side).sin().abs(),
        "cls": (torch.arange(n) % nc).float().view(-1, 1),
        "bboxes": torch.cat((centre, torch.full((n, 2), 0.25)), 1),
        "batch_idx": index,
    }
