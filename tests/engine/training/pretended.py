"""Tensors of the host that pretend to lie on a GPU, so that code for one runs where none is.

A pretended tensor computes on the CPU and says that it is on `cuda:0`. What a GPU would refuse is refused: an operator
with tensors of both places, `numpy()` of a tensor over there. What makes the host wait for the device is written down,
and each copy between the two. A copy to the host that is not waited for holds nonsense until an event has been.
Kernels, streams, speed and autocast's choice of operators are those of the CPU; they may be others on a GPU.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

CUDA = torch.device("cuda:0")
HOST_INDEX = (
    "aten.copy_",
    "aten.index.",
    "aten.index_put",
    "aten._index_put_impl",
    "aten._unsafe_index",
)  # take tensors of both places
READS = {"aten._local_scalar_dense.default", "aten.equal.default", "aten.nonzero.default", "aten.bincount.default"}
READS |= {"aten.masked_select.default", "aten._unique2.default", "aten.unique_dim.default"}
UNORDERED = ("aten.grid_sampler_2d_backward", "aten.upsample_bilinear2d_backward", "aten.upsample_bicubic2d_backward")
UNORDERED += ("aten.upsample_linear1d_backward", "aten._adaptive_avg_pool2d_backward", "aten.histc", "aten.median.dim")
UNORDERED += ("torchvision._deform_conv2d_backward",)  # adds with atomics
UNORDERED += ("aten.adaptive_max_pool2d_backward", "aten.reflection_pad", "aten.nll_loss2d_forward", "aten.put")
"""Without a reproducible form on CUDA (documentation of `torch.use_deterministic_algorithms`)."""
FACTORIES = frozenset("arange as_tensor empty eye full linspace ones rand randint randn randperm tensor zeros".split())
GIB = 1 << 30
WAITS: ContextVar[list[str]] = ContextVar("waits", default=[])  # noqa: B039 - outside of `pretended_gpu` nobody reads it
COPIES: ContextVar[list[str]] = ContextVar("copies", default=[])  # noqa: B039
LATE: ContextVar[list[tuple[Tensor, Tensor]]] = ContextVar("late", default=[])  # noqa: B039
"""Copies to the host under way, and what they will hold."""


class Pretended(Tensor):
    """A tensor of the host, `inner`, that says it is on the GPU."""

    inner: Tensor

    @staticmethod
    def __new__(cls, real: Tensor) -> Pretended:
        properties = {"strides": real.stride(), "storage_offset": real.storage_offset(), "dtype": real.dtype}
        self = Tensor._make_wrapper_subclass(cls, real.shape, requires_grad=real.requires_grad, **properties)
        self.inner = real.detach()
        return self

    def __repr__(self) -> str:
        return f"Pretended({self.inner})"

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["inner"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], *_: Any) -> Pretended:
        return Pretended(inner["inner"])

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        there = [leaf for leaf in leaves if isinstance(leaf, cls)]
        here = [tuple(leaf.shape) for leaf in leaves if not isinstance(leaf, cls) and leaf.dim()]
        name = str(func)
        if here and not (name.startswith(HOST_INDEX) and isinstance(args[0], cls)):
            raise RuntimeError(f"{name} of tensors on {CUDA} {[tuple(t.shape) for t in there]} and on the host {here}")
        strict = (
            torch.are_deterministic_algorithms_enabled() and not torch.is_deterministic_algorithms_warn_only_enabled()
        )
        if strict and name.startswith(UNORDERED):
            raise RuntimeError(f"{name} does not have a deterministic implementation")
        if name in READS or (name.startswith("aten.index") and _by_mask(args[1])):
            _wait(name)
        out = func(*tree_map(_real, args), **tree_map(_real, kwargs or {}))
        known = {id(t.inner): t for t in there}  # in place: the same object comes back
        return tree_map(lambda x: known.get(id(x), cls(x)) if isinstance(x, Tensor) else x, out)


class _Fetch(torch.autograd.Function):
    """To the host; the gradient goes back."""

    @staticmethod
    def forward(ctx: Any, x: Pretended) -> Tensor:
        return x.inner.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return Pretended(grad)


class _Send(torch.autograd.Function):
    """To the device; the gradient comes back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return Pretended(x.detach().clone())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _real(grad)


