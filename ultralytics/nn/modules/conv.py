"""Convolutional building blocks: Conv and its relatives, the re-parameterisable RepConv, CBAM, and list plumbing.

Names, signatures, attribute names and state-dict keys are those of the upstream interface. Shapes:
B batch, C channels, H x W map. Every map is (B, C, H, W); `s` is a stride, `g` a number of groups, `d` a dilation.

Folding: `fuse()` on a block folds its batch norms for inference and returns what shall stand in its place (the block
itself, or a plain layer); `fuse_children` does so for a whole tree. Folded weights no longer require gradients.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn.registry import (
    Plan,
    RowContext,
    channels_first,
    register,
    same_channels,
    scaled_conv,
    summed_channels,
)
from ultralytics.utils.errors import ConfigError, ConfigTypeError
from ultralytics.utils.torch_utils import fuse_conv_and_bn, fuse_deconv_and_bn

Size = int | Sequence[int]
Activation = bool | nn.Module | type[nn.Module] | None


class _Defaults(NamedTuple):
    """Activation objects that the blocks of one model share."""

    conv: nn.Module
    rep: nn.Module


_DEFAULTS: ContextVar[_Defaults | None] = ContextVar("default_activation", default=None)


@contextmanager
def default_activation(act: nn.Module | None = None) -> Iterator[None]:
    """Build context: blocks made inside share one default activation object (`act`, or a SiLU).

    A model YAML's `activation:` travels this way, so nothing is left behind on a class. As upstream, it replaces the
    default of `Conv` and what is built of it; RepConv and ConvTranspose keep a SiLU of their own. Outside any context
    each block gets its own SiLU.
    """
    token = _DEFAULTS.set(_Defaults(nn.SiLU() if act is None else act, nn.SiLU()))
    try:
        yield
    finally:
        _DEFAULTS.reset(token)


def make_activation(act: Activation, *, rep: bool = False) -> nn.Module:
    """Return the activation for a constructor's `act`: True is the default; False, 0 and None are none.

    A module is itself, its class makes a new one. Anything else is a ConfigTypeError.
    """
    if isinstance(act, nn.Module):
        return act
    if isinstance(act, type) and issubclass(act, nn.Module):
        return act()
    if act is None or (isinstance(act, int) and act == 0):
        return nn.Identity()
    if act is not True:
        raise ConfigTypeError(f"act={act!r}: give True (the default), False (none) or a module such as nn.ReLU()")
    shared = _DEFAULTS.get()
    if shared is None:
        return nn.SiLU()
    return shared.rep if rep else shared.conv


def autopad(k: Size, p: Size | None = None, d: int = 1) -> Size:
    """Return the padding that keeps the size at stride 1 (odd kernels), or `p` when it is given.

    >>> autopad(3), autopad(3, d=2), autopad((1, 5)), autopad(4, 0)
    (1, 2, [0, 2], 0)
    """
    if p is not None:
        return p
    if isinstance(k, int):
        return (d * (k - 1) + 1) // 2
    return [(d * (x - 1) + 1) // 2 for x in k]


def _square(size: Size) -> tuple[int, int]:
    """Return a size as (height, width)."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def zero_norms(*blocks: Any) -> None:
    """Set weight and bias of every batch norm in the blocks to zero: the end of a residual branch that starts at 0."""
    for block in blocks:
        for module in block.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.zeros_(module.weight)
                nn.init.zeros_(module.bias)


def fuse_children(net: nn.Module) -> nn.Module:
    """Replace every module below `net` that has a `fuse()` by what that returns; return `net`.

    For inference: the net must be in eval mode, and cannot be trained afterwards.
    """
    for name, child in net.named_children():
        fuse = getattr(child, "fuse", None)
        if callable(fuse):
            child = fuse()
            setattr(net, name, child)
        fuse_children(child)
    return net


def fuse_sequential(layers: nn.Sequential) -> None:
    """Fold every batch norm into the convolution right before it, in place; the places of the layers stay."""
    for i in range(len(layers) - 1):
        conv, norm = layers[i], layers[i + 1]
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            layers[i], layers[i + 1] = fuse_conv_and_bn(conv, norm), nn.Identity()


