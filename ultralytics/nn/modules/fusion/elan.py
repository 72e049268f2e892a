"""YOLOv9's aggregation block and what it consists of (arXiv 2402.13616).

Shapes: B batch, C channels, H x W map; every map is (B, C, H, W). `n` is a number of repeats.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ultralytics.nn.modules.conv import Conv, RepConv
from ultralytics.nn.modules.yolo.elan import RepBottleneck, RepCSP
from ultralytics.nn.registry import Plan, RowContext, register, scaled_conv, scaled_repeat


@register(scaled_conv)
class RepConvN(RepConv):
    """RepConv without an identity branch: 3x3 and 1x1 with batch norm, summed, SiLU; one 3x3 when folded."""

    def __init__(self, c1: int, c2: int, k: int = 3, s: int = 1, p: int = 1, g: int = 1) -> None:
        super().__init__(c1, c2, k, s, p, g)


@register(scaled_conv)
class RepNBottleneck(RepBottleneck):
    """RepBottleneck with 3x3 kernels. YAML `[c2, shortcut, g, e]`."""

    def __init__(self, c1: int, c2: int, shortcut: bool = True, g: int = 1, e: float = 0.5) -> None:
        super().__init__(c1, c2, shortcut, g, e=e)


@register(scaled_repeat)
class RepNCSP(RepCSP):
    """RepCSP whose width is scaled in a YAML, and which takes the row's repeats."""


FORK_MARKS = frozenset({"ConvNormLayer", "Blocks"})
"""Rows of the forks' model files alone, whose parser scales the inner channels too."""


def _elan_rule(row: RowContext) -> Plan:
    """`[c2, c3, c4, n]` -> (c1, c2 scaled, c3, c4, n), in a fork's file with c3 and c4 scaled; repeats chain blocks."""
    if len(row.args) < (3 if "n" in row.kwargs else 4):
        raise ValueError(
            f"RepNCSPELAN4 needs [c2, c3, c4, n]; got {list(row.args)}; a form with n as the row's repeats is another "
            "block of that name: write its count as the fourth number"
        )
    if not FORK_MARKS & set(row.above):
        return scaled_conv(row)
    c2, c3, c4 = (row.scaled(c) for c in row.args[:3])
    return Plan((row.c1, c2, c3, c4, *row.args[3:]), c2)


@register(_elan_rule, row="c2, c3, c4, n: int")
class RepNCSPELAN4(nn.Module):
    """Aggregation of four maps: two halves of a projection, and two RepNCSP with a 3x3 in a row (YOLOv9's GELAN).

    YAML `[c2, c3, c4, n]`: output, projection and branch channels, of which only the output's are scaled, as upstream's
    parser does, and the bottlenecks of each RepNCSP. Below a row `ConvNormLayer` or `Blocks` all three are scaled, as
    the parsers of forks do.
    """

    def __init__(self, c1: int, c2: int, c3: int, c4: int, n: int = 1) -> None:
        super().__init__()
        self.c = c3 // 2
        self.cv1 = Conv(c1, c3, 1, 1)
        self.cv2 = nn.Sequential(RepNCSP(self.c, c4, n), Conv(c4, c4, 3, 1))
        self.cv3 = nn.Sequential(RepNCSP(c4, c4, n), Conv(c4, c4, 3, 1))
        self.cv4 = Conv(c3 + 2 * c4, c2, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H, W)."""
        y = list(self.cv1(x).chunk(2, 1))
        for branch in (self.cv2, self.cv3):
            y.append(branch(y[-1]))
        return self.cv4(torch.cat(y, 1))
