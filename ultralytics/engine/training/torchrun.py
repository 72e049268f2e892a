"""One process per GPU: a run on several devices starts torchrun with the same arguments and waits for it.

The processes read their arguments from a file in the run folder; no code is written.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ultralytics.engine.training.protocols import HasLaunch
from ultralytics.engine.training.state import has_best
from ultralytics.nn.checkpoint.format import pack_model, read_checkpoint, save_checkpoint
from ultralytics.utils import LOGGER, YAML
from ultralytics.utils.errors import DeviceError, TrainingError
from ultralytics.utils.files import has_yaml_suffix

ARGUMENTS, START = "launch.yaml", "weights/start.pt"


def torchrun_command(processes: int, arguments: Path, task: str) -> list[str]:
    """The command that starts the processes of a run on this machine."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    return [*launcher, "-m", "ultralytics", task, "train", f"cfg={arguments}"]


def child_arguments(run: HasLaunch) -> dict[str, Any]:
    """What the user gave, with the run folder, and the network as a file when it is not one already."""
    given = {k: v for k, v in run.given.items() if k not in {"mode", "task", "cfg"}}
    given["save_dir"] = str(run.paths.save_dir)
    if run.resume_from is not None:
        given["resume"] = str(run.args.resume)  # with True each process would look for the newest run itself
    if run.resume_from is None and isinstance(run.model, nn.Module):
        name = str(given.get("model") or "")
        if run.from_weights or not has_yaml_suffix(name):
            given["model"] = str(run.paths.save_dir / START)
            save_checkpoint(given["model"], {"model": pack_model(run.model)})
    return given


def train_in_processes(run: HasLaunch, processes: int) -> tuple[dict[str, float], Path]:
    """Train by torchrun, one process per device; return the metrics of the best epoch, and its weights.

    Raises:
        DeviceError: the trainer is a class of the user's own, which no other process knows.
        TrainingError: a process has failed; it has printed the reason.
    """
    if not type(run).__module__.startswith("ultralytics."):
        devices = f"device={run.args.device}"
        raise DeviceError(
            f"{devices}: {type(run).__name__} is not part of this package, so its processes cannot be started",
            f"start your script by torchrun: torchrun --nproc_per_node={processes} train.py {devices}",
        )
    if any(run.callbacks.table.values()):
        LOGGER.warning("callbacks added here are not run in the processes of the GPUs; start those by torchrun")
    run.paths, _ = run.paths.make(run.folder_is_given)
    arguments = run.paths.save_dir / ARGUMENTS
    YAML.save(arguments, child_arguments(run))
    command = torchrun_command(processes, arguments, run.args.task)
    LOGGER.info(f"Starting {processes} processes: {' '.join(command[1:])}")
    status = subprocess.run(command, check=False).returncode
    if status:
        raise TrainingError(f"torchrun ended with status {status}", "its processes have printed the reason above")
    paths = run.paths
    last_only = paths.last.exists() and not has_best(read_checkpoint(paths.last))
    best = paths.best if paths.best.exists() and not last_only else paths.last
    return final_metrics(best), best


def final_metrics(path: Path) -> dict[str, float]:
    """Metrics that a checkpoint was saved with, and its fitness."""
    ckpt: Mapping[str, Any] = read_checkpoint(path)
    fitness = {} if ckpt["best_fitness"] is None else {"fitness": float(ckpt["best_fitness"])}
    return {**ckpt["train_metrics"], **fitness}