class PretendedGPU(TorchFunctionMode):
    """While it is on, tensors move to the pretended GPU and back."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, x = dict(kwargs or {}), args[0] if args else None
        name, there = getattr(func, "__name__", ""), isinstance(x, Pretended)
        if name == "__get__":
            name = getattr(getattr(func, "__self__", None), "__name__", "")
        if there and name in ASKED:
            return ASKED[name](x)
        if name in {"to", "cuda"} and isinstance(x, Tensor):
            return _to(func, x, list(args[1:]) if name == "to" else [CUDA], kwargs)
        if name == "pin_memory":
            return x
        if name == "new_tensor" and there:
            _wait(name)
            return Pretended(func(x.inner, *args[1:], **kwargs))
        if name in FACTORIES and _is_cuda(kwargs.get("device")):
            if name in {"tensor", "as_tensor"}:
                _wait(name)
            made = func(*args, **{**kwargs, "device": "cpu"})
            return made if isinstance(made, Pretended) else Pretended(made)
        return func(*args, **kwargs)


def _to(func: Any, x: Tensor, args: list[Any], kwargs: dict[str, Any]) -> Tensor:
    """`Tensor.to`: the change of place, then whatever else was asked for."""
    device = kwargs.pop("device", None)
    if args and isinstance(args[0], Tensor):
        device, args = CUDA if isinstance(args[0], Pretended) else args[0].device, [args[0].dtype, *args[1:]]
    elif args and isinstance(args[0], str | torch.device):
        device, *args = args
    if device is not None and torch.device(device).type == "meta":
        return func(x, device, *args, **kwargs)
    late = kwargs.get("non_blocking", False) or True in args[1:]
    args = [a for a in args if a is not None]
    if device is not None and _is_cuda(device) != isinstance(x, Pretended):
        if not late:
            _wait("to")
        x = _Send.apply(x) if _is_cuda(device) else _late_fetch(x) if late else _Fetch.apply(x)
        _note("to host" if not _is_cuda(device) else "to device", x)
    more = [a for a in args if not isinstance(a, bool)] or set(kwargs) - {"non_blocking", "copy"}
    return func(x, *args, **kwargs) if more else x


def _fetch(x: Pretended) -> Tensor:
    _wait("cpu")
    _note("to host", x)
    return _Fetch.apply(x)


def _late_fetch(x: Pretended) -> Tensor:
    """A copy that is complete when an event has been waited for."""
    copy = x.inner.detach().clone()
    LATE.get().append((copy, copy.clone()))
    return copy.fill_(-77)


def _list(x: Pretended) -> Any:
    _wait("tolist")
    return x.inner.tolist()


def _no_array(x: Pretended) -> Any:
    raise TypeError(f"a tensor on {CUDA} is not an array of the host; .cpu() first")


ASKED = {
    "device": lambda x: CUDA,
    "is_cuda": lambda x: True,
    "is_cpu": lambda x: False,
    "data": lambda x: Pretended(x.inner),
    "get_device": lambda x: 0,
    "cpu": _fetch,
    "tolist": _list,
    "numpy": _no_array,
    "__array__": _no_array,
}


def _real(x: Any) -> Any:
    return x.inner if isinstance(x, Pretended) else x


def _is_cuda(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


def _by_mask(indices: Any) -> bool:
    """Whether it indexes with a mask, whose true places the host must count."""
    return any(isinstance(i, Tensor) and i.dtype is torch.bool for i in tree_leaves(indices))


def _place() -> str:
    """The line of the package that runs."""
    frames = [
        f for f in traceback.extract_stack() if "/ultralytics/" in f.filename and "transfers.py" not in f.filename
    ]
    return f"{frames[-1].filename.split('/ultralytics/')[-1]}: {frames[-1].line}" if frames else "tests"


def _wait(what: str) -> None:
    """Write a wait down, with the line of the package that it is for."""
    WAITS.get().append(f"{what} in {_place()}")


def _note(way: str, x: Tensor) -> None:
    """Write a copy down."""
    COPIES.get().append(f"{way} {list(x.shape)} {str(x.dtype).removeprefix('torch.')} in {_place()}")


class _Event:
    def synchronize(self) -> None:
        """Complete all copies."""
        _wait("event")
        for copy, value in LATE.get():
            copy.copy_(value)
        LATE.get().clear()


class _Stream:
    """Stands for any stream: all work is done at once."""

    def __init__(self, device: torch.device | None = None) -> None:
        self.device = device

    def wait_stream(self, other: _Stream) -> None:
        """Pass."""

    def record_event(self) -> _Event:
        """An event of all work so far."""
        return _Event()


class _Autocast(torch.autocast):
    def __init__(self, device_type: str, dtype: torch.dtype | None = None, **kwargs: Any) -> None:
        super().__init__("cpu" if device_type == "cuda" else device_type, dtype=dtype, **kwargs)


def _module_to(module: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
    """`Module.to`, which reads the place of a tensor in compiled code."""
    if args and isinstance(args[0], Pretended):
        args = (CUDA, args[0].dtype)
    return MODULE_TO(module, *args, **kwargs)


MODULE_TO = nn.Module.to


@contextmanager
def pretended_gpu(bf16: bool = True) -> Iterator[list[str]]:
    """A machine with one GPU of 16 GiB, which has bfloat16 or not; gives the list of what waited for it."""
    properties = {"name": "Pretended", "total_memory": 16 * GIB, "major": 8, "minor": 0}
    answers: dict[str, Any] = {
        "is_available": True,
        "is_initialized": True,
        "device_count": 1,
        "current_device": 0,
        "get_device_name": "Pretended",
        "get_device_properties": SimpleNamespace(**properties),
        "is_bf16_supported": bf16,
        "mem_get_info": (15 * GIB, 16 * GIB),
        "get_rng_state_all": [],
        "get_rng_state": torch.zeros(16, dtype=torch.uint8),
    }
    answers |= dict.fromkeys(("memory_reserved", "memory_allocated", "max_memory_allocated"), GIB)
    answers |= dict.fromkeys(
        ("manual_seed_all", "empty_cache", "reset_peak_memory_stats", "set_device", "set_rng_state", "_lazy_init")
    )
    with ExitStack() as stack:
        for name, answer in answers.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, mock.Mock(return_value=answer)))
        stack.enter_context(mock.patch.object(torch.cuda, "synchronize", lambda *_: _wait("synchronize")))
        stack.enter_context(mock.patch.object(Tensor, "record_stream", lambda *_: None))
        stack.enter_context(mock.patch.object(torch.cuda, "Stream", _Stream))
        stack.enter_context(mock.patch.object(torch.cuda, "current_stream", _Stream))
        stack.enter_context(mock.patch.object(torch.cuda, "stream", nullcontext))
        stack.enter_context(mock.patch.object(torch.cuda, "device", nullcontext))
        stack.enter_context(mock.patch.object(torch, "autocast", _Autocast))
        stack.enter_context(mock.patch.object(nn.Module, "to", _module_to))
        # asks the driver, which is not there
        stack.enter_context(
            mock.patch.object(torch.optim.Optimizer, "_accelerator_graph_capture_health_check", mock.Mock())
        )
        stack.enter_context(PretendedGPU())
        waits: list[str] = []
        fresh: list[tuple[ContextVar[Any], Any]] = [(WAITS, waits), (COPIES, []), (LATE, [])]
        before = [(variable, variable.set(value)) for variable, value in fresh]
        yield waits
        for variable, token in before:
            variable.reset(token)
