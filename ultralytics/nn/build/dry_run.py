"""Running one block without values, to learn its output shape or why it does not fit.

Blocks are built and run on the meta device, where tensors have shapes but no memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from ultralytics.utils.torch_tools.meta import MetaShortcuts


class ProbeBlock:
    """A block on the meta device; one that needs values (`.item()`, `.tolist()`) runs on the CPU with zeros."""

    def __init__(self, cls: type, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None) -> None:
        self.cls, self.args, self.kwargs = cls, args, dict(kwargs or {})
        self.module = self._construct()

    def _construct(self) -> nn.Module:
        try:
            with torch.device("meta"):
                module: nn.Module = self.cls(*self.args, **self.kwargs)
        except RuntimeError as e:
            if not _needs_values(e):
                raise
            module = self.cls(*self.args, **self.kwargs)
        return module.eval()

    def run(self, inputs: object) -> object:
        """Return the output for meta inputs, on the meta device."""
        with torch.no_grad():
            try:
                with torch.device("meta"), MetaShortcuts():
                    output: object = self.module(inputs)
                    return output
            except RuntimeError as e:
                if not _needs_values(e):
                    raise
                return _to_meta(self.cls(*self.args, **self.kwargs).eval()(_zeros(inputs)))

    def empty_parameter(self) -> str:
        """Name and shape of a parameter without elements, '' when there is none: a width or kernel of 0."""
        for name, p in self.module.named_parameters():
            if p.numel() == 0:
                return f"{name} has shape {'x'.join(map(str, p.shape))}"
        return ""


def _needs_values(error: RuntimeError) -> bool:
    return "meta" in str(error).lower()


def _zeros(x: object) -> object:
    return [_zeros(v) for v in x] if isinstance(x, (list, tuple)) else torch.zeros(cast("Tensor", x).shape)


def _to_meta(x: object) -> object:
    if isinstance(x, Tensor):
        return x.to("meta")
    if isinstance(x, (list, tuple)):
        make = getattr(type(x), "_make", type(x))  # named tuples
        return make(_to_meta(v) for v in x)
    return x


def expected_channels(module: nn.Module) -> int:
    """Input channels for which the first convolution, linear layer or norm of a block was built; 0 when it has none."""
    for child in module.modules():
        for name in ("in_channels", "in_features", "num_features"):
            value = getattr(child, name, None)
            if isinstance(value, int):
                return value
    return 0


def size_text(x: object) -> str:
    """Height and width of a map: `80x80`."""
    return "x".join(str(n) for n in x.shape[2:]) if isinstance(x, Tensor) else "?"


def shape_text(x: object) -> str:
    """Shape of an output without its batch axis: `256x80x80`."""
    if isinstance(x, Tensor):
        return "x".join(str(n) for n in x.shape[1:])
    return f"{len(x)} outputs" if isinstance(x, (list, tuple)) else type(x).__name__


def matching(maps: Sequence[object], start: int, stop: int | None, like: tuple[int, ...]) -> list[int]:
    """Indices of the maps whose axes `start:stop` have the sizes `like`."""
    return [i for i, m in enumerate(maps) if isinstance(m, Tensor) and tuple(m.shape[start:stop]) == like]
