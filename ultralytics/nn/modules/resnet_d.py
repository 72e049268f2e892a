"""ResNet-D as RT-DETR's own backbone writes it: ConvNormLayer, and stages of basic or bottleneck blocks by name.

Names, arguments and state-dict keys are those of the published code and of the model YAMLs made for it. Inside `Blocks`
the inner block is a string, such as `BasicBlock` or `BottleNeck_DCNv2`, that means something there only: SHViT's
`BasicBlock` is another class. Shapes: B batch, C channels, H x W map; every map is (B, C, H, W).
`s` is a stride.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.registry import (
    CHANNELS_ONCE,
    MODULE_ERRORS,
    REGISTRY,
    Entry,
    Plan,
    RowContext,
    register,
    scaled_conv,
    scaled_repeat,
)
from ultralytics.utils.errors import ConfigError, ConfigTypeError
from ultralytics.utils.torch_utils import fuse_conv_and_bn

ActivationName = str | nn.Module | None
"""Name of an activation (case is ignored), a module, or None for none."""

_ACTIVATIONS: Mapping[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
}


def _named_activation(act: ActivationName) -> nn.Module:
    """Return the activation of a name; ConfigError for an unknown name, ConfigTypeError for anything else."""
    if act is None:
        return nn.Identity()
    if isinstance(act, nn.Module):
        return act
    if not isinstance(act, str):
        raise ConfigTypeError(f"act={act!r}: give one of {', '.join(_ACTIVATIONS)}, a module, or null for none")
    cls = _ACTIVATIONS.get(act.lower())
    if cls is None:
        raise ConfigError(f"act={act!r} is not one of {', '.join(_ACTIVATIONS)}; write null for none")
    return cls()


# --------------------------------------------------------------------------------------------------- one convolution
def _cnl_rule(row: RowContext) -> Plan:
    """Three row forms, by length and the type of the fifth argument; the channels are scaled.

    `[c2, k, s, padding, bias, act]`; `[c2, k, s, groups, act]` with the act as a name: a convolution with bias; and
    `[c2, k, s]` without activation.
    """
    if len(row.args) < 3:
        raise ValueError(f"ConvNormLayer needs [c2, k, s, ...]; got {list(row.args)}")
    c2 = row.scaled(row.args[0])
    if len(row.args) == 5 and isinstance(row.args[4], str):
        k, s, groups, act = row.args[1:]
        return Plan((row.c1, c2, k, s, None, True, act, groups), c2)
    return Plan((row.c1, c2, *row.args[1:]), c2)


@register(
    _cnl_rule,
    row=("c2, k, s, padding, bias, act: activation = None, groups: int = 1", "c2, k, s, groups: int, act: activation"),
)
class ConvNormLayer(nn.Module):
    """Convolution, batch norm, activation by name (RT-DETR, arXiv 2304.08069).

    YAML `[c2, k, s, padding, bias, act]`, `[c2, k, s, groups, act]` (biased), or `[c2, k, s]`. Without `padding` odd
    kernels keep the size at stride 1; without `act` there is no activation, unlike Conv.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        k: int,
        s: int,
        padding: int | None = None,
        bias: bool = False,
        act: ActivationName = None,
        groups: int = 1,
    ) -> None:
        super().__init__()
        pad = (k - 1) // 2 if padding is None else padding
        self.conv = nn.Conv2d(c1, c2, k, s, pad, groups=groups, bias=bias)
        self.norm = nn.BatchNorm2d(c2)
        self.act = _named_activation(act)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H', W')."""
        return self.act(self.norm(self.conv(x)))

    def forward_fuse(self, x: Tensor) -> Tensor:
        """Forward with the batch norm folded into the convolution."""
        return self.act(self.conv(x))

    def fuse(self) -> nn.Module:
        """Fold the batch norm into the convolution, in place."""
        if hasattr(self, "norm"):
            self.conv = fuse_conv_and_bn(self.conv, self.norm)
            del self.norm
            self.forward = self.forward_fuse  # type: ignore[method-assign]
        return self


# ------------------------------------------------------------------------------------- what may stand for a 3x3 branch
class Branch(NamedTuple):
    """A registered block in place of `branch2b`: its name, and its arguments for a width, a stride and an activation.

    The activation is that of the 3x3 convolution in its place: none in a basic block, which ends in a sum.
    A block that is not `strided` cannot halve the map itself; where it has to, a 2x2 average pool precedes it.
    """

    name: str
    arguments: Callable[[int, int, nn.Module], tuple[Any, ...]]
    strided: bool = False


class BranchTable:
    """Blocks by the word that follows `BasicBlock_` or `BottleNeck_` in a row.

    A word without an entry is the registered name of a block that is built as X(c, c), or as X(c) where its rule takes
    the channels once; one that gives other channels, such as DySnakeConv, is followed by a 1x1 Conv back to c. Blocks
    are looked up in the registry when they are constructed, so that the table needs no import of theirs.
    """

    def __init__(self, branches: Mapping[str, Branch]) -> None:
        self._branches = dict(branches)

    def add(self, word: str, branch: Branch) -> None:
        """Add an entry; ConfigError when the word has another one."""
        if self._branches.get(word, branch) != branch:
            raise ConfigError(f"inner block '{word}' already stands for {self._branches[word].name}; choose another")
        self._branches[word] = branch

    def make(self, word: str, c: int, s: int, act: nn.Module) -> nn.Module:
        """Build the block for a width, a stride and an activation; ConfigError when it is not registered."""
        branch = self._branches.get(word)
        name = branch.name if branch else word
        entry = REGISTRY.get(name)
        if entry is None:
            near = REGISTRY.nearest(name)
            hint = f"did you mean {', '.join(near)}?" if near else "register it with @register"
            raise ConfigError(f"inner block '{word}' needs the block '{name}', which is not registered; {hint}")
        block: nn.Module = entry.cls(*branch.arguments(c, s, act)) if branch else _kept_width(entry, word, c)
        if s == 1 or (branch is not None and branch.strided):
            return block
        return _PooledBranch(block)


class _PooledBranch(nn.Module):
    """A block without a stride of its own, after a 2x2 average pool."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.pool = _halving_pool()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, ceil(H/2), ceil(W/2))."""
        return self.block(self.pool(x))


