"""Run one job of a study in this process: `python -m ultralytics.study.worker <run folder>/job.json [options]`.

A run that was killed resumes from its last checkpoint; `outcome.json` is written last, and its existence says that
the run is finished. With `--attached` the process ends when its standard input closes, which happens when the
program that started it is killed.
"""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ultralytics import __version__
from ultralytics.engine.validator import max_side
from ultralytics.models import RTDETR
from ultralytics.nn.checkpoint.format import read_checkpoint
from ultralytics.study.attached import end_with_parent
from ultralytics.study.jobs import FAILURE, REPLICATES, Outcome, StudyJob
from ultralytics.study.quality import write_quality
from ultralytics.study.stopping import StoppedEarlyError, Watch
from ultralytics.utils.callbacks import Callback
from ultralytics.utils.errors import FinishedRunError, UserError
from ultralytics.utils.files import atomic_write
from ultralytics.utils.log import LOGGER
from ultralytics.utils.metrics import DetMetrics
from ultralytics.utils.metrics.coco import STAT_NAMES

try:
    import fcntl
except ImportError:  # Windows: two processes could run one job there
    fcntl = None  # type: ignore[assignment]

LOCK, LAST = ".lock", "last.pt"


def run_job(job: StudyJob, device: str = "") -> Outcome:
    """Train, or resume, and evaluate; return what was measured. A finished run is not repeated."""
    with locked(job.path):
        finished = Outcome.load(job.path)
        if finished is not None and finished.content == job.content:
            return finished
        (job.path / FAILURE).unlink(missing_ok=True)
        try:
            callbacks: dict[str, Callback] = {}
            if job.stop:
                watch = Watch(job)
                watch.before()
                callbacks["on_fit_epoch_end"] = watch
            train_job(job, device, callbacks=callbacks)
            outcome = replace(evaluate(job, job.path, device), seconds=training_seconds(job))
        except Exception as e:
            write_failure(job.path, reason_of_error(e), stopped=isinstance(e, StoppedEarlyError))
            raise
        outcome.save(job.path)
        return outcome


def write_failure(folder: Path, reason: str, stopped: bool = False) -> None:
    """Write why a run ended without a result: it failed, or was stopped as hopeless."""
    with atomic_write(folder / FAILURE) as f:
        json.dump({"reason": reason, "stopped": stopped}, f)


def reason_of_error(error: Exception) -> str:
    """The message of a user's mistake; with the place where it was raised for any other error."""
    if isinstance(error, UserError):
        return str(error)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(frame.filename).name}:{frame.lineno})"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run folder, so that no second process works in it; waits for one that does."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK, "w") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def train_job(
    job: StudyJob,
    device: str = "",
    changes: Mapping[str, Any] | None = None,
    callbacks: Mapping[str, Callback] | None = None,
) -> None:
    """Train from the start or from the last checkpoint.

    `changes` are arguments beside those of the job, which a resumed run has in its checkpoint; `callbacks` by event.
    """
    last = job.path / "weights" / LAST
    where: dict[str, Any] = {"device": device} if device else {}
    modules: dict[str, Any] = {"modules": job.train["modules"]} if job.train.get("modules") else {}
    resumed = last.exists()
    model = RTDETR(str(last) if resumed else job.model, **modules)
    for event, function in (callbacks or {}).items():
        model.add_callback(event, function)
    if resumed:
        with suppress(FinishedRunError):
            model.train(resume=str(last), **where, **modules)
    else:
        args = {k: v for k, v in job.train.items() if k != "modules"}
        model.train(**{"save_dir": job.folder, **args, **(changes or {}), **where})


def training_seconds(job: StudyJob) -> float:
    """Return the seconds of training, those before a kill included, that the last checkpoint records."""
    return float(read_checkpoint(job.path / "weights" / LAST)["train_state"]["elapsed"])


def evaluate(job: StudyJob, folder: Path, device: str = "") -> Outcome:
    """Evaluate the weights of a run with replicates over images, which go to `folder`; seconds of training are 0."""
    weights = job.path / "weights" / f"{job.weights}.pt"
    if not weights.exists():
        weights = job.path / "weights" / LAST
    modules = {"modules": job.train["modules"]} if job.train.get("modules") else {}
    model = RTDETR(str(weights), **modules)
    args: dict[str, Any] = {k: job.train[k] for k in ("data", "imgsz", "workers") if k in job.train}
    where = {"device": device} if device else {}
    metrics = model.val(
        **{**args, **where}, split=job.split, ci=True, plots=False, save_dir=str(folder / f"{job.split}_results")
    )
    _write_replicates(folder, metrics)
    write_quality(folder, metrics)
    totals = model.totals(max_side(job.train.get("imgsz") or 640))
    drawn = metrics.times.get("inference", {})
    return Outcome(
        content=job.content,
        arm=job.arm,
        seed=job.seed,
        metrics=metrics.coco_stats,
        classes={metrics.names[int(c)]: float(v) for c, v in zip(metrics.ap_class_index, metrics.box.ap, strict=True)},
        params=totals.params,
        gflops=totals.gflops,
        latency=float(drawn.get("p50", 0.0)),
        seconds=0.0,
        images=len(metrics.stats),
        split=job.split,
        weights=weights.stem,
        environment={
            "ultralytics": __version__,
            "torch": str(torch.__version__),
            "device": device or "auto",
        },
        folder=str(folder),
    )


def _write_replicates(folder: Path, metrics: DetMetrics) -> None:
    """Keep the AP of each replicate, all of which are drawn with one seed."""
    drawn = metrics.bootstrap or metrics.resample()
    columns: dict[str, Any] = {n: drawn.stats[:, i].astype(np.float32) for i, n in enumerate(STAT_NAMES[:3])}
    with atomic_write(folder / REPLICATES, "wb") as f:
        np.savez_compressed(f, **columns)


def run_command_line(argv: Sequence[str] | None = None) -> int:
    """Run the job of a file; exit code 1 when it failed."""
    return run_from_file(run_job, "ultralytics.study.worker", argv)


def run_from_file(run: Callable[[StudyJob, str], object], program: str, argv: Sequence[str] | None = None) -> int:
    """Parse the command line of a worker and run its job; a user's mistake is one message and exit code 1."""
    parser = argparse.ArgumentParser(prog=program)
    parser.add_argument("job", type=Path)
    parser.add_argument("--device", default="")
    parser.add_argument("--attached", action="store_true")
    options = parser.parse_args(argv)
    if options.attached:
        end_with_parent()
    try:
        run(StudyJob.load(options.job), options.device)
    except UserError as e:
        LOGGER.error(str(e))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run_command_line())
