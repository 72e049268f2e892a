"""The face of a trainer: its attributes in groups, what callbacks read, and the methods that a subclass may replace.

`engine.training.setup` builds what the loop runs on, `engine.trainer` holds the loop. Each method of this page is
called under the signature that it has here; its default does what a plain run does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, overload

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, Dataset

from ultralytics.cfg import Args
from ultralytics.data.types import Batch
from ultralytics.data.utils import check_det_dataset
from ultralytics.engine.training.console import (
    LossMeter,
    RunClock,
    choose_recipe,
    header_text,
    planned_batches,
    time_left,
)
from ultralytics.engine.training.environment import Interrupt
from ultralytics.engine.training.optimizer import Warmup
from ultralytics.engine.training.profiler import StepTimes
from ultralytics.engine.training.protocols import RunPaths, StepPlace
from ultralytics.engine.training.recovery import Recovery
from ultralytics.engine.training.state import Progress, TrainState
from ultralytics.engine.training.step import MixedPrecision, StepResult, TrainStep
from ultralytics.engine.validator import BaseValidator, max_side
from ultralytics.utils import dist
from ultralytics.utils.callbacks import CallbackMixin
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.metrics import DetMetrics
from ultralytics.utils.torch_tools.training import EarlyStopping, ModelEMA
from ultralytics.utils.torch_tools.transfers import DeviceFeed
from ultralytics.utils.torch_utils import unwrap_model

ModelSource: TypeAlias = str | Path | Mapping[str, object] | None
"""What a network is built from: a YAML file, its content, or None for the argument `model`."""

InitialWeights: TypeAlias = str | Path | Mapping[str, object] | nn.Module | None
"""What tensors are copied from: a file, a checkpoint or state dict, a network."""

BatchLoader: TypeAlias = DataLoader[Batch]

TRAINER_NOT_CALLED: Mapping[str, str] = {
    "_setup_ddp": "_setup_train; processes are started by device=0,1 or by torchrun",
    "check_resume": "resume_training",
    "_get_memory": "progress_string",
    "_clear_memory": "the callback on_train_epoch_end",
    "read_results_csv": "save_metrics",
    "_handle_nan_recovery": "the callback on_train_batch_end",
    "_build_train_pipeline": "get_dataloader",
}
"""Methods of the interface that a run has no place for, and what to replace instead."""


@dataclass
class EpochOutcome:
    """What an epoch has come to."""

    metrics: dict[str, float] = field(default_factory=dict)
    fitness: float | None = None
    is_best: bool = False


def stride_of(model: nn.Module) -> int:
    """Multiple that the image side of a network must be, at least 32."""
    network: Any = unwrap_model(model)
    return max(int(torch.as_tensor(network.stride).max()), 32)


class TrainerInterface(CallbackMixin):
    """Attributes and extension points of a trainer."""

    # Config
    args: Args
    given: Mapping[str, Any]  # what the user gave
    resume_from: dict[str, Any] | None  # the checkpoint that the run resumes from
    data: dict[str, Any]
    device: torch.device
    feed: DeviceFeed  # moves a batch to the device
    rank: int  # -1 in a single process
    from_weights: bool = False  # whether the network of `start_from` holds trained weights
    final_val: bool = True  # whether the weights that the run ends with are validated
    loss_names: tuple[str, ...] = ("loss",)
    shared_validation: bool = False  # whether the validator combines the images of several processes
    # Sizes
    epochs: int
    batch_size: int  # of one process
    batches: int  # in an epoch
    start_epoch: int = 0  # the epoch that this process starts with
    # Where it writes
    paths: RunPaths
    plots: dict[Path, dict[str, object]]  # figures drawn so far
    plot_idx: list[int]  # steps whose batch is drawn
    # Swappable parts
    model: Any  # the network; in several processes its wrapper
    ema: ModelEMA
    optimizer: Optimizer
    scheduler: LRScheduler
    lf: Callable[[float], float]  # rate factor as a function of the epoch
    warmup: Warmup
    precision: MixedPrecision
    stopper: EarlyStopping
    train_loader: BatchLoader
    test_loader: BatchLoader
    validator: BaseValidator
    # Helpers
    train_step: TrainStep
    meter: LossMeter
    recovery: Recovery
    times: StepTimes
    interrupt: Interrupt
    clock: RunClock
    # Run time
    epoch: int
    at: StepPlace  # the current step, for messages
    stop: bool
    batch: Batch | None  # the current batch; None between epochs
    result: StepResult  # of the last batch
    tloss: Tensor  # mean of the loss items over the epoch so far
    lr: dict[str, float]  # of the epoch's last step
    outcome: EpochOutcome  # of the last epoch
    freeze_layer_names: list[str]
    # Saved
    progress: Progress

    # ------------------------------------------------------------------------------------------------- derived values
    @property
    def save_dir(self) -> Path:
        """The run folder."""
        return self.paths.save_dir

    @property
    def wdir(self) -> Path:
        """The folder of the weights."""
        return self.paths.wdir

    @property
    def last(self) -> Path:
        """The checkpoint that the run can be resumed from."""
        return self.paths.last

    @property
    def best(self) -> Path:
        """The weights that the run ends with."""
        return self.paths.best

    @property
    def csv(self) -> Path:
        """The table of epochs."""
        return self.paths.csv

    def read_results_csv(self) -> dict[str, list[float]]:
        """Return the columns of results.csv by name, one value an epoch; empty while there is no row."""
        if not self.paths.csv.is_file():
            return {}
        import pandas as pd  # heavy

        columns: dict[str, list[float]] = pd.read_csv(self.paths.csv).to_dict("list")
        return columns

    @property
    def state(self) -> TrainState:
        """Everything that a checkpoint holds."""
        model = unwrap_model(self.model)
        parts = (model, self.ema, self.optimizer, self.scheduler, self.precision.scaler, self.stopper, self.progress)
        return TrainState(*parts)

    @property
    def best_fitness(self) -> float | None:
        """The best fitness so far."""
        return self.progress.best_fitness

    @best_fitness.setter
    def best_fitness(self, value: float | None) -> None:
        self.progress.best_fitness = value

    @property
    def imgsz(self) -> int:
        """Longer side of the network input, px."""
        return max_side(self.args.imgsz)

    @property
    def nb(self) -> int:
        """Batches in an epoch."""
        return self.batches

    @property
    def accumulate(self) -> int:
        """Batches of the current optimizer step."""
        return self.warmup.accumulate_at(self.progress.step)

    @property
    def amp(self) -> bool:
        """Whether the forward pass is in a half precision."""
        return self.precision.dtype is not None

    @property
    def amp_dtype(self) -> torch.dtype | None:
        """Precision of the forward pass; None is float32."""
        return self.precision.dtype

    @property
    def scaler(self) -> torch.amp.GradScaler:
        """The scaler of the loss, which acts in float16 alone."""
        return self.precision.scaler

    @property
    def loss(self) -> Tensor:
        """Loss of the last batch."""
        return self.result.loss

    @property
    def loss_items(self) -> Tensor:
        """Parts of the loss of the last batch, by `loss_names`."""
        return self.result.items

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of the last validation."""
        return self.outcome.metrics

    @metrics.setter
    def metrics(self, value: dict[str, float]) -> None:
        self.outcome.metrics = value

    @property
    def fitness(self) -> float | None:
        """What the best epoch is chosen by, of the last epoch; None when it was not measured."""
        return self.outcome.fitness

    @fitness.setter
    def fitness(self, value: float | None) -> None:
        self.outcome.fitness = value

    @property
    def is_best(self) -> bool:
        """Whether the last epoch's fitness is the best so far."""
        return self.outcome.is_best

    @property
    def stride(self) -> int:
        """Multiple that the image side must be."""
        return stride_of(self.model)

    @property
    def train_time_start(self) -> float:
        """Time of day at which this process began to train."""
        return self.clock.train_start

    @property
    def epoch_time_start(self) -> float:
        """Time of day at which the epoch began."""
        return self.clock.epoch_start

    @property
    def epoch_time(self) -> float:
        """Seconds of the last epoch."""
        return self.clock.epoch_time

    @property
    def world_size(self) -> int:
        """Processes of the run."""
        return dist.world_size()

    @property
    def ddp(self) -> bool:
        """Whether the run has several processes."""
        return dist.world_size() > 1

    @property
    def resume(self) -> bool:
        """Whether the run resumes from a checkpoint."""
        return self.resume_from is not None

    @property
    def save_period(self) -> int:
        """Epochs between further checkpoints, -1 for none."""
        return int(self.args.save_period)

    @property
    def folder_is_given(self) -> bool:
        """Whether the run goes into this very folder, instead of the first free one of that name."""
        return bool(self.args.get("save_dir") or self.args.exist_ok)

    # --------------------------------------------------------------------------------------------- data, model, loss
    def start_from(self, network: nn.Module, trained: bool) -> None:
        """Train this network instead of one that `model=` names; `trained`: its weights are not fresh."""
        self.model, self.from_weights = network, trained

    def get_dataset(self) -> dict[str, Any]:
        """Return the checked data-set description; the run's first failure if there is one."""
        if not self.args.data:
            raise ConfigError("no data set to train on", "pass data=my.yaml (data=data.yaml is the demo)")
        data = check_det_dataset(self.args.data)
        if self.args.single_cls:
            data["names"], data["nc"] = {0: "item"}, 1
        return data

    def get_model(self, cfg: ModelSource = None, weights: InitialWeights = None, verbose: bool = True) -> nn.Module:
        """Return a fresh network for the data set, with the matching tensors of `weights` in it."""
        raise NotImplementedError

    def set_model_attributes(self) -> None:
        """Give the network what it needs of the run: its arguments."""
        self.model.args = self.args.writable()  # as attributes, which criteria of the user's own read
        self.model.activation_checkpointing = bool(self.args.activation_checkpointing)

    def get_validator(self) -> BaseValidator:
        """Return the validator of this run; may set `loss_names`."""
        raise NotImplementedError

    def build_dataset(self, img_path: str | list[str], mode: str = "train", batch: int | None = None) -> Dataset[Any]:
        """Return the data set of a split; augmented in mode "train"."""
        raise NotImplementedError

    def get_dataloader(
        self, dataset_path: str | list[str], batch_size: int = 16, rank: int = -1, mode: str = "train"
    ) -> BatchLoader:
        """Return the loader of a split; shuffled in mode "train". Any `DataLoader` will do."""
        raise NotImplementedError

    def preprocess_batch(self, batch: Batch) -> Batch:
        """Move a batch to the device and normalise its images."""
        raise NotImplementedError

    def check_data(self) -> None:
        """Check the scanned data before the first epoch; raises DatasetError when a run would be in vain."""

    @overload
    def label_loss_items(self, loss_items: None = None, prefix: str = "train") -> list[str]: ...
    @overload
    def label_loss_items(self, loss_items: Sequence[float] | Tensor, prefix: str = "train") -> dict[str, float]: ...
    def label_loss_items(
        self, loss_items: Sequence[float] | Tensor | None = None, prefix: str = "train"
    ) -> dict[str, float] | list[str]:
        """Name loss items `prefix/name`; the names alone without items."""
        keys = [f"{prefix}/{name}" for name in self.loss_names]
        return keys if loss_items is None else dict(zip(keys, map(float, loss_items), strict=True))

    def metric_names(self) -> list[str]:
        """Return the columns of results.csv that validation fills."""
        return list(DetMetrics(self.data["names"]).keys)

    def auto_recipe(self, images: int) -> tuple[str, str]:
        """Return the recipe that `recipe=auto` stands for with so many training images, and why."""
        planned = planned_batches(images, self.args.batch, self.epochs)
        given = isinstance(self.args.pretrained, str) or str(self.args.model).endswith(".pt")
        return choose_recipe(images, planned, self.from_weights or given, self.epochs)

    # --------------------------------------------------------------------------------------------- console, figures
    def progress_string(self) -> str:
        """Return the header of an epoch's progress line, below the time that the run still takes."""
        left = time_left(self.epoch, self.epochs, self.clock.elapsed())
        return f"{left}\n{header_text(self.loss_names, self.device)}"

    def on_plot(self, name: str | Path, data: Mapping[str, object] | None = None) -> None:
        """Note a figure that has been drawn, in `plots`."""
        self.plots[Path(name)] = {"data": data, "timestamp": time.time()}

    def plot_training_samples(self, batch: Batch, ni: int) -> None:
        """Draw the batch that step `ni` trained on."""

    def plot_training_labels(self) -> None:
        """Draw the distribution of the training labels."""
