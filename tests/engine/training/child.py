"""Training runs of the tiny network in processes of their own, which may be killed.

A job is a dictionary: `overrides` are arguments; `kill` = [event, n] sends SIGKILL at the n-th such event; `autosave`
are the seconds between checkpoints inside an epoch; `head` are further arguments of the decoder; `losses` is a file for
the total loss of each step, with the rank in its name; `network` is the YAML of another network, whose family decides
the trainer.
"""

from __future__ import annotations

import copy
import json
import os
import signal
import sys
import tempfile
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tests.processes import process_context
from ultralytics.utils.log import LOGGER, get_logger

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Child:
    """A process, and the file that its output goes to."""

    process: BaseProcess
    output: Path


def start(job: dict[str, Any], ranks: int = 1, port: int = 0) -> list[Child]:
    """Start the processes of a run; each has one thread, and the variables that torchrun would set."""
    group = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)} if ranks > 1 else {}
    started = []
    for rank in range(ranks):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if ranks > 1 else {}
        handle, output = tempfile.mkstemp(suffix=".log")
        os.close(handle)
        process = process_context().Process(target=work, args=(job, output, {**group, **own}))
        process.start()
        started.append(Child(process, Path(output)))
    return started


def finish(children: list[Child], limit: float = 240) -> list[tuple[int, str]]:
    """Wait for the processes: exit status and output of each. None is left behind."""
    ended = []
    for child in children:
        child.process.join(limit)
        child.process.kill()  # no effect on one that has ended
    for child in children:
        child.process.join()
        ended.append((child.process.exitcode or 0, child.output.read_text(encoding="utf-8", errors="replace")))
        child.output.unlink()
    return ended


def work(job: dict[str, Any], output: str, variables: dict[str, str]) -> None:
    """Run the job in this process, with these environment variables; what it prints goes to a file."""
    with open(output, "a", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.update(variables)
    os.chdir(ROOT)
    LOGGER.handlers.clear()
    get_logger()  # sets the level by the rank, as at the import in a new process
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # a killed process does not flush
    main(job)


def network(head: list[Any] | None = None) -> dict[str, Any]:
    """Return the YAML of the tiny network, with these further arguments of its decoder."""
    yaml: dict[str, Any] = copy.deepcopy(_tiny())
    yaml["head"][-1][-1] = [*yaml["head"][-1][-1], *(head or ())]
    return yaml


def _tiny() -> dict[str, Any]:
    from tests.engine.tiny import TINY

    return TINY


def main(job: dict[str, Any]) -> None:
    """Run the job."""
    import torch

    from ultralytics import YOLO
    from ultralytics.engine import trainer as engine
    from ultralytics.models.rtdetr.train import RTDETRTrainer
    from ultralytics.utils import dist

    torch.set_num_threads(1)
    engine.AUTOSAVE_S = job.get("autosave", engine.AUTOSAVE_S)
    yaml = job.get("network") or network(job.get("head"))
    trainer = YOLO(yaml).task_map["detect"]["trainer"] if "network" in job else RTDETRTrainer
    run = trainer(overrides=job["overrides"])
    if not job["overrides"].get("resume"):
        run.model = run.get_model(cfg=yaml, verbose=False)
    run.final_val = False
    event, count = job.get("kill") or ("teardown", 0)
    seen: list[str] = []
    losses: list[float] = []

    def step(owner: Any) -> None:
        losses.append(float(owner.loss))

    def die(owner: Any) -> None:
        seen.append(event)
        if len(seen) == count:
            os.kill(os.getpid(), signal.SIGKILL)

    run.add_callback("on_train_batch_end", step)
    run.add_callback(event, die)
    run.train()
    if job.get("losses"):
        Path(f"{job['losses']}.{max(dist.rank(), 0)}").write_text(json.dumps(losses))
