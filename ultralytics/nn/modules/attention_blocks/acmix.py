"""ACmix: local attention and convolution of the same projections.

Shapes: B batch, C channels, H x W map, M heads of width D, T taps of the attention window.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn.registry import Plan, RowContext, register, scaled_conv
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.torch_tools.reproducible import reflection_pad2d

__all__ = ("ACmix",)


def _acmix_rule(row: RowContext) -> Plan:
    """`[]` keeps the channels; `[c2, ...]` -> (c1, c2 scaled, ...), and `[c1, c1, ...]`, as forks write it."""
    if row.args[:2] == (row.c1, row.c1):
        return Plan((row.c1, *row.args[1:]), row.c1)
    return scaled_conv(row) if row.args else Plan((row.c1, row.c1), row.c1)


@register(_acmix_rule, row=("", "c2, kernel_att, head, kernel_conv"))
class ACmix(nn.Module):
    """Weighted sum of local self-attention and a convolution made of the same 1x1 projections.

    Source: Pan et al., arXiv 2111.14556, section 4. YAML `[]` or `[c2, kernel_att, heads, kernel_conv]`; the
    stride is 1. The convolution starts as shifts of the projections, both weights at 1/2.
    """

    def __init__(self, c1: int, c2: int, kernel_att: int = 7, head: int = 4, kernel_conv: int = 3) -> None:
        super().__init__()
        if head < 1 or c2 % head:
            raise ConfigError(f"ACmix: {c2} output channels are not divisible by {head} heads; give a divisor")
        if kernel_att % 2 == 0 or kernel_conv % 2 == 0:
            raise ConfigError(f"ACmix: kernel sizes {kernel_att} and {kernel_conv} must be odd")
        self.kernel_att, self.head, self.kernel_conv = kernel_att, head, kernel_conv
        self.head_dim = c2 // head
        taps = kernel_conv**2
        self.rate1 = nn.Parameter(torch.full((1,), 0.5))
        self.rate2 = nn.Parameter(torch.full((1,), 0.5))
        self.conv1 = nn.Conv2d(c1, c2, 1)
        self.conv2 = nn.Conv2d(c1, c2, 1)
        self.conv3 = nn.Conv2d(c1, c2, 1)
        self.conv_p = nn.Conv2d(2, self.head_dim, 1)
        self.fc = nn.Conv2d(3 * head, taps, 1, bias=False)
        self.dep_conv = nn.Conv2d(
            taps * self.head_dim, c2, kernel_conv, padding=kernel_conv // 2, groups=self.head_dim, bias=False
        )
        shifts = torch.eye(taps).reshape(taps, kernel_conv, kernel_conv)
        self.dep_conv.weight.data.copy_(shifts.expand_as(self.dep_conv.weight))

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H, W)."""
        q, k, v = self.conv1(x), self.conv2(x), self.conv3(x)
        return self.rate1 * self._attend(q, k, v) + self.rate2 * self._convolve(q, k, v)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of each cell to its reflect-padded neighbourhood; keys carry their relative coordinates."""
        position = self.conv_p(self._coordinates(q))  # (1, D, H, W)
        q = q.unflatten(1, (self.head, -1)) * self.head_dim**-0.5  # (B, M, D, H, W)
        keys = self._neighbours(k).unflatten(1, (self.head, -1))  # (B, M, D, T, H, W)
        keys = keys + position[:, None, :, None] - self._neighbours(position)[:, None]
        probs = (q[:, :, :, None] * keys).sum(2).softmax(2)  # (B, M, T, H, W)
        values = self._neighbours(v).unflatten(1, (self.head, -1))  # (B, M, D, T, H, W)
        return (probs[:, :, None] * values).sum(3).flatten(1, 2)  # (B, M*D, H, W)

    def _convolve(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Mix the heads of all three projections into taps, then shift and add these."""
        heads = torch.cat([t.unflatten(1, (self.head, -1)) for t in (q, k, v)], 1)  # (B, 3*M, D, H, W)
        taps = self.fc(heads.flatten(3).flatten(2)[..., None])  # (B, T', D*H*W, 1)
        taps = taps.reshape(q.shape[0], -1, self.head_dim, *q.shape[2:])  # (B, T', D, H, W)
        return self.dep_conv(taps.transpose(1, 2).flatten(1, 2))

    def _neighbours(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, T, H, W), row by row."""
        pad = self.kernel_att // 2
        if min(x.shape[2:]) <= pad:
            raise ConfigError(
                f"ACmix: a map of {x.shape[2]}x{x.shape[3]} cells is too small for kernel_att={self.kernel_att}, whose "
                f"reflection needs more than {pad} cells; give a smaller kernel or a larger image"
            )
        windows = F.unfold(reflection_pad2d(x, pad), self.kernel_att)  # (B, C*T, H*W)
        return windows.unflatten(1, (x.shape[1], -1)).unflatten(3, x.shape[2:])  # (B, C, T, H, W)

    @staticmethod
    def _coordinates(like: Tensor) -> Tensor:
        """Return the map (1, 2, H, W) of x and y, each from -1 to 1."""
        h, w = like.shape[2:]
        # not linspace, which is in float64 in an ONNX graph
        steps = ((n, 2 / (n - 1) if n > 1 else 0.0) for n in (h, w))
        y, x = (torch.arange(n, device=like.device).to(like.dtype) * step - 1 for n, step in steps)
        return torch.stack((x.expand(h, w), y[:, None].expand(h, w)))[None]
