"""Compact inverted blocks of YOLOv10 (arXiv 2405.14458, section 3.2).

Shapes: B batch, C channels, H x W map.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.modules.csp import C2f
from ultralytics.nn.registry import register, scaled_repeat
from ultralytics.utils.torch_utils import fuse_conv_and_bn


@register
class RepVGGDW(nn.Module):
    """Depth-wise 7x7 beside a depth-wise 3x3, summed, then SiLU; folded, it is one depth-wise 7x7 convolution."""

    def __init__(self, ed: int) -> None:
        super().__init__()
        self.conv: nn.Module = Conv(ed, ed, 7, 1, 3, g=ed, act=False)
        self.conv1 = Conv(ed, ed, 3, 1, 1, g=ed, act=False)
        self.act = nn.SiLU()
        self.dim = ed

    def forward(self, x: Tensor) -> Tensor:
        """(B, ed, H, W) -> the same shape."""
        return self.act(self.conv(x) + self.conv1(x))

    def forward_fuse(self, x: Tensor) -> Tensor:
        """Forward with both branches in one convolution."""
        return self.act(self.conv(x))

    def fuse(self) -> RepVGGDW:
        """Fold both batch norms and add the 3x3 kernel to the centre of the 7x7, in place."""
        if isinstance(self.conv, Conv):
            wide = fuse_conv_and_bn(self.conv.conv, self.conv.bn)
            narrow = fuse_conv_and_bn(self.conv1.conv, self.conv1.bn)
            wide.weight.add_(F.pad(narrow.weight, [2, 2, 2, 2]))
            if wide.bias is not None and narrow.bias is not None:
                wide.bias.add_(narrow.bias)
            self.conv = wide
            del self.conv1
            self.forward = self.forward_fuse  # type: ignore[method-assign]
        return self


@register
class CIB(nn.Module):
    """Depth-wise and point-wise convolutions in turn: 3x3, to 2 c2 e, 3x3 (or RepVGGDW with `lk`), to c2, 3x3."""

    def __init__(self, c1: int, c2: int, shortcut: bool = True, e: float = 0.5, lk: bool = False) -> None:
        super().__init__()
        wide = 2 * int(c2 * e)
        self.cv1 = nn.Sequential(
            Conv(c1, c1, 3, g=c1),
            Conv(c1, wide, 1),
            RepVGGDW(wide) if lk else Conv(wide, wide, 3, g=wide),
            Conv(wide, c2, 1),
            Conv(c2, c2, 3, g=c2),
        )
        self.add = shortcut and c1 == c2

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H, W)."""
        return x + self.cv1(x) if self.add else self.cv1(x)


@register(scaled_repeat)
class C2fCIB(C2f):
    """C2f with compact inverted blocks in place of the bottlenecks. YAML `[c2, shortcut, lk]`."""

    def __init__(
        self, c1: int, c2: int, n: int = 1, shortcut: bool = False, lk: bool = False, g: int = 1, e: float = 0.5
    ) -> None:
        super().__init__(c1, c2, n, shortcut, g, e)
        self.m = nn.ModuleList(CIB(self.c, self.c, shortcut, e=1.0, lk=lk) for _ in range(n))
