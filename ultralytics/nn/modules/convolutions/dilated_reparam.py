"""Dilated re-parameterisation and the UniRepLKNet block (CVPR 2024, arXiv 2311.15599).

Shapes: B batch, C channels, H x W map, k kernel size, F hidden channels of the feed-forward part.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import stochastic_depth

from ultralytics.nn.modules.block import RepC3
from ultralytics.nn.modules.csp import BottleneckC2f, BottleneckWith, C2f, check_residual_row
from ultralytics.nn.modules.utils import at_least_float32
from ultralytics.nn.registry import channels_first, register, scaled_repeat
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.torch_utils import bn_affine, fuse_conv_and_bn

_SMALL_KERNELS = {  # of each large kernel: (size, dilation) of the parallel ones
    5: ((3, 1), (3, 2)),
    7: ((5, 1), (3, 2), (3, 3)),
    9: ((5, 1), (5, 2), (3, 3), (3, 4)),
    11: ((5, 1), (5, 2), (3, 3), (3, 4), (3, 5)),
    13: ((5, 1), (7, 2), (3, 3), (3, 4), (3, 5)),
    15: ((5, 1), (7, 2), (3, 3), (3, 5), (3, 7)),
    17: ((5, 1), (9, 2), (3, 4), (3, 5), (3, 7)),
}


def _depthwise(c: int, k: int, d: int = 1, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(c, c, k, padding=d * (k // 2), dilation=d, groups=c, bias=bias)


@register(channels_first)
class DilatedReparamBlock(nn.Module):
    """Depth-wise k x k beside dilated smaller ones, each with batch norm, summed; folded, one k x k (sec. 3.1).

    `deploy` builds the folded form at once. No activation. YAML `[k]`, k one of 5, 7, 9, 11, 13, 15, 17.
    """

    def __init__(self, channels: int, kernel_size: int = 7, deploy: bool = False) -> None:
        super().__init__()
        if kernel_size not in _SMALL_KERNELS:
            known = ", ".join(map(str, _SMALL_KERNELS))
            raise ConfigError(f"DilatedReparamBlock: kernel {kernel_size}; it must be one of {known}")
        self.smaller = () if deploy else _SMALL_KERNELS[kernel_size]
        self.lk_origin = _depthwise(channels, kernel_size, bias=deploy)
        if deploy:
            return
        self.origin_bn = nn.BatchNorm2d(channels)
        for k, d in self.smaller:
            self.add_module(f"dil_conv_k{k}_{d}", _depthwise(channels, k, d))
            self.add_module(f"dil_bn_k{k}_{d}", nn.BatchNorm2d(channels))

    def _pairs(self) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
        """Return the smaller convolutions and their batch norms."""
        names = [f"k{k}_{d}" for k, d in self.smaller]
        return [(getattr(self, f"dil_conv_{n}"), getattr(self, f"dil_bn_{n}")) for n in names]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        y: Tensor = self.lk_origin(x)
        if hasattr(self, "origin_bn"):
            y = self.origin_bn(y)
        for conv, norm in self._pairs():
            y = y + norm(conv(x))
        return y

    @torch.no_grad()
    def fuse(self) -> nn.Module:
        """Fold every batch norm and add the smaller kernels, spread by their dilation, to the large one, in place."""
        if not hasattr(self, "origin_bn"):
            return self
        large = fuse_conv_and_bn(self.lk_origin, self.origin_bn)
        for conv, norm in self._pairs():
            small = fuse_conv_and_bn(conv, norm)
            reach, d = small.padding[0], small.dilation[0]
            centre = large.weight.shape[-1] // 2
            taps = slice(centre - int(reach), centre + int(reach) + 1, d)
            large.weight[:, :, taps, taps] += small.weight
            if large.bias is not None and small.bias is not None:
                large.bias += small.bias
        names = [n for n, _ in self.named_children() if n != "lk_origin"]
        for name in names:
            delattr(self, name)
        self.smaller = ()
        self.lk_origin = large
        return self


class _Gate(nn.Module):
    """Squeeze-excitation by two 1x1 convolutions with bias."""

    def __init__(self, c: int, hidden: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(c, hidden, 1)
        self.up = nn.Conv2d(hidden, c, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        return x * self.up(F.relu(self.down(x.mean((2, 3), keepdim=True)))).sigmoid()


class GlobalResponseNorm(nn.Module):
    """Scale channels by their norm over the map, relative to the mean of all channels (arXiv 2301.00808, sec. 3)."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, c))
        self.beta = nn.Parameter(torch.zeros(1, 1, 1, c))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        norm = at_least_float32(x).norm(dim=(1, 2), keepdim=True)  # (B, 1, 1, C); a sum of squares overflows float16
        relative = (norm / (norm.mean(-1, keepdim=True) + 1e-6)).to(x.dtype)
        return (self.gamma * relative + 1) * x + self.beta


