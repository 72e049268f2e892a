"""Stop variants of a study that are hopeless: worse than the base at equal epochs, beyond the noise of the seeds.

The rule. At epoch e the curve of a run is the mean of its AP50-95 over the last `window` epochs up to e. Variants are
compared with the base at e by the seeds that both have, with one variance of the noise for all arms
(`statistics.contrasts`). A run stops when the one-sided p value of "worse than the base" is below `alpha` at each of
the last `window` epochs, of which the first is at least `start` of the run, and the line through the differences of the
last 2 `window` epochs does not lead up to the base by the end of the run: a variant may learn more slowly. Nothing is
decided from one seed, so the first seed of each variant always trains to its end. With a run its later seeds are left
out.

A run decides for itself after each of its epochs, from the results.csv of the others: so the rule works with every
engine. How often it is wrong is measured by `benchmarks/stopping_calibration.py`.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ultralytics.engine.trainer import BaseTrainer
from ultralytics.study.jobs import StudyJob, stopped_reason
from ultralytics.study.plan import STOP_DEFAULTS
from ultralytics.study.results import FITNESS_COLUMN
from ultralytics.study.statistics import contrasts
from ultralytics.utils.errors import UserError

CurveTable = Mapping[str, Mapping[int, Mapping[int, float]]]
"""AP50-95 by arm, seed and epoch (from 1)."""


class StoppedEarlyError(UserError, RuntimeError):
    """A run of a study was stopped, since its variant is hopeless."""


@dataclass(frozen=True)
class StopRule:
    """`start`: part of the epochs before any run may stop; `alpha`: level of the one-sided test; `window`: epochs that
    are averaged, and epochs in a row that must agree."""

    start: float = STOP_DEFAULTS["start"]
    alpha: float = STOP_DEFAULTS["alpha"]
    window: int = int(STOP_DEFAULTS["window"])

    def verdict(self, curves: CurveTable, arm: str, base: str, epoch: int, epochs: int) -> str:
        """Return why a run that has trained `epoch` of `epochs` epochs is hopeless; empty when it is not."""
        looks = range(epoch - self.window + 1, epoch + 1)
        if looks[0] < max(self.window, math.ceil(self.start * epochs)) or epoch >= epochs:
            return ""
        if any(self.p_worse(curves, arm, base, e) >= self.alpha for e in reversed(looks)):
            return ""
        if self.expected_end(curves, arm, base, epoch, epochs) >= 0:
            return ""
        values = {a: self.at(runs, epoch) for a, runs in curves.items()}
        found = contrasts({a: v for a, v in values.items() if v}, base)[arm]
        return (
            f"stopped early after epoch {epoch} of {epochs}: {found.difference:+.4f} AP to {base} at equal epochs over "
            f"{found.pairs} seeds, p below {self.alpha:g} at each of the last {self.window} epochs"
        )

    def expected_end(self, curves: CurveTable, arm: str, base: str, epoch: int, epochs: int) -> float:
        """Return the difference to the base to which the line through its last values leads at the end of the run.

        Infinite where there are too few epochs for the line.
        """
        looks = range(epoch - 2 * self.window, epoch + 1)
        differences = []
        for e in looks:
            variant, reference = self.at(curves[arm], e), self.at(curves[base], e)
            seeds = set(variant) & set(reference)
            if not seeds:
                return math.inf
            differences.append(np.mean([variant[s] - reference[s] for s in seeds]))
        trend, level = np.polyfit(np.arange(len(looks)) - len(looks) + 1, differences, 1)
        lag = (self.window - 1) / 2  # the mean over a window is the value of its middle
        return float(level + trend * (epochs - epoch + lag))

    def p_worse(self, curves: CurveTable, arm: str, base: str, epoch: int) -> float:
        """Return the one-sided p value of "worse than the base at this epoch"; 1 where nothing can be tested."""
        values = {a: self.at(runs, epoch) for a, runs in curves.items()}
        values = {a: v for a, v in values.items() if v}
        if base not in values or arm not in values:
            return 1.0
        found = contrasts(values, base).get(arm)
        if found is None or found.p is None or found.pairs < 2 or found.difference >= 0:
            return 1.0
        return found.p / 2

    def at(self, runs: Mapping[int, Mapping[int, float]], epoch: int) -> dict[int, float]:
        """Return by seed the mean over the window up to an epoch, of the runs that have all of it."""
        window = range(epoch - self.window + 1, epoch + 1)
        return {s: float(np.mean([c[e] for e in window])) for s, c in runs.items() if all(e in c for e in window)}


def epoch_values(folder: Path) -> dict[int, float]:
    """Return AP50-95 by epoch of a results.csv; empty where there is none."""
    try:
        with open(folder / "results.csv", newline="", encoding="utf-8") as f:
            rows = [{k.strip(): v for k, v in row.items()} for row in csv.DictReader(f)]
        return {int(row["epoch"]): float(row[FITNESS_COLUMN]) for row in rows}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


class Watch:
    """Watches a run of a study from inside: raises StoppedEarlyError when its variant is hopeless."""

    def __init__(self, job: StudyJob) -> None:
        self.job = job
        self.rule = StopRule(**job.stop)

    def before(self) -> None:
        """Look before the run starts: an earlier seed of the variant may have been stopped."""
        for seed, folder in self.job.watched.get(self.job.arm, {}).items():
            if int(seed) != self.job.seed and stopped_reason(Path(folder)):
                raise StoppedEarlyError(f"stopped early: seed {seed} of {self.job.arm} was stopped")

    def __call__(self, trainer: BaseTrainer) -> None:
        """Look after an epoch."""
        own = {int(row["epoch"]): float(row[FITNESS_COLUMN]) for row in trainer.progress.rows}
        curves = {
            arm: {int(seed): epoch_values(Path(folder)) for seed, folder in folders.items()}
            for arm, folders in self.job.watched.items()
        }
        curves[self.job.arm][self.job.seed] = own
        base = next(iter(curves))
        if reason := self.rule.verdict(curves, self.job.arm, base, trainer.progress.epoch, trainer.epochs):
            raise StoppedEarlyError(reason)


def watched_folders(jobs: Sequence[StudyJob], elsewhere: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return run folders by arm and seed, the base first; `elsewhere` maps the content of a run to another folder."""
    out: dict[str, dict[str, str]] = {}
    for job in jobs:
        out.setdefault(job.arm, {})[str(job.seed)] = elsewhere.get(job.content, job.folder)
    return out
