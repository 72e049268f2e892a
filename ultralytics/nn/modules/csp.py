"""Cross-stage blocks: C1, C2, C2f, C3 and what people mix in beside them, our RepC4, and C2f with SHSA.

A cross-stage (CSP) block sends a part of its channels through a chain of small blocks and joins them with the rest.
What the chain is made of can be given: `member` of C2f, C3 and RepC3, with `ResidualC2f` and `BottleneckC2f` for rows
that have a name of their own.
Upstream names are imported from `ultralytics.nn.modules.block`, which re-exports this file. Shapes: B batch,
C channels, H x W map, N = H*W tokens, M heads, K query/key width of a head, V value width of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn.modules.attention import multi_head_attention
from ultralytics.nn.modules.conv import Activation, Conv, RepConv, zero_norms
from ultralytics.nn.modules.shsa import BasicBlock
from ultralytics.nn.modules.utils import contiguous_gradient
from ultralytics.nn.registry import REGISTRY, Plan, RowContext, register, scaled_conv, scaled_repeat
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.log import LOGGER

Kernels = Sequence[int | tuple[int, int]]
Member = Callable[[int], nn.Module]  # width -> a block that keeps it


def registered_block(name: str, *args: object) -> nn.Module:
    """Build a block by its registered name, when it is needed. ConfigError where no block has that name."""
    entry = REGISTRY.get(name)
    if entry is None:
        near = ", ".join(REGISTRY.nearest(name)) or "none"
        raise ConfigError(f"no block is registered as '{name}'; near names: {near}; import its module first")
    block: nn.Module = entry.cls(*args)
    return block


@register(scaled_conv)
class Bottleneck(nn.Module):
    """Two convolutions, the first to c2 * e channels; plus the input when `shortcut` and c1 = c2."""

    def __init__(
        self, c1: int, c2: int, shortcut: bool = True, g: int = 1, k: Kernels = (3, 3), e: float = 0.5
    ) -> None:
        super().__init__()
        hidden = int(c2 * e)
        self.cv1 = Conv(c1, hidden, k[0], 1)
        self.cv2 = Conv(hidden, c2, k[1], 1, g=g)
        self.add = shortcut and c1 == c2

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H, W)."""
        y = self.cv2(self.cv1(x))
        return x + y if self.add else y

    def start_as_identity(self) -> bool:
        """With the shortcut, set the last batch norm to zero, so that the block passes its input on; say whether.

        Not with an activation that has no slope at zero: the branch could never grow again.
        """
        possible = self.add and isinstance(self.cv2.act, (nn.SiLU, nn.GELU, nn.Identity))
        if possible:
            zero_norms(self.cv2)
        return possible


@register(scaled_repeat)
class C1(nn.Module):
    """A 1x1 convolution, plus n 3x3 convolutions of its result."""

    def __init__(self, c1: int, c2: int, n: int = 1) -> None:
        super().__init__()
        self.cv1 = Conv(c1, c2, 1, 1)
        self.m = nn.Sequential(*(Conv(c2, c2, 3) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H, W)."""
        y = self.cv1(x)
        return self.m(y) + y


@register(scaled_repeat)
class C2(nn.Module):
    """Cross-stage block with two branches out of one projection: n bottlenecks, and the identity."""

    def __init__(self, c1: int, c2: int, n: int = 1, shortcut: bool = True, g: int = 1, e: float = 0.5) -> None:
        super().__init__()
        self.c = int(c2 * e)
        self.cv1 = Conv(c1, 2 * self.c, 1, 1)
        self.cv2 = Conv(2 * self.c, c2, 1)
        self.m = nn.Sequential(*(Bottleneck(self.c, self.c, shortcut, g, (3, 3), 1.0) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H, W)."""
        a, b = self.cv1(x).chunk(2, 1)
        return self.cv2(torch.cat((self.m(a), b), 1))


@register(scaled_repeat)
class C2f(nn.Module):
    """Cross-stage block that keeps every step: both halves of a projection and the output of each of n bottlenecks.

    `member` replaces the bottlenecks: a function of the inner width c2 * e that returns a block of that width.
    """

    late_upsample: ClassVar[tuple[str, ...]] = ("cv1",)

    def __init__(
        self,
        c1: int,
        c2: int,
        n: int = 1,
        shortcut: bool = False,
        g: int = 1,
        e: float = 0.5,
        member: Member | None = None,
    ) -> None:
        super().__init__()
        self.c = int(c2 * e)
        self.cv1 = Conv(c1, 2 * self.c, 1, 1)
        self.cv2 = Conv((2 + n) * self.c, c2, 1)
        if member is None:
            self.m = nn.ModuleList(Bottleneck(self.c, self.c, shortcut, g, (3, 3), 1.0) for _ in range(n))
        else:
            self.m = nn.ModuleList(member(self.c) for _ in range(n))

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H, W)."""
        y = list(self.cv1(x).chunk(2, 1))
        for m in self.m:
            y.append(m(y[-1]))
        return self.cv2(torch.cat(y, 1))


@register(scaled_repeat)
class C2fSHSA(C2f):
    """C2f with SHViT blocks (depth-wise 3x3, single-head attention, FFN) in place of the bottlenecks.

    `pdim` None is 3/14 of the inner width c2 * e. Our own combination; YAML `[c2, e, qk_dim, pdim]`.
    """

    def __init__(self, c1: int, c2: int, n: int = 1, e: float = 0.5, qk_dim: int = 16, pdim: int | None = None) -> None:
        super().__init__(c1, c2, n, e=e, member=lambda c: BasicBlock(c, qk_dim, pdim, "s"))


class BottleneckWith(nn.Module):
    """A bottleneck of one width whose second convolution (and first, where given) is another block; plus the input.

    `second` and `first` are functions of the width c; the first is a 3x3 Conv unless given.
    """

    def __init__(self, c: int, second: Member, shortcut: bool = True, first: Member | None = None) -> None:
        super().__init__()
        self.cv1 = Conv(c, c, 3) if first is None else first(c)
        self.cv2 = second(c)
        self.add = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, H, W) -> the same shape."""
        y = self.cv2(self.cv1(x))
        return x + y if self.add else y


