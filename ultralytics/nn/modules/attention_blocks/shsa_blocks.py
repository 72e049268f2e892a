"""Blocks of forks around single-head attention: SHSABlock and the cross-stage C2f_SHSA family.

Shapes: B batch, C channels, H x W map. Every map is (B, C, H, W).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ultralytics.nn.modules.attention_blocks.pruned import PrunedSHSA, SiLUSHSA
from ultralytics.nn.modules.csp import C2f
from ultralytics.nn.modules.shsa import FFN, Conv2d_BN
from ultralytics.nn.registry import REGISTRY, channels_first, register, scaled_repeat
from ultralytics.utils.errors import ConfigError

__all__ = ("C2f_SHSA", "C2f_SHSA_CGLU", "C2f_SHSA_EPGO", "C2f_SHSA_EPGO_CGLU", "SHSABlock")


class _Shortcut(nn.Module):
    """x + fn(x)."""

    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        return x + self.fn(x)

    @torch.no_grad()
    def fuse(self) -> nn.Module:
        """Return the depth-wise 3x3 with the identity in its kernel, else this block."""
        if not isinstance(self.fn, Conv2d_BN):
            return self
        conv = self.fn.fuse()
        conv.weight[:, :, 1, 1] += 1  # (C, 1, 3, 3): a kernel with a one in the middle copies its input
        return conv


def gated_mlp(channels: int, hidden: int) -> nn.Module:
    """Return the registered `ConvolutionalGLU`; it holds a shortcut of its own.

    Raises:
        ConfigError: no block of that name is registered.
    """
    entry = REGISTRY.get("ConvolutionalGLU")
    if entry is None:
        raise ConfigError("the block ConvolutionalGLU is not registered; import ultralytics.nn.modules first")
    block: nn.Module = entry.cls(channels, hidden)
    return block


@register(channels_first)
class SHSABlock(nn.Module):
    """Depth-wise 3x3, single-head attention with SiLU, feed-forward part; each with a shortcut.

    After SHViT (arXiv 2401.16456, section 3.3), in the form of forks; YAML `[qk_dim, pdim, pruned, cglu]`. With
    `pruned` queries keep their largest entries (EPGO); with `cglu` the last part is a ConvolutionalGLU. Without it the
    block starts as the identity.
    """

    def __init__(self, dim: int, qk_dim: int = 16, pdim: int = 32, pruned: bool = False, cglu: bool = False) -> None:
        super().__init__()
        self.conv = _Shortcut(Conv2d_BN(dim, dim, 3, 1, 1, groups=dim, bn_weight_init=0))
        self.mixer = _Shortcut((PrunedSHSA if pruned else SiLUSHSA)(dim, qk_dim, pdim))
        if cglu:
            self.ffn = gated_mlp(dim, dim * 2)
            return
        self.ffn = _Shortcut(FFN(dim, dim * 2, nn.SiLU))

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) -> the same shape."""
        return self.ffn(self.mixer(self.conv(x)))


@register(scaled_repeat)
class C2f_SHSA(C2f):
    """C2f whose n members are `SHSABlock`s of width c2 * e; that must hold the 32 (64 with CGLU) attending channels.

    YAML `[c2, shortcut, g, e]`; shortcut and g have no effect on these members and must stay at their defaults.
    """

    pdim, pruned, cglu = 32, False, False

    def __init__(self, c1: int, c2: int, n: int = 1, shortcut: bool = False, g: int = 1, e: float = 0.5) -> None:
        name = type(self).__name__
        if g != 1:
            raise ConfigError(f"{name}: g={g} has no effect on single-head attention; leave it at 1")
        if int(c2 * e) < self.pdim:
            raise ConfigError(
                f"{name}: width {int(c2 * e)} (c2={c2} times e={e}) is below its {self.pdim} attending channels; "
                f"give c2 of at least {int(self.pdim / e)}"
            )
        super().__init__(c1, c2, n, shortcut, g, e)
        self.m = nn.ModuleList(SHSABlock(self.c, 16, self.pdim, self.pruned, self.cglu) for _ in range(n))


@register(scaled_repeat)
class C2f_SHSA_CGLU(C2f_SHSA):
    """`C2f_SHSA` with ConvolutionalGLU as the feed-forward part, 64 attending channels."""

    pdim, cglu = 64, True


@register(scaled_repeat)
class C2f_SHSA_EPGO(C2f_SHSA):
    """`C2f_SHSA` whose queries keep their largest entries."""

    pruned = True


@register(scaled_repeat)
class C2f_SHSA_EPGO_CGLU(C2f_SHSA_CGLU):
    """`C2f_SHSA_EPGO` with ConvolutionalGLU as the feed-forward part."""

    pruned = True
