"""Deformable attention of DAT: all queries read keys and values at positions that the map itself moves.

Shapes: B batch, C channels, H x W map, G groups, M heads.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn.modules.attention_blocks.window import require_heads
from ultralytics.nn.modules.utils import at_least_float32
from ultralytics.utils.ops import constant_like
from ultralytics.utils.torch_tools.reproducible import grid_sample

__all__ = ("DAttention",)

OFFSET_RANGE = 4.0
"""Largest move of a position, in cells."""


class _CellNorm(nn.Module):
    """Layer norm over the channels of each cell."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class DAttention(nn.Module):
    """Attention to sampled positions, and a depth-wise 3x3 of the queries (Xia et al., DAT, 2201.00520, section 3.2).

    As in the authors' code the last reference positions lie half a cell beyond the map, where samples fade to zero.
    """

    def __init__(self, channels: int, num_heads: int = 8, groups: int = 4) -> None:
        super().__init__()
        require_heads("DAttention", channels, num_heads)
        require_heads("DAttention groups", channels, groups)
        self.num_heads, self.groups = num_heads, groups
        width = channels // groups
        self.conv_offset = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, groups=width),
            _CellNorm(width),
            nn.GELU(),
            nn.Conv2d(width, 2, 1, bias=False),
        )
        self.proj_q = nn.Conv2d(channels, channels, 1)
        self.proj_k = nn.Conv2d(channels, channels, 1)
        self.proj_v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)
        self.rpe_table = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        query = self.proj_q(x)
        positions = self._positions(query)  # (B*G, H, W, 2)
        values = at_least_float32(self._grouped(x))
        sampled = grid_sample(values, positions, align_corners=True).to(x.dtype)
        sampled = sampled.reshape(x.shape)
        q, k, v = (
            t.unflatten(1, (self.num_heads, -1)).flatten(3).transpose(2, 3)  # (B, M, H*W, C/M)
            for t in (query, self.proj_k(sampled), self.proj_v(sampled))
        )
        y = F.scaled_dot_product_attention(q, k, v).transpose(2, 3).reshape(x.shape)
        return self.proj_out(y + self.rpe_table(query))

    def _grouped(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B*G, C/G, H, W)."""
        return x.reshape(-1, x.shape[1] // self.groups, *x.shape[2:])

    def _positions(self, query: Tensor) -> Tensor:
        """Return x and y of the sampled positions of each group, (B*G, H, W, 2), -1..1 from first to last cell."""
        last = [max(n - 1, 1) for n in query.shape[2:]]  # a map of one cell has no distance to divide by
        reach = constant_like([OFFSET_RANGE / n for n in last], at_least_float32(query))[:, None, None]
        offsets = at_least_float32(self.conv_offset(self._grouped(query))).tanh() * reach  # (B*G, 2, H, W): y, x
        axes = [
            (torch.arange(n, device=query.device, dtype=offsets.dtype) + 0.5) / (end * 0.5) - 1
            for n, end in zip(query.shape[2:], last, strict=True)
        ]
        reference = torch.stack(torch.meshgrid(*axes, indexing="ij"))  # (2, H, W)
        return (offsets + reference).flip(1).permute(0, 2, 3, 1)
