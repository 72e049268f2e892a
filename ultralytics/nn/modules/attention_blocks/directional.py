"""Gates made of rows, columns and rotations of a map: coordinate, triplet and efficient multi-scale attention.

Shapes: B batch, C channels, H x W map, G groups. Every map is (B, C, H, W).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.registry import Plan, RowContext, keeps_channels, register, same_channels
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.torch_utils import fuse_conv_and_bn


@register(keeps_channels, row=("factor", "c1: int, factor"))
class EMA(nn.Module):
    """Efficient multi-scale attention: row and column gates, then two branches that weigh each other's cells.

    Source: Ouyang et al., arXiv 2305.13563, section 3. YAML `[factor]`, the number of groups; forks use 8, the official
    code 32.
    """

    def __init__(self, channels: int, factor: int = 8) -> None:
        super().__init__()
        if factor < 1 or channels % factor:
            raise ConfigError(f"EMA: {channels} channels are not divisible by factor={factor}; give a divisor")
        self.groups = factor
        width = channels // factor
        self.gn = nn.GroupNorm(width, width)
        self.conv1x1 = nn.Conv2d(width, width, 1)
        self.conv3x3 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        h, w = x.shape[2:]
        y = x.reshape(-1, x.shape[1] // self.groups, h, w)  # (B*G, C/G, H, W)
        means = torch.cat((y.mean(3), y.mean(2)), 2)[..., None]  # (B*G, C/G, H + W, 1)
        rows, columns = self.conv1x1(means).sigmoid().split([h, w], 2)
        first = self.gn(y * rows * columns.transpose(2, 3))
        second = self.conv3x3(y)
        gate = self._weigh(first, second) + self._weigh(second, first)  # (B*G, 1, H, W)
        return (y * gate.sigmoid()).reshape(x.shape)

    @staticmethod
    def _weigh(weights: Tensor, values: Tensor) -> Tensor:
        """Return the mean of the channels of `values`, weighted by the softmax of the channel means of `weights`."""
        probs = weights.mean((2, 3)).softmax(1)[:, None]  # (B*G, 1, C/G)
        return (probs @ values.flatten(2)).unflatten(2, values.shape[2:])  # (B*G, 1, H, W)


COORDINATE_FORMS = ("reduction", "c2: int, reduction", "c1: int, c2: int, reduction", "ratio: int, flag: bool")


def _coordinate_rule(row: RowContext) -> Plan:
    """`[]`, `[reduction]`, or with the channels, those of the input, in front: `[c2, reduction]`, `[c1, c2]`.

    `[ratio, flag]` with a switch is another block of that name, the gate of HSFPN.
    """
    if any(isinstance(a, bool) for a in row.args):
        return Plan((row.c1, *row.args), row.c1, block="ChannelAttention_HSFPN")
    return Plan((row.c1, *keeps_channels(row).args[1:][-1:]), row.c1)


@register(_coordinate_rule, name="CA", row=COORDINATE_FORMS)
@register(_coordinate_rule, row=COORDINATE_FORMS)
class CoordAtt(nn.Module):
    """Coordinate attention: one gate for each row and one for each column (Hou et al., arXiv 2103.02907, section 3.2).

    YAML `[reduction]`, also under the name CA. `CA, [ratio, flag]` with a switch is `ChannelAttention_HSFPN`.
    """

    def __init__(self, channels: int, reduction: int = 32) -> None:
        super().__init__()
        if reduction < 1:
            raise ConfigError(f"CoordAtt: reduction={reduction} must be at least 1")
        hidden = max(8, channels // reduction)
        self.conv1 = nn.Conv2d(channels, hidden, 1)
        self.bn1: nn.Module = nn.BatchNorm2d(hidden)
        self.act = nn.Hardswish()
        self.conv_h = nn.Conv2d(hidden, channels, 1)
        self.conv_w = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        means = torch.cat((x.mean(3), x.mean(2)), 2)[..., None]  # (B, C, H + W, 1)
        rows, columns = self.act(self.bn1(self.conv1(means))).split([x.shape[2], x.shape[3]], 2)
        return x * self.conv_w(columns.transpose(2, 3)).sigmoid() * self.conv_h(rows).sigmoid()

    def fuse(self) -> nn.Module:
        """Fold the batch norm into the convolution before it, in place."""
        if isinstance(self.bn1, nn.BatchNorm2d):
            self.conv1, self.bn1 = fuse_conv_and_bn(self.conv1, self.bn1), nn.Identity()
        return self


CA = CoordAtt
"""The name in model files of forks."""


class _AxisGate(nn.Module):
    """Weigh the last two axes by a 7x7 convolution of maximum and mean over the second axis."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = Conv(2, 1, 7, act=False)
        self.conv.bn.momentum = 0.01

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        pooled = torch.cat((x.amax(1, keepdim=True), x.mean(1, keepdim=True)), 1)  # (B, 2, H, W)
        return x * self.conv(pooled).sigmoid()


@register(same_channels)
class TripletAttention(nn.Module):
    """Mean of three gates on the planes (C, W), (H, C) and (H, W) (Misra et al., arXiv 2010.03045, section 3.2).

    YAML `[no_spatial]`: with it the plane (H, W) is left out.
    """

    def __init__(self, no_spatial: bool = False) -> None:
        super().__init__()
        self.cw = _AxisGate()
        self.hc = _AxisGate()
        self.hw = None if no_spatial else _AxisGate()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        y = self.cw(x.transpose(1, 2)).transpose(1, 2) + self.hc(x.transpose(1, 3)).transpose(1, 3)
        return y / 2 if self.hw is None else (y + self.hw(x)) / 3