def _width(c: int, s: int, act: nn.Module) -> tuple[Any, ...]:
    return (c,)


def _widths(c: int, s: int, act: nn.Module) -> tuple[Any, ...]:
    return c, c


def _kept_width(entry: Entry, word: str, c: int) -> nn.Module:
    """Build a registered block that keeps c channels, or with a 1x1 Conv behind it that brings them back.

    Raises:
        ConfigError: It needs several inputs or more arguments, or changes the size of the map.
    """
    if entry.multi_input or entry.is_head:
        kind = "a head" if entry.is_head else "a join of several maps"
        raise ConfigError(f"inner block '{word}' cannot stand for a 3x3 of {c} channels: it is {kind}")
    args = _arguments_of(entry, c)
    try:
        block: nn.Module = entry.cls(*args)
        channels, kept = _output(lambda: entry.cls(*args), c)
    except MODULE_ERRORS as e:
        problem = (str(e).splitlines() or [""])[0]
        raise ConfigError(f"inner block '{word}' cannot stand for a 3x3 of {c} channels: {problem:.160}") from None
    if not kept:
        raise ConfigError(f"inner block '{word}' cannot stand for a 3x3 of {c} channels: it changes the map's size")
    return block if channels == c else nn.Sequential(block, Conv(channels, c, 1))


def _arguments_of(entry: Entry, c: int) -> tuple[Any, ...]:
    """Return the constructor arguments of a block for c channels in and out."""
    if entry.rule in {scaled_conv, scaled_repeat}:
        return c, c
    if entry.rule in CHANNELS_ONCE:
        return (c,)
    if entry.rule is None:
        return (c,) if len(_required(entry.cls)) == 1 else (c, c)
    plan = entry.first_plan(c, ((), (c,)))
    return (c, c) if plan is None else plan.args


def _required(cls: type) -> list[str]:
    """Return the constructor parameters without a default."""
    return [p.name for p in inspect.signature(cls).parameters.values() if p.default is p.empty]


def _output(make: Callable[[], nn.Module], c: int) -> tuple[int, bool]:
    """Return the output channels of a block of c channels, and whether it keeps the size of the map; without values."""
    side = 64
    try:
        with torch.device("meta"), torch.no_grad():
            shape = make().eval()(torch.empty(1, c, side, side)).shape
    except RuntimeError as e:
        if "meta" not in str(e).lower():  # it needs values
            raise
        with torch.no_grad():
            shape = make().eval()(torch.zeros(1, c, side, side)).shape
    return int(shape[1]), tuple(shape[2:]) == (side, side)


