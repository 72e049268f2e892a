"""Convolution in the wavelet domain, WTConv2d (ECCV 2024, arXiv 2407.05848).

Shapes: B batch, C channels, H x W map. One level of the Haar transform turns a map into four bands of half the
size, in the order mean, difference of rows, difference of columns, difference of both; channel-major (4C).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn.registry import register, scaled_conv
from ultralytics.utils.errors import ConfigError

_HAAR = [[[1.0, 1.0], [1.0, 1.0]], [[1.0, 1.0], [-1.0, -1.0]], [[1.0, -1.0], [1.0, -1.0]], [[1.0, -1.0], [-1.0, 1.0]]]


class _Scale(nn.Module):
    """A learned factor for each channel."""

    def __init__(self, c: int, start: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((1, c, 1, 1), start))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        return x * self.weight


@register(scaled_conv)
class WTConv2d(nn.Module):
    """Depth-wise k x k convolution plus the same on each band of `wt_levels` Haar transforms, put back together.

    Small kernels on coarse bands see far at little cost. The channels stay (c1 = c2). Filters of the transform lie in
    the state dict, but are never trained, and only `db1` (Haar) is offered. An odd side is padded with a zero and
    cropped again. YAML `[c2, k, s, bias, wt_levels]`.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        k: int = 5,
        s: int = 1,
        bias: bool = True,
        wt_levels: int = 1,
        wt_type: str = "db1",
    ) -> None:
        super().__init__()
        if c1 != c2:
            raise ConfigError(f"WTConv2d keeps its channels: the input has {c1}, the row asks for {c2}; write {c1}")
        if wt_type not in ("db1", "haar"):
            raise ConfigError(f"WTConv2d: wt_type={wt_type!r}; only the Haar wavelet exists here, write 'db1'")
        if wt_levels < 1 or s < 1:
            raise ConfigError(f"WTConv2d: wt_levels={wt_levels}, stride {s}; both must be at least 1")
        self.s = s
        haar = torch.tensor(_HAAR)[:, None].repeat(c1, 1, 1, 1) / 2  # (4C, 1, 2, 2)
        self.wt_filter = nn.Parameter(haar, requires_grad=False)
        self.iwt_filter = nn.Parameter(haar.clone(), requires_grad=False)
        if s > 1:
            self.stride_filter = nn.Parameter(torch.ones(c1, 1, 1, 1), requires_grad=False)
        self.base_conv = nn.Conv2d(c1, c1, k, padding="same", groups=c1, bias=bias)
        self.base_scale = _Scale(c1, 1.0)
        self.wavelet_convs = nn.ModuleList(
            nn.Conv2d(4 * c1, 4 * c1, k, padding="same", groups=4 * c1, bias=False) for _ in range(wt_levels)
        )
        self.wavelet_scale = nn.ModuleList(_Scale(4 * c1, 0.1) for _ in range(wt_levels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, ceil(H/s), ceil(W/s))."""
        y = self.base_scale(self.base_conv(x)) + self._wavelet(x)
        if self.s == 1:
            return y
        return F.conv2d(y, self.stride_filter.detach(), stride=self.s, groups=y.shape[1])

    def _wavelet(self, x: Tensor) -> Tensor:
        """Down through the levels, convolving all bands, and up again, adding the coarser result to each mean."""
        c = x.shape[1]
        sizes, levels = [], []
        mean = x
        for conv, scale in zip(self.wavelet_convs, self.wavelet_scale, strict=True):
            h, w = mean.shape[2:]
            sizes.append((h, w))
            mean = F.pad(mean, (0, w % 2, 0, h % 2))
            # detached, since a trainer that makes all parameters trainable would train the transform as well
            bands = F.conv2d(mean, self.wt_filter.detach(), stride=2, groups=c)  # (B, 4C, h/2, w/2)
            mean = bands[:, ::4]
            levels.append(scale(conv(bands)).unflatten(1, (c, 4)))  # (B, C, 4, h/2, w/2)
        coarse = torch.zeros_like(levels[-1][:, :, 0])
        for bands, (h, w) in zip(reversed(levels), reversed(sizes), strict=True):
            joined = torch.cat((bands[:, :, :1] + coarse[:, :, None], bands[:, :, 1:]), 2).flatten(1, 2)
            coarse = F.conv_transpose2d(joined, self.iwt_filter.detach(), stride=2, groups=c)[:, :, :h, :w]
        return coarse
