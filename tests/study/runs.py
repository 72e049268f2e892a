"""Runs of a study without training: outcomes, curves and plans that tests write themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tests.engine.tiny import TINY
from ultralytics.study.jobs import REPLICATES, Outcome, StudyJob
from ultralytics.utils import YAML
from ultralytics.utils.metrics.coco import STAT_NAMES

PLAN = """name: small
base:
  model: tiny.yaml
  data: {data}
  epochs: 1
  imgsz: 64
  batch: 4
  workers: 0
  loss: vfl
  plots: false
  amp: false
seeds: [0, 1]
devices: [cpu]
variants:
  focal: {{loss: focal}}
  shsa: {{insert: {{after: 3, row: [SHSA, []]}}}}
"""


def write_plan(folder: Path, data: Path, text: str = PLAN) -> Path:
    """Write a plan, and the model beside it; return the plan's file."""
    YAML.save(folder / "tiny.yaml", TINY)
    file = folder / "plan.yaml"
    file.write_text(text.format(data=data), encoding="utf-8")
    return file


def outcome(arm: str, seed: int, ap: float, folder: Path, content: str = "") -> Outcome:
    """An outcome with this AP; the other numbers are derived from it."""
    return Outcome(
        content=content or f"{arm}{seed}",
        arm=arm,
        seed=seed,
        metrics={name: ap if name == "AP" else min(ap + 0.1, 1.0) for name in STAT_NAMES},
        classes={"red": ap, "白细胞": ap},
        params=1_000_000,
        gflops=1.5,
        latency=2.0,
        seconds=60.0,
        images=4,
        split="val",
        weights="best",
        environment={"ultralytics": "0"},
        folder=str(folder),
    )


def write_run(folder: Path, result: Outcome, epochs: int = 3, drawn: Sequence[float] | None = None) -> Outcome:
    """Write what a finished run leaves: the outcome, results.csv and replicates; return the outcome."""
    folder.mkdir(parents=True, exist_ok=True)
    result.save(folder)
    rows = [f"{e},{1 / (e + 1):.4f},{result.metrics['AP'] * e / epochs:.4f}" for e in range(1, epochs + 1)]
    (folder / "results.csv").write_text("epoch,train/loss,metrics/mAP50-95(B)\n" + "\n".join(rows) + "\n")
    if drawn is not None:
        np.savez(folder / REPLICATES, AP=np.asarray(drawn))
    return result


def jobs(folder: Path, names: Sequence[str]) -> list[StudyJob]:
    """Jobs with nothing to do."""
    return [StudyJob(name, 0, f"content-{name}", str(folder / "runs" / name / "seed0"), "m.yaml") for name in names]


def table(values: Mapping[str, Sequence[float]]) -> dict[str, dict[int, float]]:
    """Values by arm and seed."""
    return {arm: dict(enumerate(numbers)) for arm, numbers in values.items()}
