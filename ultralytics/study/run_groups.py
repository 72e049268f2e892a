"""Runs that exist already, grouped by what they consist of: `yolo compare` and `yolo curves` of run folders."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ultralytics.cfg.schema import KEYS, Trait, keys_with
from ultralytics.engine.compare import distinct_ends
from ultralytics.engine.training.console import FINAL_METRICS
from ultralytics.nn.checkpoint.format import read_checkpoint
from ultralytics.study.figures import draw_run_bands
from ultralytics.study.jobs import NO_EFFECT, Outcome, StudyJob, failure_of, trained_weights
from ultralytics.study.report import write_study_report
from ultralytics.study.results import FITNESS_COLUMN, Findings, columns_of, read_tables
from ultralytics.study.stopping import epoch_values
from ultralytics.study.worker import evaluate
from ultralytics.utils.config.settings import SETTINGS
from ultralytics.utils.config.yaml_io import YAML, canonical
from ultralytics.utils.errors import ConfigError, NotFoundError
from ultralytics.utils.files import increment_path
from ultralytics.utils.log import LOGGER, colorstr
from ultralytics.utils.plotting.paper import check_format

_ONE_RUN = frozenset({*keys_with(Trait.PLACE), *keys_with(Trait.SELECTS), *NO_EFFECT, "seed", "ci"})
"""Arguments that do not make two runs different; a model is compared by its layers, a recipe by what it has set."""


@dataclass(frozen=True)
class TrainedRun:
    """A run folder: its arguments, the model YAML that its weights record, and the digest of both without the seed."""

    folder: Path
    args: Mapping[str, Any]
    yaml: Mapping[str, Any]
    content: str

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return int(self.args.get("seed") or 0)


def read_run(folder: str | Path) -> TrainedRun:
    """Read a run folder.

    Raises:
        NotFoundError: it holds no args.yaml, or no weights.
    """
    path = Path(folder)
    if not (path / "args.yaml").is_file():
        if reason := failure_of(path):
            raise NotFoundError(f"{path}: did not train: {reason}", "leave it out")
        raise NotFoundError(
            f"{path}: not a run folder, as it has no args.yaml", "name a folder such as runs/detect/train"
        )
    args = YAML.load(path / "args.yaml")
    yaml = model_of(path)
    own = {k: v for k, v in args.items() if k in KEYS and k not in _ONE_RUN and v != KEYS[k].default}
    model = {k: v for k, v in yaml.items() if k in {"nc", "scale", "scales", "backbone", "head", "activation"}}
    digest = hashlib.sha256(canonical([own, model]).encode()).hexdigest()
    return TrainedRun(path, args, yaml, digest)


def model_of(folder: Path) -> Mapping[str, Any]:
    """Return the model YAML that the weights of a run record.

    Raises:
        NotFoundError: the folder has no weights.
    """
    file = trained_weights(folder)
    if file is None:
        raise NotFoundError(
            f"{folder}: has no weights/best.pt nor weights/last.pt", "name the folder of a run that has trained"
        )
    record = read_checkpoint(file)
    packed = record.get("ema") or record.get("model") or {}
    return dict(packed.get("yaml") or {})


def group_runs(folders: Sequence[str | Path]) -> dict[str, list[TrainedRun]]:
    """Group run folders by content, in the order of their first run; a group is named after its first folder.

    Raises:
        ConfigError: two runs of a group have the same seed, so that they are one run twice.
    """
    groups: dict[str, list[TrainedRun]] = {}
    for run in map(read_run, folders):
        group = groups.setdefault(run.content, [])
        same = next((other for other in group if other.seed == run.seed), None)
        if same is not None:
            remedy = "leave one out: a repetition with one seed shows nothing about the noise"
            raise ConfigError(f"{same.folder} and {run.folder} have equal arguments, model and seed {run.seed}", remedy)
        group.append(run)
    firsts = [group[0].folder.absolute() for group in groups.values()]
    names = distinct_ends([(f.parent if f.name.startswith("seed") else f).parts for f in firsts])  # a study's: the arm
    return dict(zip(names, groups.values(), strict=True))


def compare_runs(
    folders: Sequence[str | Path],
    save_dir: str | Path | None = None,
    fmt: str = "pdf",
    device: str = "",
    split: str = "val",
    weights: str = "best",
) -> Findings:
    """Compare run folders as a study does: groups of equal content, paired by seed, judged against the first group.

    Runs of a study bring their numbers; other weights are evaluated now, into `save_dir`.

    Raises:
        NotFoundError: a folder is not one of a run.
        ConfigError: fewer than two groups, or a run of a study that failed or was stopped.
    """
    check_format(fmt)
    groups = group_runs(folders)
    if len(groups) < 2:
        raise ConfigError(
            "the runs have equal content: one group, nothing to compare", "name runs that differ in more than the seed"
        )
    for run in (run for runs in groups.values() for run in runs):
        check_complete(run)
    target = Path(save_dir) if save_dir else increment_path(Path(SETTINGS["runs_dir"]) / "compare" / "runs")
    findings = Findings(base=next(iter(groups)))
    for name, runs in groups.items():
        findings.outcomes[name] = {}
        for run in sorted(runs, key=lambda r: r.seed):
            findings.outcomes[name][run.seed] = _outcome(run, name, target, device, split, weights)
    yamls = {name: {k: v for k, v in runs[0].yaml.items() if k != "yaml_file"} for name, runs in groups.items()}
    write_study_report(findings, target, "Comparison of runs", yamls, fmt, differences=argument_rows(groups)).log(
        findings
    )
    LOGGER.info(f"Comparison saved to {colorstr('bold', str(target))}")
    return findings


def check_complete(run: TrainedRun) -> None:
    """Log a run that has not trained to its end.

    Raises:
        ConfigError: a run of a study that failed or was stopped: at unequal epochs a comparison shows nothing.
    """
    if reason := failure_of(run.folder):
        raise ConfigError(f"{run.folder}: did not train to its end: {reason}", "leave it out, or train it again")
    trained, planned = len(epoch_values(run.folder)), int(run.args.get("epochs") or 0)
    if 0 < trained < planned and not (run.folder / FINAL_METRICS).is_file():
        LOGGER.warning(f"{run.folder}: has trained {trained} of {planned} epochs, and is compared as it is")


def _outcome(run: TrainedRun, name: str, target: Path, device: str, split: str, weights: str) -> Outcome:
    """The numbers of a run: those of a study where they are of this split and weights, else measured now."""
    known = Outcome.load(run.folder)
    if known is not None and (known.split, known.weights) == (split, weights):
        return replace(known, arm=name)
    job = StudyJob(name, run.seed, run.content, str(run.folder), "", run.args, split, weights)
    place = target / "evaluations" / f"{name.replace('/', '_')}-seed{run.seed}"
    measured = Outcome.load(place)
    if measured is None or measured.content != run.content:
        measured = evaluate(job, place, device)
        measured.save(place)
    return measured


def argument_rows(groups: Mapping[str, Sequence[TrainedRun]]) -> list[tuple[str, ...]]:
    """Return a table of the arguments in which the groups differ: a head with the groups, then a row for each."""
    firsts = {name: runs[0].args for name, runs in groups.items()}
    rows: list[tuple[str, ...]] = [("argument", *firsts)]
    for key in KEYS:
        values = [args.get(key, KEYS[key].default) for args in firsts.values()]
        if key not in _ONE_RUN and any(v != values[0] for v in values):
            rows.append((key, *map(str, values)))
    return rows


def curves(
    folders: Sequence[str | Path],
    columns: Sequence[str] | str | None = None,
    out: str | Path = "curves",
    fmt: str = "pdf",
) -> list[Path]:
    """Draw columns of results.csv of several runs in one figure, with bands over the seeds of equal runs.

    `columns` defaults to AP50-95; `out` is the file without suffix. Returns the files, PNG and `fmt`.

    Raises:
        NotFoundError: a folder is not one of a run.
        ConfigError: no run has such a column.
    """
    check_format(fmt)
    groups = group_runs(folders)
    wanted = [columns] if isinstance(columns, str) else list(columns or [FITNESS_COLUMN])
    tables = read_tables({name: [r.folder for r in runs] for name, runs in groups.items()})
    files = draw_run_bands(tables, Path(out), wanted, fmt)
    if not files:
        known = columns_of(tables)
        remedy = f"there are {', '.join(known)}" if known else "the runs have no results.csv"
        raise ConfigError(f"no results.csv has a column {', '.join(wanted)}", remedy)
    for file in files:
        LOGGER.info(f"{colorstr('bold', str(file))}")
    return files
