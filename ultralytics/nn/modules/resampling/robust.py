"""Robust feature downsampling: a stem of stride 4 and a step of stride 2 that join three ways to halve a map.

RFD, IEEE TGRS 2023. Shapes: B batch, C channels, H x W map; every map is (B, C, H, W).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn.modules.resampling.downsampling import four_phases
from ultralytics.nn.registry import register, scaled_conv
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.torch_utils import fuse_conv_and_bn


class Cut(nn.Module):
    """Space to depth by two, a 1x1 convolution with bias, batch norm."""

    def __init__(self, c1: int, c2: int) -> None:
        super().__init__()
        self.conv_fusion = nn.Conv2d(4 * c1, c2, 1)
        self.batch_norm = nn.BatchNorm2d(c2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, ceil(H/2), ceil(W/2))."""
        return self.batch_norm(self.conv_fusion(four_phases(x)))

    def forward_fuse(self, x: Tensor) -> Tensor:
        """Forward with the batch norm folded into the convolution."""
        return self.conv_fusion(four_phases(x))

    def fuse(self) -> nn.Module:
        """Fold the batch norm into the convolution, in place."""
        if hasattr(self, "batch_norm"):
            self.conv_fusion = fuse_conv_and_bn(self.conv_fusion, self.batch_norm)
            del self.batch_norm
            self.forward = self.forward_fuse  # type: ignore[method-assign]
        return self


def _halved_maximum(x: Tensor) -> Tensor:
    """2x2 maximum at stride 2; an odd border counts the cells that it has, as the strided convolutions do."""
    return F.max_pool2d(x, 2, 2, ceil_mode=True)


def _require_multiple(name: str, c1: int, c2: int) -> None:
    if c2 % c1:
        raise ConfigError(f"{name}: {c2} output channels are not a multiple of {c1}, its groups")


@register(scaled_conv)
class SRFD(nn.Module):
    """Stem of stride 4: a 7x7 convolution, then two joined halvings (RFD, TGRS 2023). c2 is a multiple of 4."""

    def __init__(self, c1: int, c2: int) -> None:
        super().__init__()
        _require_multiple("SRFD", 4, c2)
        quarter, half = c2 // 4, c2 // 2
        self.conv_init = nn.Conv2d(c1, quarter, 7, padding=3)
        self.conv_1 = nn.Conv2d(quarter, half, 3, padding=1, groups=quarter)
        self.conv_x1 = nn.Conv2d(half, half, 3, 2, 1, groups=half)
        self.batch_norm_x1 = nn.BatchNorm2d(half)
        self.cut_c = Cut(quarter, half)
        self.fusion1 = nn.Conv2d(2 * half, half, 1)
        self.conv_2 = nn.Conv2d(half, c2, 3, padding=1, groups=half)
        self.conv_x2 = nn.Conv2d(c2, c2, 3, 2, 1, groups=c2)
        self.batch_norm_x2 = nn.BatchNorm2d(c2)
        self.batch_norm_m = nn.BatchNorm2d(c2)
        self.cut_r = Cut(half, c2)
        self.fusion2 = nn.Conv2d(3 * c2, c2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, ceil(H/4), ceil(W/4))."""
        x = self.conv_init(x)
        strided = self.batch_norm_x1(self.conv_x1(self.conv_1(x)))
        x = self.fusion1(torch.cat((strided, self.cut_c(x)), 1))
        wide = self.conv_2(x)
        strided = self.batch_norm_x2(self.conv_x2(wide))
        largest = self.batch_norm_m(_halved_maximum(wide))
        return self.fusion2(torch.cat((strided, self.cut_r(x), largest), 1))


@register(scaled_conv)
class DRFD(nn.Module):
    """Halve a map in three ways and join them: phases, a strided depth-wise 3x3, a maximum (RFD, TGRS 2023).

    c2 is a multiple of c1.
    """

    def __init__(self, c1: int, c2: int) -> None:
        super().__init__()
        _require_multiple("DRFD", c1, c2)
        self.cut_c = Cut(c1, c2)
        self.conv = nn.Conv2d(c1, c2, 3, padding=1, groups=c1)
        self.conv_x = nn.Conv2d(c2, c2, 3, 2, 1, groups=c2)
        self.batch_norm_x = nn.BatchNorm2d(c2)
        self.batch_norm_m = nn.BatchNorm2d(c2)
        self.fusion = nn.Conv2d(3 * c2, c2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, ceil(H/2), ceil(W/2))."""
        wide = self.conv(x)
        strided = self.batch_norm_x(F.gelu(self.conv_x(wide)))
        largest = self.batch_norm_m(_halved_maximum(wide))
        return self.fusion(torch.cat((self.cut_c(x), strided, largest), 1))