def _require_ungrouped(row: nn.Module, g: int) -> None:
    if g != 1:
        name = type(row).__name__
        raise ConfigError(f"{name}: g={g}, but its members are not grouped; write 1, or use C2f with g={g}")


def check_residual_row(row: nn.Module, shortcut: bool, g: int) -> None:
    """Refuse groups and warn about `shortcut` False for a cross-stage block whose members always add their input."""
    _require_ungrouped(row, g)
    if not shortcut:
        LOGGER.warning(f"{type(row).__name__}: shortcut=False has no effect, its members always add their input")


class BottleneckC2f(C2f):
    """C2f with another bottleneck: a subclass defines `member(c, shortcut)`. The shortcut is off unless given."""

    def __init__(self, c1: int, c2: int, n: int = 1, shortcut: bool = False, g: int = 1, e: float = 0.5) -> None:
        _require_ungrouped(self, g)
        super().__init__(c1, c2, n, e=e, member=lambda c: self.member(c, shortcut))

    @staticmethod
    def member(c: int, shortcut: bool) -> nn.Module:
        """Return one bottleneck of width c."""
        return Bottleneck(c, c, shortcut, e=1.0)


class ResidualC2f(C2f):
    """C2f with blocks that always add their input: a subclass defines `member(c)`. `shortcut` False has no effect."""

    def __init__(self, c1: int, c2: int, n: int = 1, shortcut: bool = True, g: int = 1, e: float = 0.5) -> None:
        check_residual_row(self, shortcut, g)
        super().__init__(c1, c2, n, e=e, member=self.member)

    @staticmethod
    def member(c: int) -> nn.Module:
        """Return one block of width c."""
        return Bottleneck(c, c, True, e=1.0)


@register(scaled_repeat)
class C3(nn.Module):
    """Cross-stage block with two projections of the input: one through n bottlenecks (1x1, 3x3), one as it is.

    `member` replaces the bottlenecks, as in C2f; its width is c2 * e.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        n: int = 1,
        shortcut: bool = True,
        g: int = 1,
        e: float = 0.5,
        member: Member | None = None,
    ) -> None:
        super().__init__()
        hidden = int(c2 * e)
        self.cv1 = Conv(c1, hidden, 1, 1)
        self.cv2 = Conv(c1, hidden, 1, 1)
        self.cv3 = Conv(2 * hidden, c2, 1)
        if member is None:
            self.m = nn.Sequential(*(Bottleneck(hidden, hidden, shortcut, g, (1, 3), 1.0) for _ in range(n)))
        else:
            self.m = nn.Sequential(*(member(hidden) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H, W)."""
        return self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), 1))


