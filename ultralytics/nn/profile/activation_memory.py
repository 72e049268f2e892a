"""An estimate of what a forward pass, or a training step, holds in memory, from a run without values.

The network runs on fake tensors, which have shapes, dtypes and a lifetime but no data. Every storage that an
operation creates is counted until its last tensor is freed. Weights and the workspaces of kernels are not counted.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ultralytics.nn.modules.deformable import SERIAL_THREADS
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


class TrainingMemory(NamedTuple):
    """Bytes of a training step: `weights` of the network, and of the step `fixed` + batch * `image` beside them.

    The fixed part of a step is that of the gradients. A run also holds two moments of the optimizer and the average.
    """

    weights: int
    fixed: float
    image: float

    def peak(self, batch: int, copies: int = 4) -> float:
        """Bytes at a batch; `copies` of the weights: themselves, two moments and the average."""
        return copies * self.weights + self.fixed + batch * self.image

    def batch(self, limit: float, copies: int = 4) -> int:
        """Largest batch within `limit` bytes, at least 0."""
        return max(int((limit - self.peak(0, copies)) // max(self.image, 1.0)), 0)


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
    clone = copy_network(model).cpu().float().eval()
    with _fake_copies(clone) as meter:

        def enter(layer: nn.Module, _: object) -> None:
            meter.layer = int(cast("int", layer.i))

        for layer in cast("nn.Sequential", clone.model):
            layer.register_forward_pre_hook(enter)
        try:
            with torch.no_grad(), meter:
                clone(torch.empty(1, channels, *_sides(imgsz)))
        except (RuntimeError, NotImplementedError):  # fake tensors raise subclasses of RuntimeError
            return None
    return Memory(meter.peak, meter.peak_layer, meter.wide)


def estimate_training(
    model: nn.Module, imgsz: int | Sequence[int] = 640, channels: int = 3, amp: torch.dtype | None = None
) -> TrainingMemory | None:
    """Estimate a training step at an image size (side, or height and width, px), in fp32 or under autocast to `amp`.

    The loss and denoising queries are left out, which hold little beside the maps. None for a network with an operation
    that needs real values. The model itself is not changed.
    """
    clone = copy_network(model).cpu().float().train()
    first, second = (_step_peak(clone, (n, channels, *_sides(imgsz)), amp) for n in (2, 4))
    if first is None or second is None:
        return None
    image = (second - first) / 2
    weights = sum(p.numel() * p.element_size() for p in clone.parameters())
    return TrainingMemory(weights, first - 2 * image, image)


def _step_peak(network: nn.Module, shape: tuple[int, ...], amp: torch.dtype | None) -> int | None:
    """Peak bytes of a forward and a backward pass of images (B, C, H, W), beside the weights."""
    network.zero_grad(set_to_none=True)
    with _fake_copies(network) as meter, _without_arrays():
        try:
            with meter, torch.autocast("cpu", amp or torch.bfloat16, enabled=amp is not None):
                outputs = tree_leaves(network(torch.empty(shape)))
            with meter:
                sum(x.float().sum() for x in outputs if isinstance(x, Tensor) and x.requires_grad).backward()
        except (RuntimeError, NotImplementedError):
            return None
    return meter.peak


@contextmanager
def _fake_copies(network: nn.Module) -> Iterator[_Meter]:
    """Make tensors fake until the block ends; give a meter that leaves those of the network out."""
    from torch._subclasses.fake_tensor import FakeTensorMode  # imports much of torch that training does not need

    fake = FakeTensorMode(allow_non_fake_inputs=True)
    kept = [fake.from_tensor(t) for t in [*network.parameters(), *network.buffers()]]  # the mode's own copies of them
    with fake:
        yield _Meter({t.untyped_storage()._cdata for t in kept})


@contextmanager
def _without_arrays() -> Iterator[None]:
    """Let deformable attention take torch's operators, not those of scipy, by the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(threads, SERIAL_THREADS + 1))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _sides(imgsz: int | Sequence[int]) -> tuple[int, int]:
    height, width = (imgsz, imgsz) if isinstance(imgsz, int) else imgsz
    return height, width
