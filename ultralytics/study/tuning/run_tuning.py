"""The command `yolo tune`: a search for arguments of training on images that no reported number is taken from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ultralytics.cfg.resolution import check_values, expand
from ultralytics.cfg.schema import KEYS, Trait, keys_with
from ultralytics.data.build import fraction_of
from ultralytics.data.paths import list_images, pick_fraction
from ultralytics.data.utils import check_det_dataset
from ultralytics.engine.model import Model
from ultralytics.engine.training.console import choose_recipe, planned_batches
from ultralytics.nn.families import family_of
from ultralytics.study.engines import device_list, make_engine, need_engine
from ultralytics.study.jobs import OUTCOME, StudyJob, failure_of
from ultralytics.study.tuning.database import need_optuna, open_study, settings_of
from ultralytics.study.tuning.holdout import hold_out, write_tuning_data
from ultralytics.study.tuning.report import SearchResult, measure_reported, write_search_report
from ultralytics.study.tuning.space import Space, read_space
from ultralytics.study.tuning.trial import COMPLETE, TrialRecord
from ultralytics.utils.config.settings import SETTINGS
from ultralytics.utils.config.yaml_io import YAML, canonical
from ultralytics.utils.errors import ConfigError, ConfigTypeError
from ultralytics.utils.files import file_sha256
from ultralytics.utils.log import LOGGER, colorstr
from ultralytics.utils.plotting.paper import check_format

MODULE = "ultralytics.study.tuning.trial"
SET_BY_SEARCH = frozenset(
    {*keys_with(Trait.PLACE), *keys_with(Trait.SELECTS), "val", "split", "device", "ci", "save", "time"}
)
"""Arguments that a search sets for each trial itself."""
_TRIAL_ARGS: Mapping[str, Any] = {"patience": 0, "plots": False, "verbose": False}
"""Arguments whose default differs in a trial."""


@dataclass(frozen=True)
class SearchPlace:
    """Where the trials of a search run: engine, devices (an entry is a process), and vector format of the figure."""

    engine: str
    devices: tuple[str, ...]
    fmt: str


def tune_model(
    model: Model,
    iterations: int = 10,
    space: str | Path | Mapping[str, Any] = "all",
    holdout: float = 0.2,
    processes: int = 1,
    prune: bool = True,
    engine: str = "local",
    fmt: str = "pdf",
    **kwargs: Any,
) -> SearchResult:
    """Search for arguments of training: trials with a part of the training images held out, which alone choose.

    The first trial is the base, unchanged. The split that is reported (`val`) is not looked at before the end, when the
    base's and the best trial's weights are compared on it. A search that was killed resumes by the same call; with more
    `iterations` a finished one continues. Files go to `<project>/<name>`, by default below the runs of the settings.

    Args:
        model: a detector; its weights, where it has trained ones, are what each trial starts from.
        iterations: trials, the base included.
        space: optimizer, augmentation, loss, all, a YAML file, or a mapping of its form; see docs/studies.md.
        holdout: ratio of the training images that choose.
        processes: trials that run at once; with several devices they take these in turn.
        prune: end trials whose curve lies below the median of the others.
        engine: local, slurm or ray.
        fmt: vector format of the figure beside PNG: pdf or svg.
        kwargs: arguments of training, which all trials share.

    Raises:
        MissingPackageError: Optuna is not installed.
        ConfigError: a value is wrong, or the folder holds another search.
    """
    need_optuna()
    need_engine(engine)
    check_format(fmt)
    given, place_args = _arguments(model, kwargs)
    place = SearchPlace(engine, _devices(place_args.get("device"), processes), fmt)
    folder = _folder(model, given, place_args)
    data = str(given["data"])
    axes = read_space(space, _recipe_of(model, given, holdout), _acting(model))
    start = start_of(model, holdout)
    settings = settings_of(axes, given, start, prune, parallel=len(place.devices) > 1)
    settings.save(folder)
    tuning_data = write_tuning_data(data, holdout, folder / "data")
    source = _source(model, folder)
    jobs = make_trials(folder, source, {**_TRIAL_ARGS, **given, "data": str(tuning_data)}, iterations)
    log_search(folder, axes, iterations, tuning_data, place)
    open_study(folder, settings)  # made here, so that processes do not make it at once
    run_trials(jobs, folder, place)
    result = gather_trials(folder, jobs, given, source)
    measure_reported(result, data)
    write_search_report(result, fmt)
    return result


def _arguments(model: Model, kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the checked arguments of training, and those that say where the search runs.

    Raises:
        ConfigTypeError: the model is not a detector with weights or a YAML of its own.
        ConfigError: an argument that each trial sets itself, or no data set.
    """
    if model.task != "detect" or not hasattr(model.model, "yaml"):
        raise ConfigTypeError(
            f"tune searches for arguments of detectors, not of {model.model_name}", "open its weights"
        )
    values, _ = expand(kwargs)
    place: dict[str, Any] = {k: values.pop(k) for k in ("project", "name", "device") if k in values}
    recipe = {"recipe": values.pop("recipe")} if values.get("recipe") else {}
    for name in ("cfg", "model_scale"):  # the file has been read, and the model has its scale
        values.pop(name, None)
    for name in sorted(SET_BY_SEARCH & values.keys()):
        raise ConfigError(f"{name}={values[name]}: is set by the search for each trial", "leave it out")
    data = values.get("data") or model.overrides.get("data")
    if not data:
        raise ConfigError("tune needs data=, the YAML of a data set")
    modules = {"modules": list(model.user_files)} if model.user_files else {}
    return check_values({**values, **recipe, **modules, "data": str(data)}), place