class _Permute(nn.Module):
    """Permute the axes of a map."""

    def __init__(self, *axes: int) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, H, W, C), or back."""
        return x.permute(self.axes)


@register(channels_first)
class UniRepLKNetBlock(nn.Module):
    """x + gamma * FFN(SE(BN(large depth-wise convolution of x))), the FFN with global response norm (sec. 3.1).

    Kernels below 7 are one plain convolution, larger ones a DilatedReparamBlock. gamma starts at 1e-6, so the block
    starts near the identity. YAML `[kernel_size, drop_path]`.
    """

    def __init__(
        self,
        dim: int,
        kernel_size: int = 7,
        drop_path: float = 0.0,
        layer_scale_init_value: float = 1e-6,
        ffn_factor: int = 4,
    ) -> None:
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ConfigError(f"UniRepLKNetBlock: kernel {kernel_size}; it must be odd")
        hidden = int(dim * ffn_factor)
        self.drop = drop_path
        self.gamma = nn.Parameter(torch.full((dim,), layer_scale_init_value))
        large = kernel_size >= 7
        self.dwconv = DilatedReparamBlock(dim, kernel_size) if large else _depthwise(dim, kernel_size)
        self.norm: nn.Module = nn.BatchNorm2d(dim)
        self.se = _Gate(dim, max(1, dim // 4))
        self.pwconv1 = nn.Sequential(_Permute(0, 2, 3, 1), nn.Linear(dim, hidden))
        self.act = nn.Sequential(nn.GELU(), GlobalResponseNorm(hidden))
        last = (nn.Linear(hidden, dim, bias=False), _Permute(0, 3, 1, 2), nn.BatchNorm2d(dim))
        self.pwconv2 = nn.Sequential(*last)

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) -> the same shape."""
        y = self.se(self.norm(self.dwconv(x)))
        y = self.pwconv2(self.act(self.pwconv1(y)))  # (B, H, W, F) inside
        return x + stochastic_depth(self.gamma.view(1, -1, 1, 1) * y, self.drop, "row", self.training)

    @torch.no_grad()
    def fuse(self) -> nn.Module:
        """Fold both batch norms, in place: into the depth-wise convolution and into the last linear layer."""
        if not isinstance(self.norm, nn.BatchNorm2d):
            return self
        if isinstance(self.dwconv, DilatedReparamBlock):
            self.dwconv.fuse()
            self.dwconv.lk_origin = fuse_conv_and_bn(self.dwconv.lk_origin, self.norm)
        else:
            self.dwconv = fuse_conv_and_bn(self.dwconv, self.norm)
        self.norm = nn.Identity()
        linear, last = self.pwconv2[0], self.pwconv2[2]
        if not isinstance(linear, nn.Linear) or not isinstance(last, nn.BatchNorm2d):
            return self
        scale, shift = bn_affine(last)
        fused = nn.Linear(linear.in_features, linear.out_features).to(linear.weight).requires_grad_(False)
        fused.weight.copy_(linear.weight * scale[:, None])
        fused.bias.copy_(shift)
        self.pwconv2[0], self.pwconv2[2] = fused, nn.Identity()
        return self


@register(scaled_repeat)
class C2f_DRB(BottleneckC2f):
    """C2f whose bottlenecks have a DilatedReparamBlock of kernel 7 as second convolution. YAML `[c2, shortcut]`."""

    @staticmethod
    def member(c: int, shortcut: bool) -> nn.Module:
        """Return one bottleneck of width c."""
        return BottleneckWith(c, DilatedReparamBlock, shortcut)


@register(scaled_repeat)
class DRBC3(RepC3):
    """RepC3 with DilatedReparamBlocks of kernel 5 in place of its RepConvs. YAML `[c2, e]`."""

    def __init__(self, c1: int, c2: int, n: int = 3, e: float = 1.0) -> None:
        super().__init__(c1, c2, n, e, member=lambda c: DilatedReparamBlock(c, 5))


@register(scaled_repeat)
class C2f_UniRepLKNetBlock(C2f):
    """C2f of UniRepLKNet blocks, which always add their input. YAML `[c2, k]`."""

    def __init__(
        self, c1: int, c2: int, n: int = 1, k: int = 7, shortcut: bool = True, g: int = 1, e: float = 0.5
    ) -> None:
        check_residual_row(self, shortcut, g)
        super().__init__(c1, c2, n, e=e, member=lambda c: UniRepLKNetBlock(c, k))
