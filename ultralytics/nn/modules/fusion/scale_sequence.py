"""The neck of ASF-YOLO: scale sequences of three levels, and its attention (arXiv 2312.06458).

Shapes: B batch, C channels, H x W map of the finest level; every map is (B, C, H, W).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.modules.resampling.upsampling import DySample
from ultralytics.nn.registry import Plan, RowContext, register
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.ops import make_divisible
from ultralytics.utils.torch_utils import fuse_conv_and_bn


def _scalseq_rule(row: RowContext) -> Plan:
    """`[c]` -> (channels of the inputs, c scaled); the scale's cap of channels does not apply."""
    if len(row.in_channels) != 3:
        raise ValueError(f"it takes three inputs, fine to coarse; the row has {len(row.in_channels)}")
    c = row.args[0]
    row.scaled(c)  # for its errors
    c2 = make_divisible(c * row.scale.width, 8)
    return Plan((list(row.in_channels), c2), c2)


@register(_scalseq_rule, multi_input=True, row="channel")
class ScalSeq(nn.Module):
    """Three levels projected, brought to the finest size, stacked, mixed by a 1x1x1 convolution, largest over scales.

    SSFF of ASF-YOLO. YAML `[c]`, scaled by width without the cap. The finest level is projected only where
    its channels differ from c. The 3-D batch norm keeps its epsilon of 1e-5 in a whole model.
    """

    def __init__(self, inc: Sequence[int], channel: int) -> None:
        super().__init__()
        if len(inc) != 3:
            raise ConfigError(f"ScalSeq takes three inputs, fine to coarse; got {len(inc)}")
        self.conv0 = Conv(inc[0], channel, 1) if inc[0] != channel else nn.Identity()
        self.conv1 = Conv(inc[1], channel, 1)
        self.conv2 = Conv(inc[2], channel, 1)
        self.conv3d = nn.Conv3d(channel, channel, 1)
        self.bn: nn.Module = nn.BatchNorm3d(channel)
        self.act = nn.LeakyReLU(0.1)

    def forward(self, x: list[Tensor]) -> Tensor:
        """[(B, C_i, H_i, W_i), ...], fine to coarse -> (B, c, H, W)."""
        fine, middle, coarse = (conv(v) for conv, v in zip((self.conv0, self.conv1, self.conv2), x, strict=True))
        middle, coarse = self._enlarged(fine, middle, coarse)
        stacked = torch.stack((fine, middle, coarse), 2)  # (B, c, 3, H, W)
        return self.act(self.bn(self.conv3d(stacked))).amax(2)

    def _enlarged(self, fine: Tensor, middle: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor]:
        """The two coarser maps at the size of the finest."""
        size = fine.shape[2:]
        return F.interpolate(middle, size=size), F.interpolate(coarse, size=size)

    def fuse(self) -> nn.Module:
        """Fold the 3-D batch norm into the convolution, in place."""
        if isinstance(self.bn, nn.BatchNorm3d):
            self.conv3d = nn.utils.fuse_conv_bn_eval(self.conv3d, self.bn).requires_grad_(False)
            self.bn = nn.Identity()
        return self


@register(_scalseq_rule, multi_input=True, row="channel")
class DynamicScalSeq(ScalSeq):
    """ScalSeq whose two coarser levels are upsampled by DySample (by two, by four)."""

    def __init__(self, inc: Sequence[int], channel: int) -> None:
        super().__init__(inc, channel)
        self.dysample1 = DySample(channel, 2, "lp")
        self.dysample2 = DySample(channel, 4, "lp")

    def _enlarged(self, fine: Tensor, middle: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor]:
        size = fine.shape[2:]
        return _at_size(self.dysample1(middle), size), _at_size(self.dysample2(coarse), size)


def _at_size(x: Tensor, size: Sequence[int]) -> Tensor:
    """Return a map at a size that it may miss by the rounding of odd sides."""
    return x if tuple(x.shape[2:]) == tuple(size) else F.interpolate(x, size=list(size))


# --------------------------------------------------------------------------------------------------------- attention
class ChannelConvGate(nn.Module):
    """Scale each channel by a gate of its neighbours' means: a 1-D convolution over channels (arXiv 1910.03151).

    The kernel is (log2 c + 1) / 2, made odd.
    """

    def __init__(self, c: int) -> None:
        super().__init__()
        k = int((math.log2(c) + 1) / 2)
        k = k if k % 2 else k + 1
        self.conv = nn.Conv1d(1, 1, k, padding=k // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        gate = self.conv(x.mean((2, 3)).unsqueeze(1)).sigmoid()  # (B, 1, C)
        return x * gate.transpose(1, 2).unsqueeze(3)  # (B, C, 1, 1)


class CoordinateGate(nn.Module):
    """Scale each cell by a gate of its row and one of its column (after arXiv 2103.02907)."""

    def __init__(self, c: int, reduction: int = 16) -> None:
        super().__init__()
        if c < reduction:
            raise ConfigError(f"a gate of {c} channels cannot be reduced by {reduction}; use at least {reduction}")
        inner = c // reduction
        self.conv_1x1 = nn.Conv2d(c, inner, 1, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(inner)
        self.act = nn.ReLU()
        self.F_h = nn.Conv2d(inner, c, 1, bias=False)
        self.F_w = nn.Conv2d(inner, c, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        height, width = x.shape[2:]
        rows, columns = x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)  # (B, C, H, 1), (B, C, W, 1)
        y = self.act(self.bn(self.conv_1x1(torch.cat((rows, columns), 2))))  # (B, C/r, H + W, 1)
        rows, columns = y.split((height, width), 2)
        return x * self.F_h(rows).sigmoid() * self.F_w(columns.transpose(2, 3)).sigmoid()

    def fuse(self) -> nn.Module:
        """Fold the batch norm into the first convolution, in place."""
        if isinstance(self.bn, nn.BatchNorm2d):
            self.conv_1x1 = fuse_conv_and_bn(self.conv_1x1, self.bn)
            self.bn = nn.Identity()
        return self


@register(lambda row: Plan((row.in_channels[-1], *row.args), row.in_channels[-1]), multi_input=True, row="")
class asf_attention_model(nn.Module):
    """The first input through a gate over channels, plus the second, through a gate over rows and columns.

    CPAM of ASF-YOLO. Both inputs have c channels.
    """

    def __init__(self, ch: int) -> None:
        super().__init__()
        self.channel_att = ChannelConvGate(ch)
        self.local_att = CoordinateGate(ch)

    def forward(self, x: list[Tensor]) -> Tensor:
        """[(B, C, H, W), (B, C, H, W)] -> (B, C, H, W)."""
        first, second = x
        return self.local_att(self.channel_att(first) + second)
