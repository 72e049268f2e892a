"""Convolutions of PP-HGNetV2 with a learnable affine step after the activation (PP-LCNetV3; D-FINE's small backbones).

Shapes: B batch, C channels, H x W map.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ultralytics.nn.modules.conv import Conv

__all__ = ("AffineConv", "AffineLightConv", "LearnableAffine")


class LearnableAffine(nn.Module):
    """scale * x + bias with two trained numbers, 1 and 0 at first."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        return self.scale * x + self.bias


class AffineConv(Conv):
    """Conv (arguments as there) with a `LearnableAffine` after the activation."""

    def __init__(
        self, c1: int, c2: int, k: int = 1, s: int = 1, p: int | None = None, g: int = 1, act: nn.Module | None = None
    ) -> None:
        super().__init__(c1, c2, k, s, p, g=g, act=nn.ReLU() if act is None else act)
        self.lab = LearnableAffine()

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H', W')."""
        return self.lab(super().forward(x))

    def forward_fuse(self, x: Tensor) -> Tensor:
        """Forward with the batch norm folded into the convolution."""
        return self.lab(super().forward_fuse(x))


class AffineLightConv(nn.Module):
    """LightConv whose second, depth-wise convolution is an `AffineConv`."""

    def __init__(self, c1: int, c2: int, k: int = 1, act: nn.Module | None = None) -> None:
        super().__init__()
        self.conv1 = Conv(c1, c2, 1, act=False)
        self.conv2 = AffineConv(c2, c2, k, g=c2, act=act)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H, W)."""
        return self.conv2(self.conv1(x))
