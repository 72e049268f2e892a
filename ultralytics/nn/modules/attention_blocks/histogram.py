"""Dynamic-range histogram self-attention (DHSA) of Histoformer.

Shapes: B batch, C channels, H x W map of N cells, M heads, L = N / M cells of a bin, padded.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn.modules.attention_blocks.window import require_heads
from ultralytics.utils.errors import ConfigError

__all__ = ("DHSA",)


class DHSA(nn.Module):
    """Attention between bins of cells sorted by value; half of the channels are sorted in space before.

    Source: Sun et al., Histoformer, arXiv 2407.10172, section 3.3. Forks sort the map in place, so that a shortcut
    around the block gets the sorted map too: with `sorted_shortcut` the output holds the difference, and x + block(x)
    is what forks compute. The order of cells with nearly equal values depends on the precision: results of bfloat16 or
    float16 are not close to those of float32.
    """

    def __init__(self, channels: int, num_heads: int = 8, sorted_shortcut: bool = False) -> None:
        super().__init__()
        require_heads("DHSA", channels, num_heads)
        if channels % 2:
            raise ConfigError(f"DHSA needs an even number of channels; the input has {channels}")
        self.num_heads = num_heads
        self.sorted_shortcut = sorted_shortcut
        self.temperature = nn.Parameter(torch.ones(num_heads, 1, 1))
        self.qkv = nn.Conv2d(channels, channels * 5, 1, bias=False)
        self.qkv_dwconv = nn.Conv2d(channels * 5, channels * 5, 3, padding=1, groups=channels * 5, bias=False)
        self.project_out = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        first, second = x.chunk(2, 1)
        first, by_row = first.sort(dim=2)
        first, by_column = first.sort(dim=3)
        ordered = torch.cat((first, second), 1)
        q1, k1, q2, k2, v = self.qkv_dwconv(self.qkv(ordered)).flatten(2).chunk(5, 1)  # each (B, C, N)
        v, order = v.sort(dim=2)
        q1, k1, q2, k2 = (t.gather(2, order) for t in (q1, k1, q2, k2))
        y = self._attend(q1, k1, v, strided=False) * self._attend(q2, k2, v, strided=True)
        y = self.project_out(_unsorted(y, order, 2).reshape(x.shape))
        first, second = y.chunk(2, 1)
        y = torch.cat((_unsorted(_unsorted(first, by_column, 3), by_row, 2), second), 1)
        return y + (ordered - x) if self.sorted_shortcut else y

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, strided: bool) -> Tensor:
        """Attention (B, C, N) between the bins of each head: neighbours in the order, or every M-th cell."""
        n = q.shape[2]
        q, k, v = (self._bins(t, strided) for t in (q, k, v))
        scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(2, 3) * self.temperature
        probs = F.pad(scores, (0, 1)).softmax(-1)[..., :-1]  # a score of 0 beside: + 1 in the denominator
        y = (probs @ v).unflatten(2, (-1, self.num_heads))  # (B, M, C/M, M, L)
        y = y.transpose(3, 4) if strided else y
        return y.flatten(3).flatten(1, 2)[..., :n]  # (B, C, N)

    def _bins(self, x: Tensor, strided: bool) -> Tensor:
        """(B, C, N) -> (B, M, C/M * M, L), zeros behind the cells."""
        x = F.pad(x, (0, -x.shape[2] % self.num_heads)).unflatten(1, (self.num_heads, -1))  # (B, M, C/M, N)
        if strided:
            return x.unflatten(3, (-1, self.num_heads)).transpose(3, 4).flatten(2, 3)
        return x.unflatten(3, (self.num_heads, -1)).flatten(2, 3)


def _unsorted(x: Tensor, order: Tensor, dim: int) -> Tensor:
    """Undo `sort` by its indices."""
    return torch.zeros_like(x).scatter(dim, order, x)
