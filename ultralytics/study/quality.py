"""What runs hold for the figures of several models: written when a run is evaluated, read for a report."""

from __future__ import annotations

from pathlib import Path

from ultralytics.study.jobs import Outcome
from ultralytics.study.results import Findings
from ultralytics.utils.metrics import DetMetrics
from ultralytics.utils.metrics.quality import ModelQuality, quality_of

QUALITY = "quality.npz"


def write_quality(folder: Path, metrics: DetMetrics) -> None:
    """Keep precision-recall curve and confusion matrix of an evaluation, where it has any."""
    if (found := quality_of(metrics)) is not None:
        found.save(folder / QUALITY)


def read_quality(outcome: Outcome) -> ModelQuality | None:
    """Return the numbers of a run; None where it was evaluated without them."""
    return ModelQuality.load(Path(outcome.folder) / QUALITY, outcome.metrics)


def measured_quality(findings: Findings) -> dict[str, list[ModelQuality]]:
    """Return the numbers of the runs of each arm; arms whose classes differ from the first one's are left out."""
    read = {arm: [read_quality(o) for _, o in sorted(runs.items())] for arm, runs in findings.outcomes.items()}
    found = {arm: [q for q in runs if q is not None] for arm, runs in read.items()}
    first = next((runs[0].labels for runs in found.values() if runs), ())
    return {arm: runs for arm, runs in found.items() if runs and all(q.labels == first for q in runs)}
