"""Attention and feed-forward parts of an encoder layer by name.

Every part maps (B, C, H, W) to the same shape. A name is one of the tables below, or any registered block that keeps
its channels and takes one map.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from torch import nn

from ultralytics.nn.modules.attention_blocks.histogram import DHSA
from ultralytics.nn.modules.attention_blocks.linear import EfficientAdditiveAttention, PolaAttention
from ultralytics.nn.modules.attention_blocks.pruned import EPGO, PrunedSHSA, SiLUSHSA
from ultralytics.nn.modules.attention_blocks.sampled import DAttention
from ultralytics.nn.modules.attention_blocks.shsa_blocks import gated_mlp
from ultralytics.nn.modules.attention_blocks.window import HiLo, LocalWindowAttention
from ultralytics.nn.modules.shsa import SHSA
from ultralytics.nn.registry import REGISTRY, RowContext
from ultralytics.utils.errors import ConfigError

__all__ = ("ATTENTIONS", "MLPS", "AttentionForm", "build_mlp", "find_attention")


class AttentionForm(NamedTuple):
    """How to build an attention from channels and heads, and the name that forks give it in the state dict."""

    build: Callable[[int, int], nn.Module]
    key: str


def _fork_shsa(kind: type[SiLUSHSA]) -> Callable[[int, int], nn.Module]:
    """A quarter of the channels attends, with queries of half the width."""
    return lambda channels, heads: kind(channels, channels // 2, channels // 4)


ATTENTIONS: Mapping[str, AttentionForm] = MappingProxyType(
    {
        "DAttention": AttentionForm(DAttention, "DAttention"),
        "EfficientAdditiveAttention": AttentionForm(lambda c, heads: EfficientAdditiveAttention(c), "effaddattention"),
        "Additive": AttentionForm(lambda c, heads: EfficientAdditiveAttention(c), "effaddattention"),
        "DHSA": AttentionForm(DHSA, "additivetoken"),
        "SortedDHSA": AttentionForm(lambda c, heads: DHSA(c, heads, sorted_shortcut=True), "additivetoken"),
        "HiLo": AttentionForm(HiLo, "HiLo"),
        "Pola": AttentionForm(PolaAttention, "pola_attention"),
        "LocalWindowAttention": AttentionForm(
            lambda c, heads: LocalWindowAttention(c, num_heads=heads), "local_windows_attention"
        ),
        "SHSA": AttentionForm(lambda c, heads: SHSA(c), "attn"),
        "ForkSHSA": AttentionForm(_fork_shsa(SiLUSHSA), "attn"),
        "EPGO": AttentionForm(EPGO, "attn"),
        "SHSA_EPGO": AttentionForm(_fork_shsa(PrunedSHSA), "attn"),
    }
)
"""Name -> form. `SHSA` and `DHSA` are the official blocks, `ForkSHSA` and `SortedDHSA` those of forks."""

MLPS: Mapping[str, Callable[[int, int], nn.Module]] = MappingProxyType({"CGLU": gated_mlp})
"""Name -> builder from channels and hidden width; the plain feed-forward part `FFN` is the layer's own."""


def find_attention(name: str) -> AttentionForm:
    """Return the form of a name.

    Raises:
        ConfigError: neither the table nor the registry has it.
    """
    if name in ATTENTIONS:
        return ATTENTIONS[name]
    if name in REGISTRY:
        return AttentionForm(lambda channels, heads: _registered(name, channels), "attn")
    known = ", ".join(ATTENTIONS)
    raise ConfigError(f"attention={name!r} is not known; choose {known}, or a registered block that keeps its channels")


def build_mlp(name: str, channels: int, hidden: int) -> nn.Module:
    """Return the feed-forward part of a name.

    Raises:
        ConfigError: neither the table nor the registry has it.
    """
    if name in MLPS:
        return MLPS[name](channels, hidden)
    if name in REGISTRY:
        return _registered(name, channels)
    known = ", ".join(("FFN", *MLPS))
    raise ConfigError(f"mlp={name!r} is not known; choose {known}, or a registered block that keeps its channels")


def _registered(name: str, channels: int) -> nn.Module:
    """Build a registered block as a row without arguments would; it must keep the channels of its one input."""
    entry = REGISTRY.get(name)
    if entry is None or entry.rule is None or entry.multi_input or entry.is_head:
        raise ConfigError(f"{name} cannot be a part of an encoder layer: it needs one input and a channel rule")
    try:
        plan = entry.rule(RowContext((channels,)))
    except IndexError:
        raise ConfigError(f"{name} cannot be a part of an encoder layer: its row needs arguments") from None
    if plan.out_channels != channels:
        raise ConfigError(
            f"{name} cannot be a part of an encoder layer: it makes {plan.out_channels} channels of {channels}"
        )
    block: nn.Module = entry.cls(*plan.args)
    return block
