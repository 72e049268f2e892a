"""Experiments in Comet (https://www.comet.com).

Without a key (`COMET_API_KEY`), or with `COMET_MODE=offline`, the experiment is a file in the run folder, which
`comet upload` sends later.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ultralytics.engine.training.loggers.base import ServiceLogger, arguments, project_name, run_name
from ultralytics.engine.training.protocols import HasRows


class Comet(ServiceLogger):
    """Writes each row as metrics of an experiment at the step of its epoch, and the figures as images."""

    name = "comet"
    errors = (OSError, ValueError, RuntimeError)

    def open(self, run: HasRows, known: str | None) -> str | None:
        """Open the experiment; nothing is captured of other libraries."""
        online = bool(os.getenv("COMET_API_KEY")) and os.getenv("COMET_MODE", "online").lower() == "online"
        options = {
            "project_name": os.getenv("COMET_PROJECT_NAME") or project_name(run),
            **dict.fromkeys(("log_code", "log_graph", "auto_metric_logging", "auto_param_logging"), False),
            **dict.fromkeys(("parse_args", "log_git_metadata", "log_git_patch", "log_env_details"), False),
        }
        if not online:
            folder = os.getenv("COMET_OFFLINE_DIRECTORY") or str(run.paths.save_dir)
            self.experiment = self.module.OfflineExperiment(offline_directory=folder, **options)
        elif known is not None:
            self.experiment = self.module.ExistingExperiment(previous_experiment=known, **options)
        else:
            self.experiment = self.module.Experiment(**options)
        self.experiment.set_name(run_name(run))
        self.experiment.log_parameters({name: str(value) for name, value in arguments(run).items()})
        return str(self.experiment.get_key()) if online else None

    def write(self, epoch: int, values: Mapping[str, float]) -> None:
        """Log the figures at the step of their epoch."""
        self.experiment.log_metrics(dict(values), step=epoch, epoch=epoch)

    def write_pictures(self, paths: Sequence[Path]) -> None:
        """Log the figures under their names."""
        for path in paths:
            self.experiment.log_image(str(path), name=path.stem)

    def summarise(self, metrics: Mapping[str, float]) -> None:
        """Log the metrics under names of their own."""
        self.experiment.log_metrics({f"final/{name}": value for name, value in metrics.items()})

    def end(self, complete: bool) -> None:
        """Write or send what is left, and close the experiment."""
        self.experiment.log_other("complete", complete)
        self.experiment.end()
