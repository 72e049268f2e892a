"""Folded blocks in bfloat16 on a CPU: convolution and activation as one operator, with weights that are laid out once.

Under autocast torch casts the weights of a convolution in each call, lays them out anew for oneDNN, and its activation
then reads and writes the whole map once more. The operator that torch's own compiler emits for the two does neither.
Float32 stays as it is: there are no casts, and 3 % of the time are not worth a second copy of all weights.
"""

from __future__ import annotations

import functools
import platform
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ultralytics.nn.modules.conv import Conv, RepConv
from ultralytics.nn.modules.utils import is_captured
from ultralytics.utils.torch_utils import native_bf16

ACTIVATIONS = {nn.Identity: "none", nn.ReLU: "relu", nn.SiLU: "swish"}
"""Activations that oneDNN applies to what a convolution returns, under its own names for them."""


class _Weights(NamedTuple):
    """Weights in bfloat16 as oneDNN wants them, and what they were made of."""

    source: tuple[int, int]
    kernel: Tensor
    bias: Tensor


class PackedForward:
    """Stands in for the `forward` of a folded Conv or RepConv, whose own weights stay as they are.

    The kernel is kept in the layout that oneDNN prefers for the first map that comes; maps of other sizes are computed
    all the same. Without bfloat16, where a gradient is wanted or a graph is captured, and for maps that do not lie
    channels last, the block goes its own way. A copy or a pickle of the block has its plain forward again.
    """

    def __init__(self, block: Conv | RepConv) -> None:
        conv = block.conv
        self.block = block
        self.geometry = [list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups]
        self._weights: _Weights | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H', W')."""
        if not _applies(x):
            return self.block.forward_fuse(x)
        x, act = x.bfloat16(), ACTIVATIONS[type(self.block.act)]
        weights = self._laid_out(x)
        run = torch.ops.mkldnn._convolution_pointwise
        y: Tensor = run(x, weights.kernel, weights.bias, *self.geometry, act, [], "")
        return y

    def _laid_out(self, x: Tensor) -> _Weights:
        """Return kernel and bias for maps like x, made anew when the block's own have changed."""
        kernel, bias = self.block.conv.weight, self.block.conv.bias
        assert bias is not None
        source = (kernel.data_ptr(), 0 if kernel.is_inference() else kernel._version)
        if self._weights is None or self._weights.source != source:
            lay_out = torch.ops.mkldnn._reorder_convolution_weight
            packed = lay_out(kernel.detach().bfloat16(), *self.geometry, list(x.shape))
            self._weights = _Weights(source, packed, bias.detach().bfloat16())
        return self._weights

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self.block, "forward_fuse")


def pack(net: nn.Module) -> nn.Module:
    """Give each folded Conv and RepConv of a network its `PackedForward`, in place; return the network.

    Does nothing where the CPU does not compute in bfloat16 itself or torch comes without the operator.
    """
    if native_bf16("cpu") and _has_operator():
        for block in net.modules():
            if isinstance(block, Conv | RepConv) and _fits(block):
                block.forward = PackedForward(block)  # type: ignore[method-assign]
    return net


def _fits(block: Conv | RepConv) -> bool:
    """Whether a block is folded, runs as these classes do, and has an activation that oneDNN knows."""
    folded = getattr(block.forward, "__func__", None) in {Conv.forward_fuse, RepConv.forward_fuse}
    return folded and type(block.act) in ACTIVATIONS


@functools.cache
def _has_operator() -> bool:
    """Whether torch has the operator for this kind of CPU."""
    x86 = platform.machine().lower() in {"x86_64", "amd64"}
    return x86 and torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")


def _applies(x: Tensor) -> bool:
    """Whether the operator is known to serve here."""
    if torch.is_grad_enabled() or x.device.type != "cpu" or is_captured() or not x.numel():
        return False
    autocast = torch.is_autocast_enabled("cpu")
    dtype = torch.get_autocast_dtype("cpu") if autocast else x.dtype
    return dtype is torch.bfloat16 and x.is_contiguous(memory_format=torch.channels_last)
