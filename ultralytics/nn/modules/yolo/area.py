"""Area attention of YOLO12 (arXiv 2502.12524, section 3): tokens attend within equal runs of the map.

Shapes: B batch, C channels, H x W map, N = H*W tokens, M heads, d width of a head, A areas.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ultralytics.nn.modules.attention import multi_head_attention
from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.modules.yolo.csp import C3k
from ultralytics.nn.registry import Plan, RowContext, register, scaled_repeat
from ultralytics.utils.errors import ConfigError

AREA_HEAD_WIDTH = 32


@register
class AAttn(nn.Module):
    """Multi-head attention within `area` equal runs of the tokens in row-major order, plus a depth-wise 7x7 of values.

    H * W must be divisible by `area`.
    """

    def __init__(self, dim: int, num_heads: int, area: int = 1) -> None:
        super().__init__()
        if num_heads < 1 or dim % num_heads:
            raise ConfigError(f"AAttn width {dim} is not divisible by its {num_heads} heads")
        self.area = area
        self.num_heads = num_heads
        self.head_dim = dim // num_heads
        self.all_head_dim = self.head_dim * num_heads
        self.qkv = Conv(dim, 3 * dim, 1, act=False)
        self.proj = Conv(dim, dim, 1, act=False)
        self.pe = Conv(dim, dim, 7, 1, 3, g=dim, act=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) -> the same shape."""
        qkv = self.qkv(x).unflatten(1, (self.num_heads, -1)).flatten(3)  # (B, M, 3d, N)
        values = qkv[:, :, 2 * self.head_dim :].reshape(x.shape)
        runs = qkv.unflatten(3, (self.area, -1)).permute(0, 3, 1, 4, 2).flatten(0, 1)  # (B*A, M, N/A, 3d)
        q, k, v = runs.chunk(3, -1)
        y = multi_head_attention(q, k, v, scale=self.head_dim**-0.5)  # (B*A, M, N/A, d)
        y = y.unflatten(0, (-1, self.area)).permute(0, 2, 4, 1, 3).reshape(x.shape)  # (B, M, d, A, N/A) -> map
        return self.proj(y + self.pe(values))


@register
class ABlock(nn.Module):
    """Area attention and a feed-forward part of 1x1 convolutions, each added to its input."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float = 1.2, area: int = 1) -> None:
        super().__init__()
        self.attn = AAttn(dim, num_heads, area)
        hidden = int(dim * mlp_ratio)
        self.mlp = nn.Sequential(Conv(dim, hidden, 1), Conv(hidden, dim, 1, act=False))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw every convolution from a truncated normal distribution of deviation 0.02."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) -> the same shape."""
        x = x + self.attn(x)
        return x + self.mlp(x)


def a2c2f_rule(row: RowContext) -> Plan:
    """`[c2, a2, area, residual, mlp_ratio, e]`: scales l and x take the residual form unless the row states one."""
    plan = scaled_repeat(row)
    if row.scale_name in ("l", "x") and len(row.args) == 3:
        return Plan((*plan.args, True, 1.2), plan.out_channels, repeats_inside=True)
    return plan


@register(a2c2f_rule, row="c2, a2, area, residual, mlp_ratio, e, g, shortcut")
class A2C2f(nn.Module):
    """Residual aggregation of area attention: each of n steps is two ABlocks, or a C3k when `a2` is false.

    With `residual` (and `a2`) the result is added to the input, scaled by `gamma`, which starts at 0.01. The inner
    width c2 * e must be divisible by 32, the width of a head.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        n: int = 1,
        a2: bool = True,
        area: int = 1,
        residual: bool = False,
        mlp_ratio: float = 2.0,
        e: float = 0.5,
        g: int = 1,
        shortcut: bool = True,
    ) -> None:
        super().__init__()
        hidden = int(c2 * e)
        if hidden % AREA_HEAD_WIDTH:
            raise ConfigError(f"A2C2f inner width {hidden} is not divisible by {AREA_HEAD_WIDTH}; choose another c2")
        self.cv1 = Conv(c1, hidden, 1, 1)
        self.cv2 = Conv((1 + n) * hidden, c2, 1)
        self.gamma = nn.Parameter(0.01 * torch.ones(c2)) if a2 and residual else None
        heads = hidden // AREA_HEAD_WIDTH
        self.m = nn.ModuleList(
            nn.Sequential(*(ABlock(hidden, heads, mlp_ratio, area) for _ in range(2)))
            if a2
            else C3k(hidden, hidden, 2, shortcut, g)
            for _ in range(n)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H, W)."""
        y = [self.cv1(x)]
        for m in self.m:
            y.append(m(y[-1]))
        z = self.cv2(torch.cat(y, 1))
        return z if self.gamma is None else x + self.gamma.view(-1, 1, 1) * z
