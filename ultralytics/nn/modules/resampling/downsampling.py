"""Downsampling by two: YOLOv9's pooled convolutions, space to depth, a weighted choice of quadrants.

Shapes: B batch, C channels, H x W map; every map is (B, C, H, W).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.modules.graph_capture import is_capturing_graph
from ultralytics.nn.registry import channels_first, register, scaled_conv
from ultralytics.utils.errors import ConfigError


def _averaged(x: Tensor, name: str) -> Tensor:
    """The 2x2 averages at stride 1, (B, C, H-1, W-1); ConfigError for a map without a 2x2."""
    if not is_capturing_graph() and min(x.shape[2:]) < 2:
        raise ConfigError(
            f"{name}: a map of {x.shape[2]}x{x.shape[3]} cells has no 2x2 to average; give a larger image, or a Conv "
            "of stride 2 in its place"
        )
    return F.avg_pool2d(x, 2, 1)


@register(scaled_conv)
class AConv(nn.Module):
    """A 2x2 average at stride 1, then a 3x3 Conv of stride 2 (YOLOv9, arXiv 2402.13616)."""

    def __init__(self, c1: int, c2: int) -> None:
        super().__init__()
        self.cv1 = Conv(c1, c2, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, ceil((H-1)/2), ceil((W-1)/2))."""
        return self.cv1(_averaged(x, "AConv"))


@register(scaled_conv)
class ADown(nn.Module):
    """A 2x2 average, then one half by a strided 3x3 Conv, the other by a maximum and a 1x1 (YOLOv9, arXiv 2402.13616).

    ConfigError when c1 or c2 is odd.
    """

    def __init__(self, c1: int, c2: int) -> None:
        super().__init__()
        if c1 % 2 or c2 % 2:
            raise ConfigError(f"ADown halves its channels: {c1} in and {c2} out must be even; use AConv")
        self.c = c2 // 2
        self.cv1 = Conv(c1 // 2, self.c, 3, 2, 1)
        self.cv2 = Conv(c1 // 2, self.c, 1, 1, 0)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, ceil((H-1)/2), ceil((W-1)/2))."""
        a, b = _averaged(x, "ADown").chunk(2, 1)
        return torch.cat((self.cv1(a), self.cv2(F.max_pool2d(b, 3, 2, 1))), 1)


def four_phases(x: Tensor) -> Tensor:
    """Cut a map into its four phases (row, column) 00, 10, 01, 11: (B, C, H, W) -> (B, 4C, ceil(H/2), ceil(W/2)).

    An odd side gets one more row or column of zeros.
    """
    height, width = x.shape[2:]
    if height % 2 or width % 2:
        x = F.pad(x, (0, width % 2, 0, height % 2))
    return torch.cat([x[..., i::2, j::2] for j in (0, 1) for i in (0, 1)], 1)


@register(scaled_conv)
class SPDConv(nn.Module):
    """Space to depth by two, then a 3x3 Conv: no cell is skipped (SPD-Conv, arXiv 2208.03641).

    `dimension` is accepted for compatibility; phases are always joined along the channels.
    """

    def __init__(self, c1: int, c2: int, dimension: int = 1) -> None:
        super().__init__()
        if dimension != 1:
            raise ConfigError(f"SPDConv joins phases along the channels: dimension={dimension} must be 1")
        self.conv = Conv(4 * c1, c2, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, ceil(H/2), ceil(W/2))."""
        return self.conv(four_phases(x))


@register(channels_first)
class LAWDS(nn.Module):
    """Halve a map by a softmax-weighted sum of four candidates, with weights from the four quadrants of the map.

    As circulated in packs of blocks (no paper); `group` channels make a group of the strided convolution. An odd side
    gets one more row or column of zeros before. ConfigError when `group` does not divide c.
    """

    def __init__(self, c: int, group: int = 16) -> None:
        super().__init__()
        if group < 1 or c % group:
            raise ConfigError(f"LAWDS: {c} channels are not divisible by group={group}")
        self.attention = nn.Sequential(nn.AvgPool2d(3, 1, 1), Conv(c, c, 1))
        self.ds_conv = Conv(c, 4 * c, 3, 2, g=c // group)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, H, W) -> (B, c, ceil(H/2), ceil(W/2))."""
        height, width = x.shape[2:]
        if height % 2 or width % 2:
            x = F.pad(x, (0, width % 2, 0, height % 2))
        gates = self.attention(x).unflatten(3, (2, -1)).unflatten(2, (2, -1))  # (B, c, 2, H/2, 2, W/2)
        gates = gates.permute(0, 2, 4, 1, 3, 5).flatten(1, 2).softmax(1)  # (B, 4, c, H/2, W/2)
        candidates = self.ds_conv(x).unflatten(1, (4, -1))  # (B, 4, c, H/2, W/2)
        return (candidates * gates).sum(1)
