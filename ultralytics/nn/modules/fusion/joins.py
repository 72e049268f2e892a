"""Joins without much of their own: sums, products, picks, weighted sums, and Zoom_cat.

Shapes: B batch, C channels, H x W map, N inputs. Inputs are a list of maps (B, C, H, W).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.modules.fusion.slim_neck import GSConv
from ultralytics.nn.registry import Plan, RowContext, register, summed_channels
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.torch_tools.reproducible import adaptive_avg_pool2d, adaptive_max_pool2d, interpolate_bilinear


def _last_channels(row: RowContext) -> Plan:
    """`[...]` -> (...): as many channels as the last input."""
    return Plan(row.args, row.in_channels[-1])


@register(_last_channels, multi_input=True, row="")
class Add(nn.Module):
    """The sum of the inputs, which have one shape."""

    def forward(self, x: list[Tensor]) -> Tensor:
        """[(B, C, H, W), ...] -> (B, C, H, W)."""
        return sum(x[1:], x[0])


@register(_last_channels, multi_input=True, row="")
class Multiply(nn.Module):
    """The product of the inputs, which have one shape."""

    def forward(self, x: list[Tensor]) -> Tensor:
        """[(B, C, H, W), ...] -> (B, C, H, W)."""
        y = x[0]
        for other in x[1:]:
            y = y * other
        return y


@register(lambda row: Plan(row.args, -1), row="index")
class GetIndexOutput(nn.Module):
    """Pick one output of a layer that returns several. YAML `[index]`; the channels are found by the dry run.

    `Index` does the same where the row states the channels.
    """

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index

    def forward(self, x: list[Tensor] | tuple[Tensor, ...] | Tensor) -> Tensor:
        """[(B, C_i, H_i, W_i), ...] -> (B, C_index, H_index, W_index)."""
        if isinstance(x, Tensor):
            raise ConfigError("GetIndexOutput picks from a layer with several outputs; its input is one map")
        return x[self.index]


@register(summed_channels, multi_input=True)
class Zoom_cat(nn.Module):
    """Join a fine, a middle and a coarse map at the middle size (TFE of ASF-YOLO, arXiv 2312.06458).

    The fine map comes as the sum of its adaptive maximum and average, the coarse one by nearest upsampling.
    """

    def forward(self, x: list[Tensor]) -> Tensor:
        """[(B, C0, H0, W0), (B, C1, H, W), (B, C2, H2, W2)] -> (B, C0 + C1 + C2, H, W)."""
        fine, middle, coarse = x
        size = (middle.shape[2], middle.shape[3])
        fine = adaptive_max_pool2d(fine, size) + adaptive_avg_pool2d(fine, size)
        return torch.cat((fine, middle, F.interpolate(coarse, size=size)), 1)


def resized(x: Tensor, size: Sequence[int]) -> Tensor:
    """Return a map (B, C, H', W') at the size (H, W): averages where it is larger, then bilinear to aligned corners.

    Rows and columns are sized separately, so the maps need not be square.
    """
    if tuple(x.shape[2:]) == tuple(size):
        return x
    x = adaptive_avg_pool2d(x, (min(x.shape[2], size[0]), min(x.shape[3], size[1])))
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return interpolate_bilinear(x, size, align_corners=True)


def _inputs_rule(row: RowContext) -> Plan:
    """`[...]` -> (channels of all inputs, ...): as many channels as the first."""
    return Plan((list(row.in_channels), *row.args), row.c1)


@register(_inputs_rule, multi_input=True, row="")
class SDI(nn.Module):
    """Inputs at the size of the first, each through a GSConv to its channels, multiplied (U-Net v2, arXiv 2311.17791).

    In place of the paper's 3x3 convolutions, as circulated.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(GSConv(c, channels[0]) for c in channels)

    def forward(self, x: list[Tensor]) -> Tensor:
        """[(B, C_0, H, W), (B, C_i, H_i, W_i), ...] -> (B, C_0, H, W)."""
        size = x[0].shape[2:]
        y = self.convs[0](x[0])
        for conv, other in zip(self.convs[1:], x[1:], strict=True):
            y = y * conv(resized(other, size))
        return y


