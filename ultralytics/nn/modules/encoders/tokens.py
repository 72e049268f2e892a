"""AIFI with another position embedding or another norm: the layer on tokens stays.

Shapes: B batch, N tokens, D width, H x W map.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ultralytics.nn.modules.attention_blocks.linear import resized_positions
from ultralytics.nn.modules.transformer import AIFI, LayerActivation
from ultralytics.nn.registry import channels_first, register
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.torch_utils import bn_affine

__all__ = ("AIFI_LPE", "AIFI_RepBN")


class _PositionTable(nn.Module):
    """A learned embedding of each place."""

    position_ids: Tensor

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.register_buffer("position_ids", torch.arange(count)[None])
        self.pe = nn.Embedding(count, width)

    def forward(self) -> Tensor:
        """Return the table (1, count, width)."""
        return self.pe(self.position_ids)


@register(channels_first)
class AIFI_LPE(AIFI):
    """AIFI with a learned table in place of the sine-cosine embedding; definition of forks. YAML `[cm, heads, tokens]`.

    The table holds the cells of one map, row by row; one of a square map is resized for other maps.
    """

    def __init__(
        self,
        c1: int,
        cm: int = 2048,
        num_heads: int = 8,
        tokens: int = 400,
        dropout: float = 0.0,
        act: LayerActivation = None,
        normalize_before: bool = False,
    ) -> None:
        super().__init__(c1, cm, num_heads, dropout, act, normalize_before)
        if tokens < 1:
            raise ConfigError(f"AIFI_LPE: tokens={tokens} must be at least 1, the cells of the map that it gets")
        self.LPE = _PositionTable(tokens, c1)

    def _positions(self, w: int, h: int, dim: int, like: Tensor) -> Tensor:
        """Return the table for the map, (1, H*W, D)."""
        return resized_positions(self.LPE(), h, w).to(like.dtype)


class TokenAffine(nn.Module):
    """A fixed factor and shift of each channel: what a batch norm is in eval mode."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> the same shape."""
        return x * self.weight + self.bias


class _RepBN(nn.Module):
    """Batch norm plus a learned multiple of its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1))
        self.bn = nn.BatchNorm1d(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> the same shape."""
        return self.bn(x.transpose(1, 2)).transpose(1, 2) + self.alpha * x


class LinearNorm(nn.Module):
    """A layer norm that becomes a batch norm in the course of training (Guo et al., SLAB, 2405.11582, section 3.2).

    In training the layer norm counts with a factor that goes from 1 to 0 over `steps` forwards; `warm` of them come
    first, with the layer norm alone. In eval mode the batch norm counts alone, also right after construction.
    """

    warm: Tensor
    iter: Tensor
    total_step: Tensor

    def __init__(self, width: int, warm: int = 0, steps: int = 60_000) -> None:
        super().__init__()
        self.register_buffer("warm", torch.tensor(warm))
        self.register_buffer("iter", torch.tensor(steps))
        self.register_buffer("total_step", torch.tensor(steps))
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = _RepBN(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> the same shape."""
        if not self.training:
            return self.norm2(x)
        warming = self.warm > 0
        part = torch.where(warming, 1.0, self.iter / self.total_step)  # stays on the device: no synchronisation
        y = part * self.norm1(x) + (1 - part) * self.norm2(x)
        self.iter.sub_((~warming).to(self.iter.dtype)).clamp_(min=0)
        self.warm.sub_(1).clamp_(min=0)
        return y.to(x.dtype)

    @torch.no_grad()
    def fuse(self) -> nn.Module:
        """Return the factor and shift that the norm is in eval mode."""
        scale, shift = bn_affine(self.norm2.bn)
        return TokenAffine(scale + self.norm2.alpha, shift)


@register(channels_first)
class AIFI_RepBN(AIFI):
    """AIFI whose norms are `LinearNorm`; batch norms are free at inference. YAML `[cm, heads]`."""

    def __init__(
        self,
        c1: int,
        cm: int = 2048,
        num_heads: int = 8,
        dropout: float = 0.0,
        act: LayerActivation = None,
        normalize_before: bool = False,
    ) -> None:
        super().__init__(c1, cm, num_heads, dropout, act, normalize_before)
        self.norm1 = LinearNorm(c1)  # type: ignore[assignment]
        self.norm2 = LinearNorm(c1)  # type: ignore[assignment]
