"""Upsampling by content: CARAFE, DySample, EUCB.

Shapes: B batch, C channels, H x W map; every map is (B, C, H, W). `s` is the scale, G groups.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.modules.utils import at_least_float32
from ultralytics.nn.registry import channels_first, register
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.torch_tools.reproducible import grid_sample


@register(channels_first)
class CARAFE(nn.Module):
    """Content-aware reassembly: each output cell is a weighted sum around its source cell (arXiv 1905.02188).

    YAML `[k_enc, k_up, c_mid, scale]`. SiLU in the compressor, as circulated. The unfolded map, k_up^2 times the
    input, is never built: the taps are summed one by one.
    """

    def __init__(self, c: int, k_enc: int = 3, k_up: int = 5, c_mid: int = 64, scale: int = 2) -> None:
        super().__init__()
        if k_up % 2 == 0:
            raise ConfigError(f"CARAFE: k_up={k_up} must be odd")
        self.k_up, self.scale = k_up, scale
        self.comp = Conv(c, c_mid)
        self.enc = Conv(c_mid, (scale * k_up) ** 2, k_enc, act=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, s*H, s*W)."""
        height, width = x.shape[2:]
        weights = self.enc(self.comp(x)).unflatten(1, (-1, self.scale**2)).softmax(1)  # (B, k_up^2, s^2, H, W)
        padded = F.pad(x, [self.k_up // 2] * 4)
        out: Tensor | None = None
        for tap, weight in enumerate(weights.unbind(1)):
            i, j = divmod(tap, self.k_up)
            cells = padded[..., i : i + height, j : j + width].unsqueeze(2)  # (B, C, 1, H, W)
            part = cells * weight.unsqueeze(1)  # (B, C, s^2, H, W)
            out = part if out is None else out + part
        assert out is not None
        return F.pixel_shuffle(out.flatten(1, 2), self.scale)


@register(channels_first)
class DySample(nn.Module):
    """Upsample by bilinear samples at learned places, one set of offsets for each group (arXiv 2308.15085).

    Style `lp` predicts the offsets of all s^2 samples of a cell, `pl` shuffles first. It starts as bilinear
    upsampling, near enough; `dyscope` lets a gate scale the offsets. YAML `[scale, style, groups, dyscope]`.
    ConfigError when the groups (and for `pl` s^2) do not divide the channels.
    """

    init_pos: Tensor

    def __init__(self, c: int, scale: int = 2, style: str = "lp", groups: int = 4, dyscope: bool = False) -> None:
        super().__init__()
        self.scale, self.style, self.groups = scale, style, groups
        self._check(c)
        inner = c // scale**2 if style == "pl" else c
        width = 2 * groups if style == "pl" else 2 * groups * scale**2
        self.register_buffer("init_pos", self._cell_places())
        self.offset = nn.Conv2d(inner, width, 1)
        nn.init.normal_(self.offset.weight, std=0.001)
        assert self.offset.bias is not None
        nn.init.zeros_(self.offset.bias)
        self.scope = nn.Conv2d(inner, width, 1, bias=False) if dyscope else None
        if self.scope is not None:
            nn.init.zeros_(self.scope.weight)

    def _check(self, c: int) -> None:
        """Raise ConfigError for a style or channels that do not work."""
        if self.style not in {"lp", "pl"}:
            raise ConfigError(f"DySample: style={self.style!r}; write 'lp' or 'pl'")
        if self.groups < 1 or c % self.groups:
            raise ConfigError(f"DySample: {c} channels are not divisible by groups={self.groups}")
        if self.style == "pl" and c % self.scale**2:
            raise ConfigError(f"DySample: style 'pl' needs channels divisible by {self.scale**2}, not {c}; write 'lp'")

    def _cell_places(self) -> Tensor:
        """Where the s x s samples of a cell lie around its centre: (1, 2*G*s^2, 1, 1), all x, then all y."""
        t = (torch.arange(self.scale) - (self.scale - 1) / 2) / self.scale
        y, x = torch.meshgrid(t, t, indexing="ij")
        places = torch.stack((x, y)).view(2, 1, -1).repeat(1, self.groups, 1)  # (2, G, s^2)
        return places.view(1, -1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, s*H, s*W)."""
        source = F.pixel_shuffle(x, self.scale) if self.style == "pl" else x
        step = self.offset(source)
        step = step * (0.25 if self.scope is None else 0.5 * self.scope(source).sigmoid())
        if self.style == "pl":
            step = F.pixel_unshuffle(step, self.scale)
        return self._sample(x, at_least_float32(step) + self.init_pos)  # (B, 2*G*s^2, H, W)

    def _sample(self, x: Tensor, offset: Tensor) -> Tensor:
        """Sample bilinearly at cell centre + offset, in cells; coordinates stay in float32 under mixed precision."""
        height, width = x.shape[2:]
        columns = torch.arange(width, device=x.device, dtype=offset.dtype) + 0.5
        rows = torch.arange(height, device=x.device, dtype=offset.dtype) + 0.5
        dx, dy = offset.unflatten(1, (2, -1)).unbind(1)  # (B, G*s^2, H, W)
        px = F.pixel_shuffle((dx + columns) * (2 / width) - 1, self.scale)  # (B, G, s*H, s*W)
        py = F.pixel_shuffle((dy + rows[:, None]) * (2 / height) - 1, self.scale)
        grid = torch.stack((px, py), -1).flatten(0, 1)  # (B*G, s*H, s*W, 2)
        groups = x.unflatten(1, (self.groups, -1)).flatten(0, 1)  # (B*G, C/G, H, W)
        sampled = grid_sample(groups.to(grid.dtype), grid, "border")
        return sampled.unflatten(0, (-1, self.groups)).flatten(1, 2).to(x.dtype)  # (B, C, s*H, s*W)


Dy_Sample = register(channels_first, name="Dy_Sample")(DySample)
"""The name in another family of forks."""


@register(channels_first)
class EUCB(nn.Module):
    """Nearest upsampling by two, a depth-wise Conv, a 1x1 convolution with bias (EMCAD, arXiv 2405.06880)."""

    def __init__(self, c: int, k: int = 3) -> None:
        super().__init__()
        self.up_dwc = nn.Sequential(nn.Upsample(scale_factor=2), Conv(c, c, k, g=c))
        self.pwc = nn.Sequential(nn.Conv2d(c, c, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, 2H, 2W)."""
        return self.pwc(self.up_dwc(x))
