"""Which loggers a run has: those of the argument `loggers`, by default those that the user's settings switch on.

    yolo train loggers=[tensorboard,wandb] ...
    yolo settings mlflow=True                     # for all later runs with loggers=auto; False takes it back

A package that is missing stops the run before it starts; nothing is ever installed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import NamedTuple

from ultralytics.cfg import Args
from ultralytics.engine.training.loggers.base import RowLogger, ServiceLogger
from ultralytics.engine.training.loggers.clearml import ClearML
from ultralytics.engine.training.loggers.comet import Comet
from ultralytics.engine.training.loggers.mlflow import MLflow
from ultralytics.engine.training.loggers.swanlab import SwanLab
from ultralytics.engine.training.loggers.tensorboard import TensorBoard
from ultralytics.engine.training.loggers.wandb import WeightsAndBiases
from ultralytics.engine.training.protocols import HasRows
from ultralytics.utils import SETTINGS, dist
from ultralytics.utils.checks import require
from ultralytics.utils.config.settings import LOGGER_SETTINGS


class LoggerKind(NamedTuple):
    """A logger: the package that it needs, which is an extra of its name, and what makes it."""

    package: str
    make: Callable[[], RowLogger]


def _of_service(cls: type[ServiceLogger], package: str) -> LoggerKind:
    return LoggerKind(package, lambda: cls(import_module(package)))


def _tensorboard() -> RowLogger:
    return TensorBoard(import_module("torch.utils.tensorboard").SummaryWriter)


LOGGER_KINDS: Mapping[str, LoggerKind] = {
    "tensorboard": LoggerKind("tensorboard", _tensorboard),
    "wandb": _of_service(WeightsAndBiases, "wandb"),
    "mlflow": _of_service(MLflow, "mlflow"),
    "swanlab": _of_service(SwanLab, "swanlab"),
    "clearml": _of_service(ClearML, "clearml"),
    "comet": _of_service(Comet, "comet_ml"),
}
"""Loggers by the name that the argument, the setting and the extra have."""


def chosen_loggers(args: Args) -> dict[str, str]:
    """Return the loggers of a run, each with what asks for it."""
    if args.loggers == "auto":
        asks = "the setting {0}=True (`yolo settings {0}=False` takes it back)"
        return {name: asks.format(name) for name in LOGGER_SETTINGS if SETTINGS[name]}
    return {name: f"loggers={name}" for name in args.loggers or ()}


def attach_loggers(run: HasRows) -> None:
    """Let the main process of a run write to its loggers.

    Raises:
        MissingPackageError: a package is not installed; raised in every process, so that none waits for another.
    """
    chosen = chosen_loggers(run.args)
    for name, purpose in chosen.items():
        require(LOGGER_KINDS[name].package, purpose, extra=name)
    if dist.is_main():
        for name in chosen:
            LOGGER_KINDS[name].make().attach(run)
