"""Transformer layers without norms, and the cross-stage block C3TR around them.

Shapes: B batch, C channels, H x W map, N = H*W tokens.
"""

from __future__ import annotations

from torch import Tensor, nn

from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.modules.csp import C3
from ultralytics.nn.registry import register, scaled_conv, scaled_repeat


class TransformerLayer(nn.Module):
    """Self-attention and a linear feed-forward part, each added to its input; no norms, no activation."""

    def __init__(self, c: int, num_heads: int) -> None:
        super().__init__()
        self.q = nn.Linear(c, c, bias=False)
        self.k = nn.Linear(c, c, bias=False)
        self.v = nn.Linear(c, c, bias=False)
        self.ma = nn.MultiheadAttention(embed_dim=c, num_heads=num_heads)
        self.fc1 = nn.Linear(c, c, bias=False)
        self.fc2 = nn.Linear(c, c, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, B, C) -> the same shape."""
        x = self.ma(self.q(x), self.k(x), self.v(x), need_weights=False)[0] + x
        return self.fc2(self.fc1(x)) + x


@register(scaled_conv)
class TransformerBlock(nn.Module):
    """Transformer layers over the tokens of a map, with a learnt position part: a linear map of the token itself."""

    def __init__(self, c1: int, c2: int, num_heads: int, num_layers: int) -> None:
        super().__init__()
        self.conv = Conv(c1, c2) if c1 != c2 else None
        self.linear = nn.Linear(c2, c2)
        self.tr = nn.Sequential(*(TransformerLayer(c2, num_heads) for _ in range(num_layers)))
        self.c2 = c2

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H, W)."""
        x = x if self.conv is None else self.conv(x)
        tokens = x.flatten(2).permute(2, 0, 1)  # (N, B, c2)
        return self.tr(tokens + self.linear(tokens)).permute(1, 2, 0).reshape(x.shape)  # (B, c2, N) -> map


@register(scaled_repeat)
class C3TR(C3):
    """C3 with a transformer of n layers and 4 heads in place of the bottlenecks."""

    def __init__(self, c1: int, c2: int, n: int = 1, shortcut: bool = True, g: int = 1, e: float = 0.5) -> None:
        super().__init__(c1, c2, n, shortcut, g, e)
        hidden = int(c2 * e)
        self.m = TransformerBlock(hidden, hidden, 4, n)  # type: ignore[assignment]