@register(scaled_repeat)
class RepC4(nn.Module):
    """Cross-stage block whose n RepConvs are chained on one half of a projection, every step kept.

    At n = 2, the default, four branches are joined: both halves and two RepConv outputs. Folded, each RepConv is one
    3x3 convolution. Our own definition: the name circulates without a public one; no weight compatibility is claimed.
    """

    def __init__(self, c1: int, c2: int, n: int = 2, e: float = 0.5) -> None:
        super().__init__()
        self.c = int(c2 * e)
        self.cv1 = Conv(c1, 2 * self.c, 1, 1)
        self.m = nn.ModuleList(RepConv(self.c, self.c) for _ in range(n))
        self.cv2 = Conv((2 + n) * self.c, c2, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H, W)."""
        y = list(self.cv1(x).chunk(2, 1))
        for m in self.m:
            y.append(m(y[-1]))
        return self.cv2(torch.cat(y, 1))


@register(scaled_conv)
class SPP(nn.Module):
    """Spatial pyramid pooling: the map beside its maximum over windows of several sizes (arXiv 1406.4729)."""

    def __init__(self, c1: int, c2: int, k: Sequence[int] = (5, 9, 13)) -> None:
        super().__init__()
        hidden = c1 // 2
        self.cv1 = Conv(c1, hidden, 1, 1)
        self.cv2 = Conv(hidden * (len(k) + 1), c2, 1, 1)
        self.m = nn.ModuleList(nn.MaxPool2d(x, 1, x // 2) for x in k)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H, W)."""
        x = self.cv1(x)
        return self.cv2(torch.cat([x, *(m(x) for m in self.m)], 1))


def _sppf_rule(row: RowContext) -> Plan:
    """`[c2, k]` or `[c2, k, n, shortcut]`: only the short form has an activation after its first convolution."""
    plan = scaled_conv(row)
    if len(row.args) > 2:
        return plan
    kernel = row.args[1] if len(row.args) > 1 else 5
    return Plan((*plan.args[:2], kernel, 3, False, True), plan.out_channels)


@register(_sppf_rule, row="c2, k, n, shortcut, act")
class SPPF(nn.Module):
    """SPP by pooling n times in a row, which gives the same windows at less cost; plus the input with `shortcut`.

    `act` puts an activation behind the first convolution: YAML rows `[c2, k]` have it, rows `[c2, k, n, shortcut]` of
    YOLO26 and blocks built in Python do not.
    """

    def __init__(self, c1: int, c2: int, k: int = 5, n: int = 3, shortcut: bool = False, act: bool = False) -> None:
        super().__init__()
        hidden = c1 // 2
        self.cv1 = Conv(c1, hidden, 1, 1, act=act)
        self.cv2 = Conv(hidden * (n + 1), c2, 1, 1)
        self.m = nn.MaxPool2d(k, 1, k // 2)
        self.n = n
        self.add = shortcut and c1 == c2

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H, W)."""
        y = [self.cv1(x)]
        for _ in range(self.n):
            y.append(self.m(y[-1]))
        z = self.cv2(torch.cat(y, 1))
        return x + z if self.add else z


@register(scaled_conv)
class SCDown(nn.Module):
    """Downsampling in two steps: 1x1 changes the channels, a depth-wise k x k the size (YOLOv10, arXiv 2405.14458).

    `act` is that of the first step; D-FINE has none (False).
    """

    def __init__(self, c1: int, c2: int, k: int, s: int, act: Activation = True) -> None:
        super().__init__()
        self.cv1 = Conv(c1, c2, 1, 1, act=act)
        self.cv2 = Conv(c2, c2, k, s, g=c2, act=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H/s, W/s)."""
        return self.cv2(self.cv1(x))


class Attention(nn.Module):
    """Multi-head attention over all places, a depth-wise 3x3 of the values codes positions (YOLOv10, sec. 3.2)."""

    def __init__(self, dim: int, num_heads: int = 8, attn_ratio: float = 0.5) -> None:
        super().__init__()
        if num_heads < 1 or dim % num_heads:
            raise ConfigError(f"Attention width {dim} is not divisible by its {num_heads} heads")
        self.num_heads = num_heads
        self.head_dim = dim // num_heads
        self.key_dim = int(self.head_dim * attn_ratio)
        self.scale = self.key_dim**-0.5
        self.qkv = Conv(dim, dim + 2 * self.key_dim * num_heads, 1, act=False)
        self.proj = Conv(dim, dim, 1, act=False)
        self.pe = Conv(dim, dim, 3, 1, g=dim, act=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) -> the same shape."""
        qkv = contiguous_gradient(self.qkv(x)).unflatten(1, (self.num_heads, -1)).flatten(3)  # (B, M, 2K + V, N)
        q, k, v = qkv.split([self.key_dim, self.key_dim, self.head_dim], dim=2)
        q, k, values = (t.transpose(2, 3) for t in (q, k, v))  # (B, M, N, K or V)
        y = multi_head_attention(q, k, values, scale=self.scale).transpose(2, 3).reshape(x.shape)
        return self.proj(y + self.pe(v.reshape(x.shape)))


class PSABlock(nn.Module):
    """Attention and a feed-forward part of 1x1 convolutions, each added to its input."""

    def __init__(self, c: int, attn_ratio: float = 0.5, num_heads: int = 4, shortcut: bool = True) -> None:
        super().__init__()
        self.attn = Attention(c, num_heads, attn_ratio)
        self.ffn = nn.Sequential(Conv(c, c * 2, 1), Conv(c * 2, c, 1, act=False))
        self.add = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, H, W) -> the same shape."""
        x = x + self.attn(x) if self.add else self.attn(x)
        return x + self.ffn(x) if self.add else self.ffn(x)


