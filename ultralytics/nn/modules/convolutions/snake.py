"""Dynamic snake convolution (ICCV 2023, arXiv 2307.08388): kernels that bend along thin structures.

Shapes: B batch, C channels, H x W map, k places of the kernel. "Along" is the axis of the kernel (columns for
`morph` 0, rows for 1); the places move across it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.modules.csp import BottleneckC2f
from ultralytics.nn.modules.utils import at_least_float32
from ultralytics.nn.registry import Plan, RowContext, register, scaled_repeat
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.ops import constant_like
from ultralytics.utils.torch_tools.reproducible import grid_sample
from ultralytics.utils.torch_utils import fuse_conv_and_bn


class DSConv(nn.Module):
    """One snake: k places in a line along one axis, moved across it by offsets that add up from the centre outwards.

    The two end places keep their own offset (with k = 3 that is all of them; the centre stays). A place outside of the
    map reads 0. Group norm and SiLU follow (official: ReLU).

    The official code reads the first image's features for every image of a batch; here each image reads its own. It
    also cuts the gradient of the ends, so that with k = 3 the offsets never learn; `frozen_ends` does the same, by
    default they learn. Both kernels exist in each snake for the sake of the keys; only the one of `morph` is used.
    """

    def __init__(self, c1: int, c2: int, morph: int, k: int = 3, frozen_ends: bool = False) -> None:
        super().__init__()
        if k < 3 or k % 2 == 0:
            raise ConfigError(f"DSConv: kernel {k}; it must be odd and at least 3")
        if c2 < 4 or c2 % 4:
            raise ConfigError(f"DSConv: {c2} output channels; its group norm needs a multiple of 4")
        self.k, self.morph, self.frozen_ends = k, morph, frozen_ends
        self.offset_conv = nn.Conv2d(c1, 2 * k, 3, padding=1)
        self.bn: nn.Module = nn.BatchNorm2d(2 * k)
        self.dsc_conv_x = nn.Conv2d(c1, c2, (k, 1), (k, 1))
        self.dsc_conv_y = nn.Conv2d(c1, c2, (1, k), (1, k))
        self.gn = nn.GroupNorm(c2 // 4, c2)
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H, W)."""
        offset = self.bn(self.offset_conv(x)).tanh()  # (B, 2k, H, W)
        across = self._accumulated(offset[:, : self.k] if self.morph == 0 else offset[:, self.k :])
        sampled = self._sample(x, across)
        conv = self.dsc_conv_x if self.morph == 0 else self.dsc_conv_y
        return self.act(self.gn(conv(sampled)))

    def _accumulated(self, offset: Tensor) -> Tensor:
        """Return how far each place moves, (B, k, H, W), from its own step."""
        steps, centre = [offset[:, j] for j in range(self.k)], self.k // 2
        moved = list(steps)
        moved[centre] = torch.zeros_like(steps[centre])
        for j in range(1, centre):
            moved[centre + j] = moved[centre + j - 1] + steps[centre + j]
            moved[centre - j] = moved[centre - j + 1] + steps[centre - j]
        if self.frozen_ends:
            moved[0], moved[-1] = moved[0].detach(), moved[-1].detach()
        return torch.stack(moved, 1)

    def _sample(self, x: Tensor, across: Tensor) -> Tensor:
        """Read the map at every place: (B, C, H*k, W) for `morph` 0, (B, C, H, W*k) for 1."""
        h, w = x.shape[2:]
        across = at_least_float32(across)
        line = torch.arange(self.k, device=x.device, dtype=across.dtype) - self.k // 2
        rows = torch.arange(h, device=x.device, dtype=across.dtype)[:, None]
        columns = torch.arange(w, device=x.device, dtype=across.dtype)
        along = line[:, None, None] + (columns if self.morph == 0 else rows)  # (k, 1, W) or (k, H, 1)
        along = along.expand_as(across)
        y, x_ = (rows + across, along) if self.morph == 0 else (along, columns + across)  # (B, k, H, W) both
        places = torch.stack((x_, y), -1)  # (B, k, H, W, 2)
        if self.morph == 0:
            places = places.transpose(1, 2).flatten(1, 2)  # (B, H*k, W, 2): place t of row i becomes row i*k + t
        else:
            places = places.permute(0, 2, 3, 1, 4).flatten(2, 3)  # (B, H, W*k, 2)
        size = constant_like([w, h], places)
        inside = ((places >= 0) & (places < size)).all(-1)  # (B, H*k, W) or (B, H, W*k)
        grid = 2 * places / (size - 1).clamp(min=1) - 1
        value = at_least_float32(x)
        sampled = grid_sample(value, grid.to(value.dtype), "border", align_corners=True)
        return (sampled * inside[:, None]).to(x.dtype)

    def fuse(self) -> nn.Module:
        """Fold the batch norm of the offsets, in place."""
        if isinstance(self.bn, nn.BatchNorm2d):
            self.offset_conv, self.bn = fuse_conv_and_bn(self.offset_conv, self.bn), nn.Identity()
        return self


def _snake_rule(row: RowContext) -> Plan:
    """`[c2, k]` -> (c1, c2 scaled, k): three branches of c2 channels each, so the row has 3 * c2."""
    c2 = row.scaled(row.args[0])
    return Plan((row.c1, c2, *row.args[1:]), 3 * c2)


@register(_snake_rule, row="c2, k, frozen_ends")
class DySnakeConv(nn.Module):
    """A plain convolution and a snake along each axis, joined: 3 * c2 channels. YAML `[c2, k, frozen_ends]`."""

    def __init__(self, c1: int, c2: int, k: int = 3, frozen_ends: bool = False) -> None:
        super().__init__()
        self.conv_0 = Conv(c1, c2, k)
        self.conv_x = DSConv(c1, c2, 0, k, frozen_ends)
        self.conv_y = DSConv(c1, c2, 1, k, frozen_ends)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, 3 * c2, H, W)."""
        return torch.cat((self.conv_0(x), self.conv_x(x), self.conv_y(x)), 1)


@register(_snake_rule, row="c2, k")
class DySnakeConvFrozen(DySnakeConv):
    """DySnakeConv as the official code trains it: no gradient reaches the offsets of the two end places."""

    def __init__(self, c1: int, c2: int, k: int = 3) -> None:
        super().__init__(c1, c2, k, frozen_ends=True)


class SnakeBottleneck(nn.Module):
    """3x3 Conv, DySnakeConv, 1x1 Conv back to the width; plus the input."""

    def __init__(self, c: int, shortcut: bool = True, k: int = 3) -> None:
        super().__init__()
        self.cv1 = Conv(c, c, 3)
        self.cv2 = DySnakeConv(c, c, k)
        self.cv3 = Conv(3 * c, c, 1)
        self.add = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, H, W) -> the same shape."""
        y = self.cv3(self.cv2(self.cv1(x)))
        return x + y if self.add else y


@register(scaled_repeat)
class C2f_DySnakeConv(BottleneckC2f):
    """C2f whose bottlenecks have snakes. YAML `[c2, shortcut]`."""

    @staticmethod
    def member(c: int, shortcut: bool) -> nn.Module:
        """Return one bottleneck of width c."""
        return SnakeBottleneck(c, shortcut)