def _devices(device: Any, processes: int) -> tuple[str, ...]:
    """One entry for each process: the devices in turn."""
    if processes < 1:
        raise ConfigError(f"processes={processes} is below 1")
    named = ("",) if device is None else device_list(device)
    return tuple(named[i % len(named)] for i in range(max(processes, len(named))))


def _folder(model: Model, given: Mapping[str, Any], place: Mapping[str, Any]) -> Path:
    """The folder of a search, which the same call finds again."""
    root = Path(place["project"]) if place.get("project") else Path(SETTINGS["runs_dir"]) / "tune"
    name = place.get("name") or f"{model.model_name}-{Path(str(given['data'])).stem}"
    return (root / str(name)).absolute()


def _acting(model: Model) -> Trait:
    """Traits of arguments that act in the family of the model."""
    return family_of(model.model, "rtdetr").arguments


def _recipe_of(model: Model, given: Mapping[str, Any], holdout: float) -> str:
    """The recipe of each trial; of `auto` the one that the number of its images chooses, as in `auto_recipe`."""
    name = str(given.get("recipe") or KEYS["recipe"].default)
    if name != "auto":
        return name
    images = list_images(check_det_dataset(given["data"])["train"])
    count = len(pick_fraction(hold_out(images, holdout)[0], fraction_of(given.get("fraction", 1.0), "train")))
    epochs = int(given.get("epochs", 100))
    steps = planned_batches(count, given.get("batch", 16), epochs)
    loaded = model.ckpt is not None or isinstance(given.get("pretrained"), str)
    return choose_recipe(count, steps, loaded, epochs)[0]


def start_of(model: Model, holdout: float) -> dict[str, Any]:
    """Return what the trials of a search start from, beside their arguments: the network, and the ratio held out."""
    rows = {k: v for k, v in model.model.yaml.items() if k != "yaml_file"}
    digest = hashlib.sha256(canonical(rows).encode())
    if model.ckpt_path is not None:
        digest.update(file_sha256(model.ckpt_path).encode())
    return {"model": digest.hexdigest(), "holdout": holdout}


def _source(model: Model, folder: Path) -> str:
    """What a trial opens: the weights of the model, else its YAML, which is written into the folder."""
    if model.ckpt_path is not None:
        return str(Path(model.ckpt_path).absolute())
    if model.ckpt is not None:
        return str(model.save(folder / "start.pt"))
    YAML.save(folder / "model.yaml", {k: v for k, v in model.model.yaml.items() if k != "yaml_file"})
    return str(folder / "model.yaml")


def make_trials(folder: Path, source: str, args: Mapping[str, Any], count: int) -> list[StudyJob]:
    """Return a job for each trial; its `seed` is the number of its draw, while all train with the seed of `args`.

    Raises:
        ConfigError: fewer than two trials, so that nothing would be searched.
    """
    if count < 2:
        raise ConfigError(f"iterations={count}: the first trial is the base", "give at least 2")
    places = [folder / "trials" / f"{i:03d}" for i in range(count)]
    return [StudyJob(p.name, i, "", str(p), source, dict(args)) for i, p in enumerate(places)]


def log_search(folder: Path, axes: Space, iterations: int, data: Path, place: SearchPlace) -> None:
    """Log what is searched, where, and on which images."""
    held = len((data.parent / "held_out.txt").read_text(encoding="utf-8").splitlines())
    LOGGER.info(
        f"Searching {len(axes)} arguments in {iterations} trials, {len(place.devices)} at once: {', '.join(axes)}\n"
        f"{held} of the training images are held out and choose: {data.parent / 'held_out.txt'}\n"
        f"Trials go to {colorstr('bold', str(folder))}"
    )


def run_trials(jobs: Sequence[StudyJob], folder: Path, place: SearchPlace) -> None:
    """Run the trials that are not finished."""
    waiting = [job for job in jobs if not (job.path / OUTCOME).exists()]
    if len(waiting) < len(jobs):
        LOGGER.info(f"{len(jobs) - len(waiting)} of {len(jobs)} trials are finished already")

    def report(job: StudyJob, reason: str) -> None:
        record = None if reason else TrialRecord.load(job.path)
        if record is None:
            LOGGER.warning(f"trial {job.arm} failed: {reason or 'its result cannot be read'}")
        else:
            shown = ", ".join(f"{k}={v}" for k, v in record.params.items()) or "the base"
            pruned = f", pruned after {record.epochs} epochs" if record.state != COMPLETE else ""
            LOGGER.info(f"trial {job.arm}: AP {record.value:.4f}{pruned}; {shown}")

    for job in waiting:
        job.save()
    if waiting:
        make_engine(place.engine, place.devices, folder, {}, MODULE).run(waiting, report)


def gather_trials(folder: Path, jobs: Sequence[StudyJob], base: Mapping[str, Any], source: str) -> SearchResult:
    """Return what the trials have found.

    Raises:
        ConfigError: no trial was finished.
    """
    records = [record for job in jobs if (record := TrialRecord.load(job.path)) is not None]
    failed = {job.arm: failure_of(job.path) for job in jobs if not (job.path / OUTCOME).exists()}
    if not any(record.state == COMPLETE for record in records):
        reason = next(iter(failed.values()), "") or "see the log.txt of a trial"
        raise ConfigError(f"{folder}: no trial was finished: {reason}")
    return SearchResult(folder, records, dict(base), source, failed)
