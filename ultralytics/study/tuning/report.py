"""What a search writes: the table of its trials, a figure, the best arguments, and a plan that tests them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from ultralytics.data.utils import check_det_dataset
from ultralytics.engine.compare import compare
from ultralytics.models import RTDETR
from ultralytics.study.jobs import trained_weights
from ultralytics.study.tuning.trial import COMPLETE, PRUNED, TrialRecord
from ultralytics.utils.config.yaml_io import YAML, plain
from ultralytics.utils.errors import NotFoundError
from ultralytics.utils.files import atomic_write, has_yaml_suffix
from ultralytics.utils.log import LOGGER, colorstr
from ultralytics.utils.metrics.report import Table, Value
from ultralytics.utils.plotting.figure import literal
from ultralytics.utils.plotting.paper import paper_figure, paper_style, save_paper, style_of

REPORTED = "reported.json"
ONE_SEED = "one seed each shows nothing about the noise between seeds; test the arguments with: yolo ablate {}"


@dataclass
class SearchResult:
    """A search that has ended. `reported` holds, for the base and the best trial, AP50-95 on the split that chose
    nothing, with `difference`, `low` and `high` (a bootstrap over its images); empty without such a split."""

    folder: Path
    trials: list[TrialRecord]
    base: dict[str, Any]
    source: str
    failed: dict[str, str] = field(default_factory=dict)
    reported: dict[str, float] = field(default_factory=dict)

    @property
    def best(self) -> TrialRecord:
        """The trial with the highest AP on the held-out images; the first of equals."""
        return max((t for t in self.trials if t.state == COMPLETE), key=lambda trial: trial.value)

    @property
    def default(self) -> TrialRecord | None:
        """The trial with the arguments of the base."""
        return next((trial for trial in self.trials if not trial.params), None)

    @property
    def arguments(self) -> dict[str, Any]:
        """The best arguments of training, those of the base included."""
        return {**self.base, **self.best.params}

    @property
    def effective(self) -> dict[str, Any]:
        """The arguments of the base with those that its recipe has set, as its run has recorded them."""
        file = None if self.default is None else Path(self.default.folder) / "args.yaml"
        return {**(YAML.load(file) if file is not None and file.is_file() else {}), **self.base}

    def table(self) -> Table:
        """A row for each trial, the best first."""
        axes = list(dict.fromkeys(name for trial in self.trials for name in trial.params))
        base, rows = self.effective, list[tuple[Value, ...]]()
        for t in sorted(self.trials, key=lambda trial: -trial.value):
            values = [_cell(t.params.get(name, base.get(name))) for name in axes]
            rows.append((t.name, t.state, t.epochs, t.value, *values))
        columns = ("trial", "state", "epochs", "AP held out", *axes)
        return Table(f"{len(self.trials)} trials; {len(self.failed)} failed", columns, tuple(rows))


def _cell(value: object) -> Value:
    """A number with four digits, a dash for what the base leaves to its recipe."""
    return None if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def measure_reported(result: SearchResult, data: str) -> None:
    """Compare the weights of the base and of the best trial on the split `val`, once for each best trial."""
    file, best, default = result.folder / REPORTED, result.best, result.default
    if default is None or default.folder == best.folder or not check_det_dataset(data).get("val"):
        return
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    if known.get("best") != best.name:
        known = {"best": best.name, **_compared(result, data)}
        with atomic_write(file) as f:
            json.dump(known, f, indent=2)
    result.reported = {k: v for k, v in known.items() if k != "best"}


def _compared(result: SearchResult, data: str) -> dict[str, float]:
    """AP of both on the images of `val`, and the interval of their difference over the images."""
    trials = [t for t in (result.default, result.best) if t is not None]
    modules = {"modules": result.base["modules"]} if result.base.get("modules") else {}
    models = [RTDETR(_weights(trial), **modules) for trial in trials]
    shared = {k: result.base[k] for k in ("imgsz", "workers") if k in result.base}
    outcome = compare(models, data=data, plots=False, save_dir=str(result.folder / "reported"), **shared)
    base, best = (m.coco_stats["AP"] for m in outcome.metrics.values())
    row = next(record for record in outcome.tables["differences"].records() if record["metric"] == "AP")
    low, high = [v for v in row.values() if isinstance(v, float)][1:3]
    return {"base": base, "best_trial": best, "difference": best - base, "low": low, "high": high}


def _weights(trial: TrialRecord) -> str:
    """The weights that a trial has ended with."""
    file = trained_weights(Path(trial.folder))
    if file is None:
        raise NotFoundError(f"{trial.folder}: has no weights")
    return str(file)


def write_search_report(result: SearchResult, fmt: str) -> None:
    """Write trials.csv, tune.md, best.yaml, confirm.yaml and the figure, and log what was found."""
    table, folder = result.table(), result.folder
    lines = _sentences(result)
    YAML.save(folder / "best.yaml", plain(result.arguments), header=f"# trial {result.best.name}\n")
    if result.best.params:
        YAML.save(folder / "confirm.yaml", confirmation_plan(result))
    for name, text in (
        ("trials.csv", table.render("csv", 4) + "\n"),
        (
            "tune.md",
            "\n".join([f"# {table.title}", "", table.render("markdown", 4), "", *(f"- {x}" for x in lines), ""]),
        ),
    ):
        with atomic_write(folder / name) as f:
            f.write(text)
    draw_trials(result, folder / "trials", fmt)
    LOGGER.info(f"{table.title}\n{table.render('text', 4)}")
    for line in lines:
        LOGGER.info(line)
    LOGGER.info(f"Search saved to {colorstr('bold', str(folder))}; train with cfg={folder / 'best.yaml'}")


def _sentences(result: SearchResult) -> list[str]:
    """What a reader needs beside the table."""
    best, default, out = result.best, result.default, []
    if default is not None and best.folder == default.folder:
        out.append("No trial was better than the base on the held-out images.")
    elif default is not None:
        out.append(f"Held out: trial {best.name} has AP {best.value:.4f}, the base {default.value:.4f}.")
    if r := result.reported:
        out.append(
            f"val, which chose nothing: AP {r['best_trial']:.4f} against {r['base']:.4f}, difference "
            f"{r['difference']:+.4f} [{r['low']:+.4f}, {r['high']:+.4f}] over its images, trained on the same images."
        )
    out += [f"Trial {arm} failed: {reason}" for arm, reason in result.failed.items()]
    return [*out, *([ONE_SEED.format(result.folder / "confirm.yaml")] if best.params else [])]


def confirmation_plan(result: SearchResult) -> dict[str, Any]:
    """Return the plan of a study of the base and the best arguments over three seeds, for `yolo ablate`."""
    base = {k: v for k, v in result.base.items() if k != "seed"}
    model: Mapping[str, Any] = {"model": result.source}
    if not has_yaml_suffix(result.source):
        model = {"model": str(result.folder / "model.yaml"), "pretrained": result.source}
        YAML.save(result.folder / "model.yaml", plain(RTDETR(result.source).model.yaml))
    name = "".join(c if c.isalnum() or c in "._-" else "-" for c in result.folder.name)
    return dict(
        plain(
            {
                "name": f"confirm-{name}",
                "base": {**model, **base},
                "seeds": [0, 1, 2],
                "variants": {"tuned": dict(result.best.params)},
            }
        )
    )


def draw_trials(result: SearchResult, stem: Path, fmt: str) -> list[Path]:
    """Draw the AP of each trial over its number, and the best one so far; return the files."""
    with paper_style():
        figure, axes = paper_figure(2.4)
        numbers = [int(t.name) for t in result.trials]
        for i, (state, marker) in enumerate(((COMPLETE, "o"), (PRUNED, "x"))):
            chosen = [(n, t.value) for n, t in zip(numbers, result.trials, strict=True) if t.state == state]
            if chosen:
                axes[0].plot(*zip(*chosen, strict=True), linestyle="", marker=marker, color=style_of(i)[0], label=state)
        best = list(accumulate((t.value for t in result.trials), max))
        axes[0].step(numbers, best, where="post", color=style_of(2)[0], label="best so far")
        axes[0].set(xlabel="trial (0 is the base)", ylabel=literal("AP50-95, held out"))
        axes[0].legend(loc="best")
        return save_paper(figure, stem, fmt)
