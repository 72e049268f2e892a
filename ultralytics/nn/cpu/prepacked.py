"""Folded networks on a CPU, with weights that are cast and laid out once.

Under autocast torch casts the weights of a layer in each call, lays those of a convolution out again for oneDNN, and an
activation reads and writes the whole map once more. The operators that torch's own compiler emits do neither. In
float32 there are no casts, and weights that are laid out once save 3 to 5 % of the time, not worth a second copy: only
convolutions with a SiLU behind them are overridden, and their weights stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ultralytics.nn.cpu.versions import TensorVersions
from ultralytics.nn.modules.attention import SelfAttention
from ultralytics.nn.modules.conv import Conv, RepConv
from ultralytics.nn.modules.head import FoldedProjection
from ultralytics.nn.modules.utils import is_capturing_graph
from ultralytics.utils.torch_utils import autocast_dtype

ACTIVATIONS = {nn.Identity: "none", nn.ReLU: "relu", nn.SiLU: "swish"}
"""Activations that oneDNN applies to what a convolution returns, under its own names for them."""


class _Prepared(NamedTuple):
    """Weights in the precision that is computed in, and what they were made of and for."""

    parameters: TensorVersions
    size: Sequence[int]
    weight: Tensor
    bias: Tensor | None


class ForwardOverride:
    """Takes the place of a method of a block, by default its `forward`; a copy or a pickle of the block has it back.

    `dtype` is what it computes in; under another autocast, and for another input without, the block's own method runs.
    """

    def __init__(self, block: nn.Module, name: str = "forward", dtype: torch.dtype = torch.bfloat16) -> None:
        self.block: Any = block
        self.name = name
        self.dtype = dtype

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self.block, self.name)

    def plain(self, *args: object) -> Any:
        """What the block's own method returns."""
        return getattr(type(self.block), self.name)(self.block, *args)

    def applies(self, x: Tensor) -> bool:
        """Whether x is to be computed in `dtype` on the CPU, without a gradient and without a graph to capture."""
        if torch.is_grad_enabled() or x.device.type != "cpu" or is_capturing_graph() or not x.numel():
            return False
        return (autocast_dtype("cpu") or x.dtype) is self.dtype


