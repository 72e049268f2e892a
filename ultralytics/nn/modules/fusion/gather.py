"""Gather steps of Gold-YOLO (arXiv 2309.11331), and the two modules of a pack's focusing diffusion neck.

Shapes: B batch, C channels, H x W map; every map is (B, C, H, W).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.modules.resampling.downsampling import ADown
from ultralytics.nn.modules.resnet_d import LinearGate
from ultralytics.nn.registry import Plan, RowContext, register, summed_channels
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.torch_tools.reproducible import adaptive_avg_pool2d, interpolate_bilinear


def _simfusion_rule(row: RowContext) -> Plan:
    """`[c2]` -> (channels of the inputs, c2 scaled)."""
    if len(row.in_channels) != 3:
        raise ValueError(f"it takes three inputs, fine to coarse; the row has {len(row.in_channels)}")
    c2 = row.scaled(row.args[0])
    return Plan((list(row.in_channels), c2), c2)


@register(_simfusion_rule, multi_input=True, row="out_channels")
class SimFusion_3in(nn.Module):
    """Join three levels at the middle size: the fine one averaged, the coarse one bilinear, each at c2 channels."""

    def __init__(self, in_channel_list: Sequence[int], out_channels: int) -> None:
        super().__init__()
        c2 = out_channels
        projections = [Conv(c, c2, act=nn.ReLU()) if c != c2 else nn.Identity() for c in in_channel_list]
        self.cv1, self.cv2, self.cv3 = projections
        self.cv_fuse = Conv(3 * c2, c2, act=nn.ReLU())

    def forward(self, x: list[Tensor]) -> Tensor:
        """[(B, C0, H0, W0), (B, C1, H, W), (B, C2, H2, W2)] -> (B, c2, H, W)."""
        fine, middle, coarse = x
        size = (middle.shape[2], middle.shape[3])
        fine = adaptive_avg_pool2d(fine, size)
        coarse = interpolate_bilinear(coarse, size)
        return self.cv_fuse(torch.cat((self.cv1(fine), self.cv2(middle), self.cv3(coarse)), 1))


@register(summed_channels, multi_input=True)
class SimFusion_4in(nn.Module):
    """Join four levels at the size of the third: the first two averaged, the fourth bilinear."""

    def forward(self, x: list[Tensor]) -> Tensor:
        """[(B, C_i, H_i, W_i), ...], fine to coarse -> (B, sum C_i, H_2, W_2)."""
        first, second, third, fourth = x
        size = (third.shape[2], third.shape[3])
        first, second = adaptive_avg_pool2d(first, size), adaptive_avg_pool2d(second, size)
        fourth = interpolate_bilinear(fourth, size)
        return torch.cat((first, second, third, fourth), 1)


def _context_rule(row: RowContext) -> Plan:
    """`[]` -> (channels of the inputs): twice those of the second."""
    return Plan((list(row.in_channels), *row.args), 2 * row.in_channels[1])


@register(_context_rule, multi_input=True, row="")
class ContextGuideFusionModule(nn.Module):
    """Each of two maps plus the other, scaled by its half of a squeeze-excitation of both (of a pack; no paper)."""

    def __init__(self, inc: Sequence[int]) -> None:
        super().__init__()
        c = inc[1]
        self.adjust_conv = Conv(inc[0], c, 1) if inc[0] != c else nn.Identity()
        self.se = LinearGate(2 * c)

    def forward(self, x: list[Tensor]) -> Tensor:
        """[(B, C0, H, W), (B, C1, H, W)] -> (B, 2 C1, H, W)."""
        first, second = self.adjust_conv(x[0]), x[1]
        weight0, weight1 = self.se(torch.cat((first, second), 1)).chunk(2, 1)
        return torch.cat((first + second * weight1, second + first * weight0), 1)


def _focus_rule(row: RowContext) -> Plan:
    """`[kernels, e]` -> (channels of the inputs, ...): three times the hidden width."""
    if len(row.in_channels) != 3:
        raise ValueError(f"it takes three inputs, coarse to fine; the row has {len(row.in_channels)}")
    e = row.args[1] if len(row.args) > 1 else 0.5
    return Plan((list(row.in_channels), *row.args), 3 * int(row.in_channels[1] * e))


@register(_focus_rule, multi_input=True, row="kernel_sizes, e")
class FocusFeature(nn.Module):
    """Join a coarse, a middle and a fine map at the middle size, add depth-wise kernels of several sizes (of a pack).

    YAML `[kernels, e]`; the hidden width is e times the middle channels.
    """

    def __init__(self, inc: Sequence[int], kernel_sizes: Sequence[int] = (5, 7, 9, 11), e: float = 0.5) -> None:
        super().__init__()
        if any(k % 2 == 0 for k in kernel_sizes):
            raise ConfigError(f"FocusFeature: kernels {list(kernel_sizes)} must be odd")
        hidden = int(inc[1] * e)
        self.conv1 = nn.Sequential(nn.Identity(), Conv(inc[0], hidden, 1))  # the first part is the resize in forward
        self.conv2 = Conv(inc[1], hidden, 1) if e != 1 else nn.Identity()
        self.conv3 = ADown(inc[2], hidden)
        joined = 3 * hidden
        self.dw_conv = nn.ModuleList(nn.Conv2d(joined, joined, k, padding=k // 2, groups=joined) for k in kernel_sizes)
        self.pw_conv = Conv(joined, joined)

    def forward(self, x: list[Tensor]) -> Tensor:
        """[(B, C0, H/2, W/2), (B, C1, H, W), (B, C2, 2H, 2W)] -> (B, 3 int(e C1), H, W)."""
        coarse, middle, fine = x
        coarse = F.interpolate(coarse, size=middle.shape[2:])
        joined = torch.cat((self.conv1(coarse), self.conv2(middle), self.conv3(fine)), 1)
        mixed = joined
        for conv in self.dw_conv:
            mixed = mixed + conv(joined)
        return joined + self.pw_conv(mixed)
