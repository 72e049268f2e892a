"""Feature pyramids on a CPU: maps are enlarged behind the 1x1 convolutions that read them.

In front of them, each sum over the channels of the small map is computed for all the places that it is copied to. A
convolution of joined maps is the sum of convolutions of each, and one of 1x1 may as well be enlarged itself.

A block takes part by a class attribute, `late_upsample: ClassVar[tuple[str, ...]]`: the names of the 1x1 convolutions
that alone read its input. A subclass with its own `forward` must name them again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn.cpu.prepacked import ForwardOverride, PrepackedConv
from ultralytics.nn.modules.conv import Concat


class LazyUpsample(NamedTuple):
    """A map to be enlarged: each number copied `factor` times down and across."""

    x: Tensor
    factor: int

    def enlarged(self) -> Tensor:
        """(B, C, H, W) -> (B, C, H * factor, W * factor)."""
        return F.interpolate(self.x, scale_factor=float(self.factor), mode="nearest")


class LazyConcat(NamedTuple):
    """Maps to be concatenated on the channel axis."""

    parts: tuple[Tensor | LazyUpsample, ...]

    def whole(self) -> Tensor:
        """The one map."""
        return torch.cat([part.enlarged() if isinstance(part, LazyUpsample) else part for part in self.parts], 1)


class LateUpsample(ForwardOverride):
    """Leaves a map small. `readers` are the modules that pass it on: with a hook on one of them it is enlarged."""

    def __init__(self, block: nn.Upsample, readers: Sequence[nn.Module], dtype: torch.dtype = torch.bfloat16) -> None:
        super().__init__(block, dtype=dtype)
        self.factor = int(block.scale_factor)  # type: ignore[arg-type]
        self.readers = (block, *readers)

    def __call__(self, x: Tensor) -> Tensor | LazyUpsample:
        """(B, C, H, W), as it is where that may be."""
        seen = any(m._forward_hooks or m._forward_pre_hooks for m in self.readers)
        return self.plain(x) if seen or not self.applies(x) else LazyUpsample(x, self.factor)


class LateConcat(ForwardOverride):
    """Leaves maps apart when one of them is small."""

    def __call__(self, x: list[Tensor | LazyUpsample]) -> Tensor | LazyConcat:
        """As the block's own forward, if no map is small."""
        return LazyConcat(tuple(x)) if any(isinstance(part, LazyUpsample) for part in x) else self.plain(x)


class SplitInputConv(PrepackedConv):
    """A 1x1 convolution that also takes two maps that were not joined, one of them small."""

    _parts: tuple[_InputSlice, ...] = ()

    def __call__(self, x: Tensor | LazyConcat) -> Tensor:
        """As the block's own method."""
        if isinstance(x, Tensor):
            return super().__call__(x)
        maps = [part.x if isinstance(part, LazyUpsample) else part for part in x.parts]
        small = sum(isinstance(part, LazyUpsample) for part in x.parts)
        sizes = {_size(part) for part in x.parts}  # the operator that adds does not look at them
        if len(maps) != 2 or small != 1 or len(sizes) != 1 or not all(self.applies(m) for m in maps):
            return super().__call__(x.whole())
        widths = [m.shape[1] for m in maps]
        if [part.width for part in self._parts] != widths:
            self._parts = (_InputSlice(self, 0, widths[0]), _InputSlice(self, widths[0], widths[1]))
        return self._sum(x.parts, self._parts)

    def _sum(self, maps: Sequence[Any], parts: Sequence[_InputSlice]) -> Tensor:
        if not isinstance(maps[0], LazyUpsample):
            maps, parts = maps[::-1], parts[::-1]
        (small, other), (first, second) = maps, parts
        return second.conv_add(LazyUpsample(first.partial_conv(small.x), small.factor).enlarged(), other, self.act)


