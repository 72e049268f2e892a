"""Deformable convolution with modulation, DCNv2 (arXiv 1811.11168), on torchvision's operator.

Shapes: B batch, C channels, H x W map, h x w the map after the stride, P = k*k places of the kernel.
"""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from ultralytics.nn.modules.conv import Activation, autopad, make_activation
from ultralytics.nn.modules.csp import BottleneckC2f, BottleneckWith
from ultralytics.nn.registry import register, scaled_conv, scaled_repeat
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.ops import at_least_float32
from ultralytics.utils.torch_tools.reproducible import grid_sample, needs_one_order
from ultralytics.utils.torch_utils import bn_affine


@register(scaled_conv)
class DCNv2(nn.Module):
    """Convolution whose k*k places move by learned offsets and are weighted by a learned mask; batch norm, activation.

    Offsets (row, column for each place) and mask start at 0 and 1/2, so it starts as a plain convolution of half the
    weights. YAML `[c2, k, s, p, g, d, act, deformable_groups]`.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        k: int = 3,
        s: int = 1,
        p: int | None = None,
        g: int = 1,
        d: int = 1,
        act: Activation = True,
        deformable_groups: int = 1,
    ) -> None:
        super().__init__()
        if c1 % g or c2 % g or c1 % deformable_groups:
            raise ConfigError(
                f"DCNv2: channels {c1} and {c2} with {g} groups, {deformable_groups} deformable groups; "
                f"both channels must be divisible by the groups, {c1} by the deformable groups too"
            )
        padding = autopad(k, p, d)
        self.stride, self.padding, self.dilation = s, padding, d
        self.weight = nn.Parameter(torch.empty(c2, c1 // g, k, k))
        self.bias = nn.Parameter(torch.zeros(c2))
        places = deformable_groups * k * k
        self.conv_offset_mask = nn.Conv2d(c1, 3 * places, k, s, padding, d)  # type: ignore[arg-type]
        self.bn = nn.BatchNorm2d(c2)
        self.act = make_activation(act)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights uniformly within 1 / sqrt(inputs of a place); offsets and mask start from zero."""
        bound = 1 / math.sqrt(math.prod(self.weight.shape[1:]))
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.zeros_(self.conv_offset_mask.weight)
        if self.conv_offset_mask.bias is not None:
            nn.init.zeros_(self.conv_offset_mask.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, h, w)."""
        return self.act(self.bn(self._convolve(x)))

    def _convolve(self, x: Tensor) -> Tensor:
        moves = self.conv_offset_mask(x)  # (B, 3P, h, w)
        places = moves.shape[1] // 3
        offset, mask = moves.split([2 * places, places], 1)
        if torch.onnx.is_in_onnx_export():
            return self._convolve_samples(x, offset, mask.sigmoid())
        if needs_one_order(x):  # on a GPU the operator's gradient has none
            parts = (at_least_float32(part) for part in (x, offset, mask.sigmoid()))
            return self._convolve_samples(*parts).to(x.dtype)
        kind = torch.float32 if x.dtype is torch.bfloat16 else x.dtype  # the operator has no bfloat16 kernel
        y: Tensor = deform_conv2d(
            x.to(kind),
            offset.to(kind),
            self.weight.to(kind),
            self.bias.to(kind),
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            mask=mask.sigmoid().to(kind),
        )
        return y.to(x.dtype)

    def _convolve_samples(self, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        """The same by standard operators, for ONNX and for a gradient of one order: samples, then a 1x1 convolution.

        `offset` is (B, 2P, h, w) and `mask` (B, P, h, w), P over all deformable groups.
        """
        k, (h, w) = self.weight.shape[2], mask.shape[2:]
        groups = mask.shape[1] // (k * k)
        offset = offset.unflatten(1, (groups, k * k, 2))  # (B, G, k*k, 2, h, w)
        y = self._places(h, k, 0, x)[:, :, None] + offset[:, :, :, 0]  # (B, G, k*k, h, w)
        x_ = self._places(w, k, 1, x)[:, None] + offset[:, :, :, 1]
        size = x.shape[2:]
        grid = torch.stack(((2 * x_ + 1) / size[1] - 1, (2 * y + 1) / size[0] - 1), -1)
        maps = x.unflatten(1, (groups, -1)).flatten(0, 1)  # (B*G, C/G, H, W)
        found = grid_sample(maps, grid.flatten(0, 1).flatten(1, 2))  # (B*G, C/G, k*k*h, w)
        found = found.unflatten(2, (k * k, -1)) * mask.unflatten(1, (groups, -1)).flatten(0, 1)[:, None]
        found = found.unflatten(0, (-1, groups)).flatten(1, 2).flatten(1, 2)  # (B, C*k*k, h, w)
        weight = self.weight.flatten(1)[..., None, None]  # (c2, C/g*k*k, 1, 1)
        return F.conv2d(found, weight, self.bias, groups=x.shape[1] // self.weight.shape[1])

    def _places(self, n: int, k: int, axis: int, like: Tensor) -> Tensor:
        """Return rows or columns (k*k, n) of the kernel's places without offsets, for n output cells of an axis."""
        taps = torch.arange(k, device=like.device) * self.dilation
        taps = taps.repeat_interleave(k) if axis == 0 else taps.repeat(k)  # (k*k,), row by row
        cells = torch.arange(n, device=like.device) * self.stride - cast("int", self.padding)
        return (taps[:, None] + cells).to(like.dtype)

    def forward_fuse(self, x: Tensor) -> Tensor:
        """Forward with the batch norm folded into the weights."""
        return self.act(self._convolve(x))

    @torch.no_grad()
    def fuse(self) -> nn.Module:
        """Fold the batch norm into weight and bias, in place."""
        if hasattr(self, "bn"):
            scale, shift = bn_affine(self.bn)
            self.weight.mul_(scale.view(-1, 1, 1, 1))  # (c2, c1/g, k, k)
            self.bias.mul_(scale).add_(shift)
            del self.bn
            self.requires_grad_(False)
            self.forward = self.forward_fuse  # type: ignore[method-assign]
        return self


@register(scaled_repeat)
class C2f_DCNv2(BottleneckC2f):
    """C2f whose bottlenecks have DCNv2 as second convolution. YAML `[c2, shortcut]`."""

    @staticmethod
    def member(c: int, shortcut: bool) -> nn.Module:
        """Return one bottleneck of width c."""
        return BottleneckWith(c, lambda w: DCNv2(w, w, 3), shortcut)
