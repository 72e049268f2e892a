"""Attention inside windows and between regions: cascaded group attention, bi-level routing, HiLo.

Shapes: B batch, C channels, H x W map, M heads, R windows of T cells, K query/key width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn.modules.attention_blocks.partition import from_windows, to_windows, window_mask
from ultralytics.nn.modules.shsa import Conv2d_BN
from ultralytics.nn.modules.utils import ceil_div, contiguous_gradient, sym_min
from ultralytics.nn.registry import channels_first, register
from ultralytics.utils.errors import ConfigError

__all__ = ("BiLevelRoutingAttention_nchw", "HiLo", "LocalWindowAttention")


def require_heads(name: str, channels: int, heads: int) -> None:
    """Raise ConfigError when the heads do not divide the channels."""
    if heads < 1 or channels % heads:
        raise ConfigError(f"{name}: {channels} channels are not divisible by {heads} heads; give a divisor")


def distance_numbers(window: int) -> Tensor:
    """Return for each pair of cells of a window the number of its distances |rows|, |columns|: (w*w, w*w).

    >>> distance_numbers(2)[0].tolist()
    [0, 1, 2, 3]
    """
    cells = torch.cartesian_prod(torch.arange(window), torch.arange(window))  # (w*w, 2)
    gap = (cells[:, None] - cells).abs()  # (w*w, w*w, 2)
    return gap[..., 0] * window + gap[..., 1]


class CascadedGroupAttention(nn.Module):
    """Heads on parts of the channels, each fed with the result of the one before (EfficientViT, 2305.07027, sec. 3.1).

    The last batch norm starts at zero. The bias table is read in every call, so weights loaded in eval mode count.
    """

    attention_bias_idxs: Tensor

    def __init__(self, channels: int, key_dim: int, num_heads: int, window: int) -> None:
        super().__init__()
        width = channels // num_heads
        self.key_dim = key_dim
        self.attention_biases = nn.Parameter(torch.zeros(num_heads, window * window))
        self.register_buffer("attention_bias_idxs", distance_numbers(window))
        self.qkvs = nn.ModuleList(Conv2d_BN(width, 2 * key_dim + width) for _ in range(num_heads))
        self.dws = nn.ModuleList(Conv2d_BN(key_dim, key_dim, 5, 1, 2, groups=key_dim) for _ in range(num_heads))
        self.proj = nn.Sequential(nn.ReLU(), Conv2d_BN(channels, channels, bn_weight_init=0))

    def forward(self, x: Tensor) -> Tensor:
        """Windows (B, C, w, w) -> the same shape."""
        biases = self.attention_biases[:, self.attention_bias_idxs]  # (M, T, T)
        outputs: list[Tensor] = []
        for chunk, qkv, dw, bias in zip(x.chunk(len(self.qkvs), 1), self.qkvs, self.dws, biases, strict=True):
            y = chunk + outputs[-1] if outputs else chunk
            q, k, v = contiguous_gradient(qkv(y)).split([self.key_dim, self.key_dim, chunk.shape[1]], 1)
            q = contiguous_gradient(dw(q))
            q, k, v = (t.flatten(2).transpose(1, 2)[:, None] for t in (q, k, v))  # (B, 1, T, K)
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype), scale=self.key_dim**-0.5)
            outputs.append(y[:, 0].transpose(1, 2).reshape(chunk.shape))  # (B, C/M, w, w)
        return contiguous_gradient(self.proj(torch.cat(outputs, 1)))


@register(channels_first)
class LocalWindowAttention(nn.Module):
    """Cascaded group attention in windows of a map; zeros fill the windows at its right and lower border.

    Source: Liu et al., EfficientViT, arXiv 2305.07027, section 3.1. YAML `[key_dim, heads, window]`. It starts by
    returning zeros: put it into a residual.
    """

    def __init__(self, channels: int, key_dim: int = 16, num_heads: int = 4, window_resolution: int = 7) -> None:
        super().__init__()
        require_heads("LocalWindowAttention", channels, num_heads)
        if key_dim < 1 or window_resolution < 1:
            raise ConfigError(f"LocalWindowAttention: key_dim={key_dim}, window={window_resolution} must be at least 1")
        self.window = window_resolution
        self.attn = CascadedGroupAttention(channels, key_dim, num_heads, window_resolution)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        windows = to_windows(x, self.window, self.window)  # (B, R, C, w, w)
        y = self.attn(windows.flatten(0, 1)).unflatten(0, windows.shape[:2])
        return from_windows(y, x.shape[2], x.shape[3])


@register(channels_first)
class BiLevelRoutingAttention_nchw(nn.Module):
    """Each region attends to the cells of the regions that fit it best (Zhu et al., BiFormer, 2303.08810, sec. 3.2).

    YAML `[heads, n_win, qk_scale, topk, side_dwconv]`. The map is cut into n_win x n_win regions of one size; cells
    of a region beyond the map are masked; a map of fewer cells has fewer regions. Routing gets no gradient.
    `side_dwconv` is the kernel of the depth-wise convolution of the values that is added; 0 for none.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        n_win: int = 7,
        qk_scale: float | None = None,
        topk: int = 4,
        side_dwconv: int = 3,
    ) -> None:
        super().__init__()
        require_heads("BiLevelRoutingAttention_nchw", dim, num_heads)
        if n_win < 1:
            raise ConfigError(f"BiLevelRoutingAttention_nchw: n_win={n_win} must be at least 1")
        if not 1 <= topk <= n_win**2:
            raise ConfigError(
                f"BiLevelRoutingAttention_nchw: topk={topk} must be 1 to {n_win**2}, the number of regions"
            )
        if side_dwconv != 0 and (side_dwconv < 0 or side_dwconv % 2 == 0):
            raise ConfigError(
                f"BiLevelRoutingAttention_nchw: side_dwconv={side_dwconv} must be an odd kernel, or 0 for no "
                "depth-wise convolution"
            )
        self.num_heads, self.n_win, self.topk = num_heads, n_win, topk
        self.scale = qk_scale or dim**-0.5
        self.lepe = nn.Conv2d(dim, dim, side_dwconv, padding=side_dwconv // 2, groups=dim) if side_dwconv else None
        self.qkv_linear = nn.Conv2d(dim, 3 * dim, 1)
        self.output_linear = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        height, width = x.shape[2:]
        h, w = ceil_div(height, self.n_win), ceil_div(width, self.n_win)
        qkv = self.qkv_linear(x)
        q, k, v = to_windows(qkv, h, w).flatten(3).transpose(2, 3).chunk(3, 3)  # (B, R, T, C)
        mask = window_mask(height, width, h, w, x.device)  # (R, T)
        chosen = self._route(q.detach(), k.detach(), mask)  # (B, R, topk)
        k, v = self._gather(k, chosen), self._gather(v, chosen)  # (B, R, topk*T, C)
        allowed = None if mask is None else mask[chosen].flatten(2)[:, :, None, None]  # (B, R, 1, 1, topk*T)
        q, k, v = (t.unflatten(3, (self.num_heads, -1)).transpose(2, 3) for t in (q, k, v))  # (B, R, M, T, K)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, scale=self.scale)
        y = from_windows(y.transpose(3, 4).flatten(2, 3).unflatten(3, (h, w)), height, width)  # (B, C, H, W)
        return self.output_linear(y if self.lepe is None else y + self.lepe(qkv[:, -x.shape[1] :]))

    def _route(self, q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
        """Return for each region the `topk` regions whose mean key fits its mean query best; empty ones come last."""
        if mask is None:
            means = (q.mean(2), k.mean(2))  # (B, R, C)
            return (means[0] @ means[1].transpose(1, 2)).topk(sym_min(self.topk, q.shape[1])).indices
        weight = mask / mask.sum(1, keepdim=True).clamp(min=1)  # (R, T)
        means = ((q * weight[..., None]).sum(2), (k * weight[..., None]).sum(2))
        scores = (means[0] @ means[1].transpose(1, 2)).masked_fill(~mask.any(1), -torch.inf)  # (B, R, R)
        return scores.topk(sym_min(self.topk, q.shape[1])).indices

    @staticmethod
    def _gather(x: Tensor, chosen: Tensor) -> Tensor:
        """(B, R, T, C) and indices (B, R, topk) -> (B, R, topk*T, C)."""
        image = torch.arange(len(x), device=x.device)[:, None, None]
        return x[image, chosen].flatten(2, 3)


class HiLo(nn.Module):
    """Half of the heads in 2x2 windows, half against window means (Pan et al., LITv2, arXiv 2205.13213, section 3).

    Windows that stick out of a map with an odd side are masked.
    """

    def __init__(self, dim: int, num_heads: int = 8, window_size: int = 2, alpha: float = 0.5) -> None:
        super().__init__()
        require_heads("HiLo", dim, num_heads)
        self.l_heads = int(num_heads * alpha)
        self.h_heads = num_heads - self.l_heads
        if not self.l_heads or not self.h_heads or window_size < 2:
            raise ConfigError(
                f"HiLo: alpha={alpha} of {num_heads} heads must leave both kinds at least one, and window_size="
                f"{window_size} must be at least 2"
            )
        self.window = window_size
        low, high = (dim // num_heads * heads for heads in (self.l_heads, self.h_heads))
        self.l_q = nn.Linear(dim, low, bias=False)
        self.l_kv = nn.Linear(dim, 2 * low, bias=False)
        self.l_proj = nn.Linear(low, low)
        self.h_qkv = nn.Linear(dim, 3 * high, bias=False)
        self.h_proj = nn.Linear(high, high)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        return torch.cat((self._high(x), self._low(x)), 1)

    def _high(self, x: Tensor) -> Tensor:
        """Attention inside the windows, (B, C/2, H, W)."""
        n, (height, width) = self.window, x.shape[2:]
        tokens = to_windows(x, n, n).flatten(3).transpose(2, 3)  # (B, R, T, C)
        qkv = self.h_qkv(tokens).unflatten(3, (3, self.h_heads, -1))  # (B, R, T, 3, M, K)
        q, k, v = qkv.permute(3, 0, 1, 4, 2, 5).unbind(0)  # each (B, R, M, T, K)
        mask = window_mask(height, width, n, n, x.device)
        allowed = None if mask is None else mask[:, None, None]  # (R, 1, 1, T)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
        y = self.h_proj(y.transpose(2, 3).flatten(3))  # (B, R, T, C/2)
        return from_windows(y.transpose(2, 3).unflatten(3, (n, n)), height, width)

    def _low(self, x: Tensor) -> Tensor:
        """Attention of all cells to the means of the windows, (B, C/2, H, W)."""
        means = F.avg_pool2d(x, self.window, ceil_mode=True, count_include_pad=False)
        q = self.l_q(x.flatten(2).transpose(1, 2)).unflatten(2, (self.l_heads, -1)).transpose(1, 2)  # (B, M, N, K)
        kv = self.l_kv(means.flatten(2).transpose(1, 2)).unflatten(2, (2, self.l_heads, -1))  # (B, R, 2, M, K)
        k, v = kv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, M, R, K)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)  # (B, N, C/2)
        return self.l_proj(y).transpose(1, 2).unflatten(2, x.shape[2:])  # (B, C/2, H, W)
