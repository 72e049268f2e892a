"""Context guided blocks of CGNet (arXiv 1811.08201, TIP 2020), with SiLU in place of its PReLU, as circulated.

A local and a dilated depth-wise 3x3 of one map are joined, normalised and scaled by a gate of the whole map.
Shapes: B batch, C channels, H x W map; every map is (B, C, H, W).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.modules.csp import C2f
from ultralytics.nn.modules.resnet_d import LinearGate
from ultralytics.nn.registry import Plan, RowContext, register, scaled_conv, scaled_repeat
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.torch_utils import bn_affine


def _surround(c: int, dilation: int = 1) -> nn.Conv2d:
    """A depth-wise 3x3 with bias that keeps the size."""
    return nn.Conv2d(c, c, 3, padding=dilation, dilation=dilation, groups=c)


@torch.no_grad()
def _fold_joined(bn: nn.BatchNorm2d, *convs: nn.Conv2d) -> None:
    """Fold a batch norm over joined maps into the convolutions that make them, in place; they are frozen then."""
    scale, shift = bn_affine(bn)
    start = 0
    for conv in convs:
        part = slice(start, start + conv.out_channels)
        start = part.stop
        assert conv.bias is not None
        conv.requires_grad_(False)
        conv.weight.mul_(scale[part].view(-1, 1, 1, 1))  # (O, 1, 1, 1)
        conv.bias.mul_(scale[part]).add_(shift[part])


@register(scaled_conv)
class ContextGuidedBlock(nn.Module):
    """1x1 to half the channels, local and surrounding context joined, gate of the whole map; plus the input if c1 = c2.

    ConfigError when c2 is odd.
    """

    def __init__(self, c1: int, c2: int, dilation_rate: int = 2, reduction: int = 16, shortcut: bool = True) -> None:
        super().__init__()
        if c2 % 2:
            raise ConfigError(f"ContextGuidedBlock joins two halves: c2={c2} must be even")
        half = c2 // 2
        self.conv1x1 = Conv(c1, half, 1)
        self.F_loc = _surround(half)
        self.F_sur = _surround(half, dilation_rate)
        self.bn_act = nn.Sequential(nn.BatchNorm2d(c2), nn.SiLU())
        self.F_glo = LinearGate(c2, reduction, bias=True)
        self.add = shortcut and c1 == c2

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H, W)."""
        y = self.conv1x1(x)
        y = self.F_glo(self.bn_act(torch.cat((self.F_loc(y), self.F_sur(y)), 1)))
        return x + y if self.add else y

    def fuse(self) -> nn.Module:
        """Fold the batch norm of the joined maps into the two depth-wise convolutions, in place."""
        bn = self.bn_act[0]
        if isinstance(bn, nn.BatchNorm2d):
            _fold_joined(bn, self.F_loc, self.F_sur)
            self.bn_act[0] = nn.Identity()
        return self


def _down_rule(row: RowContext) -> Plan:
    """`[...]` -> (c1, ...): twice the channels."""
    return Plan((row.c1, *row.args), 2 * row.c1)


@register(_down_rule, row="dilation_rate, reduction")
class ContextGuidedBlock_Down(nn.Module):
    """Halve the map and double the channels: strided 3x3 Conv, joined contexts, 1x1, gate of the whole map.

    YAML `[dilation_rate, reduction]`. Its batch norm has epsilon 1e-3 from the start.
    """

    def __init__(self, c1: int, dilation_rate: int = 2, reduction: int = 16) -> None:
        super().__init__()
        c2 = 2 * c1
        self.conv1x1 = Conv(c1, c2, 3, 2)
        self.F_loc = _surround(c2)
        self.F_sur = _surround(c2, dilation_rate)
        self.bn: nn.Module = nn.BatchNorm2d(2 * c2, eps=1e-3)
        self.act = nn.SiLU()
        self.reduce = Conv(2 * c2, c2, 1)
        self.F_glo = LinearGate(c2, reduction, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, 2 c1, ceil(H/2), ceil(W/2))."""
        x = self.conv1x1(x)
        x = self.act(self.bn(torch.cat((self.F_loc(x), self.F_sur(x)), 1)))
        return self.F_glo(self.reduce(x))

    def fuse(self) -> nn.Module:
        """Fold the batch norm of the joined maps into the two depth-wise convolutions, in place."""
        if isinstance(self.bn, nn.BatchNorm2d):
            _fold_joined(self.bn, self.F_loc, self.F_sur)
            self.bn = nn.Identity()
        return self


@register(scaled_repeat)
class C2f_ContextGuided(C2f):
    """C2f with context guided blocks in place of the bottlenecks. YAML `[c2, shortcut, g, e]`."""

    def __init__(self, c1: int, c2: int, n: int = 1, shortcut: bool = False, g: int = 1, e: float = 0.5) -> None:
        super().__init__(c1, c2, n, shortcut, g, e)
        self.m = nn.ModuleList(ContextGuidedBlock(self.c, self.c) for _ in range(n))