class _InputSlice(PrepackedConv):
    """The convolution of some of the channels."""

    def __init__(self, conv: SplitInputConv, start: int, width: int) -> None:
        super().__init__(conv.block, conv.layer, conv.name, dtype=conv.dtype)
        self.width, self.channels = width, slice(start, start + width)

    def computed(self, *parameters: Any) -> tuple[Tensor, Tensor | None]:
        weight, bias = super().computed(*parameters)
        return weight[:, self.channels], bias

    def partial_conv(self, x: Tensor) -> Tensor:
        """Return the sum over the channels of x, and the bias."""
        return self.run(x.to(self.dtype), *self.weights(x))

    def conv_add(self, other: Tensor, x: Tensor, act: str) -> Tensor:
        """Return the sum over the channels of x, and what is to be added to it; then the activation."""
        x = x.to(self.dtype).contiguous(memory_format=torch.channels_last)
        weight, _ = self.weights(x)
        fused = act if act == "relu" else None
        add = torch.ops.mkldnn._convolution_pointwise.binary
        y: Tensor = add(x, other, weight, None, *self.geometry, "add", 1.0, fused, [], "")
        return F.silu(y, inplace=True) if act == "swish" else y


def upsample_late(net: nn.Module) -> nn.Module:
    """Let the layers of a packed network enlarge maps late where one alone reads them, in place; return it."""
    layers = list(getattr(net, "model", ()))
    if not all(hasattr(layer, "f") for layer in layers):
        return net
    shift = int(getattr(layers[0], "slots", 1)) - 1 if layers else 0  # of a one-row backbone, whose maps have slots
    inputs = [[max(j - shift, 0) for j in _inputs(layer.f, i + shift)] for i, layer in enumerate(layers)]
    for i, concat in enumerate(layers):
        readers = [j for j, numbers in enumerate(inputs) if i in numbers]
        if type(concat) is not Concat or concat.d != 1 or len(readers) != 1:
            continue
        reader = layers[readers[0]]
        names = _pointwise_readers(type(reader))
        convs = [getattr(reader, name) for name in names]
        small = [layers[j] for j in inputs[i] if _doubles(layers[j]) and sum(j in n for n in inputs) == 1]
        if not small or not convs or not all(_is_pointwise(conv) for conv in convs):
            continue
        concat.forward = LateConcat(concat)  # type: ignore[assignment, method-assign]
        for upsample in small:
            upsample.forward = LateUpsample(upsample, (concat, reader, *convs), cast("Any", convs[0].forward).dtype)
        _split_inputs(convs)
    return net


def _split_inputs(convs: Sequence[nn.Module]) -> None:
    """Let prepacked convolutions take two maps that were not joined, in place."""
    for conv in convs:
        packed: Any = conv.forward
        conv.forward = SplitInputConv(conv, packed.layer, packed.name, packed.act, packed.dtype)


def _pointwise_readers(block: type[nn.Module]) -> tuple[str, ...]:
    """Return the names in a class's `late_upsample`; none where a subclass changed `forward` below them."""
    for base in block.__mro__:
        if "late_upsample" in vars(base):
            return tuple(vars(base)["late_upsample"])
        if "forward" in vars(base):
            break
    return ()


def _size(part: Tensor | LazyUpsample) -> tuple[int, ...]:
    """Return height and width of a map, of a small one once it is enlarged."""
    if isinstance(part, LazyUpsample):
        return tuple(side * part.factor for side in part.x.shape[2:])
    return tuple(part.shape[2:])


def _inputs(f: int | Sequence[int], i: int) -> list[int]:
    """Return the indices of the layers that layer i reads."""
    return [j if j >= 0 else i + j for j in ([f] if isinstance(f, int) else f)]


def _doubles(layer: nn.Module) -> bool:
    """Whether a layer copies each number an integer number of times, the same down and across."""
    if type(layer) is not nn.Upsample or layer.mode != "nearest":
        return False
    factor = layer.scale_factor
    return isinstance(factor, int | float) and bool(factor > 1) and float(factor).is_integer()


def _is_pointwise(conv: nn.Module) -> bool:
    """Whether a packed block is a convolution of single pixels over all channels."""
    packed = conv.forward
    if not isinstance(packed, PrepackedConv):
        return False
    layer = cast(nn.Conv2d, packed.layer)
    return layer.kernel_size == layer.stride == (1, 1) and layer.padding == (0, 0) and layer.groups == 1
