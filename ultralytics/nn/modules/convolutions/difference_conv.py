"""Detail-enhanced convolution (DEA-Net, TIP 2024, arXiv 2301.04805): differences of neighbours as kernels.

Shapes: B batch, C channels, H x W map; kernels are (c, c, 3, 3).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn.modules.conv import make_activation
from ultralytics.nn.modules.csp import BottleneckC2f, BottleneckWith
from ultralytics.nn.registry import channels_first, register, scaled_repeat
from ultralytics.utils.torch_utils import fuse_conv_and_bn

# cell before each cell, in the ring around the centre in clockwise order; the centre (4) has itself
_BEFORE = (3, 0, 1, 6, 4, 2, 7, 8, 5)


class _Held(nn.Module):
    """Holds the weights of one kernel under `conv`."""

    def __init__(self, conv: nn.Conv1d | nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv


def _central(weight: Tensor) -> Tensor:
    """The centre becomes its difference from the sum of all nine cells."""
    cells = weight.flatten(2)  # (c, c, 9)
    total = F.pad(cells.sum(2, keepdim=True), (4, 4))
    return (cells - total).view_as(weight)


def _angular(weight: Tensor) -> Tensor:
    """Each cell of the ring minus the one before it; the centre is 0."""
    cells = weight.flatten(2)
    return (cells - cells[:, :, list(_BEFORE)]).view_as(weight)


def _horizontal(weight: Tensor) -> Tensor:
    """(c, c, 3) as left column, its negative as right column, 0 between."""
    return torch.stack((weight, torch.zeros_like(weight), -weight), 3)


def _vertical(weight: Tensor) -> Tensor:
    """(c, c, 3) as top row, its negative as bottom row, 0 between."""
    return torch.stack((weight, torch.zeros_like(weight), -weight), 2)


@register(channels_first)
class DEConv(nn.Module):
    """3x3 convolution whose kernel is a plain one plus central, horizontal, vertical and angular differences.

    One convolution at any time, since the five kernels add up; batch norm and SiLU follow. Folded, it is `conv1_5`.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1_1 = _Held(nn.Conv2d(dim, dim, 3, padding=1))
        self.conv1_2 = _Held(nn.Conv1d(dim, dim, 3, padding=1))
        self.conv1_3 = _Held(nn.Conv1d(dim, dim, 3, padding=1))
        self.conv1_4 = _Held(nn.Conv2d(dim, dim, 3, padding=1))
        self.conv1_5 = nn.Conv2d(dim, dim, 3, padding=1)
        self.bn = nn.BatchNorm2d(dim)
        self.act = make_activation(True)

    def kernel(self) -> tuple[Tensor, Tensor]:
        """Return weight (c, c, 3, 3) and bias (c) of the sum of the five."""
        central, horizontal, vertical, angular = (
            m.conv for m in (self.conv1_1, self.conv1_2, self.conv1_3, self.conv1_4)
        )
        weight = _central(central.weight) + _horizontal(horizontal.weight) + _vertical(vertical.weight)
        weight = weight + _angular(angular.weight) + self.conv1_5.weight
        parts = (central, horizontal, vertical, angular, self.conv1_5)
        bias = torch.stack([p.bias for p in parts if p.bias is not None]).sum(0)
        return weight, bias

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        weight, bias = self.kernel()
        return self.act(self.bn(F.conv2d(x, weight, bias, padding=1)))

    def forward_fuse(self, x: Tensor) -> Tensor:
        """Forward with everything in one convolution."""
        return self.act(self.conv1_5(x))

    @torch.no_grad()
    def fuse(self) -> nn.Module:
        """Merge the kernels and the batch norm into `conv1_5`, in place."""
        if hasattr(self, "bn"):
            weight, bias = self.kernel()
            self.conv1_5.load_state_dict({"weight": weight, "bias": bias})
            self.conv1_5 = fuse_conv_and_bn(self.conv1_5, self.bn)
            for name in ("conv1_1", "conv1_2", "conv1_3", "conv1_4", "bn"):
                delattr(self, name)
            self.forward = self.forward_fuse  # type: ignore[method-assign]
        return self


@register(scaled_repeat)
class C2f_DEConv(BottleneckC2f):
    """C2f whose bottlenecks have DEConv as second convolution. YAML `[c2, shortcut]`."""

    @staticmethod
    def member(c: int, shortcut: bool) -> nn.Module:
        """Return one bottleneck of width c."""
        return BottleneckWith(c, DEConv, shortcut)
