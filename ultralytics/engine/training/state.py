"""The state of a training run: what it is, how it goes to disk, and how a run resumes from it.

`TrainState` holds everything that a continued run needs to equal the uninterrupted one bit for bit: raw float32
weights, EMA, optimizer, scheduler, scaler, random generators, early stopping and the rows of results.csv. A state is
taken at an epoch's end or, inside an epoch, right after an optimizer step, so that no gradient has to be kept.

Random numbers of a run are three kinds of streams, and none depends on what ran before:
 - initial weights: seeded with `seed`;
 - data (shuffling, augmentation): pure functions of (seed, epoch, index), kept by the data package;
 - a training step (denoising queries, dropout, image size): reseeded by `seed_step` from (seed, rank, step).
"""

from __future__ import annotations

import csv
import errno
import math
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ultralytics.cfg import Args, get_cfg
from ultralytics.cfg.schema import Trait, keys_with
from ultralytics.engine.training.optimizer import load_optimizer_state
from ultralytics.engine.training.protocols import HasRun
from ultralytics.nn.build.user_blocks import check_user_modules, pack_user_modules
from ultralytics.nn.checkpoint.format import pack_model, read_checkpoint, save_checkpoint
from ultralytics.nn.checkpoint.validate import check_run_state
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import CheckpointError, ConfigError, FinishedRunError, TrainingError, UserError
from ultralytics.utils.files import resumed_file
from ultralytics.utils.torch_tools.training import EarlyStopping, ModelEMA
from ultralytics.utils.user_modules import load_user_modules

LONGEST = 200
"""Characters of a foreign message that are shown."""


def seed_step(seed: int, rank: int, step: int) -> None:
    """Seed Python, NumPy and torch for one training step from (seed, rank, step) alone."""
    keys = np.random.SeedSequence((seed, rank + 1, step)).generate_state(2, np.uint64)
    random.seed(int(keys[0]))
    np.random.seed(int(keys[0]) % 2**32)
    torch.manual_seed(int(keys[1]) % 2**63)


def pack_rng() -> dict[str, Any]:
    """Return the states of all random generators as tensors and plain values."""
    name, keys, pos, has_gauss, cached = np.random.get_state()
    return {
        "python": list(random.getstate()[1]),
        "python_gauss": random.getstate()[2],
        "numpy": [str(name), torch.from_numpy(np.int64(keys)), int(pos), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
        "cuda": list(torch.cuda.get_rng_state_all()) if torch.cuda.is_initialized() else [],
    }


def restore_rng(state: dict[str, Any]) -> None:
    """Set all random generators to a state of `pack_rng`; CUDA only when the number of devices agrees."""
    random.setstate((3, tuple(state["python"]), state["python_gauss"]))
    name, keys, pos, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), pos, has_gauss, cached))
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] and torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([s.cpu() for s in state["cuda"]])