FUSION_MODES = ("weight", "adaptive", "concat", "bifpn", "SDI")


def _fusion_rule(row: RowContext) -> Plan:
    """`[mode]` -> (channels of all inputs, mode): as many channels as the first input, for concat all together."""
    concat = bool(row.args) and row.args[0] == "concat"
    return Plan((list(row.in_channels), *row.args), sum(row.in_channels) if concat else row.c1)


@register(_fusion_rule, multi_input=True, row="fusion")
class Fusion(nn.Module):
    """Join maps of one size in a way that the row names. YAML `[mode]`.

    `weight`: each through a Conv, summed. `adaptive`: each through a Conv, then a sum with weights by a softmax over
    the inputs at each place. `concat`: joined along the channels. `bifpn`: a sum with learned weights, clipped at 0 and
    normalised (EfficientDet, arXiv 1911.09070; without its epsilon). `SDI`: as the block of that name, which
    also takes maps of other sizes. ConfigError for an unknown mode, or widths that differ where maps are summed.
    """

    def __init__(self, inc_list: Sequence[int], fusion: str = "bifpn") -> None:
        super().__init__()
        if fusion not in FUSION_MODES:
            raise ConfigError(f"Fusion: mode={fusion!r}; write one of {', '.join(FUSION_MODES)}")
        if fusion in {"weight", "adaptive", "bifpn"} and len(set(inc_list)) > 1:
            raise ConfigError(f"Fusion '{fusion}' sums its inputs: channels {list(inc_list)} must be equal")
        self.fusion = fusion
        if fusion == "SDI":
            self.SDI = SDI(inc_list)
        elif fusion == "bifpn":
            self.fusion_weight = nn.Parameter(torch.ones(len(inc_list)))
        else:
            self.fusion_conv = nn.ModuleList(Conv(c, c, 1) for c in inc_list)
        if fusion == "adaptive":
            self.fusion_adaptive = Conv(sum(inc_list), len(inc_list), 1)

    def forward(self, x: list[Tensor]) -> Tensor:
        """[(B, C_i, H, W), ...] -> (B, C_0, H, W), for `concat` (B, sum C_i, H, W)."""
        if self.fusion == "SDI":
            return self.SDI(x)
        if self.fusion == "concat":
            return torch.cat(x, 1)
        if self.fusion == "bifpn":
            return _weighted_sum(x, _normalised(self.fusion_weight).unbind())
        y = [conv(v) for conv, v in zip(self.fusion_conv, x, strict=True)]
        if self.fusion == "weight":
            return sum(y[1:], y[0])
        gates = self.fusion_adaptive(torch.cat(y, 1)).softmax(1)  # (B, N, H, W)
        return _weighted_sum(y, gates.split(1, 1))


def _normalised(weight: Tensor) -> Tensor:
    """Clip weights (N,) at 0 and make them sum to 1; zeros when none is positive."""
    positive = weight.relu()
    return positive / positive.sum().clamp_min(torch.finfo(weight.dtype).tiny)


def _weighted_sum(x: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    """Sum of maps, each times its weight."""
    y = x[0] * weights[0]
    for other, weight in zip(x[1:], weights[1:], strict=True):
        y = y + other * weight
    return y


def _bi_fpn_rule(row: RowContext) -> Plan:
    """`[]` or `[N]` -> (N): the number of inputs, as many channels as the first."""
    count = len(row.in_channels)
    if row.args and row.args[0] != count:
        raise ValueError(f"the row says {row.args[0]} inputs, but it has {count}")
    return Plan((count,), row.c1)


@register(_bi_fpn_rule, multi_input=True, row=("", "length"))
class Bi_FPN(nn.Module):
    """A sum with learned weights over the sum of their swish (after EfficientDet, arXiv 1911.09070)."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(length))

    def forward(self, x: list[Tensor]) -> Tensor:
        """[(B, C, H, W), ...] -> (B, C, H, W)."""
        weights = self.weight / (F.silu(self.weight).sum() + 1e-4)
        return _weighted_sum(x, weights.unbind())
