"""One cross-stage row from named parts, in place of a class for each combination.

`CSP, [256, block=Faster, attention=EMA, mlp=CGLU]`: each part is a name of a table below or a registered block that
keeps its channels. Shapes: B batch, C channels, H x W map.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import Tensor, nn

from ultralytics.nn.modules.attention_blocks import SHSABlock
from ultralytics.nn.modules.convolutions import Faster_Block
from ultralytics.nn.modules.csp import C2f, Member
from ultralytics.nn.modules.encoders.forms import build_mlp, find_attention
from ultralytics.nn.registry import REGISTRY, Plan, RowContext, register, scaled_repeat
from ultralytics.utils.errors import ConfigError

__all__ = ("BLOCK_NAMES", "CSP", "same_width_block")

BLOCK_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "Faster": "Faster_Block",
        "SHSA": "SHSABlock",
        "Star": "Star_Block",
        "Star_CAA": "Star_Block_CAA",
        "PKI": "PKIModule",
        "DBB": "DiverseBranchBlock",
        "DRB": "DilatedReparamBlock",
        "UniRepLKNet": "UniRepLKNetBlock",
        "ContextGuided": "ContextGuidedBlock",
    }
)
"""Short names of blocks, as the names of cross-stage rows (`C2f_Faster`) have them."""

HEAD_WIDTH = 32  # channels of an attention head, for attentions that have a choice
SHSA_CGLU_WIDTH = 64  # attending channels of SHSABlock with a gated unit, as in C2f_SHSA_CGLU


def same_width_block(name: str, c: int) -> nn.Module:
    """Build a block by its registered or short name with c channels in and out, as a row with its defaults would.

    Raises:
        ConfigError: The block is not registered, takes several inputs, needs more arguments, or cannot keep c channels.
    """
    full = BLOCK_NAMES.get(name, name)
    entry = REGISTRY.get(full)
    if entry is None:
        near = ", ".join(REGISTRY.nearest(full)) or ", ".join(BLOCK_NAMES)
        raise ConfigError(f"block={name!r} is not registered; near names: {near}")
    if entry.multi_input or entry.is_head or entry.rule is None:
        raise ConfigError(f"block={name!r} cannot be a part: it needs one input and a channel rule")
    # blocks that keep their channels take none, others name them, some a kernel too
    plan = entry.first_plan(c, ((), (c,), (c, 3)))
    if plan is None or plan.out_channels not in (-1, c):
        made = "needs more arguments" if plan is None else f"makes {plan.out_channels} channels"
        raise ConfigError(f"block={name!r} {made} where {c} are needed; widths are multiples of 8")
    block: nn.Module = entry.cls(*plan.args)
    return block


class _FeedForward(nn.Module):
    """x plus two 1x1 convolutions with GELU between them."""

    def __init__(self, c: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(c, hidden, 1)
        self.act = nn.GELU()
        self.fc2 = nn.Conv2d(hidden, c, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        return x + self.fc2(self.act(self.fc1(x)))


def _attention(name: str) -> Member:
    return lambda c: find_attention(name).build(c, max(c // HEAD_WIDTH, 1))


def _mlp(name: str) -> Member:
    if name == "FFN":
        return lambda c: _FeedForward(c, 2 * c)
    return lambda c: build_mlp(name, c, c)


def _faster(c: int, attention: str | None, mlp: str | None) -> nn.Module:
    """The FasterNet block holds its parts: the MLP in place of its own, the attention behind it."""
    parts = (_mlp(mlp) if mlp else None, _attention(attention) if attention else None)
    return Faster_Block(c, c, mlp=parts[0], attention=parts[1])


def _chain(name: str, c: int, attention: str | None, mlp: str | None) -> nn.Module:
    """A block, then the attention, then the feed-forward part."""
    parts = [same_width_block(name, c)]
    parts += [_attention(attention)(c)] if attention else []
    parts += [_mlp(mlp)(c)] if mlp else []
    return parts[0] if len(parts) == 1 else nn.Sequential(*parts)


def _shsa(c: int, attention: str | None, mlp: str | None) -> nn.Module:
    """The SHSA block holds a gated unit in place of its feed-forward part; other parts follow it."""
    if mlp != "CGLU" or attention:
        return _chain("SHSA", c, attention, mlp)
    return SHSABlock(c, 16, SHSA_CGLU_WIDTH, False, True)


COMPOSED: Mapping[str, Callable[[int, str | None, str | None], nn.Module]] = MappingProxyType(
    {"Faster": _faster, "Faster_Block": _faster, "SHSA": _shsa, "SHSABlock": _shsa}
)
"""Blocks that put an attention or feed-forward part inside of themselves."""


def _csp_rule(row: RowContext) -> Plan:
    """`[c2, block=..., ...]` -> (c1, c2 scaled, n, ...): n is the row's repeats unless `n=` is given."""
    plan = scaled_repeat(row)
    keywords = dict(row.kwargs)
    c1, c2, repeats, *rest = plan.args
    return Plan((c1, c2, keywords.pop("n", repeats), *rest), plan.out_channels, True, keywords)


@register(_csp_rule, row="c2, block, attention, mlp, e, *, n")
class CSP(C2f):
    """C2f whose members are composed by name: a block, an attention and a feed-forward part.

    `block=Faster, attention=EMA` is C2f_Faster_EMA, `block=Faster, mlp=CGLU` C2f_Faster_CGLU, `block=SHSA` C2f_SHSA,
    `block=SHSA, mlp=CGLU` C2f_SHSA_CGLU. In FasterNet blocks the parts sit inside; behind other blocks they follow.
    YAML `[c2, block=..., attention=..., mlp=..., n=..., e=...]`.

    Args:
        c1: Input channels.
        c2: Output channels.
        n: Members; in a row the repeats, or `n=`.
        block: A name of `BLOCK_NAMES`, or a registered block that keeps its channels.
        attention: A name of `encoders.forms.ATTENTIONS`, or a registered block; None for none.
        mlp: `FFN`, `CGLU` or a registered block; None for none.
        e: Inner width as a part of c2.

    Raises:
        ConfigError: A part is unknown or cannot have the inner width.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        n: int = 1,
        block: str = "Bottleneck",
        attention: str | None = None,
        mlp: str | None = None,
        e: float = 0.5,
    ) -> None:
        compose = COMPOSED.get(block)

        def member(c: int) -> nn.Module:
            return _chain(block, c, attention, mlp) if compose is None else compose(c, attention, mlp)

        super().__init__(c1, c2, n, e=e, member=member)
