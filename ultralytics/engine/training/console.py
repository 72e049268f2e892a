"""Console and table of a training run: running losses, columns, results.csv, the choice of the recipe."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from ultralytics.cfg import Args
from ultralytics.cfg.resolution import apply_recipe, load_recipe
from ultralytics.data.build import fraction_of
from ultralytics.data.utils import list_images, pick_fraction
from ultralytics.engine.training.protocols import RunPaths
from ultralytics.utils.files import atomic_write
from ultralytics.utils.log import clock_text
from ultralytics.utils.torch_tools.transfers import HostCopies

try:
    import resource
except ImportError:  # Windows has no such module; the column then shows 0
    resource = None  # type: ignore[assignment]

UNKNOWN_BATCH = 16
"""Images of a batch that is not known yet."""
SMALL_RUN = 20_000
"""Planned batches below which `recipe=auto` takes the small recipe."""

SMALL_DATA = 5_000
"""Training images below which `recipe=auto` takes the small recipe."""

FEW_DATA = 64
"""Training images below which `recipe=auto` takes the recipe for a few dozen."""

TINY_DATA = 32
"""Training images below which `recipe=auto` takes the tiny recipe, which learns them and little else."""

TRIAL_EPOCHS = 5
"""Epochs up to which a run from fresh weights is a trial: too short for a useful detector."""

FINAL_METRICS = "final_metrics.json"
"""File of a run folder with the figures of its last validation."""

WARMUP_FRACTION = 0.1
"""Largest fraction of the run that a recipe's warm-up takes."""


class HasFigures(Protocol):
    """What is read of a validator that has run."""

    seen: int

    @property
    def precision(self) -> str: ...


class RunClock:
    """Times of a run: seconds of training, those of earlier processes included, of the epoch, and since the last save.

    Seconds are monotonic; `train_start` and `epoch_start` are times of day.
    """

    def __init__(self, elapsed: float = 0.0) -> None:
        self._started = time.monotonic() - elapsed
        self._saved = self._epoch = time.monotonic()
        self._first = 0
        self.train_start = self.epoch_start = time.time()
        self.epoch_time = 0.0

    def elapsed(self) -> float:
        """Seconds of training."""
        return time.monotonic() - self._started

    def start_epoch(self, batch: int = 0) -> None:
        """An epoch begins, in a run that resumes inside one with this batch."""
        self._epoch, self.epoch_start, self._first = time.monotonic(), time.time(), batch

    def left(self, batch: int, batches: int) -> str:
        """How long so many further batches take at the rate of this epoch, after `batch` of its batches."""
        done = batch - self._first
        return f", run {clock_text((time.monotonic() - self._epoch) / done * batches)} left" if done > 0 else ""

    def end_epoch(self) -> None:
        """Keep the seconds of the epoch in `epoch_time`."""
        self.epoch_time = time.monotonic() - self._epoch

    def saved(self) -> None:
        """A checkpoint is on disk."""
        self._saved = time.monotonic()

    def since_saved(self) -> float:
        """Seconds since the last checkpoint."""
        return time.monotonic() - self._saved


