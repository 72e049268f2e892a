"""One run of a study: what it consists of, its content address, and the file with what it measured."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ultralytics import __version__
from ultralytics.cfg.schema import Trait, keys_with
from ultralytics.data.paths import img2label_paths, list_images
from ultralytics.data.utils import check_det_dataset
from ultralytics.engine.published import weights_path
from ultralytics.study.plan import StudyPlan, Variant
from ultralytics.utils.config.yaml_io import canonical, plain
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.files import atomic_write, file_sha256
from ultralytics.utils.torch_tools.arrays import Float64Array
from ultralytics.utils.user_modules import as_files

OutcomeT = TypeVar("OutcomeT")
JOB, OUTCOME, FAILURE, REPLICATES, LOG = "job.json", "outcome.json", "failure.json", "replicates.npz", "log.txt"
STUDY_DEFAULTS: Mapping[str, Any] = {"patience": 0}
"""Arguments whose default differs in a study: runs of one study train for equally many epochs."""
NO_EFFECT = frozenset(keys_with(Trait.SAME_RESULT))
"""Arguments that do not change what a run measures."""


@dataclass(frozen=True)
class StudyJob:
    """A run of an arm with a seed; `folder` is its run folder, `model` the YAML file that the study wrote for it.

    `stop` are the fields of the rule that stops hopeless variants (see `stopping`), empty for none, `watched` the run
    folders by arm and seed that it looks at, the base first.
    """

    arm: str
    seed: int
    content: str
    folder: str
    model: str
    train: Mapping[str, Any] = field(default_factory=dict)
    split: str = "val"
    weights: str = "best"
    stop: Mapping[str, Any] = field(default_factory=dict)
    watched: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The run folder."""
        return Path(self.folder)

    @property
    def file(self) -> Path:
        """The file that the worker reads."""
        return self.path / JOB

    def save(self) -> None:
        """Write the file that the worker reads."""
        with atomic_write(self.file) as f:
            json.dump(plain(asdict(self)), f, indent=2)

    @staticmethod
    def load(file: str | Path) -> StudyJob:
        """Read a job file; raises ConfigError for another file."""
        try:
            return StudyJob(**json.loads(Path(file).read_text(encoding="utf-8")))
        except (ValueError, TypeError) as e:
            raise ConfigError(f"{file}: not a job of a study: {e}") from None


@dataclass(frozen=True)
class Outcome:
    """What a finished run measured: COCO's 12 numbers, AP by class, cost, and where it lies.

    `seconds` are those of training, `latency` the median milliseconds of inference for an image of the evaluated split.
    """

    content: str
    arm: str
    seed: int
    metrics: Mapping[str, float]
    classes: Mapping[str, float]
    params: int
    gflops: float
    latency: float
    seconds: float
    images: int
    split: str
    weights: str
    environment: Mapping[str, str]
    folder: str = ""

    def save(self, folder: Path) -> None:
        """Write the file whose existence says that the run is finished."""
        write_outcome(folder, asdict(self))

    @staticmethod
    def load(folder: Path) -> Outcome | None:
        """Return the outcome of a run folder, None when it is not finished or the file is of another kind."""
        return read_outcome(folder, Outcome)

    def replicates(self) -> Float64Array | None:
        """AP of the replicates over images (R,), None where the run has none."""
        try:
            with np.load(Path(self.folder) / REPLICATES) as arrays:
                return np.asarray(arrays["AP"], dtype=np.float64)
        except (OSError, ValueError, KeyError):
            return None


def write_outcome(folder: Path, record: Mapping[str, Any]) -> None:
    """Write what a finished run measured, without its folder, which may move."""
    with atomic_write(folder / OUTCOME) as f:
        json.dump({k: v for k, v in plain(record).items() if k != "folder"}, f, indent=2)


def read_outcome(folder: Path, kind: Callable[..., OutcomeT]) -> OutcomeT | None:
    """Return what a finished run measured, None when it is not finished or the file is of another kind."""
    try:
        return kind(**json.loads((folder / OUTCOME).read_text(encoding="utf-8")), folder=str(folder))
    except (OSError, ValueError, TypeError):
        return None


