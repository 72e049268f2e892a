"""Who am I among the processes of a run: rank, world size, and sums over all of them.

The launcher (torchrun) sets WORLD_SIZE, RANK and LOCAL_RANK; RANK counts only when WORLD_SIZE is above 1.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from ultralytics.utils.config.absent import absent_names

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


def _env_int(name: str, default: int) -> int:
    value = os.getenv(name, "")
    return int(value) if value.lstrip("-").isdigit() else default


def world_size() -> int:
    """Number of processes of the run, 1 without a launcher."""
    return max(_env_int("WORLD_SIZE", 1), 1)


def rank() -> int:
    """Rank of this process among all, or -1 in a run of one process."""
    return _env_int("RANK", -1) if world_size() > 1 else -1


def local_rank() -> int:
    """Rank of this process on its own machine, or -1 in a run of one process."""
    return _env_int("LOCAL_RANK", -1) if world_size() > 1 else -1


def is_main() -> bool:
    """Whether this process writes the log and the files: rank 0, or the only process."""
    return rank() in {-1, 0}


def is_initialized() -> bool:
    """Whether a process group is up."""
    from torch import distributed

    return distributed.is_available() and distributed.is_initialized()


def training_processes() -> int:
    """Number of processes that compute this training step together: 1 alone, and without gradients (validation)."""
    import torch

    if not (is_initialized() and torch.is_grad_enabled()):
        return 1
    return torch.distributed.get_world_size()


def all_reduce_sum(tensor: torch.Tensor) -> torch.Tensor:
    """Sum a tensor over all processes, in place; alone, return it unchanged."""
    from torch import distributed

    if is_initialized():
        distributed.all_reduce(tensor, op=distributed.ReduceOp.SUM)
    return tensor


def all_gather_objects(value: T) -> list[T]:
    """Collect one plain value of every process, in rank order; alone, a list of one."""
    from torch import distributed

    if not is_initialized():
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def broadcast_object(value: T, src: int = 0) -> T:
    """Return the value that rank `src` holds, on every process."""
    from torch import distributed

    if not is_initialized():
        return value
    box: list[Any] = [value]
    distributed.broadcast_object_list(box, src=src)
    return box[0]


def broadcast_tensors(tensors: Iterable[torch.Tensor], src: int = 0) -> None:
    """Overwrite tensors by those of rank `src`, in place; alone, do nothing."""
    from torch import distributed

    if is_initialized():
        for tensor in tensors:
            distributed.broadcast(tensor, src=src)


def barrier() -> None:
    """Wait until every process has come here; alone, do nothing."""
    from torch import distributed

    if is_initialized():
        distributed.barrier()


class ProcessLock:
    """A reentrant lock of the threads of one process.

    A child made by `os.fork` while another thread holds a lock would wait for ever, as that thread does not exist
    there. The child gets a free one.
    """

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._lock = threading.RLock()

    def __enter__(self) -> bool:
        if self._owner != os.getpid():
            self._owner, self._lock = os.getpid(), threading.RLock()
        return self._lock.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.__exit__(kind, error, trace)


if not TYPE_CHECKING:  # a type checker shall see what is missing
    __getattr__ = absent_names(__name__)
