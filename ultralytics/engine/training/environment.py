"""The environment of a training run: which arguments it can honour, its device, its processes, how it is interrupted.

Everything that is switched on here (deterministic algorithms, process group, signal handlers) is put back at the end.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from torch import distributed

from ultralytics.cfg import Args
from ultralytics.utils import LOGGER, dist
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.torch_utils import device_ids, init_seeds, select_device

GLOO_DRAIN_S = 0.2
"""Seconds that gloo's threads get to let go of the last collective's tensors."""


def check_arguments(args: Args) -> None:
    """Raise ConfigError for combinations of arguments that training does not have."""
    if args.activation_checkpointing and args.sync_bn and dist.world_size() > 1:
        raise ConfigError(
            "activation_checkpointing=True: sync_bn would gather its statistics a second time in the backward pass",
            "leave one of them out",
        )
    if args.batch != -1 and not 0 < args.batch < 1 and (args.batch < 1 or args.batch != int(args.batch)):
        raise ConfigError(
            f"batch={args.batch}: images per step, over all GPUs", "give an integer, -1, or a fraction of GPU memory"
        )


def devices_to_start(args: Args) -> int:
    """Return how many processes this one must start: one for each of several GPUs, none inside of torchrun."""
    ids = device_ids(args.device)
    return len(ids) if len(ids) > 1 and dist.world_size() == 1 else 0


def run_device(args: Args) -> torch.device:
    """Return this process's device."""
    return select_device(args.device, batch=int(args.batch), verbose=dist.is_main())


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the processes that torchrun started (NCCL on GPUs, gloo elsewhere); a lone process passes.

    The end waits a moment: gloo's threads free tensors of Python after a collective has returned, and one that asks for
    the interpreter while it shuts down takes the process with it. PyTorch does not join these threads once a
    DistributedDataParallel has been made, not even when all of its references are gone.
    """
    if dist.world_size() == 1 or dist.is_initialized():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        if device.type == "cpu":
            time.sleep(GLOO_DRAIN_S)
        distributed.destroy_process_group()


@contextmanager
def deterministic_mode(args: Args) -> Iterator[None]:
    """Seed everything and set torch's global switches for the run; put the switches back afterwards.

    Deterministic algorithms would also write to each new tensor before its first use; no operation here reads what it
    did not write, so that is left out (7 % of a training step on a CPU).
    """
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
    )
    fill_switch: Any = torch.utils.deterministic  # its attribute is made at run time
    filled = fill_switch.fill_uninitialized_memory
    fill_switch.fill_uninitialized_memory = False
    init_seeds(args.seed, args.deterministic)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = before[2:]
        fill_switch.fill_uninitialized_memory = filled


class Interrupt:
    """Context manager: the first Ctrl-C or SIGTERM sets `requested`, so that the loop can save; the next one raises.

    Outside of the main thread, where Python allows no signal handlers, it does nothing.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._handle) for s in self.SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        LOGGER.warning("interrupted: saving after this step (again to stop at once)")