def trained_weights(folder: Path) -> Path | None:
    """Return the weights that a run has ended with, best.pt or else last.pt; None where there are none."""
    files = [folder / "weights" / name for name in ("best.pt", "last.pt")]
    return next((file for file in files if file.is_file()), None)


def failure_of(folder: Path) -> str:
    """Return the reason why a run failed, or was stopped; empty when it was not."""
    return str(_failure(folder).get("reason", ""))


def stopped_reason(folder: Path) -> str:
    """Return the reason why a run was stopped as hopeless; empty when it was not."""
    failure = _failure(folder)
    return str(failure.get("reason", "")) if failure.get("stopped") else ""


def _failure(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / FAILURE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def data_digest(data: str, splits: tuple[str, ...] = ("train", "val")) -> str:
    """Return a digest of a data set: names, and path, size and time of change of each image and label file."""
    table = check_det_dataset(data)
    digest = hashlib.sha256(json.dumps([plain(table["names"]), str(table["format"])]).encode())
    for split in dict.fromkeys(splits):
        if not table.get(split):
            continue
        images = list_images(table[split])
        digest.update(f"{split} {len(images)}".encode())
        files = [*images, *img2label_paths(images), *dict(table.get("annotations") or {}).values()]
        for stamp in _stamps(files):
            digest.update(stamp)
    return digest.hexdigest()


def _stamps(files: list[str]) -> Iterator[bytes]:
    """Path, size and time of change of each file that exists."""
    for path in files:
        try:
            status = os.stat(path)
        except OSError:
            continue
        yield f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape")


def content_address(plan: StudyPlan, variant: Variant, seed: int, yaml: Mapping[str, Any], data: str) -> str:
    """Return the digest of everything that decides what a run measures; equal runs of two studies have the same.

    `yaml` is the model with its edits, `data` the digest of the data set.
    """
    import torch

    args = deciding_arguments(variant)
    for name in ("pretrained", "distill_model"):
        if isinstance(args.get(name), str):
            args[name] = file_sha256(weights_path(args[name]))
    if Path(str(args.get("recipe", ""))).is_file():
        args["recipe"] = file_sha256(args["recipe"])
    args["modules"] = [file_sha256(path) for path in as_files(args.get("modules"))]
    model = {k: v for k, v in yaml.items() if k != "yaml_file"}
    parts = [model, args, seed, data, plan.split, plan.weights, __version__, str(torch.__version__)]
    return hashlib.sha256(canonical(parts).encode()).hexdigest()


def deciding_arguments(variant: Variant) -> dict[str, Any]:
    """Return the arguments of an arm that change what a run measures, without its data set."""
    return {k: v for k, v in {**STUDY_DEFAULTS, **variant.args}.items() if k not in NO_EFFECT and k != "data"}


def make_jobs(plan: StudyPlan, yamls: Mapping[str, Mapping[str, Any]], models: Path, runs: Path) -> list[StudyJob]:
    """Return the runs of a study, seed by seed so that a study that is cut short has whole comparisons.

    `yamls` hold the model of each arm, `models` is the folder of their files.
    """
    digests = {
        data: data_digest(data, ("train", "val", plan.split)) for data in {str(v.args["data"]) for v in plan.arms}
    }
    jobs = []
    for seed in plan.seeds:
        for variant in plan.arms:
            content = content_address(plan, variant, seed, yamls[variant.name], digests[str(variant.args["data"])])
            folder = runs / variant.name / f"seed{seed}-{content[:8]}"
            train = {**STUDY_DEFAULTS, **variant.args, "seed": seed}
            model = str(models / f"{variant.name}.yaml")
            jobs.append(StudyJob(variant.name, seed, content, str(folder), model, train, plan.split, plan.weights))
    return jobs


def known_outcomes(project: Path) -> dict[str, Outcome]:
    """Return the finished runs of all studies of a project, by content."""
    found = (Outcome.load(file.parent) for file in sorted(project.glob(f"*/runs/*/*/{OUTCOME}")))
    return {outcome.content: outcome for outcome in found if outcome is not None}
