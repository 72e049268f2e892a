"""The tables of a study: what is judged, what else was measured, and how many seeds would be needed."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ultralytics.study.results import Findings
from ultralytics.study.statistics import ERROR_RATE, POWER, STOPPED, Judgement, unequal_noise
from ultralytics.utils import tables
from ultralytics.utils.metrics.bootstrap import Interval

OTHER_METRICS = ("AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR100")
_BOLD = re.compile("\x00(.*?)\x00")
_STYLES = {"markdown": r"**\1**", "latex": r"\\textbf{\1}", "text": r"\1", "csv": r"\1"}
RULE = (
    "Bold: better than the base beyond the noise of seeds (two-sided t test, Holm-corrected p below {alpha:g}) and of "
    "images (bootstrap)."
)


@dataclass(frozen=True)
class StudyTable:
    """A title, rows of cells of which the first is the head, and the rows (below it, from 0) that are set in bold."""

    title: str
    rows: list[tuple[str, ...]]
    bold: frozenset[int] = frozenset()
    bold_column: int = 0

    def render(self, form: str) -> str:
        """Return the table as text, markdown, latex or csv."""
        marked = [self.rows[0], *(self._marked(i, row) for i, row in enumerate(self.rows[1:]))]
        lines = tables.TABLE_FORMATS[form](self.rows if form in {"text", "csv"} else marked)
        return "\n".join(_BOLD.sub(_STYLES[form], line) for line in lines)

    def _marked(self, i: int, row: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(f"\x00{c}\x00" if i in self.bold and k == self.bold_column else c for k, c in enumerate(row))


def number(value: float | None, form: str = ".3f") -> str:
    """Return a number for a cell; None and NaN are a dash.

    >>> number(0.12345), number(None), number(0.02, "+.3f")
    ('0.123', '-', '+0.020')
    """
    return "-" if value is None or math.isnan(value) else format(value, form)


def p_text(p: float | None) -> str:
    """Return a p value for a cell; what three digits would round to 0 is `<0.001`.

    >>> p_text(0.0312), p_text(2e-5), p_text(None)
    ('0.031', '<0.001', '-')
    """
    return "<0.001" if p is not None and p < 0.0005 else number(p)


def mean_text(mean: float, deviation: float | None) -> str:
    """Return `0.512 ± 0.007`; of one run the mean alone."""
    return number(mean) if deviation is None else f"{mean:.3f} ± {deviation:.3f}"


def interval_text(interval: Interval | None) -> str:
    """Return `[-0.004, +0.021]`, a dash where there is none."""
    return "-" if interval is None or math.isnan(interval.low) else f"[{interval.low:+.3f}, {interval.high:+.3f}]"


def judgement_table(findings: Findings, rows: Sequence[Judgement]) -> StudyTable:
    """A row for each arm: cost, AP, difference to the base with both intervals, corrected p value, verdict."""
    head = (
        "arm",
        "params, M",
        "GFLOPs",
        "ms",
        "seeds",
        "AP",
        "difference",
        "95 % seeds",
        "95 % images",
        "p (Holm)",
        "verdict",
    )
    cells = [
        (
            row.arm,
            number(findings.mean_of(row.arm, "params") / 1e6, ".2f"),
            number(findings.mean_of(row.arm, "gflops"), ".2f"),
            number(findings.mean_of(row.arm, "latency"), ".1f"),
            str(row.runs),
            mean_text(row.mean, row.deviation),
            number(row.difference, "+.3f"),
            interval_text(row.seeds),
            interval_text(row.images),
            p_text(row.adjusted),
            row.verdict,
        )
        for row in rows
    ]
    bold = frozenset(i for i, row in enumerate(rows) if row.beyond_noise)
    return StudyTable("AP50-95", [head, *cells], bold, head.index("AP"))


def metrics_table(findings: Findings) -> StudyTable:
    """Mean and deviation of the other numbers, and of each class."""
    values = {name: findings.values(name) for name in OTHER_METRICS}
    names = [name for name in OTHER_METRICS if values[name]]
    classes = list(dict.fromkeys(c for runs in findings.outcomes.values() for o in runs.values() for c in o.classes))
    head = ("arm", *names, *(f"AP {c}" for c in classes))
    rows = [head]
    for arm, runs in findings.outcomes.items():
        cells = [_mean_of(list(values[name].get(arm, {}).values())) for name in names]
        cells += [_mean_of([o.classes[c] for o in runs.values() if c in o.classes]) for c in classes]
        rows.append((arm, *cells))
    return StudyTable("Other numbers, mean ± deviation over seeds", rows)


def _mean_of(values: Sequence[float]) -> str:
    if not values:
        return "-"
    return mean_text(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None)


def seeds_table(rows: Sequence[Judgement]) -> StudyTable:
    """What so many seeds can resolve, and how many the observed difference would need."""
    head = ("arm", "difference", f"least with power {POWER:g}", "power for the observed", f"seeds for power {POWER:g}")
    cells = []
    for row in rows:
        if row.difference is not None:
            needed = "-" if row.least is None else str(row.needed) if row.needed else "over 1000"
            cells.append((row.arm, number(row.difference, "+.3f"), number(row.least), number(row.power, ".2f"), needed))
    return StudyTable("What these seeds can resolve", [head, *cells])


def notes(findings: Findings, rows: Sequence[Judgement]) -> list[str]:
    """Sentences that a reader needs beside the tables."""
    kind = "one variance of the noise for all arms" if findings.variance == "pooled" else "a variance for each variant"
    return [
        RULE.format(alpha=ERROR_RATE),
        f"Differences are paired by seed, with {kind}; power is that of the first step of Holm's procedure.",
        "ms: median inference time of an image in the evaluation; what ran at the same time makes it longer.",
        *_untested(rows),
        *_doubts(findings),
        *_undecided(rows),
    ]


def _untested(rows: Sequence[Judgement]) -> Iterator[str]:
    """Yield which arms are not tested, and why."""
    if stopped := [row.arm for row in rows if row.verdict == STOPPED]:
        yield (
            f"Stopped early: {', '.join(stopped)}. Their AP is that of the seeds that trained to the end; they are not "
            "tested, and count in Holm's correction."
        )
    if any(row.runs < 2 for row in rows if row.verdict != STOPPED):
        yield "One seed shows nothing about the noise between seeds: such arms are not tested, nor called better."


def _doubts(findings: Findings) -> Iterator[str]:
    """Yield what makes the numbers ambiguous: unequal noise, weights chosen on the reported split, equal arms."""
    values = findings.values()
    if findings.variance == "pooled" and (pair := unequal_noise(values)) is not None:
        yield f"The noise of {pair[1]} is larger than that of {pair[0]} beyond chance: use variance: own."
    first = next((o for runs in findings.outcomes.values() for o in runs.values()), None)
    if first is not None and (first.weights, first.split) == ("best", "val"):
        yield (
            "best.pt was chosen on the split that is reported, which raises all AP a little: "
            "report another one with split: test, or take weights: last."
        )
    same = [arm for arm, runs in values.items() if arm != findings.base and runs == values.get(findings.base)]
    if same:
        yield f"{', '.join(same)}: the same AP as {findings.base} with every seed. Does the change take effect?"


def _undecided(rows: Sequence[Judgement]) -> Iterator[str]:
    """Yield the arms whose difference is within noise."""
    arms = [row.arm for row in rows if row.adjusted is not None and row.adjusted >= ERROR_RATE]
    if arms:
        yield f"Within noise: {', '.join(arms)}. The table of seeds shows what more would resolve."


def judgement_records(findings: Findings, rows: Sequence[Judgement]) -> list[dict[str, Any]]:
    """Return a record for each arm with all digits, for `study.csv`; what is not known is None."""
    costs = {"params": "params", "gflops": "gflops", "latency": "latency_ms", "seconds": "train_seconds"}
    records = []
    for row in rows:
        known: dict[str, Any] = {name: findings.mean_of(row.arm, number_of) for number_of, name in costs.items()}
        known |= {"seeds": row.runs, "AP_mean": row.mean, "AP_deviation": row.deviation, "difference": row.difference}
        for name, interval in (("seeds", row.seeds), ("images", row.images)):
            ends = (None, None) if interval is None else (interval.low, interval.high)
            known |= dict(zip((f"{name}_low", f"{name}_high"), ends, strict=True))
        known |= {"p": row.p, "p_holm": row.adjusted, "verdict": row.verdict}
        known |= {"least": row.least, "power": row.power, "seeds_needed": row.needed}
        records.append({"arm": row.arm, **known})
    return records


def run_records(findings: Findings) -> list[dict[str, Any]]:
    """Return a record for each run, for `runs.csv`."""
    records = []
    for arm, runs in findings.outcomes.items():
        for seed, o in sorted(runs.items()):
            cost = {"params": o.params, "gflops": o.gflops, "latency_ms": o.latency, "train_seconds": o.seconds}
            taken = {"reused": (arm, seed) in findings.reused, "content": o.content, "folder": o.folder}
            records.append({"arm": arm, "seed": seed, **o.metrics, **cost, **taken})
    return records
