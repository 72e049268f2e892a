"""Runs in MLflow (https://mlflow.org).

`MLFLOW_TRACKING_URI` names the server or store, else `mlflow.db` in the folder of all runs is used;
`MLFLOW_EXPERIMENT_NAME` the experiment. With `MLFLOW_KEEP_RUN_ACTIVE` a run stays open when it has ended, as the active
one of the process, so that the program logs more into it. See them with: mlflow ui --backend-store-uri sqlite:///runs/mlflow.db
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ultralytics.engine.training.loggers.base import ServiceLogger, arguments, project_name, run_name
from ultralytics.engine.training.protocols import HasRows
from ultralytics.utils import SETTINGS
from ultralytics.utils.interface.system import env_bool

PARAM_CHARS = 500
"""Longest value of a parameter that every store takes, in characters."""

PARAM_BATCH = 100
"""Most parameters that a store takes at once."""


class MLflow(ServiceLogger):
    """Writes each row as metrics of a run at the step of its epoch, the arguments as parameters, figures as files."""

    name = "mlflow"

    def open(self, run: HasRows, known: str | None) -> str | None:
        """Open the run in the store; the process's own active run is left as it is."""
        self.errors = (OSError, self.module.exceptions.MlflowException)
        store = os.getenv("MLFLOW_TRACKING_URI")
        home = Path(SETTINGS["runs_dir"]).resolve()
        if not store:
            home.mkdir(parents=True, exist_ok=True)
        local = f"sqlite:///{(home / 'mlflow.db').as_posix()}"
        self.store = store or local
        self.client = self.module.MlflowClient(tracking_uri=self.store)
        if known is not None:
            self.client.update_run(known, status="RUNNING")
            self.id = known
        else:
            experiment = self._experiment(os.getenv("MLFLOW_EXPERIMENT_NAME") or project_name(run), store, home)
            self.id = str(self.client.create_run(experiment, run_name=run_name(run)).info.run_id)
            self._write_params(arguments(run))
        self.report(f"run {self.id}, mlflow ui --backend-store-uri {self.store}")
        return self.id

    def _experiment(self, name: str, store: str | None, home: Path) -> str:
        """Return the id of the experiment, which is made where there is none; a local one keeps its files there."""
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        location = None if store else (home / "mlflow-artifacts").as_uri()
        return str(self.client.create_experiment(name, artifact_location=location))

    def _write_params(self, args: Mapping[str, Any]) -> None:
        make = self.module.entities.Param
        params = [make(name, str(value)[:PARAM_CHARS]) for name, value in args.items()]
        for start in range(0, len(params), PARAM_BATCH):
            self.client.log_batch(self.id, params=params[start : start + PARAM_BATCH])

    def write(self, epoch: int, values: Mapping[str, float]) -> None:
        """Log the figures at the step of their epoch."""
        make, now = self.module.entities.Metric, int(time.time() * 1000)
        metrics = [make(metric_name(name), value, now, epoch) for name, value in values.items()]
        self.client.log_batch(self.id, metrics=metrics)

    def write_pictures(self, paths: Sequence[Path]) -> None:
        """Store the figures with the run."""
        for path in paths:
            self.client.log_artifact(self.id, str(path))

    def summarise(self, metrics: Mapping[str, float]) -> None:
        """Log the metrics under names of their own."""
        self.write(0, {f"final/{name}": value for name, value in metrics.items()})

    def end(self, complete: bool) -> None:
        """Set the state of the run; one that stays open becomes the active one where there is none."""
        if env_bool("MLFLOW_KEEP_RUN_ACTIVE"):
            if self.module.active_run() is None:
                self.module.set_tracking_uri(self.store)
                self.module.start_run(run_id=self.id)
            return
        self.client.set_terminated(self.id, status="FINISHED" if complete else "FAILED")


def metric_name(name: str) -> str:
    """Return a name without the characters that MLflow refuses.

    >>> metric_name("metrics/mAP50(B)")
    'metrics/mAP50B'
    """
    return re.sub(r"[^\w\-. :/]", "", name)
