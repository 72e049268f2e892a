"""Attention of linear cost: efficient additive attention and polarity-aware linear attention.

Shapes: B batch, C channels, H x W map of N cells, M heads of width D.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn.modules.attention_blocks.window import require_heads
from ultralytics.nn.modules.utils import at_least_float32
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.torch_tools.reproducible import interpolate_bilinear

__all__ = ("EfficientAdditiveAttention", "PolaAttention", "resized_positions")


def resized_positions(table: Tensor, h: int, w: int) -> Tensor:
    """Return a table of positions (1, P, C) for the cells of an h x w map, (1, h*w, C).

    A table of h*w rows is taken as it is, row by row; a square one is resized bilinearly for other maps.

    Raises:
        ConfigError: neither holds.
    """
    count = table.shape[1]
    if count == h * w:
        return table
    side = int(count**0.5)
    if side * side != count:
        raise ConfigError(
            f"a table of {count} positions fits neither a map of {h}x{w} cells nor any square one; build it with "
            f"{h * w} positions"
        )
    square = at_least_float32(table).transpose(1, 2).unflatten(2, (side, side))  # (1, C, side, side)
    square = interpolate_bilinear(square, (h, w))
    return square.flatten(2).transpose(1, 2).to(table.dtype)


class EfficientAdditiveAttention(nn.Module):
    """Each key is multiplied by one weighted sum of all queries (Shaker et al., SwiftFormer, 2303.15446, sec. 3.2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.w_g = nn.Parameter(torch.randn(channels, 1))
        self.scale = channels**-0.5
        self.to_query = nn.Linear(channels, channels)
        self.to_key = nn.Linear(channels, channels)
        self.Proj = nn.Linear(channels, channels)
        self.final = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        tokens = x.flatten(2).transpose(1, 2)  # (B, N, C)
        query = F.normalize(self.to_query(tokens), dim=-1)
        key = F.normalize(self.to_key(tokens), dim=-1)
        weights = F.normalize((query @ self.w_g) * self.scale, dim=1)  # (B, N, 1)
        context = (weights * query).sum(1, keepdim=True)  # (B, 1, C)
        y = self.final(self.Proj(context * key) + query)
        return y.transpose(1, 2).reshape(x.shape)  # (B, C, H, W)


class PolaAttention(nn.Module):
    """Linear attention on powers of the positive and negative parts of queries and keys, gated.

    Source: Meng et al., PolaFormer, arXiv 2501.15061, section 4. `positions` is a table for a square map, resized for
    other maps.
    """

    def __init__(self, channels: int, num_heads: int = 8, positions: int = 400, alpha: float = 4.0) -> None:
        super().__init__()
        require_heads("PolaAttention", channels, num_heads)
        width = channels // num_heads
        if width % 2:
            raise ConfigError(f"PolaAttention: {channels} channels of {num_heads} heads must give an even width")
        self.num_heads, self.alpha = num_heads, alpha
        self.power = nn.Parameter(torch.zeros(1, num_heads, 1, width))
        self.scale = nn.Parameter(torch.zeros(1, 1, channels))
        self.positional_encoding = nn.Parameter(torch.zeros(1, positions, channels))
        self.qg = nn.Linear(channels, 2 * channels, bias=False)
        self.kv = nn.Linear(channels, 2 * channels, bias=False)
        self.proj = nn.Linear(channels, channels)
        self.dwc = nn.Conv2d(width, width, 5, padding=2, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        b, c, h, w = x.shape
        tokens = x.flatten(2).transpose(1, 2)  # (B, N, C)
        q, gate = self.qg(tokens).chunk(2, -1)
        k, v = self.kv(tokens).chunk(2, -1)
        k = k + resized_positions(self.positional_encoding, h, w)
        scale = F.softplus(self.scale)
        q, k, v = (t.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for t in (q / scale, k / scale, v))
        y = self._attend(q, k, v).transpose(1, 2).flatten(2)  # (B, N, C)
        maps = v.transpose(2, 3).reshape(b * self.num_heads, -1, h, w)  # (B*M, D, H, W)
        y = y + self.dwc(maps).reshape(b, c, h * w).transpose(1, 2)
        return self.proj(y * gate).transpose(1, 2).reshape(x.shape)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Linear attention of tokens (B, M, N, D): like signs for one half of the values, opposite for the other."""
        n = q.shape[2]
        power = 1 + self.alpha * self.power.sigmoid()
        q_pos, q_neg = q.relu() ** power, (-q).relu() ** power
        keys = torch.cat((k.relu() ** power, (-k).relu() ** power), -1)  # (B, M, N, 2D)
        mean_key = keys.mean(2)[..., None]  # (B, M, 2D, 1)
        outputs = []
        for parts, values in zip(((q_pos, q_neg), (q_neg, q_pos)), v.chunk(2, -1), strict=True):
            query = torch.cat(parts, -1)  # (B, M, N, 2D)
            outputs.append(query @ (keys.transpose(2, 3) @ (values / n)) / (query @ mean_key + 1e-6))
        return torch.cat(outputs, -1)
