"""One training run of the tiny network in a process of its own, which may be killed.

`python -m tests.engine.training.child JOB`, with JOB in JSON: `overrides` are arguments; `kill` = [event, n] sends
SIGKILL at the n-th such event; `autosave` are the seconds between checkpoints inside an epoch; `head` are further
arguments of the decoder; `losses` is a file that the total loss of each step is written to, with the rank in its name.
"""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]


def start(job: dict[str, Any], ranks: int = 1, port: int = 0) -> list[subprocess.Popen[str]]:
    """Start the processes of a run; each has one thread, and the variables that torchrun would set."""
    group = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)} if ranks > 1 else {}
    started = []
    for rank in range(ranks):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if ranks > 1 else {}
        command = [sys.executable, "-m", "tests.engine.training.child", json.dumps(job)]
        env = {**os.environ, "OMP_NUM_THREADS": "1", **group, **own}
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        started.append(subprocess.Popen(command, cwd=ROOT, env=env, **pipes))
    return started


def finish(processes: list[subprocess.Popen[str]], limit: float = 240) -> list[tuple[int, str]]:
    """Wait for the processes: exit status and output of each. None is left behind."""
    try:
        outputs = [p.communicate(timeout=limit)[0] for p in processes]
    finally:
        for p in processes:
            p.kill()
    return [(p.returncode, output) for p, output in zip(processes, outputs, strict=True)]


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

    from ultralytics.engine import trainer as engine
    from ultralytics.models.rtdetr.train import RTDETRTrainer
    from ultralytics.utils import dist

    torch.set_num_threads(1)
    engine.AUTOSAVE_S = job.get("autosave", engine.AUTOSAVE_S)
    run = RTDETRTrainer(overrides=job["overrides"])
    if not job["overrides"].get("resume"):
        run.model = run.get_model(cfg=network(job.get("head")), verbose=False)
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


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