@dataclass
class Progress:
    """How far a run is. `epoch` counts from 0; `batch` batches of it are done, 0 at its start."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    """Batches since the start of the run, over all epochs."""
    elapsed: float = 0.0
    """Seconds of training before this process."""
    epochs: int = 0
    """Epochs that the run heads for, which `time` estimates again after each; 0 in older files."""
    images: int = 0
    """Training images; 0 in older files."""
    mosaic_closed: bool = False
    best_fitness: float | None = None
    best_saved: bool = False
    """Whether this run has written its best.pt; the one in the folder may be of an earlier run."""
    loss_sum: list[float] = field(default_factory=list)
    """Sums of the loss items over the `batch` batches (float64)."""
    stage: dict[str, Any] = field(default_factory=dict)
    """What the stages of a plan keep; empty in a run without one."""
    rows: list[dict[str, float]] = field(default_factory=list)
    """Rows of results.csv."""

    def place(self) -> str:
        """Name the step that begins, for messages."""
        return f"epoch {self.epoch + 1}, batch {self.batch + 1} (step {self.step + 1})"


@dataclass
class TrainState:
    """The parts of a run whose state is saved and restored together."""

    model: nn.Module
    ema: ModelEMA
    optimizer: Optimizer
    scheduler: LRScheduler
    scaler: torch.amp.GradScaler
    stopper: EarlyStopping
    progress: Progress

    def pack(self, args: dict[str, Any], metrics: dict[str, float], precision: str | None = None) -> dict[str, Any]:
        """Return the checkpoint of this moment: tensors and plain values only. `precision` is that of the metrics."""
        p = self.progress
        return {
            "epoch": p.epoch - 1,
            "best_fitness": p.best_fitness,
            "model": pack_model(self.model),
            "ema": pack_model(self.ema.ema),
            "updates": self.ema.updates,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": {k: v for k, v in self.scheduler.state_dict().items() if k in {"base_lrs", "last_epoch"}},
            "scaler": self.scaler.state_dict(),
            "rng": pack_rng(),
            "stopper": self.stopper.state_dict(),
            "train_state": {k: v for k, v in vars(p).items() if k != "rows"},
            "modules": pack_user_modules(self.model),
            "metrics_precision": precision,
            **_metadata(args, metrics, p.rows),
        }

    def restore(self, ckpt: dict[str, Any]) -> None:
        """Go back to the moment of a checkpoint; raises CheckpointError when the network or optimizer differs."""
        try:
            self.model.load_state_dict(ckpt["model"]["state_dict"])
            self.ema.ema.load_state_dict(ckpt["ema"]["state_dict"])
            load_optimizer_state(self.optimizer, ckpt["optimizer"])
            self.ema.updates = int(ckpt["updates"])
            if ckpt["scaler"] and self.scaler.is_enabled():
                self.scaler.load_state_dict(ckpt["scaler"])
            self.stopper.load_state_dict(ckpt["stopper"])
            restore_rng(ckpt["rng"])
        except (RuntimeError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as e:
            raise CheckpointError(
                f"the checkpoint does not fit this run: {_first_difference(e)}",
                "resume with the model, the data, the optimizer and the frozen layers that the run was started with",
            ) from e
        state = {**ckpt["train_state"], "best_saved": has_best(ckpt)}
        self.progress = Progress(**state, rows=rows_of(ckpt["train_results"]))


def has_best(ckpt: Mapping[str, Any]) -> bool:
    """Whether the run of a checkpoint has written its best.pt; an older file has if it knows a fitness."""
    return bool((ckpt.get("train_state") or {}).get("best_saved", ckpt.get("best_fitness") is not None))


def _first_difference(error: Exception) -> str:
    """The first thing that does not fit; torch puts a headline without it in front, and may list every tensor."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    text = lines[1] if len(lines) > 1 else lines[0]
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _metadata(args: dict[str, Any], metrics: dict[str, float], rows: list[dict[str, float]]) -> dict[str, Any]:
    return {
        "train_args": args,
        "train_metrics": metrics,
        "train_results": {k: [row[k] for row in rows] for k in (rows[0] if rows else ())},
        "date": datetime.now().isoformat(timespec="seconds"),
    }


def rows_of(columns: dict[str, list[float]]) -> list[dict[str, float]]:
    """Turn columns (`train_results`) into rows."""
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def pack_best(
    state: TrainState, args: dict[str, Any], metrics: dict[str, float], precision: str | None = None
) -> dict[str, Any]:
    """Return the checkpoint for use: the averaged weights alone, float32; it cannot be resumed.

    `precision` is that of the metrics.
    """
    p = state.progress
    kept = {"epoch": p.epoch - 1, "best_fitness": p.best_fitness, "model": None, "ema": pack_model(state.ema.ema)}
    resumable = ("updates", "optimizer", "scheduler", "scaler", "rng", "stopper", "train_state")
    blocks = {"modules": pack_user_modules(state.model), "metrics_precision": precision}
    return {**kept, **dict.fromkeys(resumable), **blocks, **_metadata(args, metrics, p.rows)}


def write(path: Path, ckpt: dict[str, Any], last: Path | None = None) -> None:
    """Write a checkpoint whole or not at all; a failure names the remedy and leaves an older file as it was.

    `last` is the file that the run could resume from.
    """
    try:
        save_checkpoint(path, ckpt)
    except OSError as e:
        raise TrainingError(f"cannot write {path}: {e.strerror}", _recovery_hint(last, "saved")) from e


def _recovery_hint(last: Path | None, done: str) -> str:
    """The remedy after a failed write; `done` is what did not happen when there is nothing to resume from."""
    if last is None:
        return f"nothing was {done}: free space, fix the folder, or give another one with project="
    return f"{last} is complete: free space or fix the folder, then resume with resume={last}"


@contextmanager
def naming_write_errors(run: HasRun) -> Iterator[None]:
    """Turn what the system says when the run folder cannot be written into a TrainingError with the remedy."""
    try:
        yield
    except OSError as e:
        if isinstance(e, UserError) or not _is_about(e, run.paths.save_dir):
            raise
        done = "saved" if run.progress.step else "trained"
        remedy = _recovery_hint(run.recovery.on_disk, done)
        raise TrainingError(f"cannot write {e.filename}: {e.strerror}", remedy) from e


