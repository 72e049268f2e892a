"""Diverse branch block (CVPR 2021, arXiv 2103.13425): four branches in training, one convolution for inference.

Shapes: B batch, C channels, H x W map, g groups, I channels between the 1x1 and the k x k convolution.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn.modules.block import RepC3
from ultralytics.nn.modules.conv import Activation, make_activation
from ultralytics.nn.modules.csp import BottleneckC2f, BottleneckWith
from ultralytics.nn.registry import register, scaled_conv, scaled_repeat
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.torch_utils import bn_affine


class _Kernel(NamedTuple):
    """A convolution as numbers: weight (c2, c1/g, k, k) and bias (c2)."""

    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, weight: Tensor) -> _Kernel:
        """Return a kernel without bias."""
        return cls(weight, weight.new_zeros(len(weight)))

    def normed(self, bn: nn.BatchNorm2d) -> _Kernel:
        """Return the kernel with a batch norm behind it folded in."""
        scale, shift = bn_affine(bn)
        return _Kernel(self.weight * scale.view(-1, 1, 1, 1), self.bias * scale + shift)

    def after(self, first: _Kernel, groups: int) -> _Kernel:
        """Return this kernel applied behind a 1x1 one (whose bias also fills the padding) as one kernel."""
        inner = first.weight.unflatten(0, (groups, -1)).flatten(2)  # (g, I/g, c1/g)
        outer = self.weight.unflatten(0, (groups, -1))  # (g, c2/g, I/g, k, k)
        weight = torch.einsum("goikl,gij->gojkl", outer, inner).flatten(0, 1)  # (c2, c1/g, k, k)
        constant = torch.einsum("goikl,gi->go", outer, first.bias.unflatten(0, (groups, -1))).flatten()
        return _Kernel(weight, self.bias + constant)


class IdentityConv1x1(nn.Module):
    """1x1 convolution plus the identity; the convolution starts at zero."""

    def __init__(self, c: int, groups: int = 1) -> None:
        super().__init__()
        self.groups = groups
        self.conv = nn.Conv2d(c, c, 1, groups=groups, bias=False)
        nn.init.zeros_(self.conv.weight)

    def kernel(self) -> Tensor:
        """Return the weight of the sum, (c, c/g, 1, 1)."""
        same = torch.zeros_like(self.conv.weight)
        nn.init.dirac_(same, self.groups)
        return self.conv.weight + same

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, H, W) -> the same shape."""
        return F.conv2d(x, self.kernel(), groups=self.groups)


class BNAndPad(nn.Module):
    """Batch norm, then `pad` cells around, filled with what the running statistics make of a zero, in training too."""

    def __init__(self, pad: int, c: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(c)
        self.pad = pad

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H + 2 pad, W + 2 pad)."""
        pad = [self.pad] * 4
        if not self.training or self.pad == 0:
            return self.bn(F.pad(x, pad))
        y = self.bn(x)
        border = bn_affine(self.bn)[1].detach().to(y.dtype).view(1, -1, 1, 1)  # no gradient, as published
        inside = F.pad(torch.ones_like(y[:1, :1], dtype=torch.bool), pad)
        return torch.where(inside, F.pad(y, pad), border)


class _ConvNorm(nn.Module):
    """Convolution and batch norm."""

    def __init__(self, c1: int, c2: int, k: int, s: int, p: int, g: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, p, groups=g, bias=False)
        self.bn = nn.BatchNorm2d(c2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H', W')."""
        return self.bn(self.conv(x))

    def kernel(self) -> _Kernel:
        """Return both as one kernel."""
        return _Kernel.of(self.conv.weight).normed(self.bn)


class _Average(nn.Module):
    """1x1, batch norm with padding, average, batch norm; depth-wise without the first two, zeros around counted."""

    def __init__(self, c1: int, c2: int, k: int, s: int, p: int, g: int) -> None:
        super().__init__()
        self.k = k
        self.mixes = g < c2
        if self.mixes:
            self.conv = nn.Conv2d(c1, c2, 1, groups=g, bias=False)
            self.bn = BNAndPad(p, c2)
        self.avg = nn.AvgPool2d(k, s, 0 if self.mixes else p)
        self.avgbn = nn.BatchNorm2d(c2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H', W')."""
        if self.mixes:
            x = self.bn(self.conv(x))
        return self.avgbn(self.avg(x))

    def kernel(self) -> _Kernel:
        """Return the branch as one kernel."""
        if self.mixes:
            point = _Kernel.of(self.conv.weight).normed(self.bn.bn)
        else:
            point = _Kernel.of(self.avgbn.weight.new_ones(self.avgbn.num_features, 1, 1, 1))
        spread = point.weight.expand(-1, -1, self.k, self.k) / (self.k * self.k)
        return _Kernel(spread, point.bias).normed(self.avgbn)


class _TwoSteps(nn.Module):
    """1x1 (with the identity where it keeps the channels), batch norm with padding, k x k, batch norm."""

    def __init__(self, widths: tuple[int, int, int], k: int, s: int, p: int, g: int) -> None:
        super().__init__()
        c1, inner, c2 = widths
        self.g = g
        self.keeps = inner == c1
        if self.keeps:
            self.idconv1 = IdentityConv1x1(c1, g)
        else:
            self.conv1 = nn.Conv2d(c1, inner, 1, groups=g, bias=False)
        self.bn1 = BNAndPad(p, inner)
        self.conv2 = nn.Conv2d(inner, c2, k, s, groups=g, bias=False)
        self.bn2 = nn.BatchNorm2d(c2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H', W')."""
        y = self.idconv1(x) if self.keeps else self.conv1(x)
        return self.bn2(self.conv2(self.bn1(y)))

    def kernel(self) -> _Kernel:
        """Return the branch as one kernel."""
        first = self.idconv1.kernel() if self.keeps else self.conv1.weight
        point = _Kernel.of(first).normed(self.bn1.bn)
        return _Kernel.of(self.conv2.weight).normed(self.bn2).after(point, self.g)


