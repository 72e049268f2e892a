"""Joins of two maps by attention: CGAFusion, CAFMFusion, SBA; GLSA and the gate of HSFPN.

Shapes: B batch, C channels, H x W map, N = H*W places, M heads; every map is (B, C, H, W).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.modules.graph_capture import is_capturing_graph
from ultralytics.nn.registry import Plan, RowContext, channels_first, register, scaled_conv
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.torch_tools.reproducible import ReflectConv2d, interpolate_bilinear

REACH = 3
"""Cells that a 7x7 kernel reflects at a border."""


# ------------------------------------------------------------------------------------------------ content guided sums
class _PlaceAttention(nn.Module):
    """One value for each place, from the mean and maximum over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.sa = ReflectConv2d(2, 1, 7)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 1, H, W)."""
        return self.sa(torch.cat((x.mean(1, keepdim=True), x.amax(1, keepdim=True)), 1))


class _MeanAttention(nn.Module):
    """One value for each channel, from the map's mean."""

    def __init__(self, c: int, reduction: int) -> None:
        super().__init__()
        inner = c // reduction
        self.ca = nn.Sequential(nn.Conv2d(c, inner, 1), nn.ReLU(), nn.Conv2d(inner, c, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, 1, 1)."""
        return self.ca(x.mean((2, 3), keepdim=True))


class _PairAttention(nn.Module):
    """A gate for each cell, from a 7x7 convolution over each channel of two maps."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.pa2 = ReflectConv2d(2 * c, c, 7, groups=c)

    def forward(self, x: Tensor, pattern: Tensor) -> Tensor:
        """Two (B, C, H, W) -> (B, C, H, W)."""
        pairs = torch.stack((x, pattern), 2).flatten(1, 2)  # (B, 2C, H, W)
        return self.pa2(pairs).sigmoid()


def _second_channels(row: RowContext) -> Plan:
    """`[...]` -> (channels of the second input, ...), which are also those of the output."""
    if len(row.in_channels) != 2:
        raise ValueError(f"it takes two inputs; the row has {len(row.in_channels)}")
    return Plan((row.in_channels[1], *row.args), row.in_channels[1])


def _total(first: Tensor, second: Tensor) -> Tensor:
    """Return the sum of both maps; ConfigError where its border cannot be reflected."""
    if not is_capturing_graph() and min(first.shape[2:]) <= REACH:
        raise ConfigError(
            f"a map of {first.shape[2]}x{first.shape[3]} cells is too small for a 7x7 gate, whose reflection needs "
            f"more than {REACH} cells; give a larger image, or fuse at a finer level"
        )
    return first + second


def _blended(x: Tensor, y: Tensor, gate: Tensor) -> Tensor:
    """x + y + gate x + (1 - gate) y."""
    return x + y + gate * x + (1 - gate) * y


@register(_second_channels, multi_input=True, row="reduction")
class CGAFusion(nn.Module):
    """A sum of two maps that leans to one or the other at each cell (DEA-Net, arXiv 2301.04805).

    YAML `[reduction]`. As in the published code the sigmoid is applied twice. Maps of at least 4 x 4 cells.
    """

    def __init__(self, dim: int, reduction: int = 8) -> None:
        super().__init__()
        if dim < reduction:
            raise ConfigError(f"CGAFusion: {dim} channels cannot be reduced by {reduction}")
        self.sa = _PlaceAttention()
        self.ca = _MeanAttention(dim, reduction)
        self.pa = _PairAttention(dim)
        self.conv = nn.Conv2d(dim, dim, 1)

    def forward(self, x: list[Tensor]) -> Tensor:
        """[(B, C, H, W), (B, C, H, W)] -> (B, C, H, W)."""
        first, second = x
        total = _total(first, second)
        gate = self.pa(total, self.sa(total) + self.ca(total)).sigmoid()
        return self.conv(_blended(first, second, gate))


def _middle(conv: nn.Conv3d, x: Tensor) -> Tensor:
    """Run a 3-D convolution on maps (B, C, H, W) that have one slice: its kernel's middle slice alone meets them."""
    weight = conv.weight[:, :, conv.kernel_size[0] // 2]
    return F.conv2d(x, weight, conv.bias, padding=conv.kernel_size[1] // 2, groups=conv.groups)


class CAFM(nn.Module):
    """Channel attention beside convolutions of the same queries, keys and values (HCANet, arXiv 2403.10067).

    Weights are those of 3-D convolutions on an axis of length one, of which only the middle slice acts: they run as 2-D
    convolutions. torch's 3-D ones in bfloat16 corrupt memory in a backward pass on a CPU (torch 2.14).
    """

    def __init__(self, dim: int, num_heads: int = 8) -> None:
        super().__init__()
        if num_heads < 1 or dim % num_heads:
            raise ConfigError(f"CAFM: {dim} channels are not divisible by {num_heads} heads")
        self.num_heads = num_heads
        self.temperature = nn.Parameter(torch.ones(num_heads, 1, 1))
        self.qkv = nn.Conv3d(dim, 3 * dim, 1, bias=False)
        self.qkv_dwconv = nn.Conv3d(3 * dim, 3 * dim, 3, padding=1, groups=3 * dim, bias=False)
        self.project_out = nn.Conv3d(dim, dim, 1, bias=False)
        self.fc = nn.Conv3d(3 * num_heads, 9, 1)
        self.dep_conv = nn.Conv3d(9 * dim // num_heads, dim, 3, padding=1, groups=dim // num_heads)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        qkv = _middle(self.qkv_dwconv, _middle(self.qkv, x))  # (B, 3C, H, W)
        return self._attended(qkv) + self._convolved(qkv)

    def _attended(self, qkv: Tensor) -> Tensor:
        """Attention of channels to channels in each head: (B, 3C, H, W) -> (B, C, H, W)."""
        q, k, v = qkv.flatten(2).unflatten(1, (3, self.num_heads, -1)).unbind(1)  # (B, M, C/M, N)
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        weights = (q @ k.transpose(2, 3) * self.temperature).softmax(-1)  # (B, M, C/M, C/M)
        y = (weights @ v).flatten(1, 2).unflatten(2, qkv.shape[2:])  # (B, C, H, W)
        return _middle(self.project_out, y)

    def _convolved(self, qkv: Tensor) -> Tensor:
        """The local branch: (B, 3C, H, W) -> (B, C, H, W). The plain reshape of the map is the published one."""
        height, width = qkv.shape[2:]
        heads = 3 * self.num_heads
        rows = qkv.reshape(len(qkv), height * width, heads, -1).permute(0, 2, 1, 3)  # (B, 3M, N, C/M)
        y = _middle(self.fc, rows)  # (B, 9, N, C/M)
        y = y.permute(0, 3, 1, 2).flatten(1, 2).unflatten(2, (height, width))  # (B, 9C/M, H, W)
        return _middle(self.dep_conv, y)


@register(_second_channels, multi_input=True, row="heads")
class CAFMFusion(nn.Module):
    """CGAFusion with CAFM in place of its two attentions. YAML `[heads]`. Maps of at least 4 x 4 cells."""

    def __init__(self, dim: int, heads: int = 8) -> None:
        super().__init__()
        self.cfam = CAFM(dim, heads)
        self.pa = _PairAttention(dim)
        self.conv = nn.Conv2d(dim, dim, 1)

    def forward(self, x: list[Tensor]) -> Tensor:
        """[(B, C, H, W), (B, C, H, W)] -> (B, C, H, W)."""
        first, second = x
        total = _total(first, second)
        gate = self.pa(total, self.cfam(total)).sigmoid()
        return self.conv(_blended(first, second, gate))


# ------------------------------------------------------------------------------------------ selective boundary and GLSA
def _sba_rule(row: RowContext) -> Plan:
    """`[]` -> (channels of both inputs, those of the second), which are also those of the output."""
    if len(row.in_channels) != 2:
        raise ValueError(f"it takes two inputs, fine and coarse; the row has {len(row.in_channels)}")
    return Plan((list(row.in_channels), row.in_channels[1]), row.in_channels[1])


@register(_sba_rule, multi_input=True, row="")
class SBA(nn.Module):
    """Selective boundary aggregation of a fine and a coarse map, at the coarse size (DuAT, arXiv 2212.11677).

    Each map takes from the other what its own gate leaves out. Ends in a 3x3 Conv, as circulated.
    """

    def __init__(self, inc: Sequence[int], input_dim: int = 64) -> None:
        super().__init__()
        if input_dim % 2:
            raise ConfigError(f"SBA halves its {input_dim} channels; the number must be even")
        half = input_dim // 2
        self.d_in1 = Conv(half, half, 1)
        self.d_in2 = Conv(half, half, 1)
        self.conv = Conv(input_dim, input_dim, 3)
        self.fc1 = nn.Conv2d(inc[1], half, 1, bias=False)
        self.fc2 = nn.Conv2d(inc[0], half, 1, bias=False)

    def forward(self, x: list[Tensor]) -> Tensor:
        """[(B, C0, H0, W0), (B, C1, H, W)] -> (B, d, H, W)."""
        high, low = self.fc2(x[0]), self.fc1(x[1])
        gate_high, gate_low = high.sigmoid(), low.sigmoid()
        low, high = self.d_in1(low), self.d_in2(high)
        low = low + low * gate_low + (1 - gate_low) * _bilinear(gate_high * high, low)
        high = high + high * gate_high + (1 - gate_high) * _bilinear(gate_low * low, high)
        return self.conv(torch.cat((_bilinear(high, low), low), 1))


def _bilinear(x: Tensor, like: Tensor) -> Tensor:
    """Return a map at the size of another."""
    return interpolate_bilinear(x, like.shape[2:])


class _LocalContext(nn.Module):
    """A gate of six convolutions (1x1 and depth-wise 3x3 in turn), times the map, plus the map.

    `ca` and `sa` are not used; they are kept for weights that hold them, at their fixed widths.
    """

    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv1 = Conv(c, c, 1, act=nn.ReLU())
        self.conv2 = Conv(c, c, 3, g=c, act=nn.ReLU())
        self.conv3 = Conv(c, c, 1, act=nn.ReLU())
        self.conv4 = Conv(c, c, 3, g=c, act=nn.ReLU())
        self.conv5 = Conv(c, c, 1)  # the only one with the default activation, as circulated
        self.conv6 = Conv(c, c, 3, g=c, act=nn.ReLU())
        self.conv7 = nn.Sequential(nn.Conv2d(c, c, 1, bias=False), nn.ReLU())
        self.ca = nn.ModuleDict({"fc1": nn.Conv2d(64, 4, 1, bias=False), "fc2": nn.Conv2d(4, 64, 1, bias=False)})
        self.sa = nn.ModuleDict({"conv1": nn.Conv2d(2, 1, 7, padding=3, bias=False)})

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        y = x
        for pointwise, spatial in ((self.conv1, self.conv2), (self.conv3, self.conv4), (self.conv5, self.conv6)):
            y = pointwise(y)
            y = y + spatial(y)
        return x + x * self.conv7(y).sigmoid()


class _GlobalContext(nn.Module):
    """Scale channels by a gate of a softmax-weighted mean over places, plus the map (GCNet, arXiv 1904.11492)."""

    def __init__(self, c: int) -> None:
        super().__init__()
        inner = 2 * c
        self.conv_mask = nn.Conv2d(c, 1, 1)
        self.channel_mul_conv = nn.Sequential(
            nn.Conv2d(c, inner, 1), nn.LayerNorm([inner, 1, 1]), nn.ReLU(), nn.Conv2d(inner, c, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        weights = self.conv_mask(x).flatten(2).softmax(-1)  # (B, 1, N)
        context = x.flatten(2) @ weights.transpose(1, 2)  # (B, C, 1)
        return x + x * self.channel_mul_conv(context.unsqueeze(3)).sigmoid()


@register(scaled_conv)
class GLSA(nn.Module):
    """Half of the channels by a local gate, half by a global one, joined (DuAT, arXiv 2212.11677).

    `conv1_1_1` is not used; it is kept for weights that hold it. ConfigError when c1 is odd.
    """

    def __init__(self, input_dim: int = 512, embed_dim: int = 32) -> None:
        super().__init__()
        if input_dim % 2:
            raise ConfigError(f"GLSA halves its {input_dim} channels; the number must be even")
        half = input_dim // 2
        self.conv1_1 = Conv(2 * embed_dim, embed_dim, 1)
        self.conv1_1_1 = Conv(half, embed_dim, 1)
        self.local_11conv = nn.Conv2d(half, embed_dim, 1)
        self.global_11conv = nn.Conv2d(half, embed_dim, 1)
        self.GlobelBlock = _GlobalContext(embed_dim)
        self.local = _LocalContext(embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, input_dim, H, W) -> (B, embed_dim, H, W)."""
        first, second = x.chunk(2, 1)
        local, context = self.local(self.local_11conv(first)), self.GlobelBlock(self.global_11conv(second))
        return self.conv1_1(torch.cat((local, context), 1))


@register(channels_first)
class ChannelAttention_HSFPN(nn.Module):
    """Channel gate of the map's mean and maximum through one perceptron (HS-FPN of MFDS-DETR, arXiv 2401.00926).

    YAML `[ratio, flag]`; without `flag` the gate itself is returned.
    """

    def __init__(self, in_planes: int, ratio: int = 4, flag: bool = True) -> None:
        super().__init__()
        if in_planes < ratio:
            raise ConfigError(f"ChannelAttention_HSFPN: {in_planes} channels cannot be reduced by {ratio}")
        self.conv1 = nn.Conv2d(in_planes, in_planes // ratio, 1, bias=False)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(in_planes // ratio, in_planes, 1, bias=False)
        self.flag = flag

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape, or (B, C, 1, 1) without `flag`."""
        pooled = x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        mean, largest = (self.conv2(self.relu(self.conv1(p))) for p in pooled)
        gate: Tensor = (mean + largest).sigmoid()
        return gate * x if self.flag else gate
