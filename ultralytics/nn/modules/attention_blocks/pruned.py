"""Single-head attention in the form of forks, and attention that keeps the largest entries of each query (EPGO).

Shapes: B batch, C channels, H x W map of N cells, M heads, K query/key width, P attending channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ultralytics.nn.modules.csp import Attention
from ultralytics.nn.modules.shsa import SHSA
from ultralytics.nn.modules.utils import contiguous_gradient
from ultralytics.utils.errors import ConfigError

__all__ = ("EPGO", "PrunedSHSA", "SiLUSHSA")


def attend_to_largest(q: Tensor, k: Tensor, v: Tensor, scale: float, part: Tensor) -> Tensor:
    """softmax(q k^T * scale) v over the largest scores of each query; the others count as minus infinity.

    Args:
        q: (B, M, N, K).
        k: (B, M, N, K).
        v: (B, M, N, P).
        scale: Factor of the scores.
        part: (B,) in 0..1, the part of the N keys that each image keeps, rounded down, at least one. The number gets no
            gradient.
    """
    n = k.shape[2]
    scores = (q * scale) @ k.transpose(2, 3)  # (B, M, N, N)
    kept = (part.detach().float() * n).long().clamp(1, n)  # (B,)
    last = (kept - 1)[:, None, None, None].expand(*scores.shape[:3], 1)
    bound = scores.detach().sort(-1, descending=True).values.gather(3, last)
    return scores.masked_fill(scores < bound, -torch.inf).softmax(-1) @ v


def _gate(channels: int) -> nn.Sequential:
    """Return the layers that say for each cell which part of the keys to keep."""
    if channels < 2:
        raise ConfigError(f"EPGO needs at least 2 channels; the input has {channels}")
    return nn.Sequential(
        nn.Conv2d(channels, channels // 2, 1), nn.ReLU(inplace=True), nn.Conv2d(channels // 2, 1, 1), nn.Sigmoid()
    )


class EPGO(Attention):
    """Multi-head attention with a 3x3 of the values, whose queries keep the largest entries; a gate sets how many.

    Definition of forks. There the number is one for the whole batch; here each image has its own, so that an image
    gives the same result in any batch.
    """

    def __init__(self, channels: int, num_heads: int = 4) -> None:
        super().__init__(channels, num_heads)
        self.gate = _gate(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        qkv = contiguous_gradient(self.qkv(x)).unflatten(1, (self.num_heads, -1)).flatten(3)  # (B, M, 2K + P, N)
        q, k, v = qkv.split([self.key_dim, self.key_dim, self.head_dim], dim=2)
        part = self.gate(x).mean((1, 2, 3))
        y = attend_to_largest(q.transpose(2, 3), k.transpose(2, 3), v.transpose(2, 3), self.scale, part)
        return self.proj(y.transpose(2, 3).reshape(x.shape) + self.pe(v.reshape(x.shape)))


class SiLUSHSA(SHSA):
    """SHSA with SiLU before the projection, as forks have it; the official block has ReLU (arXiv 2401.16456, 3.2)."""

    def __init__(self, dim: int, qk_dim: int = 16, pdim: int | None = None) -> None:
        super().__init__(dim, qk_dim, pdim)
        self.proj[0] = nn.SiLU(inplace=True)


class PrunedSHSA(SiLUSHSA):
    """`SiLUSHSA` whose queries keep the largest entries, as in `EPGO`."""

    def __init__(self, dim: int, qk_dim: int = 16, pdim: int | None = None) -> None:
        super().__init__(dim, qk_dim, pdim)
        self.gate = _gate(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) -> the same shape."""
        first, rest = x.split([self.pdim, self.dim - self.pdim], dim=1)
        qkv = contiguous_gradient(self.qkv(self.pre_norm(first))).flatten(2).transpose(1, 2)[:, None]
        q, k, v = qkv.split([self.qk_dim, self.qk_dim, self.pdim], dim=3)  # (B, 1, N, K or P)
        y = attend_to_largest(q, k, v, self.qk_dim**-0.5, self.gate(x).mean((1, 2, 3)))
        y = y[:, 0].transpose(1, 2).reshape(first.shape)  # (B, P, H, W)
        return self.proj(torch.cat((y, rest), 1))
