"""Where the time of training goes (`profile=True`): each part of a step, over the first epoch of a run.

A lap ends a part. On a GPU it first waits for the work that was started, so that a part holds its work and not its
launch; that costs speed, so only a profiled epoch does it. Without `profile` a lap is one comparison.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ultralytics.engine.training.protocols import HasEpoch
from ultralytics.utils import LOGGER, dist
from ultralytics.utils.callbacks import Callbacks
from ultralytics.utils.files import atomic_write
from ultralytics.utils.tables import aligned
from ultralytics.utils.torch_utils import time_sync

PARTS = ("data", "to device", "forward", "backward", "optimizer", "ema", "other")
"""Parts of a step: waiting for the loader; the copy to the device, rescaling included; network and loss; gradients;
clipping, step and zeroing; the average; the rest: checks of labels and losses, callbacks, pictures, progress bar."""

VALIDATION = "validation"
COLUMNS = ("part", "batches", "mean_ms", "median_ms", "p95_ms", "total_s", "fraction")
FILE = "profile.csv"

SLOW_DATA = 0.2
"""Fraction of a step above which waiting for data is reported."""


class StepTimes:
    """Stopwatch of a training loop, for one epoch; `on` says whether it still measures.

    The first batch is kept apart: it waits for the workers to start, kernels are chosen and memory is fetched in it.
    """

    def __init__(self, on: bool = False) -> None:
        self.on = on
        self.device = torch.device("cpu")
        self.begin()

    def attach(self, callbacks: Callbacks, device: torch.device) -> None:
        """Measure on `device`, listen to the validation, and report at the end of the first epoch."""
        self.device = device
        if self.on:
            callbacks.add("on_val_start", lambda _: self.lap("other"))
            callbacks.add("on_val_batch_end", lambda _: self.end_batch(VALIDATION))
            callbacks.add("on_fit_epoch_end", self.report)

    def begin(self) -> None:
        """Forget everything: an epoch begins."""
        self._spans: dict[str, list[float]] = {name: [] for name in (*PARTS, VALIDATION)}
        self._step: dict[str, float] = {}
        self.first = 0.0
        self._last = time_sync(self.device) if self.on else 0.0

    def lap(self, part: str) -> None:
        """Add the time since the last lap to a part of the current step."""
        if self.on:
            now = time_sync(self.device)
            self._step[part] = self._step.get(part, 0.0) + now - self._last
            self._last = now

    def end_batch(self, part: str = "other") -> None:
        """End the step with the part `part`; the next one begins."""
        if not self.on:
            return
        self.lap(part)
        if part == VALIDATION:
            self._spans[part].append(self._step[part])
        elif not self.first:
            self.first = sum(self._step.values())
        else:
            for name, span in self._step.items():
                self._spans[name].append(span)
        self._step.clear()

    def rows(self) -> Iterator[tuple[str, int, float, float, float, float, float | None]]:
        """Yield one row of `COLUMNS` for each part that occurred: ms, s, and the fraction of all steps in 0..1.

        Statistics are over the batches in which the part occurred. Validation has none: it is not part of a step.
        """
        whole = sum(sum(self._spans[name]) for name in PARTS)
        for name, spans in self._spans.items():
            if spans:
                ms = np.array(spans) * 1e3
                fraction = None if name == VALIDATION else sum(spans) / whole
                figures = (float(ms.mean()), float(np.median(ms)), float(np.percentile(ms, 95)), sum(spans))
                yield (name, len(spans), *figures, fraction)

    def report(self, run: HasEpoch) -> None:
        """Log the table, write `profile.csv` into the run folder, and measure no more."""
        if not self.on:
            return
        self.on = False
        rows = list(self.rows())
        steps = len(self._spans["data"])
        if not steps:
            LOGGER.info("profile: one batch in the epoch; times are measured from the second on")
            return
        mean = sum(row[5] for row in rows if row[0] != VALIDATION) / steps
        images = run.batch_size * dist.world_size()
        LOGGER.info(
            f"\nA training step of {images} images took {mean * 1e3:.1f} ms in epoch {run.epoch + 1}: "
            f"mean of {steps} (the first one, {self.first * 1e3:.1f} ms, is not counted)"
        )
        LOGGER.info("\n".join(aligned([COLUMNS, *map(_cells, rows)])))
        waiting = rows[0][-1] or 0.0
        if waiting > SLOW_DATA:
            remedies = "more workers=, cache=ram, or for large JPEGs reduced_decode=True, may help"
            LOGGER.info(f"{waiting:.0%} of the time is spent waiting for data: {remedies}")
        write_times(run.paths.save_dir / FILE, rows)
        LOGGER.info(f"Saved to {run.paths.save_dir / FILE}")


def _cells(row: Sequence[Any]) -> list[str]:
    """Return a row as text for the console."""
    name, batches, *figures, fraction = row
    return [name, str(batches), *(f"{v:.2f}" for v in figures), "" if fraction is None else f"{fraction:.1%}"]


def write_times(path: Path, rows: Sequence[Sequence[Any]]) -> None:
    """Write the table as CSV, numbers as %.6g; an empty cell where there is no fraction."""
    with atomic_write(path, newline="") as f:
        out = csv.writer(f, lineterminator="\n")
        out.writerow(COLUMNS)
        out.writerows([f"{v:.6g}" if isinstance(v, float) else v for v in row] for row in rows)