def _is_about(error: OSError, folder: Path) -> bool:
    """Whether an error is about a run folder, a file in it, or a folder on the way to it."""
    if error.errno in {None, errno.ENOENT} or not error.filename:  # what is missing was to be read
        return False
    path, folder = Path(os.fsdecode(error.filename)).absolute(), folder.absolute()
    return path == folder or folder in path.parents or path in folder.parents


def check_writable(folder: Path, new: bool) -> None:
    """Raise ConfigError when a run folder could not be written; with `new` it is still to be made. Nothing is made."""
    place = (folder.parent if new else folder).absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    hint = "give another folder with project=, or fix this one"
    if not place.is_dir():
        raise ConfigError(f"cannot write to {folder}: {place} is not a folder", hint)
    if not os.access(place, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise ConfigError(f"cannot write to {folder}: {place} is read-only for this user", hint)


def find_resume(args: Args) -> Path:
    """Return the checkpoint that `resume` means: its path, else a `.pt` given as `model`, else the newest last.pt."""
    named = isinstance(args.resume, (str, Path)) and str(args.resume).lower() != "true"
    if not named and args.model and str(args.model).endswith(".pt"):
        return Path(args.model)
    return resumed_file(args.resume if named else True, args.project)


def run_folder(path: Path, ckpt: Mapping[str, Any]) -> Path | None:
    """Return the folder of the run that a checkpoint is of, None when it is not here.

    It lies around the folder `weights`, unless that is of another run. For a file that was copied out of there, it is
    the one that its arguments name, if that holds this run: its results.csv begins with the epochs of the checkpoint. A
    file from elsewhere names a folder in which a run of the user's own may lie.
    """
    place = path.resolve().parent
    if place.name == "weights" and not _holds_another(place.parent, rows_of(ckpt["train_results"])):
        return place.parent
    named = ckpt["train_args"].get("save_dir")
    if not named or not (Path(named) / "weights").is_dir():
        return None
    return Path(named) if _may_hold(Path(named), rows_of(ckpt["train_results"])) else None


def _may_hold(folder: Path, rows: Sequence[Mapping[str, float]]) -> bool:
    """Whether a folder holds no run, or one whose results.csv begins with these rows, values as they are written."""
    if not (folder / "results.csv").is_file():
        return not (folder / "weights" / "last.pt").exists()
    written = _written(folder)
    return 0 < len(rows) <= len(written) and not _differ(written, rows)


def _holds_another(folder: Path, rows: Sequence[Mapping[str, float]]) -> bool:
    """Whether an epoch in results.csv has other values than these rows have."""
    return _differ(_written(folder), rows)


def _differ(written: Sequence[Mapping[str, str]], rows: Sequence[Mapping[str, float]]) -> bool:
    """Whether an epoch has other values in the rows of a results.csv, as they are written there, than in `rows`."""
    known = [{key: f"{value:.6g}" for key, value in row.items()} for row in rows]
    return any(
        theirs.get(key, value) != value
        for theirs, ours in zip(written, known, strict=False)
        for key, value in ours.items()
    )


def _written(folder: Path) -> list[dict[str, str]]:
    """Return the rows of results.csv; none where it is missing or is not a table."""
    try:
        with (folder / "results.csv").open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except (FileNotFoundError, UnicodeDecodeError, csv.Error):
        return []


def planned_epochs(args: Args, ckpt: Mapping[str, Any]) -> int:
    """Return the number of epochs that a continued run heads for.

    Under `time` that is the last estimate, or one from the time spent when the limit is another or the file is older.
    """
    state, done = ckpt["train_state"], int(ckpt["epoch"]) + 1
    if not args.time or not done:
        return int(args.epochs)
    same = args.time == ckpt["train_args"].get("time")
    estimate = state.get("epochs") if same else 0
    return max(done + 1, int(estimate or math.ceil(args.time * 3600 * done / max(state["elapsed"], 1e-9))))


def _check_unfinished(path: Path, args: Args, ckpt: Mapping[str, Any]) -> None:
    """Raise FinishedRunError when nothing is left to do."""
    done, hours = ckpt["epoch"] + 1, ckpt["train_state"]["elapsed"] / 3600
    if args.time and hours >= args.time:
        raise FinishedRunError(
            f"{path}: the run is finished, {hours:.3g} of {args.time:g} hours", "raise time= to train on"
        )
    if not args.time and done >= args.epochs:
        raise FinishedRunError(
            f"{path}: the run is finished, {done} of {args.epochs} epochs", "raise epochs= to train on"
        )


def check_classes(args: Args, nc: int, names: Mapping[int, str], saved: Mapping[str, Any]) -> None:
    """Compare the classes of the data with those of the network that a run resumes with; warn of other names.

    Raises CheckpointError for another number of classes.
    """
    if nc != saved["nc"]:
        raise CheckpointError(
            f"data={args.data} has {nc} classes, the run of {args.resume} has {saved['nc']}",
            f"resume with the data of that run, or start a new run on this with model={args.resume} and without resume",
        )
    if dict(names) != dict(saved["names"]):
        now, then = (", ".join(list(known.values())[:9]) for known in (names, saved["names"]))
        LOGGER.warning(
            f"resume: data={args.data} names its classes {now}, the run was started with {then}: class ids stay as "
            "they are, so the labels must be those of that run"
        )


def note_images(progress: Progress, images: int) -> None:
    """Keep the number of training images; warn when a resumed run had another."""
    if progress.images not in {0, images}:
        LOGGER.warning(
            f"resume: there are {images} training images, the run had {progress.images}: "
            "what follows differs from an uninterrupted run"
        )
    progress.images = images


def _place(path: Path, ckpt: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """Return the folder that the run resumes in: the given one, else its own; neither may hold another run."""
    chosen = given.get("save_dir")
    if chosen and _holds_another(Path(chosen), rows_of(ckpt["train_results"])):
        raise CheckpointError(f"save_dir={chosen} holds another run than {path}", "name a new folder with save_dir=")
    folder = chosen or run_folder(path, ckpt)
    if folder is None:
        named = ckpt["train_args"].get("save_dir")
        raise CheckpointError(
            f"{path} lies in no folder `weights` of its run, and {named}, which it names, is not here or holds another "
            "run",
            "name the folder to resume in: save_dir=runs/exp",
        )
    return str(folder)


def _read_state(path: Path) -> dict[str, Any]:
    """Return a checkpoint that holds the state of a run; raises CheckpointError for another."""
    ckpt = read_checkpoint(path)
    if ckpt.get("optimizer") is None or ckpt.get("train_state") is None:
        raise CheckpointError(
            f"{path} holds weights for use, not the state of a run",
            "resume from last.pt, or start a new run with model=<it>",
        )
    try:
        check_run_state(ckpt)
    except CheckpointError as e:
        raise CheckpointError(f"{path} cannot be resumed: {e}", "resume from another checkpoint of the run") from None
    return ckpt


def resume_args(args: Args) -> tuple[Args, dict[str, Any]]:
    """Return the arguments of the run that resumes, and its checkpoint.

    Arguments come from the checkpoint; those the user gave now count where `Trait.RESUME` allows, others are named in a
    warning. The run resumes in its own folder unless `save_dir` is given. Raises CheckpointError when the file holds
    no training state.
    """
    path = find_resume(args)
    ckpt = _read_state(path)
    changeable = keys_with(Trait.RESUME)
    given = {k: args.get(k) for k in args.user_keys if k not in keys_with(Trait.SELECTS)}
    if args.resume is True:
        given.pop("project", None)  # it said where to look for the newest run
    saved = {
        **ckpt["train_args"],
        "modules": None,
    }  # a file cannot make code run: the user names it again
    load_user_modules(given.get("modules"))
    check_user_modules(ckpt["modules"], path)
    ignored = sorted(k for k, v in given.items() if k not in changeable and v != saved.get(k))
    if ignored:
        LOGGER.warning(f"resume: {', '.join(ignored)} as in the checkpoint; what was given now is not used")
    batch = saved.get("batch")
    if ckpt["train_state"]["batch"] and given.get("batch", batch) != batch:
        raise CheckpointError(
            f"{path} was saved inside an epoch; batch cannot change there", f"resume with batch={batch}"
        )
    own = {"resume": str(path), "save_dir": _place(path, ckpt, given), "cfg": None}
    new = get_cfg(overrides={**saved, **{k: v for k, v in given.items() if k in changeable}, **own})
    new = new.replace(cfg=saved.get("cfg"))  # its values are among those saved, and the file may have changed or gone
    _check_unfinished(path, new, ckpt)
    return new, ckpt
