"""What stands before the first batch of a training run: arguments, data, network, recipe, optimizer, run folder.

`engine.training.interface` declares the state of a trainer and what a subclass may replace; `engine.trainer` holds the
loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from ultralytics.cfg import Args, get_cfg, get_save_dir
from ultralytics.data.build import EpochSampler
from ultralytics.engine.published import weights_path
from ultralytics.engine.training import autobatch as memory
from ultralytics.engine.training import optimizer as optim
from ultralytics.engine.training.console import LossMeter, RunClock, count_images, settle_recipe, write_csv
from ultralytics.engine.training.environment import Interrupt, check_arguments, run_device, settle_determinism
from ultralytics.engine.training.interface import (
    TRAINER_NOT_CALLED,
    BatchLoader,
    EpochOutcome,
    InitialWeights,
    ModelSource,
    TrainerInterface,
    stride_of,
)
from ultralytics.engine.training.loggers.attach import attach_loggers
from ultralytics.engine.training.profiler import StepTimes
from ultralytics.engine.training.protocols import RunPaths, StepPlace
from ultralytics.engine.training.recovery import Recovery
from ultralytics.engine.training.state import (
    Progress,
    check_classes,
    check_writable,
    note_images,
    planned_epochs,
    resume_args,
    run_folder,
)
from ultralytics.engine.training.step import MixedPrecision, StepResult
from ultralytics.engine.validator import max_side
from ultralytics.nn.modules.sync_norm import convert_norms
from ultralytics.nn.tasks import check_rebuilds, load_checkpoint
from ultralytics.utils import LOGGER, YAML, IterableSimpleNamespace, colorstr, dist
from ultralytics.utils.callbacks import Callback, Callbacks
from ultralytics.utils.checks import check_imgsz
from ultralytics.utils.errors import ConfigError, refuse_uncalled
from ultralytics.utils.files import atomic_write
from ultralytics.utils.torch_tools.training import LR_CURVES, EarlyStopping, ModelEMA
from ultralytics.utils.torch_tools.transfers import DeviceFeed
from ultralytics.utils.torch_utils import amp_dtype, unwrap_model, wants_channels_last
from ultralytics.utils.user_modules import load_user_modules


def per_process_batch(args: Args) -> int:
    """Images per step of one process; `batch` counts those of all."""
    return max(int(args.batch) // dist.world_size(), 1)


class DataParallelNetwork(DistributedDataParallel):
    """The network of one of several processes; `trained` are the parameters that were trainable when it was wrapped."""

    def __init__(self, network: nn.Module) -> None:
        # without device_ids, which would take labels to the device too
        super().__init__(network, find_unused_parameters=True)
        self.trained = trainable_names(network)


class TrainerSetup(TrainerInterface):
    """The set-up of a trainer.

    `cfg` is a set of arguments or a YAML file, `overrides` win over it. Constructing checks arguments, device and data
    set, and writes nothing.
    """

    long_run_choice = optim.LONG_RUN_CHOICE
    """What `optimizer=auto` takes for a run of more than `LONG_RUN` optimizer steps."""

    def __init__(
        self,
        cfg: str | Path | dict[str, Any] | IterableSimpleNamespace | None = None,
        overrides: Mapping[str, Any] | None = None,
        _callbacks: Callbacks | Mapping[str, Iterable[Callback]] | None = None,
    ) -> None:
        refuse_uncalled(type(self), TRAINER_NOT_CALLED)
        given = {**(overrides or {}), "mode": "train"}
        args = get_cfg(cfg, given) if cfg is not None else get_cfg(overrides=given)
        self.given = {k: getattr(args, k) for k in args.user_keys}
        self.resume_from = None
        if args.resume:
            args, self.resume_from = resume_args(args)
        check_arguments(args)
        load_user_modules(args.modules)
        self.callbacks = Callbacks(_callbacks)
        self.rank, self.device = dist.rank(), run_device(args)
        self.feed = DeviceFeed(self.device)
        args, self._memory_share = memory.provisional_batch(args, self.device)
        self.args = args
        self.batch_size, self.epochs = per_process_batch(args), int(args.epochs)
        self.model = args.model
        self.data = self.get_dataset()
        if self.resume_from is not None:
            self.epochs = planned_epochs(args, self.resume_from)
        self.paths = RunPaths.under(Path(args.get("save_dir") or get_save_dir(args)))
        self.progress = Progress()
        self.stopper = EarlyStopping(self.args.patience)
        self.meter = LossMeter(self.loss_names)
        resumed = Path(str(self.args.resume)) if self.resume_from is not None else None
        self.recovery = Recovery(self.device.type != "cuda", resumed)
        self.times = StepTimes(self.args.profile and self.rank <= 0)
        self.epoch, self.at, self.stop = 0, StepPlace(), False
        self.outcome = EpochOutcome()
        self.plots, self.plot_idx, self.lr, self.batch, self.freeze_layer_names = {}, [0, 1, 2], {}, None, []
        self.result, self.tloss = StepResult(torch.zeros(()), torch.zeros(0), complete=False), torch.zeros(0)
        self.clock = RunClock()
        self.interrupt = Interrupt(saving=False)
        absent: Any = None  # the loaders are made by `_setup_train`
        self.train_loader = self.test_loader = absent

    def auto_batch(self, max_num_obj: int = 0, dataset_size: int = 0) -> int:
        """Return the images per step that fit into the memory of this process's GPU; on a CPU a fixed number.

        `max_num_obj`: objects in an image of a trial step, 0 for the default; `dataset_size`: most images, 0 for any.
        """
        if self.device.type != "cuda":
            return memory.FALLBACK
        batch = memory.automatic_batch(self, self._memory_share, max_num_obj or memory.OBJECTS)
        return min(batch, dataset_size) if dataset_size else batch

    def _settle_batch(self) -> None:
        """Measure the batch, when that was asked for; all processes take the smallest of theirs."""
        if not self._memory_share:
            return
        batch = min(dist.all_gather_objects(self.auto_batch())) * dist.world_size()
        self.args = self.args.replace(batch=batch)
        self.batch_size = per_process_batch(self.args)
        if self.device.type == "cuda":
            limit = f"{self._memory_share:.0%} of the memory of {self.device}"
            LOGGER.info(f"batch={self.args.batch} fills at most {limit}")

    # ------------------------------------------------------------------------------------------------------ set-up
    def _setup_train(self) -> None:
        """Build everything; the run folder comes last, so that a failure leaves nothing behind."""
        if self.rank <= 0:
            check_writable(self.paths.save_dir, new=not self.folder_is_given)
            if self.folder_is_given and self.paths.save_dir.is_dir():
                self.recovery.lock.take(self.paths.save_dir)
        attach_loggers(self)
        self.times.attach(self.callbacks, self.device)
        self.run_callbacks("on_pretrain_routine_start")
        recipe = self._settle_recipe() if self.resume_from is None else ""
        self.setup_model()
        self._prepare_model()
        self.set_precision(self.args.amp)
        self._settle_batch()
        self._setup_data()
        if self.resume_from is None and self.rank <= 0:
            self.check_data()
        if recipe:  # the first screen begins when the labels are known to be right
            LOGGER.info(recipe)
        self._setup_optimizer()
        check_rebuilds(unwrap_model(self.model))
        settle_determinism(self)
        self.validator = self.get_validator()
        self.meter = LossMeter(self.loss_names)
        self._setup_folder()
        self.resume_training(self.resume_from)
        note_images(self.progress, count_of(self.train_loader))
        write_first_files(self)
        self.run_callbacks("on_pretrain_routine_end")

    def setup_model(self) -> None:
        """Build the network that `model=` names, or take the one that the caller built."""
        args = self.args
        if self.resume_from is not None:
            saved = self.resume_from["model"]
            self.model = self.get_model(cfg=saved["yaml"], verbose=False)
            check_classes(args, self.model.nc, self.model.names, saved)
            for norm in self.model.modules():  # weights from elsewhere bring an epsilon of their own
                if saved["bn_eps"] and type(norm) is nn.BatchNorm2d:
                    norm.eps = saved["bn_eps"]
        elif not isinstance(self.model, nn.Module):
            self.model = network_of_argument(self, str(args.model))
        elif isinstance(args.pretrained, str):
            network: Any = self.model
            network.load(weights_path(args.pretrained))

    def _prepare_model(self) -> None:
        """Move the network to the device, give it its arguments, fix the frozen layers and the image size."""
        args = self.args
        self.model = self.model.to(self.device)
        if wants_channels_last(args.channels_last, self.device):
            self.model = self.model.to(memory_format=torch.channels_last)
        self.set_model_attributes()
        args = self.args
        self.freeze_layer_names = optim.freeze_layers(self.model, args.freeze)
        size = check_imgsz(args.imgsz, stride=stride_of(self.model), min_dim=1)
        self.args = args.replace(imgsz=max_side(size))

    def _setup_data(self) -> None:
        """Scan both splits and build their loaders."""
        self.train_loader = self.get_dataloader(self.data["train"], self.batch_size, self.rank, "train")
        self.test_loader = self.val_loader(self.rank if self.shared_validation else -1)
        self.batches, images = len(self.train_loader), count_of(self.train_loader)
        self.batch_size = min(self.batch_size, images)
        size = max_side(self.args.imgsz)
        if size < 64 and (images % self.batch_size == 1 or self.batch_size == 1):
            raise ConfigError(f"imgsz={size}: a batch of one image has no statistics", "use imgsz=64 or above")
        if not isinstance(self.train_loader.sampler, EpochSampler):
            kind = type(self.train_loader.sampler).__name__
            LOGGER.warning(f"{kind} keeps no position: a run that resumes inside an epoch draws other images")

    def val_loader(self, rank: int) -> BatchLoader:
        """Return the loader of the evaluated split: the images of one process, or with rank -1 all of them."""
        path = self.data.get(self.args.split) or self.data["val"]
        return self.get_dataloader(path, self.batch_size * 2, rank, "val")

    def _settle_recipe(self) -> str:
        """Lay the recipe under what the user gave; return which one, why, and what it set."""
        name, why = str(self.args.recipe), ""
        if name == "auto":
            name, why = self.auto_recipe(count_images(self.args, self.data["train"]))
        self.args, report = settle_recipe(self.args, name, why)
        self.batch_size = per_process_batch(self.args)
        return report

    # --------------------------------------------------------------------------------------------------- optimizer
    def _setup_optimizer(self) -> None:
        """Optimizer, rate curve, warm-up, EMA, and the wrapper of a distributed run.

        Choice and warm-up depend on the requested `epochs`, since they do not change when `time` estimates them again.
        """
        args, images, epochs = self.args, self.batch_size * dist.world_size(), int(self.args.epochs)
        steps = math.ceil(count_of(self.train_loader) / max(images, args.nbs)) * epochs
        decay = optim.scaled_decay(args.weight_decay, images, args.nbs)
        self.optimizer = self.build_optimizer(
            self.model, name=args.optimizer, lr=args.lr0, momentum=args.momentum, decay=decay, iterations=steps
        )
        for group in self.optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        self.warmup = optim.Warmup(
            optim.warmup_iterations(args.warmup_epochs, epochs, self.batches),
            self.args.warmup_bias_lr,
            args.warmup_momentum,
            optim.momentum_of(self.optimizer),
            optim.accumulation(images, args.nbs),
        )
        self.start_epoch = self.resume_from["train_state"]["epoch"] if self.resume_from else 0
        self._setup_scheduler()
        self.ema = ModelEMA(self.model, decay=args.ema_decay, tau=args.ema_warmup)
        if self.rank >= 0 and args.sync_bn:  # in one process it would change nothing: the batch is whole
            self.model = convert_norms(self.model, self.device)
        LOGGER.info(f"{colorstr('optimizer:')} {optim.describe_optimizer(self.optimizer)}")
        if self.rank >= 0:
            self.wrap_model()

    def build_optimizer(
        self,
        model: nn.Module,
        name: str = "auto",
        lr: float = 0.001,
        momentum: float = 0.9,
        decay: float = 1e-5,
        iterations: float = 1e5,
    ) -> Optimizer:
        """Return the optimizer of a network, for a run of so many optimizer steps.

        `name="auto"` chooses one, unless the user gave `lr0` or `momentum`, see `choose_optimizer`. The choice is kept
        in `args`.
        """
        args = self.args
        wanted = SimpleNamespace(optimizer=name, lr0=lr, momentum=momentum, warmup_bias_lr=args.warmup_bias_lr)
        choice = optim.choose_optimizer(wanted, self.data["nc"], int(iterations), args.user_keys, self.long_run_choice)
        self.args = args.replace(optimizer=choice.name, lr0=choice.lr, warmup_bias_lr=choice.warmup_bias_lr)
        return optim.build_optimizer(model, choice, decay, args.backbone_lr_ratio)

    def wrap_model(self) -> None:
        """Wrap the network for several processes; again when other parameters are trainable than before."""
        self.model = DataParallelNetwork(unwrap_model(self.model))

    def _setup_scheduler(self) -> None:
        """Make the rate curve and its scheduler, standing at `start_epoch`."""
        self.lf = lr_curve(self.args, self.epochs)
        self.scheduler = LambdaLR(self.optimizer, lambda epoch: self.lf(epoch), last_epoch=self.start_epoch - 1)

    def set_precision(self, amp: bool | str) -> None:
        """Compute in the precision that a value of `amp` stands for, from the next epoch on."""
        self.args = self.args.replace(amp=amp)
        self.precision = MixedPrecision.of_dtype(amp_dtype(amp, self.device), self.device)

    def go_back(self, ckpt: dict[str, Any]) -> None:
        """Return to a state that this run had."""
        state, best_saved = self.state, self.progress.best_saved
        state.restore(ckpt)
        self.progress = state.progress
        self.progress.best_saved = best_saved  # the files do not go back
        self.start_epoch = self.progress.epoch
        self._setup_scheduler()

    # -------------------------------------------------------------------------------------------------- run folder
    def _setup_folder(self) -> None:
        """Make the run folder, which all processes then know."""
        if self.rank <= 0:
            self.paths, self.recovery.made_folder = self.paths.make(self.folder_is_given)
            self.recovery.lock.take(self.paths.save_dir)
            self.paths.wdir.mkdir(parents=True, exist_ok=True)
            self.args = self.args.replace(save_dir=str(self.paths.save_dir))
        self.paths = RunPaths.under(dist.broadcast_object(self.paths.save_dir))
        self.validator.configure(self.paths.save_dir, plots=False if self.rank > 0 else None)

    # ------------------------------------------------------------------------------------------------------ resume
    def resume_training(self, ckpt: dict[str, Any] | None) -> None:
        """Return to the state of a checkpoint, None for a fresh run; results.csv is cut to the epochs that it knows."""
        if ckpt is None:
            return
        state = self.state
        state.restore(ckpt)
        self.progress = p = state.progress
        if p.epochs != self.epochs:  # another curve than that of the saved rates
            for group, lr in zip(self.optimizer.param_groups, self.scheduler.get_last_lr(), strict=False):
                group["lr"] = lr
            optim.forget_noted_rates(self.optimizer)
        if Path(str(self.args.resume)).resolve() == self.paths.last.resolve():
            self.recovery.saved(self.paths.last, p.step)
        if self.rank <= 0:
            folder = run_folder(Path(str(self.args.resume)), ckpt)
            source = folder / "weights" / self.paths.best.name if folder else None
            p.best_saved = p.best_saved and source is not None and source.exists()
            if p.best_saved and source is not None:
                copy_best(self.paths, source)
            write_csv(self.paths.csv, p.rows)
        LOGGER.info(f"Resuming at epoch {p.epoch + 1} of {self.epochs}, batch {p.batch + 1} of {self.batches}")


def write_first_files(run: TrainerSetup) -> None:
    """Write what a run folder has from the start, once nothing can fail any more before the first step."""
    if run.rank > 0:
        return
    YAML.save(run.paths.save_dir / "args.yaml", dict(run.args))
    for loader in (run.train_loader, run.test_loader):
        write_report(loader, run.paths.save_dir)
    if run.args.plots:
        run.plot_training_labels()


def count_of(loader: DataLoader[Any]) -> int:
    """Number of images of a loader's data set."""
    dataset: Any = loader.dataset
    return len(dataset)


