"""Runs in SwanLab (https://swanlab.cn).

`SWANLAB_MODE` is cloud, local, offline or disabled, as in that package; the files of local and offline runs lie below
the run folder unless `SWANLAB_LOG_DIR` says otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ultralytics.engine.training.loggers.base import ServiceLogger, arguments, project_name, run_name
from ultralytics.engine.training.protocols import HasRows


class SwanLab(ServiceLogger):
    """Writes each row as a step of an experiment, and the figures as images."""

    name = "swanlab"
    errors = (OSError, ValueError, RuntimeError)

    def open(self, run: HasRows, known: str | None) -> str | None:
        """Open the experiment; a resumed run becomes a new one, which gets all its rows."""
        self.run = self.module.init(
            project=os.getenv("SWANLAB_PROJECT") or project_name(run),
            experiment_name=run_name(run),
            config=arguments(run),
            logdir=os.getenv("SWANLAB_LOG_DIR") or str(run.paths.save_dir / "swanlab"),
        )
        return None

    def write(self, epoch: int, values: Mapping[str, float]) -> None:
        """Log the figures at the step of their epoch."""
        self.run.log(dict(values), step=epoch)

    def write_pictures(self, paths: Sequence[Path]) -> None:
        """Log the figures under their names, in one step."""
        self.run.log({path.stem: self.module.Image(str(path)) for path in paths})

    def summarise(self, metrics: Mapping[str, float]) -> None:
        """Log the metrics under names of their own."""
        self.run.log({f"final/{name}": value for name, value in metrics.items()})

    def end(self, complete: bool) -> None:
        """Finish the experiment."""
        self.module.finish()
