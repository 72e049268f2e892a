"""The environment of a training run: which arguments it can honour, its device, its processes, how it is interrupted.

Everything that is switched on here (deterministic algorithms, process group, signal handlers) is put back at the end.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType
from typing import Any

import torch
from torch import distributed

from ultralytics.cfg import Args
from ultralytics.engine.training.autobatch import is_out_of_memory, trial_step
from ultralytics.engine.training.protocols import HasModel
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
    """Join the processes that torchrun started (NCCL on GPUs, gloo elsewhere); a lone process joins none.

    The end waits a moment: gloo's threads free tensors of Python after a collective has returned, and one that asks for
    the interpreter while it shuts down takes the process with it. PyTorch does not join these threads once a
    DistributedDataParallel has been made, not even when all of its references are gone.
    """
    # the device is made the current one, else pinned memory and NCCL take some of GPU 0 as well
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        if dist.world_size() == 1 or dist.is_initialized():
            yield
            return
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


def settle_determinism(run: HasModel) -> None:
    """On a GPU, allow operations with a reproducible form only; where a trial step needs others, warn of them instead.

    Torch's fused attention picks its reproducible gradient only where others are errors.
    """
    if run.device.type != "cuda" or not torch.are_deterministic_algorithms_enabled():
        return
    torch.use_deterministic_algorithms(True)
    with torch.random.fork_rng(devices=[run.device]):
        try:
            trial_step(run)(min(run.batch_size, 2))
        except RuntimeError as e:
            if is_out_of_memory(e):
                return  # the run itself reports what would fit
            if "deterministic" not in str(e):
                raise
            torch.use_deterministic_algorithms(True, warn_only=True)
            LOGGER.warning(_why_not_deterministic(str(e), run.device))


def _why_not_deterministic(error: str, device: torch.device) -> str:
    """Return the warning for what torch says of an operation that it refused."""
    if "CUBLAS_WORKSPACE_CONFIG" in error:
        return (
            "deterministic=True: this process used the GPU before a device was chosen for it, and its matrix products "
            "are not reproducible, so two runs may differ\nset CUBLAS_WORKSPACE_CONFIG=:4096:8 in the environment "
            "before Python starts"
        )
    return (
        f"deterministic=True: this network has an operation without a reproducible gradient on {device}, "
        f"so two runs may differ ({error.splitlines()[0]})\nuse the rows of the package for it (nn.Upsample: "
        "mode nearest, or ResizeLike), or deterministic=False, which is faster"
    )


class Interrupt:
    """Context manager: Ctrl-C, SIGTERM and SIGHUP (a closed terminal) end a run.

    While `saving` is set they set `requested`, so that the loop can save first; at other times there is nothing to
    save, and they raise KeyboardInterrupt. `number` is the signal. A second Ctrl-C raises KeyboardInterrupt; the others
    may come twice, from `timeout` or a shell. A signal that the process ignores from its start, as SIGHUP under
    `nohup`, stays ignored. Outside of the main thread, where Python allows no signal handlers, nothing is done.
    """

    SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

    def __init__(self, saving: bool = True) -> None:
        self.saving = saving
        self.requested = False
        self.number = int(signal.SIGINT)
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            heard = [s for s in self.SIGNALS if signal.getsignal(s) is not signal.SIG_IGN]
            self._before = {s: signal.signal(s, self._handle) for s in heard}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            if number == signal.SIGINT:
                raise KeyboardInterrupt(number)
            return
        self.requested, self.number = True, number
        if not self.saving:
            raise KeyboardInterrupt(number)
        LOGGER.warning("interrupted: saving after this step (again to stop at once)")