def trainable_names(model: nn.Module) -> frozenset[str]:
    """Names of the parameters that are not frozen."""
    return frozenset(name for name, p in unwrap_model(model).named_parameters() if p.requires_grad)


def lr_curve(args: Args, epochs: int) -> Callable[[float], float]:
    """Rate factor as a function of the epoch."""
    name = args.lr_schedule or ("cosine" if args.cos_lr else "linear")
    return LR_CURVES[name](epochs, args.lrf)


def copy_best(paths: RunPaths, source: Path) -> None:
    """Copy the best.pt of the folder in which a run was before."""
    if source.resolve() != paths.best.resolve():
        with atomic_write(paths.best, "wb") as f:
            f.write(source.read_bytes())


def write_report(loader: BatchLoader, folder: Path) -> None:
    """Write what was wrong with the data of a loader, if its data set knows."""
    dataset: Any = loader.dataset
    if getattr(dataset, "report", None):
        dataset.write_report(folder)


def network_of_argument(trainer: TrainerInterface, name: str) -> nn.Module:
    """Build the network that `model=` names: a YAML, or the architecture and weights of a checkpoint."""
    weights: InitialWeights = None
    cfg: ModelSource = name
    if name.endswith(".pt"):
        weights, _ = load_checkpoint(name)
        cfg = weights.yaml
    if isinstance(trainer.args.pretrained, str):
        weights = str(weights_path(trainer.args.pretrained))
    elif not trainer.args.pretrained:
        weights = None
    return trainer.get_model(cfg=cfg, weights=weights, verbose=False)