def _require_equal(name: str, c1: int, c2: int) -> None:
    if c1 != c2:
        raise ConfigError(f"{name} keeps its channels: the input has {c1}, the row asks for {c2}; write {c1}")


@register(scaled_conv)
class PSA(nn.Module):
    """Partial self-attention: half of a projection attends, half passes by (YOLOv10, sec. 3.2)."""

    def __init__(self, c1: int, c2: int, e: float = 0.5) -> None:
        super().__init__()
        _require_equal("PSA", c1, c2)
        self.c = int(c1 * e)
        self.cv1 = Conv(c1, 2 * self.c, 1, 1)
        self.cv2 = Conv(2 * self.c, c1, 1)
        self.attn = Attention(self.c, max(1, self.c // 64), 0.5)
        self.ffn = nn.Sequential(Conv(self.c, self.c * 2, 1), Conv(self.c * 2, self.c, 1, act=False))

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> the same shape."""
        a, b = self.cv1(x).chunk(2, 1)
        b = b + self.attn(b)
        return self.cv2(torch.cat((a, b + self.ffn(b)), 1))


@register(scaled_repeat)
class C2PSA(nn.Module):
    """PSA with n attention blocks in a row on the attending half."""

    def __init__(self, c1: int, c2: int, n: int = 1, e: float = 0.5) -> None:
        super().__init__()
        _require_equal("C2PSA", c1, c2)
        self.c = int(c1 * e)
        self.cv1 = Conv(c1, 2 * self.c, 1, 1)
        self.cv2 = Conv(2 * self.c, c1, 1)
        self.m = nn.Sequential(*(PSABlock(self.c, 0.5, max(1, self.c // 64)) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> the same shape."""
        a, b = self.cv1(x).chunk(2, 1)
        return self.cv2(torch.cat((a, self.m(b)), 1))


def _cblinear_rule(row: RowContext) -> Plan:
    """`[[c2, ...], ...]`: the channels of each output as written; together they count as the row's channels."""
    return Plan((row.c1, *row.args), sum(row.args[0]))


@register(_cblinear_rule, row="c2s, k, s, p, g")
class CBLinear(nn.Module):
    """A 1x1 convolution whose output is cut into several maps, for CBFuse (YOLOv9, arXiv 2402.13616)."""

    def __init__(self, c1: int, c2s: Sequence[int], k: int = 1, s: int = 1, p: int | None = None, g: int = 1) -> None:
        super().__init__()
        self.c2s = list(c2s)
        self.conv = nn.Conv2d(c1, sum(c2s), k, s, k // 2 if p is None else p, groups=g)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, c1, H, W) -> one (B, c2s[i], H, W) for each i."""
        return self.conv(x).split(self.c2s, dim=1)


@register(lambda row: Plan(row.args, row.in_channels[-1]), multi_input=True, row="idx")
class CBFuse(nn.Module):
    """Add to the last input, at its size, one output of each CBLinear before it; `idx` says which."""

    def __init__(self, idx: Sequence[int]) -> None:
        super().__init__()
        self.idx = list(idx)

    def forward(self, xs: list[tuple[Tensor, ...] | Tensor]) -> Tensor:
        """[outputs of CBLinear, ..., (B, C, H, W)] -> (B, C, H, W)."""
        target = xs[-1]
        if not isinstance(target, Tensor):
            raise ConfigError("CBFuse: its last source must be a layer with one output, not a CBLinear")
        for i, x in zip(self.idx, xs[:-1], strict=True):
            target = target + F.interpolate(x[i], size=target.shape[2:], mode="nearest")
        return target
