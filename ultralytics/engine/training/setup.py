"""What stands before the first batch of a training run: arguments, data, network, recipe, optimizer, run folder.

`TrainerSetup` declares the state of a trainer and the hooks that a model family fills; `engine.trainer` runs the loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LambdaLR

from ultralytics.cfg import Args, get_cfg, get_save_dir
from ultralytics.data.utils import check_det_dataset
from ultralytics.engine.training import autobatch as memory
from ultralytics.engine.training import optimizer as optim
from ultralytics.engine.training.console import LossMeter, choose_recipe, count_images, settle_recipe, write_csv
from ultralytics.engine.training.environment import check_arguments, run_device
from ultralytics.engine.training.profiler import StepTimes
from ultralytics.engine.training.recovery import Recovery
from ultralytics.engine.training.state import (
    Progress,
    TrainState,
    check_classes,
    check_writable,
    planned_epochs,
    resume_args,
    run_folder,
)
from ultralytics.engine.training.tensorboard import attach_tensorboard
from ultralytics.nn.modules.sync_norm import convert_norms
from ultralytics.nn.tasks import load_checkpoint
from ultralytics.utils import LOGGER, YAML, IterableSimpleNamespace, colorstr, dist
from ultralytics.utils.callbacks import CallbackMixin, Callbacks
from ultralytics.utils.checks import check_imgsz
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.files import atomic_write, increment_path
from ultralytics.utils.metrics import DetMetrics
from ultralytics.utils.torch_tools.training import LR_CURVES, EarlyStopping, ModelEMA
from ultralytics.utils.torch_utils import amp_dtype, unwrap_model, wants_channels_last
from ultralytics.utils.user_modules import load_user_modules

Batch = dict[str, Any]


def per_process_batch(args: Args) -> int:
    """Images per step of one process; `batch` counts those of all."""
    return max(int(args.batch) // dist.world_size(), 1)


def stride_of(model: Any) -> int:
    """Multiple that the image side of a network must be, at least 32."""
    return max(int(torch.as_tensor(unwrap_model(model).stride).max()), 32)


class TrainerSetup(CallbackMixin):
    """State, hooks and set-up of a trainer.

    `cfg` is a set of arguments or a YAML file, `overrides` go on top. Constructing checks arguments, device and data
    set, and writes nothing.
    """

    # Config
    args: Args
    data: dict[str, Any]
    device: torch.device
    rank: int
    epochs: int
    batch_size: int
    imgsz: int
    from_weights: bool = False  # whether the caller's `model` holds trained weights
    # Swappable parts
    model: Any
    ema: ModelEMA
    optimizer: torch.optim.Optimizer
    scheduler: LambdaLR
    scaler: torch.amp.GradScaler
    stopper: EarlyStopping
    train_loader: Any
    test_loader: Any
    validator: Any
    loss_names: tuple[str, ...] = ("loss",)
    shared_validation: bool = False  # whether the validator brings together the shares of several processes
    # Run time
    epoch: int
    stop: bool
    metrics: dict[str, float]
    fitness: float | None
    loss: torch.Tensor
    step: int
    where: str
    tloss: list[float]
    # Saved
    progress: Progress
    saved_step: int | None  # the step that last.pt is of

    def __init__(
        self,
        cfg: str | Path | dict[str, Any] | IterableSimpleNamespace | None = None,
        overrides: Mapping[str, Any] | None = None,
        _callbacks: Callbacks | Mapping[str, Iterable[Callable[[Any], object]]] | None = None,
    ) -> None:
        given = {**(overrides or {}), "mode": "train"}
        args = get_cfg(cfg, given) if cfg is not None else get_cfg(overrides=given)
        self.given = {k: getattr(args, k) for k in args.user_keys}
        self.resume_from: dict[str, Any] | None = None
        if args.resume:
            args, self.resume_from = resume_args(args)
        self.args = args
        check_arguments(args)
        load_user_modules(args.modules)
        self.callbacks = Callbacks(_callbacks)
        self.rank, self.device = dist.rank(), run_device(args)
        self.memory_share = self._provisional_batch()
        args = self.args
        self.batch_size, self.epochs = per_process_batch(args), int(args.epochs)
        self.model = args.model
        self.data = self.get_dataset()
        if self.resume_from is not None:
            self.epochs = planned_epochs(args, self.resume_from)
        self._place(Path(args.get("save_dir") or get_save_dir(args)))
        self.progress = Progress()
        self.stopper = EarlyStopping(args.patience)
        self.meter = LossMeter(self.loss_names)
        self.accumulator = optim.GradientAccumulator()
        self.saved_step: int | None = None
        resumed = Path(str(args.resume)) if self.resume_from is not None else None
        self.recovery = Recovery(self.device.type != "cuda", resumed)
        self.times = StepTimes(args.profile and self.rank <= 0)
        self.train_loader = self.test_loader = None
        self.epoch, self.stop, self.metrics, self.fitness, self.tloss = 0, False, {}, None, []

    def _provisional_batch(self) -> float:
        """Put a number in the place of an automatic batch; return the share of GPU memory to fill, 0 for none."""
        wanted = float(self.args.batch)
        if wanted >= 1:
            return 0.0
        self.args = self.args.replace(batch=memory.FALLBACK * dist.world_size())
        if self.device.type != "cuda":
            LOGGER.info(f"batch={wanted:g} measures a GPU's memory; on {self.device} it is batch={self.args.batch}")
            return 0.0
        return memory.SHARE if wanted < 0 else wanted

    def _settle_batch(self) -> None:
        """Measure the batch on a GPU, when that was asked for; all processes take the smallest of theirs."""
        if not self.memory_share:
            return
        own = memory.automatic_batch(self, self.memory_share)
        self.args = self.args.replace(batch=min(dist.all_gather_objects(own)) * dist.world_size())
        self.batch_size = per_process_batch(self.args)
        LOGGER.info(f"batch={self.args.batch} fills at most {self.memory_share:.0%} of the memory of {self.device}")

    def _place(self, save_dir: Path) -> None:
        """Name the run folder and the files in it; nothing is written."""
        self.save_dir, self.wdir = save_dir, save_dir / "weights"
        self.last, self.best, self.csv = self.wdir / "last.pt", self.wdir / "best.pt", save_dir / "results.csv"

    # ------------------------------------------------------------------------------------------------------ hooks
    def get_dataset(self) -> dict[str, Any]:
        """Return the checked data-set description; the run's first failure if there is one."""
        if not self.args.data:
            raise ConfigError("no data set to train on", "pass data=my.yaml (data=data.yaml is the demo)")
        data = check_det_dataset(self.args.data)
        if self.args.single_cls:
            data["names"], data["nc"] = {0: "item"}, 1
        return data

    def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> nn.Module:
        """Return a fresh network for the data set, with the matching tensors of `weights` (a module or file) in it."""
        raise NotImplementedError

    def get_validator(self) -> Any:
        """Return the validator of this run; also sets `loss_names`."""
        raise NotImplementedError

    def build_dataset(self, img_path: Any, mode: str = "train", batch: int | None = None) -> Any:
        """Return the data set of a split; augmented in mode "train"."""
        raise NotImplementedError

    def get_dataloader(self, dataset_path: Any, batch_size: int = 16, rank: int = -1, mode: str = "train") -> Any:
        """Return the loader of a split; shuffled in mode "train"."""
        raise NotImplementedError

    def preprocess_batch(self, batch: Batch) -> Batch:
        """Move a batch to the device and normalise its images."""
        raise NotImplementedError

    def check_data(self) -> None:
        """Look over the scanned data before the first epoch; raises DatasetError when a run would be in vain."""

    def label_loss_items(self, loss_items: Any = None, prefix: str = "train") -> Any:
        """Name loss items `prefix/name`; the bare names without items."""
        keys = [f"{prefix}/{name}" for name in self.loss_names]
        return keys if loss_items is None else dict(zip(keys, map(float, loss_items), strict=True))

    def auto_recipe(self, images: int) -> tuple[str, str]:
        """Return the recipe that `recipe=auto` stands for with so many training images, and why."""
        planned = math.ceil(images / int(self.args.batch)) * self.epochs
        given = isinstance(self.args.pretrained, str) or str(self.args.model).endswith(".pt")
        return choose_recipe(images, planned, self.from_weights or given, self.epochs)

    def metric_names(self) -> list[str]:
        """Return the columns of results.csv that validation fills."""
        return list(DetMetrics(self.data["names"]).keys)

    def plot_training_samples(self, batch: Batch, ni: int) -> None:
        """Draw the batch that step `ni` trained on."""

    def plot_training_labels(self) -> None:
        """Draw the distribution of the training labels."""

    # ------------------------------------------------------------------------------------------------------ setup
    def _setup(self) -> None:
        """Build everything; the run folder comes last, so that a failure leaves nothing behind."""
        if self.rank <= 0:
            check_writable(self.save_dir, new=not self.folder_is_given)
        attach_tensorboard(self)
        self.times.attach(self.callbacks, self.device)
        self.run_callbacks("on_pretrain_routine_start")
        if self.resume_from is None:
            self._settle_recipe()
        LOGGER.info("engine/trainer: " + ", ".join(f"{k}={v}" for k, v in sorted(self.args)))
        self._setup_model()
        self.set_precision(self.args.amp)
        self._settle_batch()
        self._setup_data()
        if self.resume_from is None and self.rank <= 0:
            self.check_data()
        self._setup_optimizer()
        self.validator = self.get_validator()
        self.meter = LossMeter(self.loss_names)
        self._setup_folder()
        if self.resume_from is not None:
            self._resume(self.resume_from)
        self.run_callbacks("on_pretrain_routine_end")

    def _setup_model(self) -> None:
        """Build the network, or take the one that the caller built, and fix the frozen layers and the image size."""
        args = self.args
        if self.resume_from is not None:
            saved = self.resume_from["model"]
            self.model = self.get_model(cfg=saved["yaml"], verbose=self.rank in {-1, 0})
            check_classes(args, self.model.nc, saved["nc"])
            for norm in self.model.modules():  # weights from elsewhere bring an epsilon of their own
                if saved["bn_eps"] and type(norm) is nn.BatchNorm2d:
                    norm.eps = saved["bn_eps"]
        elif not isinstance(self.model, nn.Module):
            self.model = self._model_from_argument(str(args.model))
        elif isinstance(args.pretrained, str):
            given: Any = self.model
            given.load(args.pretrained)
        self.model = self.model.to(self.device)
        if wants_channels_last(args.channels_last, self.device):
            self.model = self.model.to(memory_format=torch.channels_last)
        self.model.args = dict(args)
        self.model.activation_checkpointing = bool(args.activation_checkpointing)
        frozen = optim.freeze_layers(self.model, args.freeze)
        if frozen:
            LOGGER.info(f"Frozen: {len(frozen)} parameters, {frozen[0]} ... {frozen[-1]}")
        size = check_imgsz(args.imgsz, stride=stride_of(self.model), min_dim=1)
        self.imgsz = int(size if isinstance(size, int) else max(size))
        self.args = args.replace(imgsz=self.imgsz)

    def _model_from_argument(self, name: str) -> nn.Module:
        """Build the network that `model=` names: a YAML, or the architecture and weights of a checkpoint."""
        weights: Any = None
        cfg: Any = name
        if name.endswith(".pt"):
            weights = load_checkpoint(name)[0]
            cfg = weights.yaml
        if isinstance(self.args.pretrained, str):
            weights = self.args.pretrained
        elif not self.args.pretrained:
            weights = None
        return self.get_model(cfg=cfg, weights=weights, verbose=self.rank in {-1, 0})

    def _setup_data(self) -> None:
        """Scan both splits and build their loaders."""
        self.train_loader = self.get_dataloader(self.data["train"], self.batch_size, self.rank, "train")
        self.test_loader = self.val_loader(self.rank if self.shared_validation else -1)
        self.batches, images = len(self.train_loader), len(self.train_loader.dataset)
        self.batch_size = min(self.batch_size, images)
        if self.imgsz < 64 and (images % self.batch_size == 1 or self.batch_size == 1):
            raise ConfigError(f"imgsz={self.imgsz}: a batch of one image has no statistics", "use imgsz=64 or above")

    def val_loader(self, rank: int) -> Any:
        """Return the loader of the evaluated split: a process's share of it, or with rank -1 all of it."""
        path = self.data.get(self.args.split) or self.data["val"]
        return self.get_dataloader(path, self.batch_size * 2, rank, "val")

    def _settle_recipe(self) -> None:
        """Lay the recipe under what the user gave, and say which one and why."""
        name, why = str(self.args.recipe), ""
        if name == "auto":
            name, why = self.auto_recipe(count_images(self.args, self.data["train"]))
        self.args = settle_recipe(self.args, name, why)
        self.batch_size = per_process_batch(self.args)

    def _setup_optimizer(self) -> None:
        """Optimizer, rate curve, warm-up, precision, EMA, and the wrapper of a distributed run.

        Choice and warm-up hang on the `epochs` asked for, since they do not change when `time` estimates them anew.
        """
        args, images, epochs = self.args, self.batch_size * dist.world_size(), int(self.args.epochs)
        steps = math.ceil(len(self.train_loader.dataset) / max(images, args.nbs)) * epochs
        choice = optim.choose_optimizer(args, self.data["nc"], steps, args.user_keys)
        args = args.replace(optimizer=choice.name, lr0=choice.lr, warmup_bias_lr=choice.warmup_bias_lr)
        self.args = args
        decay = optim.scaled_decay(args.weight_decay, images, args.nbs)
        self.optimizer = optim.build_optimizer(self.model, choice, decay, args.backbone_lr_ratio)
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.warmup = optim.Warmup(
            optim.warmup_iterations(args.warmup_epochs, epochs, self.batches),
            choice.warmup_bias_lr,
            args.warmup_momentum,
            choice.momentum,
            optim.accumulation(images, args.nbs),
        )
        self.lf = self._curve()
        self._set_schedule(self.resume_from["train_state"]["epoch"] if self.resume_from else 0)
        self.ema = ModelEMA(self.model, decay=args.ema_decay, tau=args.ema_warmup)
        if self.rank >= 0 and args.sync_bn:  # in one process it would change nothing: the batch is whole
            self.model = convert_norms(self.model, self.device)
        self.norms = optim.frozen_norms(self.model)
        LOGGER.info(f"{colorstr('optimizer:')} {optim.describe_optimizer(self.optimizer, choice)}")
        if self.rank >= 0:  # without device_ids, which would take labels to the device too
            self.model = DistributedDataParallel(self.model, find_unused_parameters=True)

    def _set_schedule(self, epoch: int) -> None:
        """Make the scheduler, standing at an epoch."""
        self.scheduler = LambdaLR(self.optimizer, lambda e: self.lf(e), last_epoch=epoch - 1)

    def set_precision(self, amp: bool | str) -> None:
        """Compute in the precision that a value of `amp` stands for, from the next step on."""
        self.args = self.args.replace(amp=amp)
        self.amp_dtype = amp_dtype(amp, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.amp_dtype is torch.float16)

    def go_back(self, ckpt: dict[str, Any]) -> None:
        """Return to a state that this run had."""
        state, best_saved = self.state, self.progress.best_saved
        state.restore(ckpt)
        self.progress = state.progress
        self.progress.best_saved = best_saved  # the files do not go back
        self.accumulator.count = 0
        self._set_schedule(self.progress.epoch)

    def _curve(self) -> Callable[[float], float]:
        """Rate factor as a function of the epoch."""
        name = self.args.lr_schedule or ("cosine" if self.args.cos_lr else "linear")
        return LR_CURVES[name](self.epochs, self.args.lrf)

    def _setup_folder(self) -> None:
        """Make the run folder, which all processes then know; the main one writes its first files."""
        if self.rank <= 0:
            self._write_first_files()
        self._place(dist.broadcast_object(self.save_dir))
        self.validator.save_dir = self.save_dir
        if self.rank > 0:
            self.validator.args = self.validator.args.replace(plots=False)

    @property
    def folder_is_given(self) -> bool:
        """Whether the run goes into this very folder, instead of the first free one of that name."""
        return bool(self.args.get("save_dir") or self.args.exist_ok)

    def _write_first_files(self) -> None:
        """Write args.yaml, labels.jpg and what was wrong with the data."""
        if not self.folder_is_given:
            self._place(increment_path(self.save_dir, mkdir=True))
        self.wdir.mkdir(parents=True, exist_ok=True)
        self.args = self.args.replace(save_dir=str(self.save_dir))
        YAML.save(self.save_dir / "args.yaml", dict(self.args))
        for loader in (self.train_loader, self.test_loader):
            if loader.dataset.report:
                loader.dataset.write_report(self.save_dir)
        if self.args.plots:
            self.plot_training_labels()

    def _resume(self, ckpt: dict[str, Any]) -> None:
        """Go back to the state of a checkpoint; results.csv is cut to the epochs that it knows."""
        state = self.state
        state.restore(ckpt)
        self.progress = p = state.progress
        if Path(str(self.args.resume)).resolve() == self.last.resolve():
            self.saved_step = p.step
        if self.rank <= 0:
            self._bring_best(ckpt)
            write_csv(self.csv, p.rows)
        LOGGER.info(f"Resuming at epoch {p.epoch + 1} of {self.epochs}, batch {p.batch + 1} of {self.batches}")

    def _bring_best(self, ckpt: dict[str, Any]) -> None:
        """Take best.pt along when the run goes on in another folder; where it is missing, the run has none."""
        folder = run_folder(Path(str(self.args.resume)), ckpt["train_args"])
        source = folder / "weights" / self.best.name if folder else None
        if not self.progress.best_saved or source is None or not source.exists():
            self.progress.best_saved = False
        elif source.resolve() != self.best.resolve():
            with atomic_write(self.best, "wb") as f:
                f.write(source.read_bytes())

    @property
    def state(self) -> TrainState:
        """Everything that a checkpoint holds."""
        model = unwrap_model(self.model)
        parts = (model, self.ema, self.optimizer, self.scheduler, self.scaler, self.stopper, self.progress)
        return TrainState(*parts)