BRANCHES = BranchTable(
    {
        "DCNv2": Branch("DCNv2", lambda c, s, act: (c, c, 3, s, None, 1, 1, act), strided=True),
        "DBB": Branch(
            "DiverseBranchBlock",
            lambda c, s, act: (c, c, 3, s, None, 1, 1, None, False, False, act),
            strided=True,
        ),
        "DRB": Branch("DilatedReparamBlock", lambda c, s, act: (c, 5)),
        "Faster": Branch("Faster_Block", _widths),
        "Faster_CGLU": Branch("Faster_Block_CGLU", _widths),
        "Faster_EMA": Branch("Faster_Block_EMA", _widths),
        "PKI": Branch("PKIModule", _widths),
        "UniRepLKNet": Branch("UniRepLKNetBlock", _width),
        "ContextGuided": Branch("ContextGuidedBlock", _widths),
        "Star": Branch("Star_Block", _width),
        "Star_CAA": Branch("Star_Block_CAA", _width),
    }
)


# ------------------------------------------------------------------------------------------------------ inner blocks
class LinearGate(nn.Module):
    """Scale each channel by a gate of two linear layers on the map's mean (squeeze-excitation, arXiv 1709.01507)."""

    def __init__(self, c: int, reduction: int = 16, bias: bool = False) -> None:
        super().__init__()
        if c < reduction:
            raise ConfigError(f"a gate of {c} channels cannot be reduced by {reduction}; use at least {reduction}")
        inner = c // reduction
        self.fc = nn.Sequential(nn.Linear(c, inner, bias=bias), nn.ReLU(), nn.Linear(inner, c, bias=bias), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        return x * self.fc(x.mean((2, 3)))[..., None, None]


class _Options(NamedTuple):
    """What all blocks of a stage have in common; `word` names another block for branch2b ('' for the 3x3)."""

    act: ActivationName
    variant: str
    bias: bool
    att: bool
    word: str

    def layer(self, c1: int, c2: int, k: int, s: int = 1, act: bool = True) -> ConvNormLayer:
        """Return one convolution of a branch."""
        return ConvNormLayer(c1, c2, k, s, bias=self.bias, act=self.act if act else None)

    def branch2b(self, c: int, s: int, act: bool) -> nn.Module:
        """Return the 3x3, or the block that stands for it."""
        if not self.word:
            return self.layer(c, c, 3, s, act)
        return BRANCHES.make(self.word, c, s, _named_activation(self.act if act else None))

    def short(self, c1: int, c2: int, s: int) -> nn.Module:
        """Return the projected shortcut; variant d averages before its 1x1."""
        if self.variant != "d" or s == 1:
            return self.layer(c1, c2, 1, s, act=False)
        parts = {"pool": _halving_pool(), "conv": self.layer(c1, c2, 1, act=False)}
        return nn.Sequential(OrderedDict(parts))


def _halving_pool() -> nn.AvgPool2d:
    """A 2x2 average of the cells inside the map, at odd borders too."""
    return nn.AvgPool2d(2, 2, 0, ceil_mode=True, count_include_pad=False)


class _Basic(nn.Module):
    """Two 3x3, the sum with the shortcut, activation (ResNet-18, -34)."""

    expansion = 1

    def __init__(self, c1: int, c2: int, s: int, project: bool, options: _Options) -> None:
        super().__init__()
        self.short = options.short(c1, c2, s) if project else nn.Identity()
        self.branch2a = options.layer(c1, c2, 3, s)
        self.branch2b = options.branch2b(c2, 1, act=False)
        self.se = LinearGate(c2) if options.att else nn.Identity()
        self.act = _named_activation(options.act)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, ceil(H/s), ceil(W/s))."""
        return self.act(self.se(self.branch2b(self.branch2a(x))) + self.short(x))


class _BottleNeck(nn.Module):
    """1x1, 3x3, 1x1 to 4 c2, the sum with the shortcut, activation (ResNet-50 and deeper)."""

    expansion = 4

    def __init__(self, c1: int, c2: int, s: int, project: bool, options: _Options) -> None:
        super().__init__()
        first, second = (s, 1) if options.variant == "a" else (1, s)
        self.branch2a = options.layer(c1, c2, 1, first)
        self.branch2b = options.branch2b(c2, second, act=True)
        self.branch2c = options.layer(c2, c2 * self.expansion, 1, act=False)
        self.short = options.short(c1, c2 * self.expansion, s) if project else nn.Identity()
        self.se = LinearGate(c2 * self.expansion) if options.att else nn.Identity()
        self.act = _named_activation(options.act)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, 4 c2, ceil(H/s), ceil(W/s))."""
        y = self.branch2c(self.branch2b(self.branch2a(x)))
        return self.act(self.se(y) + self.short(x))