@register(scaled_conv)
class DiverseBranchBlock(nn.Module):
    """Sum of k x k, 1x1, 1x1 with average and 1x1 with k x k, each with batch norms; then the activation.

    `fuse()` turns the four into one biased convolution, `deploy` builds that at once. `single_init` starts with the
    k x k branch alone. `internal_channels_1x1_3x3` is I (c1, or 2 * c1 for depth-wise, unless given).
    YAML `[c2, k, s, p, d, g]`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int | None = None,
        dilation: int = 1,
        groups: int = 1,
        internal_channels_1x1_3x3: int | None = None,
        deploy: bool = False,
        single_init: bool = False,
        act: Activation = True,
    ) -> None:
        super().__init__()
        c1, c2, k, s, g = in_channels, out_channels, kernel_size, stride, groups
        p = k // 2 if padding is None else padding
        _check(c1, c2, k, p, dilation, g)
        self.k, self.s, self.p, self.g = k, s, p, g
        self.act = make_activation(act)
        if deploy:
            self.dbb_reparam = nn.Conv2d(c1, c2, k, s, p, groups=g)
            return
        self.dbb_origin = _ConvNorm(c1, c2, k, s, p, g)
        self.dbb_avg = _Average(c1, c2, k, s, p, g)
        if g < c2:
            self.dbb_1x1 = _ConvNorm(c1, c2, 1, s, 0, g)
        inner = internal_channels_1x1_3x3 or (c1 if g < c2 else 2 * c1)
        self.dbb_1x1_kxk = _TwoSteps((c1, inner, c2), k, s, p, g)
        if single_init:
            self._start_with_origin()

    def _branches(self) -> list[nn.Module]:
        return [m for n, m in self.named_children() if n.startswith("dbb_")]

    def _start_with_origin(self) -> None:
        """Let the last batch norm of every branch but the first start at zero."""
        nn.init.zeros_(self.dbb_avg.avgbn.weight)
        nn.init.zeros_(self.dbb_1x1_kxk.bn2.weight)
        if hasattr(self, "dbb_1x1"):
            nn.init.zeros_(self.dbb_1x1.bn.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H', W')."""
        first, *others = self._branches()
        y = first(x)
        for branch in others:
            y = y + branch(x)
        return self.act(y)

    @torch.no_grad()
    def equivalent_kernel(self) -> tuple[Tensor, Tensor]:
        """Return weight (c2, c1/g, k, k) and bias (c2) of the sum of the branches, as in eval mode."""
        parts = [self.dbb_origin.kernel(), self.dbb_avg.kernel(), self.dbb_1x1_kxk.kernel()]
        if hasattr(self, "dbb_1x1"):
            point = self.dbb_1x1.kernel()
            parts.append(_Kernel(F.pad(point.weight, [self.k // 2] * 4), point.bias))
        weight = torch.stack([p.weight for p in parts]).sum(0)
        return weight, torch.stack([p.bias for p in parts]).sum(0)

    def fuse(self) -> nn.Module:
        """Merge the branches into `dbb_reparam`, frozen, in place."""
        if not hasattr(self, "dbb_reparam"):
            weight, bias = self.equivalent_kernel()
            c2, per_group = weight.shape[:2]
            conv = nn.Conv2d(per_group * self.g, c2, self.k, self.s, self.p, groups=self.g).to(weight)
            conv.load_state_dict({"weight": weight, "bias": bias})
            for name in [n for n, _ in self.named_children() if n.startswith("dbb_")]:
                delattr(self, name)
            self.dbb_reparam = conv.requires_grad_(False)
        return self


def _check(c1: int, c2: int, k: int, p: int, d: int, g: int) -> None:
    if d != 1 or k % 2 == 0 or p != k // 2:
        raise ConfigError(
            f"DiverseBranchBlock: kernel {k}, padding {p}, dilation {d}; its branches only add up for an odd kernel, "
            f"padding {k // 2} and dilation 1"
        )
    if c1 % g or c2 % g or (g == c2 and c1 != c2):
        raise ConfigError(f"DiverseBranchBlock: {c1} -> {c2} channels in {g} groups; depth-wise needs equal channels")


@register(scaled_repeat)
class C2f_DBB(BottleneckC2f):
    """C2f whose bottlenecks are two diverse branch blocks. YAML `[c2, shortcut]`."""

    @staticmethod
    def member(c: int, shortcut: bool) -> nn.Module:
        """Return one bottleneck of width c."""
        return BottleneckWith(c, _same_width, shortcut, first=_same_width)


def _same_width(c: int) -> nn.Module:
    return DiverseBranchBlock(c, c, 3)


@register(scaled_repeat)
class DBBC3(RepC3):
    """RepC3 with diverse branch blocks in place of its RepConvs. YAML `[c2, e]`."""

    def __init__(self, c1: int, c2: int, n: int = 3, e: float = 1.0) -> None:
        super().__init__(c1, c2, n, e, member=_same_width)
