"""Shapes without values, faster: operators that torch works out step by step in Python on the meta device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class MetaShortcuts(TorchDispatchMode):
    """Inside `with`, some operators of meta tensors give their shape at once; all else is unchanged.

    Torch works these out in Python there, which is most of the time of a dry run of RT-DETR: bilinear sampling (some 80
    operators), linear layers, norms and ReLU. Arguments that do not fit are left to torch, which refuses them.
    """

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Return the shortcut's output, or that of the operator."""
        shortcut = _SHORTCUTS.get(func)
        if shortcut is not None and not kwargs and isinstance(args[0], Tensor) and args[0].is_meta:
            found = shortcut(*args)
            if found is not None:
                return found
        return func(*args, **(kwargs or {}))


def _sampled(x: Tensor, grid: Tensor, *_: object) -> Tensor:
    """x (B, C, H, W) sampled at grid (B, h, w, 2) gives (B, C, h, w)."""
    return x.new_empty((x.shape[0], x.shape[1], grid.shape[1], grid.shape[2]))


def _linear(bias: Tensor, x: Tensor, weight: Tensor) -> Tensor | None:
    """x (N, c1) and the transposed weight (c1, c2) give (N, c2)."""
    fits = x.dim() == weight.dim() == 2 and x.shape[1] == weight.shape[0] and bias.shape == weight.shape[1:]
    return x.new_empty((x.shape[0], weight.shape[1])) if fits and x.dtype == weight.dtype == bias.dtype else None


def _layer_norm(
    x: Tensor, shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, ...] | None:
    """x (..., *shape) keeps its shape; mean and deviation have one number for each place."""
    n = len(shape)
    own = [p for p in (weight, bias) if p is not None]
    if x.dtype != torch.float32 or any(p.dtype != x.dtype or p.shape != x.shape[-n:] for p in own):
        return None
    if not n or tuple(x.shape[-n:]) != tuple(shape):
        return None
    places = x.new_empty((*x.shape[:-n], *[1] * n))
    return torch.empty_like(x), places, torch.empty_like(places)


def _batch_norm(x: Tensor, *rest: Any) -> tuple[Tensor, ...] | None:
    """x keeps its shape; with kept statistics there are none of the batch."""
    training = rest[4]
    if training or x.dtype != torch.float32 or any(p is not None and p.dtype != x.dtype for p in rest[:4]):
        return None
    return torch.empty_like(x), x.new_empty(0), x.new_empty(0)


_ATEN = torch.ops.aten
_SHORTCUTS: dict[object, Callable[..., Any]] = {
    _ATEN.grid_sampler_2d.default: _sampled,
    _ATEN.addmm.default: _linear,
    _ATEN.native_layer_norm.default: _layer_norm,
    _ATEN.native_batch_norm.default: _batch_norm,
    _ATEN.relu.default: torch.empty_like,
}
