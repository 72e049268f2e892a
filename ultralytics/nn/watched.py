"""Whether tensors are still what they were: what was made of them holds only so long."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence

from torch import Tensor, nn


class Watched:
    """Tensors, or None in their places, as they are now.

    A change in place counts, and so does another tensor at the same address. A change through `.data`, NumPy or in
    inference mode leaves no trace. The tensors are not kept alive.
    """

    def __init__(self, tensors: Sequence[Tensor | None]) -> None:
        self._stamps = tuple(map(_stamp, tensors))
        self._references = tuple(map(_reference, tensors))

    def are(self, tensors: Sequence[Tensor | None]) -> bool:
        """Whether these are the same, unchanged."""
        return self._stamps == tuple(map(_stamp, tensors)) and all(map(_refers, self._references, tensors))


def tensors_of(net: nn.Module) -> list[Tensor | None]:
    """Parameters and buffers, those of shared modules each time; `net.parameters()` takes four times as long."""
    found: list[Tensor | None] = []
    modules: list[nn.Module | None] = [net]
    while modules:
        module = modules.pop()
        if module is not None:
            found += module._parameters.values()
            found += module._buffers.values()
            modules += module._modules.values()
    return found


def _stamp(tensor: Tensor | None) -> tuple[int, int] | None:
    """Where a tensor lies and how often it was changed; those of inference mode do not count."""
    if tensor is None:
        return None
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version


def _reference(tensor: Tensor | None) -> Callable[[], Tensor | None]:
    return type(None) if tensor is None else weakref.ref(tensor)


def _refers(reference: Callable[[], Tensor | None], tensor: Tensor | None) -> bool:
    return reference() is tensor