class Prepacked(ForwardOverride):
    """Computes a block with one layer, whose own weights stay as they are; where it does not apply, the block does."""

    def __init__(
        self, block: nn.Module, layer: nn.Module, name: str = "forward", dtype: torch.dtype = torch.bfloat16
    ) -> None:
        super().__init__(block, name, dtype)
        self.layer: Any = layer
        self._prepared: _Prepared | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """As the block's own method."""
        y: Tensor = self.run(x.to(self.dtype), *self.weights(x)) if self.applies(x) else self.plain(x)
        return y

    def parameters(self) -> tuple[Any, ...]:
        """Return weight and bias as the layer has them, and what else the weight depends on."""
        return self.layer.weight, self.layer.bias

    def weights(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return weight and bias in `dtype`, laid out for x; again when the layer's own have changed.

        A parameter that was replaced is seen, and so is a change in place under `torch.no_grad()`. One through `.data`,
        NumPy or in inference mode leaves no trace: prepack a copy of the network afterwards.
        """
        parameters = self.parameters()
        size = self.size(x)
        kept = self._prepared
        if kept is None or kept.size != size or not kept.parameters.match(parameters):
            weight, bias = self.computed(*parameters)
            low = None if bias is None else bias.detach().to(self.dtype)
            kept = _Prepared(TensorVersions(parameters), size, self.lay_out(weight.detach().to(self.dtype), size), low)
            self._prepared = kept
        return kept.weight, kept.bias

    def computed(self, *parameters: Any) -> tuple[Tensor, Tensor | None]:
        """Return weight and bias of what is computed, from the parameters."""
        weight, bias = parameters
        return weight, bias

    def size(self, x: Tensor) -> Sequence[int]:
        """Return the size of an input as far as the layout of the weight depends on it."""
        raise NotImplementedError

    def lay_out(self, weight: Tensor, size: Sequence[int]) -> Tensor:
        """Return a weight in `dtype` in the layout that suits inputs of this size."""
        raise NotImplementedError

    def run(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Compute the block."""
        raise NotImplementedError


class PrepackedLinear(Prepacked):
    """(..., c1) -> (..., c2), with the bias added by the product itself."""

    def size(self, x: Tensor) -> Sequence[int]:
        return (x.shape[:-1].numel(),)

    def lay_out(self, weight: Tensor, size: Sequence[int]) -> Tensor:
        packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, *size)
        return packed

    def run(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return y


class PrepackedConv(Prepacked):
    """(B, c1, H, W) -> (B, c2, H', W'), channels last: a convolution, with `act` behind it.

    Its parts run one by one when one of them has a forward hook; hooks on all modules of a process see the block alone.
    The kernel lies as oneDNN prefers it for maps of one size, the last that came: with a layout for small maps, large
    ones took more than twice the time.
    """

    def __init__(
        self,
        block: nn.Module,
        layer: nn.Conv2d,
        name: str = "forward",
        act: str = "none",
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        super().__init__(block, layer, name, dtype)
        self.act = act
        self.inner: tuple[nn.Module, ...] = () if layer is block else (self.layer, self.block.act)
        self.geometry = [list(layer.padding), list(layer.stride), list(layer.dilation), layer.groups]

    def applies(self, x: Tensor) -> bool:
        for module in self.inner:
            if module._forward_hooks or module._forward_pre_hooks:
                return False
        # as torch decides: the map or the kernel lies channels last
        last = x.is_contiguous(memory_format=torch.channels_last) or not self.layer.weight.is_contiguous()
        return last and super().applies(x)

    def size(self, x: Tensor) -> Sequence[int]:
        return x.shape

    def lay_out(self, weight: Tensor, size: Sequence[int]) -> Tensor:
        if self.dtype is torch.float32:
            return weight
        packed: Tensor = torch.ops.mkldnn._reorder_convolution_weight(weight, *self.geometry, size)
        return packed

    def run(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        y: Tensor = torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *self.geometry, self.act, [], "")
        return y


class ScaledConv(PrepackedConv):
    """A projection whose folded batch norm lies beside its weight."""

    def parameters(self) -> tuple[Any, ...]:
        return *super().parameters(), self.block.scale

    def computed(self, *parameters: Any) -> tuple[Tensor, Tensor | None]:
        return self.block.scaled(), parameters[1]


class PrepackedRows(PrepackedLinear):
    """(..., D) -> (..., rows): some rows of the projection in front of attention."""

    def __init__(self, block: SelfAttention, name: str, rows: slice) -> None:
        super().__init__(block, block, name)
        self.rows = rows

    def parameters(self) -> tuple[Any, ...]:
        return self.block.in_proj_weight, self.block.in_proj_bias

    def computed(self, *parameters: Any) -> tuple[Tensor, Tensor | None]:
        weight, bias = parameters
        return weight[self.rows], bias[self.rows]


def prepack(net: nn.Module, dtype: torch.dtype = torch.bfloat16) -> nn.Module:
    """Override the forwards of linear layers, convolutions and folded blocks by `Prepacked` ones, in place.

    Those of float32 are convolutions with a SiLU alone. Returns the network. `optimize_for_cpu` says where this
    applies.
    """
    for block in net.modules():
        if dtype is torch.bfloat16 and type(block) is SelfAttention:
            for name, rows in block.parts().items():
                setattr(block, name, PrepackedRows(block, name, rows))
        forward = _folded_override(block, dtype) or (_layer_override(block) if dtype is torch.bfloat16 else None)
        if forward is not None:
            block.forward = forward
    return net


def _folded_override(block: nn.Module, dtype: torch.dtype) -> Prepacked | None:
    """Return the override of a folded block, in float32 of one with a SiLU; None for others and a subclass's own."""
    if not isinstance(block, Conv | RepConv):
        return None
    forward, act = getattr(block.forward, "__func__", None), ACTIVATIONS.get(type(block.act))
    if forward not in {Conv.forward_fuse, RepConv.forward_fuse} or act is None:
        return None
    fits = dtype is torch.bfloat16 or act == "swish"
    return PrepackedConv(block, block.conv, "forward_fuse", act, dtype) if fits else None


def _layer_override(block: nn.Module) -> Prepacked | None:
    """Return the override of a layer's forward; None for other kinds, and where a subclass has its own."""
    forward = getattr(block.forward, "__func__", None)
    if isinstance(block, FoldedProjection) and forward is FoldedProjection.forward:
        return ScaledConv(block, block)
    if isinstance(block, nn.Linear) and forward is nn.Linear.forward:
        return PrepackedLinear(block, block)
    if isinstance(block, nn.Conv2d) and forward is nn.Conv2d.forward:
        plain = block.padding_mode == "zeros" and not isinstance(block.padding, str)
        return PrepackedConv(block, block) if plain else None
    return None
