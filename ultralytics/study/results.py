"""What the runs of a study have measured: outcomes by arm and seed, and the curves of results.csv."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ultralytics.study.jobs import Outcome
from ultralytics.study.plan import BASE
from ultralytics.study.statistics import Judgement, judge
from ultralytics.utils.torch_tools.arrays import Float64Array

if TYPE_CHECKING:
    import pandas as pd

FITNESS_COLUMN = "metrics/mAP50-95(B)"


@dataclass(frozen=True)
class Curve:
    """A column of results.csv of several runs: epochs (E,), and for each epoch the mean, lowest and highest value."""

    epochs: Float64Array
    mean: Float64Array
    low: Float64Array
    high: Float64Array
    runs: int


@dataclass
class Findings:
    """The runs of a study. `outcomes` by arm and seed in the order of the plan, `failures` the reasons by (arm, seed),
    `stopped` those of runs that were stopped as hopeless, `reused` the runs that were taken from an earlier study,
    `base` the arm that all others are compared with."""

    outcomes: dict[str, dict[int, Outcome]] = field(default_factory=dict)
    failures: dict[tuple[str, int], str] = field(default_factory=dict)
    stopped: dict[tuple[str, int], str] = field(default_factory=dict)
    reused: set[tuple[str, int]] = field(default_factory=set)
    base: str = BASE
    variance: str = "pooled"

    def values(self, metric: str = "AP") -> dict[str, dict[int, float]]:
        """Return one of COCO's numbers by arm and seed; undefined ones (-1) are left out."""
        table = {
            arm: {s: o.metrics[metric] for s, o in sorted(runs.items()) if o.metrics.get(metric, -1.0) >= 0}
            for arm, runs in self.outcomes.items()
        }
        return {arm: runs for arm, runs in table.items() if runs}

    def replicates(self) -> dict[str, dict[int, Float64Array]]:
        """Return the replicates of AP over images by arm and seed, of the runs on equally many images of one split."""
        first = next((o for runs in self.outcomes.values() for o in runs.values()), None)
        out: dict[str, dict[int, Float64Array]] = {}
        for arm, runs in self.outcomes.items():
            for seed, outcome in runs.items():
                drawn = outcome.replicates()
                same = first is not None and (outcome.images, outcome.split) == (first.images, first.split)
                if drawn is not None and same:
                    out.setdefault(arm, {})[seed] = drawn
        return out

    def judgements(self, metric: str = "AP") -> list[Judgement]:
        """Judge every arm by one of COCO's numbers; images are resampled for AP alone. Empty without a base."""
        values = self.values(metric)
        if self.base not in values:
            return []
        drawn = self.replicates() if metric == "AP" else None
        stopped = {arm for arm, _ in self.stopped}
        return judge(values, self.base, drawn, pooled=self.variance == "pooled", stopped=stopped)

    def mean_of(self, arm: str, number: str) -> float:
        """Return the mean over seeds of a number beside the metrics: params, gflops, latency, seconds."""
        return float(np.mean([getattr(o, number) for o in self.outcomes[arm].values()]))

    def folders(self) -> dict[str, list[Path]]:
        """Return the run folders of each arm."""
        return {arm: [Path(o.folder) for _, o in sorted(runs.items())] for arm, runs in self.outcomes.items()}


def read_tables(folders: Mapping[str, Sequence[Path]]) -> dict[str, list[pd.DataFrame]]:
    """Return the results.csv of each run of each arm, without those runs that have none."""
    import pandas as pd

    return {
        arm: [
            pd.read_csv(folder / "results.csv", skipinitialspace=True).rename(columns=str.strip)
            for folder in runs
            if (folder / "results.csv").is_file()
        ]
        for arm, runs in folders.items()
    }


def curve_of(tables: Sequence[pd.DataFrame], column: str = FITNESS_COLUMN) -> Curve | None:
    """Return the curve of a column over the runs of an arm; None where no run has it.

    Runs of different length are averaged over the epochs that each has.
    """
    series: list[Mapping[float, float]] = []
    for whole in tables:
        table = measured(whole, column)
        if column in table and "epoch" in table:
            series.append(dict(zip(table["epoch"].astype(float), table[column].astype(float), strict=True)))
    epochs = sorted({e for s in series for e in s})
    if not epochs:
        return None
    values = np.array([[s.get(e, np.nan) for e in epochs] for s in series])  # (runs, E)
    return Curve(np.array(epochs), np.nanmean(values, 0), np.nanmin(values, 0), np.nanmax(values, 0), len(series))


def measured(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the rows of results.csv in which a column was measured: epochs without validation have zeros."""
    losses = [c for c in table.columns if c.startswith("val/")]
    if column.startswith("train/") or not losses:
        return table
    return table[(table[losses] != 0).any(axis=1)]


def columns_of(tables: Mapping[str, Sequence[pd.DataFrame]]) -> list[str]:
    """Return the columns of losses and metrics that the first run with a results.csv has."""
    first = next((table for runs in tables.values() for table in runs), None)
    names = [] if first is None else list(first.columns)
    return [name for name in names if name.startswith(("train/", "val/", "metrics/"))]
