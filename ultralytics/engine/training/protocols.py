"""What the helpers of a training run need of the trainer, and no more; and the paths of a run.

A helper takes the narrowest protocol that serves it, so that it can be read, and tested, without the trainer class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import nn
from torch.optim import Optimizer

from ultralytics.cfg import Args
from ultralytics.utils.callbacks import Callback, Callbacks
from ultralytics.utils.files import increment_path

if TYPE_CHECKING:
    from ultralytics.engine.training.console import LossMeter
    from ultralytics.engine.training.optimizer import Warmup
    from ultralytics.engine.training.state import Progress, TrainState
    from ultralytics.engine.training.step import MixedPrecision


@dataclass(frozen=True)
class RunPaths:
    """The files of a run. `best` is the file that the run ends with: last.pt when it has written no best.pt."""

    save_dir: Path
    wdir: Path
    last: Path
    best: Path
    csv: Path

    @classmethod
    def under(cls, save_dir: Path) -> RunPaths:
        """Return the paths below a run folder; nothing is written."""
        wdir = save_dir / "weights"
        return cls(save_dir, wdir, wdir / "last.pt", wdir / "best.pt", save_dir / "results.csv")

    def make(self, given: bool) -> tuple[RunPaths, bool]:
        """Make the run folder: the first free one of its name, or the one that was `given`; also whether it is new."""
        paths = self if given else RunPaths.under(increment_path(self.save_dir, mkdir=True))
        new = not (given and paths.save_dir.exists())
        paths.save_dir.mkdir(parents=True, exist_ok=True)
        return paths, new

    def ending_with_last(self) -> RunPaths:
        """Return the paths of a run that ends with last.pt."""
        return replace(self, best=self.last)


class StepPlace(NamedTuple):
    """A step of a run: its number among all batches, and the words for it in messages."""

    number: int = 0
    text: str = ""


class HasSaved(Protocol):
    """Knows the newest checkpoint that a run can resume from."""

    @property
    def on_disk(self) -> Path | None: ...


class HasRun(Protocol):
    """A run: its arguments, its folder, how far it is, and what it could resume from."""

    args: Args
    device: torch.device
    rank: int
    paths: RunPaths
    progress: Progress

    @property
    def recovery(self) -> HasSaved: ...


class HasEpoch(Protocol):
    """A run in an epoch, for reports."""

    paths: RunPaths
    epoch: int
    batch_size: int


class HasRows(Protocol):
    """A run whose rows of results.csv are read as they come."""

    args: Args
    paths: RunPaths
    progress: Progress
    resume_from: dict[str, Any] | None
    metrics: dict[str, float]

    def add_callback(self, event: str, callback: Callback) -> None: ...


class HasModel(Protocol):
    """A network and the precision and image size that it is trained with."""

    args: Args
    device: torch.device
    data: dict[str, Any]
    model: nn.Module
    batch_size: int
    optimizer: Optimizer

    @property
    def imgsz(self) -> int: ...

    @property
    def amp_dtype(self) -> torch.dtype | None: ...


class HasStep(HasRun, Protocol):
    """A run in a step, which can return to a state that it had and continue in another precision."""

    model: nn.Module
    precision: MixedPrecision
    meter: LossMeter
    warmup: Warmup
    at: StepPlace

    @property
    def state(self) -> TrainState: ...

    def go_back(self, ckpt: dict[str, Any]) -> None: ...

    def set_precision(self, amp: bool | str) -> None: ...


class HasLaunch(HasRun, Protocol):
    """A run that is started as several processes."""

    callbacks: Callbacks
    given: Mapping[str, Any]
    resume_from: dict[str, Any] | None
    model: nn.Module | str | None
    from_weights: bool

    @property
    def folder_is_given(self) -> bool: ...