@register(scaled_conv)
class Conv(nn.Module):
    """Convolution without bias, batch norm, activation; "same" padding unless `p` is given."""

    def __init__(
        self,
        c1: int,
        c2: int,
        k: Size = 1,
        s: Size = 1,
        p: Size | None = None,
        g: int = 1,
        d: int = 1,
        act: Activation = True,
    ) -> None:
        super().__init__()
        pad = _square(autopad(k, p, d))
        self.conv = nn.Conv2d(c1, c2, _square(k), _square(s), pad, groups=g, dilation=d, bias=False)
        self.bn = nn.BatchNorm2d(c2)
        self.act = make_activation(act)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H', W')."""
        return self.act(self.bn(self.conv(x)))

    def forward_fuse(self, x: Tensor) -> Tensor:
        """Forward with the batch norm folded into the convolution."""
        return self.act(self.conv(x))

    def fuse(self) -> nn.Module:
        """Fold the batch norm into the convolution, in place."""
        if hasattr(self, "bn"):
            self.conv = fuse_conv_and_bn(self.conv, self.bn)
            del self.bn
            self.forward = self.forward_fuse  # type: ignore[method-assign]
        return self


@register(scaled_conv)
class Conv2(Conv):
    """A 3x3 Conv with a parallel 1x1 convolution under one batch norm; folded, it is a Conv."""

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
    ) -> None:
        super().__init__(c1, c2, k, s, p, g=g, d=d, act=act)
        same = d * (k - 1) // 2
        self.cv2 = nn.Conv2d(c1, c2, 1, s, 0 if p is None else p - same, groups=g, dilation=d, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H', W')."""
        return self.act(self.bn(self.conv(x) + self.cv2(x)))

    def fuse_convs(self) -> None:
        """Add the 1x1 kernel to the centre of the k x k kernel and drop the branch."""
        if not hasattr(self, "cv2"):
            return
        kernel = self.conv.weight.detach().clone()
        i, j = (x // 2 for x in kernel.shape[2:])
        kernel[:, :, i : i + 1, j : j + 1] += self.cv2.weight.detach()
        self.conv.weight.data = kernel
        del self.cv2
        self.forward = super().forward  # type: ignore[method-assign]

    def fuse(self) -> nn.Module:
        """Fold the branch, then the batch norm, in place."""
        self.fuse_convs()
        return super().fuse()


@register(scaled_conv)
class DWConv(Conv):
    """Depth-wise Conv: as many groups as the greatest common divisor of c1 and c2 allows."""

    def __init__(self, c1: int, c2: int, k: Size = 1, s: Size = 1, d: int = 1, act: Activation = True) -> None:
        super().__init__(c1, c2, k, s, g=math.gcd(c1, c2), d=d, act=act)


@register(scaled_conv)
class LightConv(nn.Module):
    """A linear 1x1 Conv, then a depth-wise k x k Conv with activation (ReLU); of PP-HGNetV2."""

    def __init__(self, c1: int, c2: int, k: int = 1, act: nn.Module | None = None) -> None:
        super().__init__()
        self.conv1 = Conv(c1, c2, 1, act=False)
        self.conv2 = DWConv(c2, c2, k, act=nn.ReLU() if act is None else act)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H, W)."""
        return self.conv2(self.conv1(x))


@register(scaled_conv)
class DWConvTranspose2d(nn.ConvTranspose2d):
    """Depth-wise transposed convolution, with bias and without batch norm."""

    def __init__(self, c1: int, c2: int, k: int = 1, s: int = 1, p1: int = 0, p2: int = 0) -> None:
        super().__init__(c1, c2, k, s, p1, p2, groups=math.gcd(c1, c2))


@register(scaled_conv)
class ConvTranspose(nn.Module):
    """Transposed convolution, batch norm (or a bias in its place), activation."""

    def __init__(
        self, c1: int, c2: int, k: int = 2, s: int = 2, p: int = 0, bn: bool = True, act: Activation = True
    ) -> None:
        super().__init__()
        self.conv_transpose = nn.ConvTranspose2d(c1, c2, k, s, p, bias=not bn)
        self.bn = nn.BatchNorm2d(c2) if bn else nn.Identity()
        self.act = make_activation(act, rep=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H', W')."""
        return self.act(self.bn(self.conv_transpose(x)))

    def forward_fuse(self, x: Tensor) -> Tensor:
        """Forward with the batch norm folded into the convolution."""
        return self.act(self.conv_transpose(x))

    def fuse(self) -> nn.Module:
        """Fold the batch norm, in place."""
        bn = getattr(self, "bn", None)
        if isinstance(bn, nn.BatchNorm2d):
            self.conv_transpose = fuse_deconv_and_bn(self.conv_transpose, bn)
            del self.bn
            self.forward = self.forward_fuse  # type: ignore[method-assign]
        return self


