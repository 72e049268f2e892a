"""Whether tensors and networks are still what they were: what was made of them holds only so long.

A change in place counts, under `torch.no_grad()` too. One through `.data`, NumPy or in inference mode leaves no trace.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from operator import is_

from torch import Tensor, nn

WATCHED = ("_parameters", "_buffers", "_modules", "_forward_pre_hooks", "_forward_hooks")
"""Dictionaries of a module whose entries are part of what it computes."""


class TensorVersions:
    """Tensors, or None in their places, as they are now; another one at the same address counts. Keeps none alive."""

    def __init__(self, tensors: Sequence[Tensor | None]) -> None:
        self._stamps = tuple(map(_stamp, tensors))
        self._references = tuple(map(_reference, tensors))

    def match(self, tensors: Sequence[Tensor | None]) -> bool:
        """Whether these are the same, unchanged."""
        return self._stamps == tuple(map(_stamp, tensors)) and all(map(_refers, self._references, tensors))


class ModelVersion:
    """The modules, parameters, buffers, hooks and plain attributes of a network as they are now; keeps them alive.

    Between two looks a network may run, and its objects have left the caches: each is touched once and compared by
    identity. Of an attribute that is a list, tuple or dictionary the elements are compared, not what these hold. A
    change of type or device is seen by that of the first tensor.
    """

    def __init__(self, net: nn.Module) -> None:
        self._net = net
        modules = list(net.modules())
        self._places: list[Mapping[str, object]] = [vars(m) for m in modules]
        self._places += [vars(m)[name] for m in modules for name in WATCHED]
        public = [value for m in modules for name, value in vars(m).items() if not name.startswith("_")]
        self._places += [value for value in public if isinstance(value, dict)]
        self._sequences = [value for value in public if isinstance(value, (list, tuple))]
        self._things = self._now()
        tensors = [t for t in self._things if isinstance(t, Tensor)]
        self._tensors = [t for t in tensors if not t.is_inference()]  # those of inference mode count no changes
        self._stamp = self._stamps()

    def unchanged(self, net: nn.Module) -> bool:
        """Whether this is the same network, unchanged."""
        now = self._now() if net is self._net else []
        same = len(now) == len(self._things) and all(map(is_, now, self._things))
        return same and self._stamps() == self._stamp

    def _now(self) -> list[object]:
        values = chain.from_iterable(place.values() for place in self._places)
        return [*values, *chain.from_iterable(self._sequences)]

    def _stamps(self) -> list[int]:
        return [t._version for t in self._tensors] + [t.data_ptr() for t in self._tensors[:1]]


def _stamp(tensor: Tensor | None) -> tuple[int, int] | None:
    """Where a tensor lies and how often it was changed; those of inference mode do not count."""
    if tensor is None:
        return None
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version


def _reference(tensor: Tensor | None) -> Callable[[], Tensor | None]:
    return type(None) if tensor is None else weakref.ref(tensor)


def _refers(reference: Callable[[], Tensor | None], tensor: Tensor | None) -> bool:
    return reference() is tensor
