"""One trial of a search in this process: `python -m ultralytics.study.tuning.trial <folder>/job.json [options]`.

A trial takes its arguments from the Optuna study, trains on the data set without the held-out images, and reports after
each epoch what these give. One that was killed resumes from its last checkpoint under the same number. `outcome.json`
is written last, and its existence says that the trial is finished; a trial that has failed by an error begins again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ultralytics.engine.trainer import BaseTrainer
from ultralytics.study.jobs import FAILURE, StudyJob, read_outcome, write_outcome
from ultralytics.study.results import FITNESS_COLUMN
from ultralytics.study.tuning.database import SearchSettings, open_study
from ultralytics.study.worker import (
    LAST,
    locked,
    reason_of_error,
    run_from_file,
    train_job,
    training_seconds,
    write_failure,
)
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.files import atomic_write

if TYPE_CHECKING:
    import optuna

TRIAL = "trial.json"
COMPLETE, PRUNED = "complete", "pruned"


@dataclass(frozen=True)
class TrialRecord:
    """A finished trial. `value` is the best AP50-95 of its epochs on the held-out images, `epochs` those it trained."""

    number: int
    state: str
    value: float
    epochs: int
    seconds: float
    params: Mapping[str, Any]
    folder: str = ""

    @property
    def name(self) -> str:
        """The number of the trial in the search, as its folder has it."""
        return Path(self.folder).name

    def save(self, folder: Path) -> None:
        """Write the file whose existence says that the trial is finished."""
        write_outcome(folder, asdict(self))

    @staticmethod
    def load(folder: Path) -> TrialRecord | None:
        """Return the trial of a folder, None when it is not finished."""
        return read_outcome(folder, TrialRecord)


class PrunedError(Exception):
    """The curve of a trial lies below those of the others; raised inside its run, which ends there."""


class CurveReporter:
    """Reports to Optuna the value of each epoch, those before a kill included, and ends a run that is to be pruned."""

    def __init__(self, trial: optuna.trial.Trial, known: Mapping[int, float], prunable: bool) -> None:
        self.trial, self.prunable = trial, prunable
        self.values = dict(known)

    def __call__(self, trainer: BaseTrainer) -> None:
        """Take the rows of results.csv that are not reported yet."""
        rows = [row for row in trainer.progress.rows if int(row["epoch"]) not in self.values]
        for row in rows:
            epoch, value = int(row["epoch"]), float(row[FITNESS_COLUMN])
            self.values[epoch] = value
            self.trial.report(value, epoch)
        if rows and self.prunable and trainer.progress.epoch < trainer.epochs and self.trial.should_prune():
            raise PrunedError


def run_trial(job: StudyJob, device: str = "") -> TrialRecord:
    """Ask for arguments, or take those of the trial that was killed here; train; report. A finished one is kept."""
    folder = job.path.parent.parent
    with locked(job.path):
        if (finished := TrialRecord.load(job.path)) is not None:
            return finished
        if (job.path / FAILURE).exists():  # it raised an error: begin again, with arguments of the present study
            for name in (TRIAL, FAILURE, f"weights/{LAST}"):
                (job.path / name).unlink(missing_ok=True)
        settings = SearchSettings.load(folder)
        if settings is None:
            raise ConfigError(f"{folder}: holds no search", "start it with yolo tune")
        study = open_study(folder, settings, job.seed)
        trial, params = take_trial(study, job, settings)
        frozen = next(t for t in study.get_trials(deepcopy=False) if t.number == trial.number)
        if not frozen.state.is_finished():
            try:
                frozen = _search(study, trial, frozen, job, params, device)
            except Exception as e:
                study.tell(trial, state=_state("FAIL"))
                write_failure(job.path, reason_of_error(e))
                raise
        return _finish(frozen, job, params)


def take_trial(
    study: optuna.study.Study, job: StudyJob, settings: SearchSettings
) -> tuple[optuna.trial.Trial, dict[str, Any]]:
    """Return the trial of a folder and its arguments; the one with the draw 0 is the base, unchanged."""
    import optuna

    file = job.path / TRIAL
    if file.is_file():
        record = json.loads(file.read_text(encoding="utf-8"))
        return optuna.trial.Trial(study, record["id"]), dict(record["params"])
    trial = study.ask()
    params = {} if job.seed == 0 else {name: axis.suggest(trial, name) for name, axis in settings.axes.items()}
    trial.set_user_attr("folder", job.path.name)
    with atomic_write(file) as f:
        json.dump({"id": trial._trial_id, "number": trial.number, "params": params}, f, indent=2)
    return trial, params


def _state(name: str) -> Any:
    import optuna

    return optuna.trial.TrialState[name]


def _search(
    study: optuna.study.Study,
    trial: optuna.trial.Trial,
    frozen: optuna.trial.FrozenTrial,
    job: StudyJob,
    params: Mapping[str, Any],
    device: str,
) -> optuna.trial.FrozenTrial:
    """Train with the arguments of a trial, and record in the study how that ended."""
    reporter = CurveReporter(trial, frozen.intermediate_values, prunable=job.seed != 0)
    try:
        train_job(job, device, params, {"on_fit_epoch_end": reporter})
    except PrunedError:
        ended: optuna.trial.FrozenTrial = study.tell(trial, state=_state("PRUNED"))
    else:
        ended = study.tell(trial, max(reporter.values.values(), default=0.0))
    return ended


def _finish(frozen: optuna.trial.FrozenTrial, job: StudyJob, params: Mapping[str, Any]) -> TrialRecord:
    """Write the outcome of a trial that the study knows the end of."""
    if frozen.state == _state("FAIL"):
        raise ConfigError(f"trial {frozen.number} has failed before", f"see {job.path}")
    values = frozen.intermediate_values
    state = PRUNED if frozen.state == _state("PRUNED") else COMPLETE
    best, seconds = max(values.values(), default=0.0), training_seconds(job)
    record = TrialRecord(frozen.number, state, best, len(values), seconds, params, job.folder)
    record.save(job.path)
    return record


if __name__ == "__main__":
    sys.exit(run_from_file(run_trial, "ultralytics.study.tuning.trial"))
