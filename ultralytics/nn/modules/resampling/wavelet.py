"""Haar wavelet downsampling. Shapes: B batch, C channels, H x W map; every map is (B, C, H, W)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.registry import register, scaled_conv


class HaarTransform(nn.Module):
    """One level of the Haar transform, by sums of the four cells.

    The filters are buffers because weights made elsewhere hold them (separable, low and high, columns and rows); they
    are not parameters, and the sums below are what they compute.
    """

    def __init__(self) -> None:
        super().__init__()
        low, high = torch.tensor([0.5, 0.5]).sqrt(), torch.tensor([0.5, 0.5]).sqrt() * torch.tensor([1.0, -1.0])
        self.register_buffer("h0_col", low.view(1, 1, 2, 1))
        self.register_buffer("h1_col", high.view(1, 1, 2, 1))
        self.register_buffer("h0_row", low.view(1, 1, 1, 2))
        self.register_buffer("h1_row", high.view(1, 1, 1, 2))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 4C, ceil(H/2), ceil(W/2)): means, details between rows, columns, diagonals.

        An odd side gets one more row or column of zeros.
        """
        height, width = x.shape[2:]
        if height % 2 or width % 2:
            x = F.pad(x, (0, width % 2, 0, height % 2))
        upper, lower = x[:, :, 0::2] * 0.5, x[:, :, 1::2] * 0.5
        total, change = upper + lower, upper - lower
        left, right = (slice(i, None, 2) for i in (0, 1))
        bands = (
            total[..., left] + total[..., right],
            change[..., left] + change[..., right],
            total[..., left] - total[..., right],
            change[..., left] - change[..., right],
        )
        return torch.cat(bands, 1)


@register(scaled_conv)
class HWD(nn.Module):
    """Haar wavelet downsampling: one level of the transform, then a 1x1 Conv (Pattern Recognition 143, 2023)."""

    def __init__(self, c1: int, c2: int) -> None:
        super().__init__()
        self.wt = HaarTransform()
        self.conv = Conv(4 * c1, c2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, ceil(H/2), ceil(W/2))."""
        return self.conv(self.wt(x))