_INNER: Mapping[str, type[_Basic] | type[_BottleNeck]] = {"BasicBlock": _Basic, "BottleNeck": _BottleNeck}


def _inner_block(word: str) -> tuple[type[_Basic] | type[_BottleNeck], str]:
    """Split `BasicBlock_DCNv2` into the block and the word of its branch2b, '' for the plain 3x3."""
    base, _, branch = word.partition("_") if isinstance(word, str) else ("", "", "")
    cls = _INNER.get(base)
    if cls is None:
        raise ConfigError(f"Blocks: inner block {word!r}; write {' or '.join(_INNER)}, or either with _NAME of a block")
    return cls, branch


# ------------------------------------------------------------------------------------------------------------ stages
def _blocks_rule(row: RowContext) -> Plan:
    """Two row forms, by the type of the fourth argument; the channels are not scaled.

    `[ch, block, count, stage, act]`, and `[ch, block, stage, att]` with a bool and the count as the row's repeats:
    variant b with biased convolutions and ReLU.
    """
    if len(row.args) < 4:
        raise ValueError("Blocks needs [ch, block, count, stage, act] or, with repeats, [ch, block, stage, att]")
    ch, block = row.args[:2]
    if isinstance(ch, bool) or not isinstance(ch, int) or ch < 1:
        raise ValueError(f"Blocks: channels must be a positive integer, not {ch!r}")
    c2 = ch * _inner_block(block)[0].expansion
    if isinstance(row.args[3], bool):
        stage, att = row.args[2:4]
        return Plan((row.c1, ch, block, row.repeats, stage, "relu", "b", True, att), c2, repeats_inside=True)
    if len(row.args) > 5:
        raise ValueError(f"Blocks: no meaning is known for {list(row.args[5:])} after the activation; leave them out")
    return Plan((row.c1, *row.args), c2)


@register(
    _blocks_rule,
    row=("c2, block, count, stage, act: activation = 'relu', *, variant, bias, att", "c2, block, stage, att: bool"),
)
class Blocks(nn.Module):
    """A stage of `count` ResNet blocks; the first has stride 2 unless `stage` is 2, and always a projected shortcut.

    RT-DETR (arXiv 2304.08069), after "Bag of Tricks" (arXiv 1812.01187). `block` is `BasicBlock` (c2 channels) or
    `BottleNeck` (4 c2), or either with `_X`: branch2b is then the registered block X. `variant` a to d place the
    stride: a in the first convolution of a bottleneck, d averages in the shortcut. `att` adds squeeze-excitation.

    YAML `[ch, block, count, stage, act]`, or `[ch, block, stage, att]` with the count as the row's repeats: variant b
    with biased convolutions. ConfigError for an unknown block, variant, or a count below 1.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        block: str,
        count: int,
        stage: int,
        act: ActivationName = "relu",
        variant: str = "d",
        bias: bool = False,
        att: bool = False,
    ) -> None:
        super().__init__()
        if count < 1:
            raise ConfigError(f"Blocks: count={count} must be at least 1")
        if variant not in {"a", "b", "c", "d"}:
            raise ConfigError(f"Blocks: variant={variant!r}; write a, b, c or d")
        cls, word = _inner_block(block)
        options = _Options(act, variant, bias, att, word)
        out, s = c2 * cls.expansion, 1 if stage == 2 else 2
        rest = (cls(out, c2, 1, False, options) for _ in range(count - 1))
        self.blocks = nn.ModuleList([cls(c1, c2, s, True, options), *rest])

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2 * expansion, ceil(H/s), ceil(W/s)), s 1 in stage 2 and 2 elsewhere."""
        for block in self.blocks:
            x = block(x)
        return x
