"""Attention by large depth-wise kernels: LSKA, LSK, CPCA.

Shapes: B batch, C channels, H x W map. Every map is (B, C, H, W).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn

from ultralytics.nn.registry import channels_first, keeps_channels, register
from ultralytics.utils.errors import ConfigError

LSKA_KERNELS: Mapping[int, tuple[int, int, int]] = MappingProxyType(
    {7: (3, 3, 2), 11: (3, 5, 2), 23: (5, 7, 3), 35: (5, 11, 3), 41: (5, 13, 3), 53: (5, 17, 3)}
)
"""Kernel size -> first kernel, second kernel, dilation of the second."""


def _strip(channels: int, k: int, vertical: bool, dilation: int = 1) -> nn.Conv2d:
    """Return a depth-wise convolution of 1 x k, or k x 1, that keeps the size of the map."""
    size, pad = (1, k), (0, dilation * (k - 1) // 2)
    if vertical:
        size, pad = (k, 1), pad[::-1]
    return nn.Conv2d(channels, channels, size, padding=pad, dilation=dilation, groups=channels)


@register(channels_first)
class LSKA(nn.Module):
    """Large separable kernel attention: two pairs of strips, the second dilated (Lau et al., 2309.01439, sec. 3.3).

    YAML `[k]` with k one of 7, 11, 23, 35, 41, 53.
    """

    def __init__(self, channels: int, k_size: int = 7) -> None:
        super().__init__()
        if k_size not in LSKA_KERNELS:
            raise ConfigError(
                f"LSKA: kernel size {k_size} has no form; choose from {', '.join(map(str, LSKA_KERNELS))}"
            )
        first, second, dilation = LSKA_KERNELS[k_size]
        self.conv0h = _strip(channels, first, False)
        self.conv0v = _strip(channels, first, True)
        self.conv_spatial_h = _strip(channels, second, False, dilation)
        self.conv_spatial_v = _strip(channels, second, True, dilation)
        self.conv1 = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        y = self.conv_spatial_v(self.conv_spatial_h(self.conv0v(self.conv0h(x))))
        return x * self.conv1(y)


class _SelectiveKernels(nn.Module):
    """Gate of two kernels of different reach, of which each cell chooses."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv0 = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.conv_spatial = nn.Conv2d(channels, channels, 7, padding=9, dilation=3, groups=channels)
        self.conv1 = nn.Conv2d(channels, half, 1)
        self.conv2 = nn.Conv2d(channels, half, 1)
        self.conv_squeeze = nn.Conv2d(2, 2, 7, padding=3)
        self.conv = nn.Conv2d(half, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        near = self.conv0(x)
        near, far = self.conv1(near), self.conv2(self.conv_spatial(near))
        both = torch.cat((near, far), 1)
        pooled = torch.cat((both.mean(1, keepdim=True), both.amax(1, keepdim=True)), 1)  # (B, 2, H, W)
        choice = self.conv_squeeze(pooled).sigmoid()
        return x * self.conv(near * choice[:, :1] + far * choice[:, 1:])


@register(keeps_channels, row=("", "c1: int"))
class LSKBlock(nn.Module):
    """Large selective kernel attention between two projections, with a shortcut (Li et al., 2303.09030, sec. 3.2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels < 2:
            raise ConfigError(f"LSKBlock needs at least 2 channels; the input has {channels}")
        self.proj_1 = nn.Conv2d(channels, channels, 1)
        self.activation = nn.GELU()
        self.spatial_gating_unit = _SelectiveKernels(channels)
        self.proj_2 = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        return x + self.proj_2(self.spatial_gating_unit(self.activation(self.proj_1(x))))


class _PooledGate(nn.Module):
    """Channel gate: a bottleneck on the mean and the same on the maximum, two sigmoids added."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, hidden, 1)
        self.fc2 = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, 1, 1)."""
        pooled = (x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True))
        gates = [self.fc2(self.fc1(p).relu()).sigmoid() for p in pooled]
        return gates[0] + gates[1]


@register(keeps_channels, row=("channelAttention_reduce", "c1: int, channelAttention_reduce"))
class CPCA(nn.Module):
    """Channel prior convolutional attention: a channel gate, then depth-wise strips of several lengths.

    Source: Huang et al., arXiv 2306.05196, section 3. YAML `[reduction]`. One 1x1 convolution serves three times.
    """

    def __init__(self, channels: int, channelAttention_reduce: int = 4) -> None:
        super().__init__()
        if not 1 <= channelAttention_reduce <= channels:
            raise ConfigError(f"CPCA: reduction={channelAttention_reduce} must be 1 to {channels}, the channels")
        self.ca = _PooledGate(channels, channels // channelAttention_reduce)
        self.dconv5_5 = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.dconv1_7, self.dconv7_1 = _strip(channels, 7, False), _strip(channels, 7, True)
        self.dconv1_11, self.dconv11_1 = _strip(channels, 11, False), _strip(channels, 11, True)
        self.dconv1_21, self.dconv21_1 = _strip(channels, 21, False), _strip(channels, 21, True)
        self.conv = nn.Conv2d(channels, channels, 1)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        x = self.act(self.conv(x))
        x = x * self.ca(x)
        near = self.dconv5_5(x)
        strips = self.dconv7_1(self.dconv1_7(near)) + self.dconv11_1(self.dconv1_11(near))
        strips = strips + self.dconv21_1(self.dconv1_21(near))
        return self.conv(self.conv(near + strips) * x)
