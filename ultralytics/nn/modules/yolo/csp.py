"""Cross-stage blocks of the YOLO family: C3k, C3k2, C3x, C3f, C2fPSA and the BottleneckCSP of the first generations.

Names, arguments and state-dict keys are those of the upstream interface. Shapes: B batch, C channels, H x W map.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.modules.csp import C3, Bottleneck, C2f, PSABlock
from ultralytics.nn.registry import Plan, RowContext, register, scaled_repeat
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.torch_utils import bn_affine


@register
class C3k(C3):
    """C3 whose bottlenecks have two k x k kernels."""

    def __init__(
        self, c1: int, c2: int, n: int = 1, shortcut: bool = True, g: int = 1, e: float = 0.5, k: int = 3
    ) -> None:
        super().__init__(c1, c2, n, shortcut, g, e)
        hidden = int(c2 * e)
        self.m = nn.Sequential(*(Bottleneck(hidden, hidden, shortcut, g, (k, k), 1.0) for _ in range(n)))


def c3k2_rule(row: RowContext) -> Plan:
    """`[c2, c3k, e, attn, g, shortcut]`: scales m, l and x always take the deeper inner blocks, as upstream's do."""
    if row.scale_name in ("m", "l", "x"):
        row = replace(row, args=(row.args[0], True, *row.args[2:]))
    return scaled_repeat(row)


@register(c3k2_rule, row="c2, c3k, e, attn, g, shortcut")
class C3k2(C2f):
    """C2f with a choice of inner blocks: attention after a bottleneck (`attn`), C3k (`c3k`), or a narrow bottleneck.

    A plain inner bottleneck has half the width once more, unlike that of C2f (YOLO11).
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        n: int = 1,
        c3k: bool = False,
        e: float = 0.5,
        attn: bool = False,
        g: int = 1,
        shortcut: bool = True,
    ) -> None:
        super().__init__(c1, c2, n, shortcut, g, e)
        self.m = nn.ModuleList(self._inner(c3k, attn, g, shortcut) for _ in range(n))

    def _inner(self, c3k: bool, attn: bool, g: int, shortcut: bool) -> nn.Module:
        c = self.c
        if attn:
            return nn.Sequential(Bottleneck(c, c, shortcut, g), PSABlock(c, 0.5, max(c // 64, 1)))
        return C3k(c, c, 2, shortcut, g) if c3k else Bottleneck(c, c, shortcut, g)


@register(scaled_repeat)
class C3x(C3):
    """C3 whose bottlenecks cross a 1 x 3 with a 3 x 1 kernel."""

    def __init__(self, c1: int, c2: int, n: int = 1, shortcut: bool = True, g: int = 1, e: float = 0.5) -> None:
        super().__init__(c1, c2, n, shortcut, g, e)
        self.c_ = int(c2 * e)
        self.m = nn.Sequential(*(Bottleneck(self.c_, self.c_, shortcut, g, ((1, 3), (3, 1)), 1.0) for _ in range(n)))


@register
class C3f(nn.Module):
    """C3 that keeps every step: two projections, and the output of each of n bottlenecks on the first of them."""

    def __init__(self, c1: int, c2: int, n: int = 1, shortcut: bool = False, g: int = 1, e: float = 0.5) -> None:
        super().__init__()
        hidden = int(c2 * e)
        self.cv1 = Conv(c1, hidden, 1, 1)
        self.cv2 = Conv(c1, hidden, 1, 1)
        self.cv3 = Conv((2 + n) * hidden, c2, 1)
        self.m = nn.ModuleList(Bottleneck(hidden, hidden, shortcut, g, (3, 3), 1.0) for _ in range(n))

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H, W)."""
        y = [self.cv2(x), self.cv1(x)]
        for m in self.m:
            y.append(m(y[-1]))
        return self.cv3(torch.cat(y, 1))


@register(scaled_repeat)
class C2fPSA(C2f):
    """C2f with attention blocks in place of the bottlenecks; keeps its channels."""

    def __init__(self, c1: int, c2: int, n: int = 1, e: float = 0.5) -> None:
        if c1 != c2:
            raise ConfigError(f"C2fPSA keeps its channels: the input has {c1}, the row asks for {c2}; write {c1}")
        super().__init__(c1, c2, n, e=e)
        self.m = nn.ModuleList(PSABlock(self.c, 0.5, max(self.c // 64, 1)) for _ in range(n))


@register(scaled_repeat)
class BottleneckCSP(nn.Module):
    """Cross-stage partial block (arXiv 1911.11929) with one batch norm over both branches."""

    def __init__(self, c1: int, c2: int, n: int = 1, shortcut: bool = True, g: int = 1, e: float = 0.5) -> None:
        super().__init__()
        hidden = int(c2 * e)
        self.cv1 = Conv(c1, hidden, 1, 1)
        self.cv2 = nn.Conv2d(c1, hidden, 1, bias=False)
        self.cv3 = nn.Conv2d(hidden, hidden, 1, bias=False)
        self.cv4 = Conv(2 * hidden, c2, 1, 1)
        self.bn: nn.Module = nn.BatchNorm2d(2 * hidden)
        self.act = nn.SiLU()
        self.m = nn.Sequential(*(Bottleneck(hidden, hidden, shortcut, g, e=1.0) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H, W)."""
        y = torch.cat((self.cv3(self.m(self.cv1(x))), self.cv2(x)), 1)
        return self.cv4(self.act(self.bn(y)))

    def fuse(self) -> BottleneckCSP:
        """Fold each half of the joint batch norm into the convolution before it, in place."""
        if isinstance(self.bn, nn.BatchNorm2d):
            halves = (t.chunk(2) for t in bn_affine(self.bn))
            for conv, scale, shift in zip((self.cv3, self.cv2), *halves, strict=True):
                conv.weight = nn.Parameter(conv.weight.detach() * scale.reshape(-1, 1, 1, 1), requires_grad=False)
                conv.bias = nn.Parameter(shift.detach().clone(), requires_grad=False)
            self.bn = nn.Identity()
        return self
