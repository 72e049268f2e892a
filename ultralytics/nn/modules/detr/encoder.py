"""Blocks of the hybrid encoders of D-FINE (arXiv 2410.13842) and DEIMv2 (arXiv 2509.20787).

Shapes: B batch, C channels, H x W map. `n` is a number of repeats, `e` an expansion.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ultralytics.nn.modules.block import RepC3
from ultralytics.nn.modules.conv import Conv, RepConv
from ultralytics.nn.registry import Plan, RowContext, channels_first, register, scaled_conv
from ultralytics.utils.errors import ConfigError

__all__ = ("AvgDown", "GlobalFusion", "RepELAN4", "RepELAN5", "SplitRepC3")


class SplitRepC3(nn.Module):
    """RepC3 with one projection for both branches: half of it goes through n RepConvs, half passes by (DEIMv2)."""

    def __init__(self, c1: int, c2: int, n: int = 3, e: float = 1.0) -> None:
        super().__init__()
        hidden = int(c2 * e)
        self.cv1 = Conv(c1, 2 * hidden, 1, 1)
        self.m = nn.Sequential(*(RepConv(hidden, hidden) for _ in range(n)))
        self.cv3 = Conv(hidden, c2, 1, 1) if hidden != c2 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H, W)."""
        a, b = self.cv1(x).chunk(2, 1)
        return self.cv3(a + self.m(b))


def _elan_rule(row: RowContext) -> Plan:
    """`[c2, c3, c4, split]` -> (c1, c2, c3, c4, repeats, split), not scaled."""
    c2, c3, c4, *rest = row.args
    return Plan((row.c1, c2, c3, c4, row.repeats, *rest), c2, repeats_inside=True)


@register(_elan_rule, row="c2, c3, c4, split")
class RepELAN4(nn.Module):
    """Fusion block of D-FINE, there RepNCSPELAN4: four branches, each step of two cross-stage parts kept.

    Not the block that YOLOv9 has under that name: its cross-stage parts are RepC3, not RepCSP. With `split` they are
    `SplitRepC3`, as in DEIMv2. YAML `[c2, c3, c4]`, the repeats are those of the cross-stage parts.

    Raises:
        ConfigError: `c3` is odd: its halves are two of the branches.
    """

    def __init__(self, c1: int, c2: int, c3: int, c4: int, n: int = 3, split: bool = False) -> None:
        super().__init__()
        if c3 % 2:
            raise ConfigError(f"{type(self).__name__}: c3={c3} must be even; its halves are two branches")
        self.cv1 = Conv(c1, c3, 1, 1)
        self.cv2 = self._step(c3 // 2, c4, n, split)
        self.cv3 = self._step(c4, c4, n, split)
        self.cv4 = Conv(c3 + 2 * c4, c2, 1, 1)

    @staticmethod
    def _step(c1: int, c2: int, n: int, split: bool) -> nn.Sequential:
        part = SplitRepC3(c1, c2, n) if split else RepC3(c1, c2, n)
        return nn.Sequential(part, Conv(c2, c2, 3, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H, W)."""
        y = list(self.cv1(x).chunk(2, 1))
        y.append(self.cv2(y[-1]))
        y.append(self.cv3(y[-1]))
        return self.cv4(torch.cat(y, 1))


@register(lambda row: _elan_rule(row), row="c2, c3, c4")
class RepELAN5(RepELAN4):
    """Fusion block of DEIMv2, there RepNCSPELAN5: `RepELAN4` without the 3x3 convolutions. YAML `[c2, c3, c4]`."""

    def __init__(self, c1: int, c2: int, c3: int, c4: int, n: int = 3) -> None:
        super().__init__(c1, c2, c3, c4, n, True)

    @staticmethod
    def _step(c1: int, c2: int, n: int, split: bool) -> nn.Sequential:
        return nn.Sequential(SplitRepC3(c1, c2, n))


@register(channels_first)
class GlobalFusion(nn.Module):
    """A map plus its own mean, through a 1x1 convolution (DEIMv2's small models, there GAP_Fusion)."""

    def __init__(self, c1: int) -> None:
        super().__init__()
        self.cv = Conv(c1, c1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> the same shape."""
        return self.cv(x + x.mean((2, 3), keepdim=True))


@register(scaled_conv)
class AvgDown(nn.Module):
    """Halve a map by a 3x3 mean, then a 1x1 convolution (DEIMv2's small models)."""

    def __init__(self, c1: int, c2: int) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(3, 2, 1)
        self.cv = Conv(c1, c2, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H/2, W/2)."""
        return self.cv(self.pool(x))