class LossMeter:
    """Running mean of the loss items over an epoch, and the check for values that are not finite.

    Values stay on the device until `flush`, so that a GPU is not made to wait at every step. Sums are float64, in the
    order of the batches, so that a mean does not depend on when they were fetched.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.start()

    def start(self, loss_sum: Sequence[float] = (), count: int = 0) -> None:
        """Begin an epoch, or continue inside one with the sums of its first `count` batches."""
        self.sum = list(loss_sum) or [0.0] * len(self.names)
        self.count = count
        self.bad_text = ""
        self._pending: list[torch.Tensor] = []
        self._norms: list[torch.Tensor] = []

    def add(self, total: torch.Tensor, items: torch.Tensor) -> None:
        """Take the loss of one batch: `total` is a scalar, `items` one value per name; both stay on the device."""
        self._pending.append(torch.cat([total.detach().reshape(1), items.reshape(-1)]))

    def add_norm(self, norm: torch.Tensor) -> None:
        """Take the gradient norm of one step, a scalar that stays on the device."""
        self._norms.append(norm)

    def flush(self) -> str:
        """Fetch what is pending; return what is not finite, "loss" or "gradient", and "" when everything is finite."""
        waiting = [torch.stack(values) for values in (self._pending, self._norms) if values]
        fetched = [values.double().tolist() for values in HostCopies(waiting).wait()]
        rows = fetched.pop(0) if self._pending else []
        norms = fetched.pop(0) if self._norms else []
        self._pending.clear()
        self._norms.clear()
        for total, *items in rows:
            if not all(map(math.isfinite, (total, *items))):
                terms = ", ".join(f"{k}={v:.4g}" for k, v in zip(self.names, items, strict=True))
                self.bad_text = f", total={total:.4g}, {terms}"
                return "loss"
            self.sum = [s + v for s, v in zip(self.sum, items, strict=True)]
            self.count += 1
        return "" if all(map(math.isfinite, norms)) else "gradient"

    @property
    def pending(self) -> bool:
        """Whether values wait to be fetched."""
        return bool(self._pending or self._norms)

    @property
    def mean(self) -> list[float]:
        """Mean of each item over the fetched batches of the epoch."""
        return [s / max(self.count, 1) for s in self.sum]


def memory_text(device: torch.device) -> str:
    """Memory of the run as `x.xxG`: reserved on a GPU, else the peak of this process."""
    if device.type == "cuda":
        used = torch.cuda.memory_reserved(device)
    else:
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 if resource else 0
    return f"{used / 2**30:.3g}G"


def header_text(loss_names: Sequence[str], device: torch.device) -> str:
    """Header of an epoch: right-aligned columns of 11 characters."""
    columns = ("Epoch", "GPU_mem" if device.type == "cuda" else "RAM", *loss_names, "Instances", "Size")
    return "".join(f"{c:>11}" for c in columns)


def progress_text(epoch: str, memory: str, losses: Sequence[float], instances: int, size: int) -> str:
    """Line of an epoch in progress, in the columns of `header_text`."""
    return f"{epoch:>11}{memory:>11}" + "".join(f"{v:11.4g}" for v in (*losses, instances, size))


def write_csv(path: Path, rows: Sequence[dict[str, float]]) -> None:
    """Write the whole of results.csv: a header and one line per epoch, values as %.6g, columns of the last row."""
    if not rows:
        return
    keys = list(rows[-1])
    lines = [",".join(keys), *(",".join(f"{row.get(k, 0.0):.6g}" for k in keys) for row in rows)]
    with atomic_write(path) as f:
        f.write("\n".join(lines) + "\n")


def write_final(paths: RunPaths, validator: HasFigures, metrics: Mapping[str, float]) -> None:
    """Write what the weights that a run ends with score, and in which precision, beside results.csv."""
    record = {
        "weights": str(paths.best.relative_to(paths.save_dir)),
        "precision": validator.precision,
        "images": validator.seen,
        "metrics": dict(metrics),
    }
    with atomic_write(paths.save_dir / FINAL_METRICS) as f:
        f.write(json.dumps(record, indent=2) + "\n")


def time_left(done: int, epochs: int, seconds: float) -> str:
    """What is done and how long the rest takes at this rate; empty before the first epoch has ended.

    >>> time_left(2, 10, 300.0), time_left(0, 10, 0.0)
    ('2 of 10 epochs in 5:00, about 20:00 left', '')
    """
    if not done:
        return ""
    left = seconds / done * max(epochs - done, 0)
    return f"{done} of {epochs} epochs in {clock_text(seconds)}, about {clock_text(left)} left"


def next_steps(epochs: int, done: int, seconds: float, from_weights: bool) -> str:
    """What a run of a few epochs from fresh weights says and does not say, and what to do next; else empty."""
    if epochs > TRIAL_EPOCHS or from_weights or not done:
        return ""
    hundred = clock_text(100 * seconds / done)
    return (
        f"{done} epochs from fresh weights show that everything runs, not what the network can do.\n"
        f"Next: epochs=100 (about {hundred} at this rate), data=my.yaml for your images, model=x.pt to use weights."
    )


def count_images(args: Args, source: str | list[str]) -> int:
    """Number of training images that a run on `source` takes: of its list, the `fraction`."""
    return len(pick_fraction(list_images(source), fraction_of(args.fraction, "train"), args.seed))


def planned_batches(images: int, batch: int | float, epochs: int) -> int:
    """Return the batches of a run; a batch that is measured at its start, which is below 1, counts as 16 images."""
    return math.ceil(images / (int(batch) if batch >= 1 else UNKNOWN_BATCH)) * epochs


def choose_recipe(images: int, iterations: int, pretrained: bool, epochs: int) -> tuple[str, str]:
    """Return the recipe that `recipe=auto` stands for, and why."""
    name = "small" if images < SMALL_DATA or iterations < SMALL_RUN else "official"
    if images < SMALL_DATA and epochs <= TRIAL_EPOCHS and not pretrained:
        name = "trial"
    elif images < FEW_DATA:
        name = "tiny" if images < TINY_DATA else "few"
    start = "loaded weights" if pretrained else "fresh weights"
    return name, f"{images} training images, {iterations} batches planned in {epochs} epochs, {start}"


def settle_recipe(args: Args, name: str, why: str = "") -> tuple[Args, str]:
    """Return the arguments with the recipe laid under what the user gave; and which one, why, and what it set.

    A recipe's warm-up takes at most `WARMUP_FRACTION` of the run, so that a trial of three epochs trains in each.
    """
    new = apply_recipe(args, name)
    if "warmup_epochs" not in new.user_keys:
        limit = round(WARMUP_FRACTION * int(new.epochs), 6)
        new = new.replace(warmup_epochs=min(float(new.warmup_epochs), limit))
    kept = sorted(new.user_keys & set(load_recipe(name)))
    return new, recipe_text(dict(args), dict(new), name, why, kept)


def recipe_text(before: dict[str, Any], after: dict[str, Any], name: str, why: str, kept: Sequence[str]) -> str:
    """Lines that name the recipe, why it was taken, what it set, and which user arguments override it."""
    changed = ", ".join(f"{k}={after[k]}" for k in sorted(after) if after[k] != before.get(k) and k != "recipe")
    lines = [f"Recipe: {name} ({why})" if why else f"Recipe: {name}", f"  sets {changed or 'nothing'}"]
    if kept:
        lines.append(f"  user arguments kept: {', '.join(f'{k}={after[k]}' for k in kept)}")
    return "\n".join(lines)
