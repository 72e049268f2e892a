"""An estimate of what a forward pass holds in memory, from a run without values.

The network runs on fake tensors, which have shapes, dtypes and a lifetime but no data. Every storage that an
operation creates is counted until its last tensor is freed. Weights and the workspaces of kernels are not counted.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ultralytics.utils.torch_tools.copying import copy_network

MAX_TOKENS = 4096
"""Tokens above which an attention that holds its N x N map is flagged."""


UNKNOWN_COUNT = 1 << 20
"""The value that a network reads where it counts elements, such as usable anchors; it serves as a bound only."""


class Memory(NamedTuple):
    """Peak bytes, the layer that ran then, and the layers with a wide N x N map: index -> N."""

    peak: int
    layer: int
    wide: dict[int, int]


class _Meter(TorchDispatchMode):
    """Counts live storages; `layer` is the index of the layer that is running."""

    def __init__(self, weights: set[int]) -> None:
        super().__init__()
        self.seen = set(weights)
        self.live = self.peak = 0
        self.layer = self.peak_layer = -1
        self.wide: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> object:
        """Run an operation and count what it made."""
        if func is torch.ops.aten._local_scalar_dense.default:
            return args[0].dtype.is_floating_point or UNKNOWN_COUNT  # a fake tensor has no number to read
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._count(tensor)
        if func is torch.ops.aten._softmax.default and made.dim() > 1 and min(made.shape[-2:]) > MAX_TOKENS:
            self.wide[self.layer] = max(self.wide.get(self.layer, 0), made.shape[-1])
        return made

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self.seen:
            return
        self.seen.add(key)
        self.live += size
        if self.live > self.peak:
            self.peak, self.peak_layer = self.live, self.layer
        weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self.seen.discard(key)
        self.live -= size


def estimate_memory(model: nn.Module, imgsz: int | Sequence[int] = 640, channels: int = 3) -> Memory | None:
    """Estimate the activations of one fp32 image (side, or height and width, px) in inference.

    None for a network with an operation that needs real values. The model itself is not changed.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode  # imports much of torch that training does not need

    height, width = (imgsz, imgsz) if isinstance(imgsz, int) else imgsz
    clone = copy_network(model).cpu().float().eval()
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    kept = [fake.from_tensor(t) for t in [*clone.parameters(), *clone.buffers()]]  # the mode's own copies of them
    meter = _Meter({t.untyped_storage()._cdata for t in kept})

    def enter(layer: nn.Module, _: object) -> None:
        meter.layer = int(cast("int", layer.i))

    for layer in cast("nn.Sequential", clone.model):
        layer.register_forward_pre_hook(enter)
    try:
        with torch.no_grad(), fake, meter:
            clone(torch.empty(1, channels, height, width))
    except (RuntimeError, NotImplementedError):  # fake tensors raise subclasses of RuntimeError
        return None
    return Memory(meter.peak, meter.peak_layer, meter.wide)
