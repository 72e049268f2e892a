"""Runs in Weights & Biases (https://wandb.ai).

`WANDB_MODE=offline` keeps them in the run folder, from where `wandb sync` sends them later; `WANDB_MODE=disabled`
writes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ultralytics.engine.training.loggers.base import ServiceLogger, arguments, project_name, run_name
from ultralytics.engine.training.protocols import HasRows


class WeightsAndBiases(ServiceLogger):
    """Writes each row as a step of a run, the final metrics as its summary, and the figures as media."""

    name = "wandb"

    def open(self, run: HasRows, known: str | None) -> str | None:
        """Open the run; its files go below the run folder unless WANDB_DIR says otherwise."""
        self.errors = (OSError, self.module.Error)
        self.run = self.module.init(
            project=os.getenv("WANDB_PROJECT") or project_name(run),
            name=run_name(run),
            config=arguments(run),
            dir=os.getenv("WANDB_DIR") or str(run.paths.save_dir),
            id=known,
            resume="allow" if known else None,
        )
        self.report(str(self.run.url or f"wandb sync {Path(self.run.dir).parent}"))
        return str(self.run.id)

    def write(self, epoch: int, values: Mapping[str, float]) -> None:
        """Log the figures at the step of their epoch."""
        self.run.log(dict(values), step=epoch)

    def write_pictures(self, paths: Sequence[Path]) -> None:
        """Log the figures under their names, in one step."""
        self.run.log({path.stem: self.module.Image(str(path)) for path in paths})

    def summarise(self, metrics: Mapping[str, float]) -> None:
        """Put the metrics into the summary of the run."""
        self.run.summary.update({f"final/{name}": value for name, value in metrics.items()})

    def end(self, complete: bool) -> None:
        """Finish the run."""
        self.run.finish(exit_code=0 if complete else 1)
