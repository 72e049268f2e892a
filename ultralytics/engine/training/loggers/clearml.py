"""Runs in ClearML (https://clear.ml); `CLEARML_OFFLINE_MODE=1` keeps them on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ultralytics.engine.training.loggers.base import ServiceLogger, arguments, project_name, run_name
from ultralytics.engine.training.protocols import HasRows


class ClearML(ServiceLogger):
    """Writes each row as scalars of a task at the iteration of its epoch, and the figures as images."""

    name = "clearml"
    errors = (OSError, ValueError, RuntimeError)

    def open(self, run: HasRows, known: str | None) -> str | None:
        """Open the task; nothing is captured of other libraries nor of the machine."""
        self.task = self.module.Task.init(
            project_name=project_name(run),
            task_name=run_name(run),
            continue_last_task=known or False,
            reuse_last_task_id=False,
            auto_connect_arg_parser=False,
            auto_connect_frameworks=False,
            auto_connect_streams=False,
            auto_resource_monitoring=False,
        )
        self.task.connect({name: str(value) for name, value in arguments(run).items()}, name="arguments")
        self.logger = self.task.get_logger()
        return str(self.task.id)

    def write(self, epoch: int, values: Mapping[str, float]) -> None:
        """Report the figures; the part of a name before its slash is the title of the plot."""
        for name, value in values.items():
            title, _, series = name.partition("/")
            self.logger.report_scalar(title, series or title, value, epoch)

    def write_pictures(self, paths: Sequence[Path]) -> None:
        """Report the figures under their names."""
        epoch = int(self.row.get("epoch", 0))
        for path in paths:
            self.logger.report_image(path.stem, path.name, iteration=epoch, local_path=str(path))

    def summarise(self, metrics: Mapping[str, float]) -> None:
        """Report the metrics as single values."""
        for name, value in metrics.items():
            self.logger.report_single_value(f"final/{name}", float(value))

    def end(self, complete: bool) -> None:
        """Close the task; one that did not end by itself is marked as failed."""
        if not complete:
            self.task.mark_failed(status_reason="the training run was stopped")
        self.task.close()
