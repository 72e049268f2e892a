"""Shapes without values, faster: operators that torch works out step by step in Python on the meta device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class MetaShortcuts(TorchDispatchMode):
    """Inside `with`, bilinear sampling of meta tensors gives its shape at once; all else is unchanged.

    Torch decomposes it into some 80 operators there, which is two thirds of the time of a dry run of RT-DETR.
    """

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """x (B, C, H, W) sampled at grid (B, h, w, 2) gives (B, C, h, w)."""
        if func is torch.ops.aten.grid_sampler_2d.default and isinstance(args[0], Tensor) and args[0].is_meta:
            x, grid = args[:2]
            return x.new_empty((x.shape[0], x.shape[1], grid.shape[1], grid.shape[2]))
        return func(*args, **(kwargs or {}))
