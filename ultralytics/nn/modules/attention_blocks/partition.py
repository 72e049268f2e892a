"""Cutting maps into windows and joining them again.

Shapes: B batch, C channels, H x W map, R rows of windows of h x w cells, S windows in a row.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ultralytics.nn.modules.utils import ceil_div

__all__ = ("from_windows", "to_windows", "window_mask")


def to_windows(x: Tensor, h: int, w: int) -> Tensor:
    """Cut a map (B, C, H, W) into windows (B, R*S, C, h, w); zeros fill the last ones on the right and below."""
    x = F.pad(x, (0, -x.shape[3] % w, 0, -x.shape[2] % h))
    x = x.unflatten(3, (-1, w)).unflatten(2, (-1, h))  # (B, C, R, h, S, w)
    return x.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)  # (B, R*S, C, h, w)


def from_windows(x: Tensor, height: int, width: int) -> Tensor:
    """Join windows (B, R*S, C, h, w) into a map (B, C, height, width), without what filled it."""
    w = x.shape[4]
    x = x.unflatten(1, (-1, ceil_div(width, w)))  # (B, R, S, C, h, w)
    x = x.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)  # (B, C, R*h, S*w)
    return x[:, :, :height, :width]


def window_mask(height: int, width: int, h: int, w: int, device: torch.device) -> Tensor | None:
    """Return which cells of each window lie in the map, boolean (R*S, h*w); None when all do."""
    if not (height % h or width % w):
        return None
    return to_windows(torch.ones(1, 1, height, width, device=device), h, w).flatten(2)[0] > 0  # (R*S, h*w)