@register(scaled_conv)
class Focus(nn.Module):
    """Space to depth by two, then a Conv: halves the map without discarding a pixel."""

    def __init__(
        self,
        c1: int,
        c2: int,
        k: int = 1,
        s: int = 1,
        p: int | None = None,
        g: int = 1,
        act: Activation = True,
    ) -> None:
        super().__init__()
        self.conv = Conv(c1 * 4, c2, k, s, p, g, act=act)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, ceil(H/2), ceil(W/2)); order of the four phases (row, column): 00, 10, 01, 11.

        An odd side gets one more row or column of zeros.
        """
        height, width = x.shape[2:]
        if height % 2 or width % 2:
            x = F.pad(x, (0, width % 2, 0, height % 2))
        phases = [x[..., i::2, j::2] for j in (0, 1) for i in (0, 1)]
        return self.conv(torch.cat(phases, 1))


@register(scaled_conv)
class GhostConv(nn.Module):
    """Half of the outputs by a Conv, the others by a cheap depth-wise 5x5 Conv of the first (GhostNet, sec. 3.1)."""

    def __init__(self, c1: int, c2: int, k: int = 1, s: int = 1, g: int = 1, act: Activation = True) -> None:
        super().__init__()
        half = c2 // 2
        self.cv1 = Conv(c1, half, k, s, None, g, act=act)
        self.cv2 = Conv(half, half, 5, 1, None, half, act=act)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H', W')."""
        y = self.cv1(x)
        return torch.cat((y, self.cv2(y)), 1)


