"""From arguments to data sets, loaders and inference sources."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from ultralytics.data.dataset import YOLODataset, collate_fn
from ultralytics.data.loaders.open import check_source, load_inference_source
from ultralytics.data.types import EpochIndex
from ultralytics.utils.config.absent import absent_names
from ultralytics.utils.dist import world_size
from ultralytics.utils.errors import ConfigError, UserError, WorkerError
from ultralytics.utils.log import colorstr
from ultralytics.utils.user_modules import Files, load_user_modules

__all__ = [
    "EpochSampler",
    "batches_of",
    "build_dataloader",
    "build_yolo_dataset",
    "check_source",
    "fraction_of",
    "load_inference_source",
    "seed_worker",
    "stop_workers",
]

_SAMPLER_STREAM = 1  # keeps the order's random stream apart from the samples'


class EpochSampler(Sampler[EpochIndex]):
    """Yields indices that know their epoch: a permutation that depends on (seed, epoch) only.

    It is dealt out to `world` ranks: rank r takes every world-th place, so that the ranks' k-th batches together are
    the k-th batch of a single process with the summed batch size. With `pad` the order is continued from its start
    until all ranks have equally many.
    """

    def __init__(
        self, n: int, shuffle: bool = True, seed: int = 0, rank: int = -1, world: int = 1, *, pad: bool = True
    ) -> None:
        self.n, self.shuffle, self.seed = n, shuffle, seed
        self.rank, self.world, self.pad = max(rank, 0), max(world, 1), pad
        self.epoch, self.start = 0, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass; it begins at its first sample."""
        self.epoch, self.start = epoch, 0

    def set_start(self, sample: int) -> None:
        """Let the next pass begin at this rank's `sample`-th sample, to continue inside an epoch."""
        self.start = sample

    def order(self) -> list[int]:
        """Return this rank's indices of the current epoch."""
        if self.shuffle:
            key = np.random.SeedSequence((self.seed, self.epoch), spawn_key=(_SAMPLER_STREAM,))
            order = np.random.default_rng(key).permutation(self.n).tolist()
        else:
            order = list(range(self.n))
        if self.pad and order:
            order += [order[i % self.n] for i in range(-self.n % self.world)]
        return order[self.rank :: self.world]

    def __iter__(self) -> Iterator[EpochIndex]:
        return iter([EpochIndex(index, self.epoch) for index in self.order()[self.start :]])

    def __len__(self) -> int:
        """Return the samples of this rank in a whole epoch."""
        if self.pad:
            return -(-self.n // self.world)
        return len(range(self.rank, self.n, self.world))


def build_yolo_dataset(
    cfg: Any,
    img_path: str | Sequence[str],
    batch: int,
    data: dict[str, Any],
    mode: str = "train",
    rect: bool = False,
    stride: int = 32,
    dataset: type[YOLODataset] = YOLODataset,
    **kwargs: Any,
) -> YOLODataset:
    """Make the data set of a split from the run's arguments.

    `cfg` is the namespace of arguments; `mode` "train" augments and means the split of that name, others mean the one
    that `cfg.split` names. `dataset` is the class to make, `kwargs` go to it and
    win over `cfg`.
    """
    train = mode == "train"
    options = {
        "imgsz": cfg.imgsz,
        "batch_size": batch,
        "augment": train,
        "hyp": cfg,
        "rect": rect or bool(getattr(cfg, "rect", False)),
        "cache": getattr(cfg, "cache", False),
        "single_cls": bool(getattr(cfg, "single_cls", False)),
        "stride": stride,
        "pad": 0.0 if train else 0.5,
        "prefix": colorstr(f"{mode}: "),
        "classes": getattr(cfg, "classes", None),
        "fraction": fraction_of(getattr(cfg, "fraction", 1.0), mode),
        "seed": int(getattr(cfg, "seed", 0) or 0),
        "save_dir": getattr(cfg, "save_dir", None),
        "split": "train" if train else str(getattr(cfg, "split", None) or mode),
        "strict": bool(getattr(cfg, "strict", True)),
        "reduced_decode": bool(getattr(cfg, "reduced_decode", False)),
    }
    return dataset(img_path, data=data, **{**options, **kwargs})


def fraction_of(fraction: float | Sequence[float], mode: str) -> float:
    """Return the fraction of a split: one number holds for training only, a list for train, val and test."""
    if isinstance(fraction, (int, float)):
        return fraction if mode == "train" else 1.0
    position = {"train": 0, "val": 1, "test": 2}.get(mode, 1)
    return fraction[position] if position < len(fraction) else 1.0


def seed_worker(worker_id: int, modules: Files | None = None) -> None:
    """Start a worker process: one thread, since the workers themselves are the parallelism; the user's files run.

    It leaves the process group, so that a signal to the group (Ctrl-C, a closed terminal, `timeout`, a job scheduler)
    reaches the main process alone, which then saves and ends its workers.
    """
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # it may still write to the terminal
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    load_user_modules(modules)


def build_dataloader(
    dataset: Dataset[Any],
    batch: int,
    workers: int,
    shuffle: bool = True,
    rank: int = -1,
    drop_last: bool = False,
    pin_memory: bool = True,
    device: torch.device | str | None = None,
    *,
    seed: int = 0,
    modules: Files | None = None,
) -> DataLoader[Any]:
    """Make a loader whose `sampler` is an `EpochSampler`: call `loader.sampler.set_epoch(e)` before each epoch.

    `batch` images per rank, at most the data set's size; `workers` processes (on a CPU too), at most one for each batch
    and core, none when there is one batch only. They live until the loader goes. Shuffled ranks are padded to equal
    length, others not, so that no validation image counts twice. `rect` data sets keep their order. The global random
    state is not touched. Memory is pinned, unless `pin_memory` is off, where a GPU is used; `device` may rule that out.
    `modules` are files of the user, run in each worker too.
    """
    n = len(dataset)  # type: ignore[arg-type]
    world = world_size() if rank >= 0 else 1
    if getattr(dataset, "rect", False):
        if world > 1:
            raise ConfigError("rect=True cannot be shared among processes", "use rect=False, or one process")
        shuffle = False  # a batch has one shape, so its members are fixed
    sampler = EpochSampler(n, shuffle, seed, rank, world, pad=shuffle)
    batch = max(1, min(batch, len(sampler) or 1))
    batches = -(-len(sampler) // batch)
    workers = min(workers, os.cpu_count() or 1, batches) if batches > 1 else 0
    return DataLoader(
        dataset,
        batch_size=batch,
        sampler=sampler,
        num_workers=workers,
        collate_fn=getattr(dataset, "collate_fn", collate_fn),
        pin_memory=pin_memory and torch.cuda.is_available() and not str(device).startswith("cpu"),
        drop_last=drop_last and batches > 1,
        worker_init_fn=partial(seed_worker, modules=modules),
        persistent_workers=workers > 0,
        prefetch_factor=4 if workers else None,
        generator=torch.Generator().manual_seed(seed),
    )


def batches_of(loader: DataLoader[Any]) -> Iterator[Any]:
    """Yield the batches of a loader; what goes wrong in its workers is raised between two batches, in plain form.

    A worker that has died is found when its batch is wanted. Left alone, torch raises at once, inside of whatever the
    main process does, which may be the update of the weights.

    Raises:
        WorkerError: a worker process has died.
        UserError: what a worker raised, without the traceback of another process in its message.
    """
    iterator: Iterator[Any] | None = None
    with _quiet_children() as silence:
        while True:
            try:
                if iterator is None:
                    iterator = iter(loader)
                    silence()  # torch has put its handler in place
                batch = next(iterator)
            except StopIteration:
                return
            except UserError as e:
                raise _as_raised(e) from None
            except RuntimeError as e:
                if not str(e).startswith("DataLoader worker"):
                    raise
                reason = str(e).splitlines()[0]
                raise WorkerError(
                    f"a loader worker has died ({reason:.200})", "was the memory full? try fewer workers=, or workers=0"
                ) from e
            yield batch


@contextmanager
def _quiet_children() -> Iterator[Callable[[], object]]:
    """Let the end of a child process raise nothing, again after a call of what is given; restored afterwards.

    Only a main thread has signal handlers.
    """
    if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield partial(signal.signal, signal.SIGCHLD, signal.SIG_DFL)
    finally:
        signal.signal(signal.SIGCHLD, before)


def _as_raised(error: UserError) -> UserError:
    """Return the error that a worker raised: torch puts its whole traceback into the message."""
    text = str(error.args[0]) if error.args else ""
    name = f"{type(error).__name__}: "
    if not text.startswith("Caught ") or name not in text:
        return error
    return type(error)(text.rpartition(name)[2].strip())


def stop_workers(loader: DataLoader[Any]) -> None:
    """End a loader's worker processes now; its next pass starts new ones.

    Left to the garbage collector, which may take their queues away first, each pool can hold the program for seconds.
    """
    loader._iterator = None


if not TYPE_CHECKING:  # a type checker shall see what is missing
    __getattr__ = absent_names(__name__)
