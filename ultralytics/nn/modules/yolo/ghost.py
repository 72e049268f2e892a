"""Ghost blocks: half of the channels are cheap depth-wise copies of the others (GhostNet, arXiv 1911.11907, sec. 3).

Shapes: B batch, C channels, H x W map; `s` is a stride.
"""

from __future__ import annotations

from torch import Tensor, nn

from ultralytics.nn.modules.conv import Conv, DWConv, GhostConv
from ultralytics.nn.modules.csp import C3
from ultralytics.nn.registry import register, scaled_conv, scaled_repeat
from ultralytics.utils.errors import ConfigError


@register(scaled_conv)
class GhostBottleneck(nn.Module):
    """Two GhostConvs, with a depth-wise k x k between them when s is 2; plus the input, projected when s is 2."""

    def __init__(self, c1: int, c2: int, k: int = 3, s: int = 1) -> None:
        super().__init__()
        hidden = c2 // 2
        strided = s == 2
        if c1 != c2 and not strided:
            raise ConfigError(f"GhostBottleneck keeps its channels at stride {s}: the input has {c1}, not {c2}")
        self.conv = nn.Sequential(
            GhostConv(c1, hidden, 1, 1),
            DWConv(hidden, hidden, k, s, act=False) if strided else nn.Identity(),
            GhostConv(hidden, c2, 1, 1, act=False),
        )
        project = (DWConv(c1, c1, k, s, act=False), Conv(c1, c2, 1, 1, act=False)) if strided else ()
        self.shortcut = nn.Sequential(*project) if strided else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H/s, W/s)."""
        return self.conv(x) + self.shortcut(x)


@register(scaled_repeat)
class C3Ghost(C3):
    """C3 with ghost bottlenecks; `shortcut` and `g` are part of the row's form and have no effect on them."""

    def __init__(self, c1: int, c2: int, n: int = 1, shortcut: bool = True, g: int = 1, e: float = 0.5) -> None:
        super().__init__(c1, c2, n, shortcut, g, e)
        hidden = int(c2 * e)
        self.m = nn.Sequential(*(GhostBottleneck(hidden, hidden) for _ in range(n)))