def _folded(conv: nn.Conv2d, bn: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return kernel and bias of a convolution with the batch norm behind it folded in."""
    fused = fuse_conv_and_bn(conv, bn)
    assert fused.bias is not None
    return fused.weight.data, fused.bias.data


@register(scaled_conv)
class RepConv(nn.Module):
    """3x3 and 1x1 convolution (and identity, with `bn`) side by side, each with batch norm (RepVGG, arXiv 2101.03697).

    For inference the branches collapse into one 3x3 convolution. `deploy` is accepted for compatibility, no effect.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        k: int = 3,
        s: int = 1,
        p: int = 1,
        g: int = 1,
        d: int = 1,
        act: Activation = True,
        bn: bool = False,
        deploy: bool = False,
    ) -> None:
        super().__init__()
        if (k, p, d) != (3, 1, 1):
            raise ConfigError(f"RepConv needs k=3, p=1, d=1; got k={k}, p={p}, d={d}; use Conv instead")
        self.g, self.c1, self.c2 = g, c1, c2
        self.act = make_activation(act, rep=True)
        self.bn = nn.BatchNorm2d(c1) if bn and c1 == c2 and s == 1 else None
        self.conv1 = Conv(c1, c2, k, s, p=p, g=g, act=False)
        self.conv2 = Conv(c1, c2, 1, s, p=p - k // 2, g=g, act=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H', W')."""
        y = self.conv1(x) + self.conv2(x)
        return self.act(y if self.bn is None else y + self.bn(x))

    def forward_fuse(self, x: Tensor) -> Tensor:
        """Forward with all branches in one convolution."""
        return self.act(self.conv(x))

    def get_equivalent_kernel_bias(self) -> tuple[Tensor, Tensor]:
        """Return kernel (c2, c1/g, 3, 3) and bias (c2) of the sum of the branches."""
        kernel, bias = _folded(self.conv1.conv, self.conv1.bn)
        kernel_1x1, bias_1x1 = _folded(self.conv2.conv, self.conv2.bn)
        kernel, bias = kernel + F.pad(kernel_1x1, [1, 1, 1, 1]), bias + bias_1x1
        if self.bn is not None:
            same, shift = _folded(self._identity_conv(kernel), self.bn)
            kernel, bias = kernel + same, bias + shift
        return kernel, bias

    def _identity_conv(self, like: Tensor) -> nn.Conv2d:
        """Return a 3x3 convolution that copies its input."""
        conv = nn.Conv2d(self.c1, self.c2, 3, padding=1, groups=self.g, bias=False).to(like)
        nn.init.dirac_(conv.weight, self.g)
        return conv

    def fuse_convs(self) -> None:
        """Collapse the branches into `conv`, frozen, in place."""
        if hasattr(self, "conv"):
            return
        kernel, bias = self.get_equivalent_kernel_bias()
        stride = _square(self.conv1.conv.stride)
        self.conv = nn.Conv2d(self.c1, self.c2, 3, stride, 1, groups=self.g).to(kernel).requires_grad_(False)
        self.conv.load_state_dict({"weight": kernel, "bias": bias})
        for name in ("conv1", "conv2", "bn"):
            delattr(self, name)

    def fuse(self) -> nn.Module:
        """Collapse the branches, in place."""
        self.fuse_convs()
        self.forward = self.forward_fuse  # type: ignore[method-assign]
        return self


@register(channels_first)
class ChannelAttention(nn.Module):
    """Scale each channel by a gate made from the map's mean (after CBAM, arXiv 1807.06521, sec. 3.1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Conv2d(channels, channels, 1)
        self.act = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        return x * self.act(self.fc(self.pool(x)))


@register(same_channels)
class SpatialAttention(nn.Module):
    """Scale each place by a gate made from the mean and maximum over channels (CBAM, sec. 3.2)."""

    def __init__(self, kernel_size: int = 7) -> None:
        super().__init__()
        if kernel_size not in (3, 7):
            raise ConfigError(f"SpatialAttention kernel_size must be 3 or 7; got {kernel_size}")
        self.cv1 = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.act = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        pooled = torch.cat((x.mean(1, keepdim=True), x.amax(1, keepdim=True)), 1)  # (B, 2, H, W)
        return x * self.act(self.cv1(pooled))


def _cbam_rule(row: RowContext) -> Plan:
    """`[]`, `[kernel]` or `[channels, kernel]`: the channels are inferred, a count in the YAML is not needed."""
    args = row.args[1:] if row.args and row.args[0] not in (3, 7) else row.args
    return Plan((row.c1, *args), row.c1)


@register(_cbam_rule, row=("kernel_size", "channels: int, kernel_size"))
class CBAM(nn.Module):
    """Channel attention, then spatial attention (arXiv 1807.06521). YAML `[]`, `[kernel]`, `[channels, kernel]`."""

    def __init__(self, c1: int, kernel_size: int = 7) -> None:
        super().__init__()
        self.channel_attention = ChannelAttention(c1)
        self.spatial_attention = SpatialAttention(kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> the same shape."""
        return self.spatial_attention(self.channel_attention(x))


@register(summed_channels, multi_input=True)
class Concat(nn.Module):
    """Join a list of tensors along `dimension` (1: channels)."""

    def __init__(self, dimension: int = 1) -> None:
        super().__init__()
        self.d = dimension

    def forward(self, x: list[Tensor]) -> Tensor:
        """[(B, C_i, H, W), ...] -> (B, sum C_i, H, W) for dimension 1."""
        return torch.cat(x, self.d)


def _index_rule(row: RowContext) -> Plan:
    """`[c2, index]` -> (index): picks one entry, of which the YAML states the channels."""
    return Plan(row.args[1:], row.args[0])


@register(_index_rule, row="c2: int, index")
class Index(nn.Module):
    """Pick one output of a layer that returns several (TorchVision, CBLinear). YAML `[c2, index]`, c2 its channels."""

    def __init__(self, index: int = 0) -> None:
        super().__init__()
        self.index = index

    def forward(self, x: Sequence[Tensor] | Tensor) -> Tensor:
        """[(B, C_i, H_i, W_i), ...] -> (B, C_index, H_index, W_index)."""
        if isinstance(x, Tensor):  # whose entries are its images
            raise ConfigError("Index picks from a layer with several outputs; its input is one map")
        return x[self.index]
