"""The validation loop, without knowledge of a model family: set up, iterate, time each stage, report.

`postprocess` gives boxes in pixels of the network input; metrics are taken in pixels of the original image, so that a
metric means what a user sees. Shapes: B images in a batch, C channels, H x W network input.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import zip_longest
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol, TypeAlias, TypedDict

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ultralytics.cfg import Args, get_cfg, get_save_dir
from ultralytics.data.build import batches_of
from ultralytics.data.types import Batch
from ultralytics.data.utils import check_det_dataset
from ultralytics.engine.class_names import as_classes, in_another_order
from ultralytics.nn.autobackend import AutoBackend
from ultralytics.nn.backends.metadata import ExportMetadata
from ultralytics.nn.cpu.malloc import retain_freed_memory
from ultralytics.nn.tasks import BaseModel
from ultralytics.utils import LOGGER, TQDM, IterableSimpleNamespace, colorstr, dist
from ultralytics.utils.callbacks import Callback, CallbackMixin, Callbacks
from ultralytics.utils.checks import check_imgsz
from ultralytics.utils.errors import ConfigError, refuse_uncalled
from ultralytics.utils.metrics import DetMetrics
from ultralytics.utils.metrics.report import times_of
from ultralytics.utils.ops import Profile
from ultralytics.utils.torch_tools.training import EarlyStopping, ModelEMA, in_eval_mode
from ultralytics.utils.torch_utils import (
    inference_dtype,
    select_device,
    unwrap_model,
    wants_channels_last,
)
from ultralytics.utils.user_modules import load_user_modules

RawOutput: TypeAlias = "Tensor | Sequence[Any]"
"""What a network returns: a tensor, or a tensor with others beside it."""

Module: TypeAlias = "nn.Module | AutoBackend"
WeightsSource: TypeAlias = "str | Path | BaseModel | AutoBackend"


class Prediction(TypedDict, total=False):
    """What was found in one image: N boxes `bboxes` (N, 4) xyxy, `conf` (N,), `cls` (N,); or `probs` of the classes.

    Targets have the same form, without scores; `areas` (N,) and `crowd` (N,) bool where a reader knows them.
    """

    bboxes: Tensor
    conf: Tensor
    cls: Tensor
    probs: Tensor
    areas: Tensor
    crowd: Tensor


VAL_STAGES = ("preprocess", "inference", "loss", "postprocess")
VALIDATOR_NOT_CALLED: Mapping[str, str] = {
    "gather_stats": "gather",
    "check_stats": "get_stats",
    "coco_evaluate": "eval_json",
}
"""Methods of the interface that a validation has no place for, and what to replace instead."""

VAL_CONF = 0.001
SHOWN_CONF = 0.25


class TrainingContext(Protocol):
    """What a validator reads of the trainer that calls it."""

    args: Args
    data: dict[str, Any]
    device: torch.device
    epoch: int
    epochs: int
    model: nn.Module
    shared_validation: bool
    stopper: EarlyStopping

    @property
    def ema(self) -> ModelEMA | None: ...

    def label_loss_items(self, loss_items: Tensor, prefix: str) -> dict[str, float]: ...


def refuse_unsupported(args: Args) -> None:
    """Raise `ConfigError` for a precision in which networks do not run."""
    if args.quantize not in {None, 16, 32}:
        raise ConfigError(f"quantize={args.quantize}: networks run in 32 or 16 bits", "leave quantize out")


def load_backend(weights: WeightsSource, device: torch.device, args: Args) -> AutoBackend:
    """Wrap weights (a path) or a module for inference; a module that was given is left as it was."""
    if isinstance(weights, AutoBackend):  # used as it is
        if args.compile and weights.metadata is not None:
            raise ConfigError(f"compile={args.compile}: an exported file is a compiled graph", "leave compile out")
        return weights
    load_user_modules(args.modules)
    half, gpu = args.quantize == 16, device.type == "cuda"
    if half and not gpu:
        LOGGER.warning(f"quantize=16 needs a GPU; on {device.type} the network runs in fp32")
    dtype = inference_dtype(args.amp, int(args.quantize) if args.quantize else None, device)
    branch = None if args.nms is None else not args.nms
    backend = AutoBackend(weights, device, fp16=half and gpu, end2end=branch, dtype=dtype, compile=args.compile)
    if wants_channels_last(args.channels_last, device):
        backend.to(memory_format=torch.channels_last)
    if device.type == "cpu":
        retain_freed_memory()
    return backend


def build_args(args: SimpleNamespace | Mapping[str, Any] | None) -> Args:
    """Return a full argument set: a resolved one is copied, a mapping or namespace is laid over the defaults."""
    if isinstance(args, IterableSimpleNamespace):
        return get_cfg(args)
    given = vars(args) if isinstance(args, SimpleNamespace) else args
    return get_cfg(overrides=dict(given) if given else None)


class BaseValidator(CallbackMixin):
    """Evaluate a detector on a data set; a model family fills the hooks.

    Called with a trainer, it evaluates the trainer's EMA (or raw) model on the given loader and returns a plain dict of
    metrics, validation losses and fitness, rounded to 5 decimals. Called without one, it builds model and loader from
    its arguments and returns the dict of metrics. The metrics object is `metrics` then.
    """

    # Config
    args: Args
    save_dir: Path | None
    # Swappable parts
    dataloader: DataLoader[Batch] | None
    model: Module
    metrics: DetMetrics
    # Run time
    training: bool
    device: torch.device
    data: dict[str, Any]
    names: dict[int, str]
    nc: int
    stride: int
    drawing: bool  # whether this validation draws figures
    plots: dict[Path, dict[str, object]]  # figures drawn so far
    seen: int
    batch_i: int
    network_size: tuple[int, int]  # height and width of the current batch, px
    losses: list[tuple[Tensor, int]]
    speed: dict[str, float]
    times: dict[str, dict[str, float]]

    def __init__(
        self,
        dataloader: DataLoader[Batch] | None = None,
        save_dir: str | Path | None = None,
        args: SimpleNamespace | Mapping[str, Any] | None = None,
        _callbacks: Callbacks | Mapping[str, list[Callback]] | None = None,
    ) -> None:
        refuse_uncalled(type(self), VALIDATOR_NOT_CALLED)
        self.args = build_args(args)
        refuse_unsupported(self.args)
        self.shown_conf = SHOWN_CONF if self.args.conf is None else float(self.args.conf)
        self.conf = VAL_CONF if self.args.conf is None else float(self.args.conf)
        self.dataloader = dataloader
        self.save_dir = Path(save_dir) if save_dir else None
        self.callbacks = Callbacks(_callbacks)
        self.training = False
        self.speed = dict.fromkeys(VAL_STAGES, 0.0)
        self.times = {}
        self.names = {}
        self.data = {}
        self.stride = 32
        self.nc = self.seen = self.batch_i = 0
        self.network_size = (0, 0)
        self.drawing = False
        self.plots = {}
        self.losses = []

    def configure(
        self,
        save_dir: Path | None = None,
        plots: bool | None = None,
        dataloader: DataLoader[Batch] | None = None,
        data: dict[str, Any] | None = None,
        float32: bool = False,
    ) -> None:
        """Take what the run that this validator belongs to knows by now; None changes nothing.

        Args:
            save_dir: Folder of the run.
            plots: Whether to draw figures.
            dataloader: Loader of the evaluated split.
            data: Checked data-set description.
            float32: Whether the network computes in float32 from here on.
        """
        self.save_dir = self.save_dir if save_dir is None else save_dir
        self.dataloader = self.dataloader if dataloader is None else dataloader
        self.data = self.data if data is None else data
        if plots is not None:
            self.args = self.args.replace(plots=plots)
        if float32:
            self.args = self.args.replace(amp=False, quantize=None)

    # ------------------------------------------------------------------------------------------------------ hooks
    def get_dataset(self, data: str | Path | dict[str, Any]) -> dict[str, Any]:
        """Return the checked data-set description."""
        return data if isinstance(data, dict) else check_det_dataset(data, split=self.args.split)

    def build_dataset(self, img_path: str | list[str], mode: str = "val", batch: int | None = None) -> Dataset[Any]:
        """Return the data set of the evaluated split."""
        raise NotImplementedError

    def get_dataloader(self, dataset_path: str | list[str], batch_size: int) -> DataLoader[Batch]:
        """Return the loader of the evaluated split. Any `DataLoader` will do."""
        raise NotImplementedError

    def preprocess(self, batch: Batch) -> Batch:
        """Move a batch to the device and normalise its images."""
        raise NotImplementedError

    def infer(self, module: Module, im: Tensor) -> RawOutput:
        """Run the network on its input (B, C, H, W)."""
        output: RawOutput = module(im)
        return output

    def postprocess(self, preds: RawOutput) -> list[Prediction]:
        """Turn raw model output into one dict per image: bboxes (n, 4) xyxy network px, conf (n,), cls (n,)."""
        raise NotImplementedError

    def init_metrics(self, model: Module) -> None:
        """Reset the metrics before the first batch."""
        raise NotImplementedError

    def get_desc(self) -> str:
        """Return the text before the progress bar."""
        return "Validating"

    def update_metrics(self, preds: list[Prediction], batch: Batch) -> None:
        """Add one batch."""
        raise NotImplementedError

    def get_stats(self) -> dict[str, float]:
        """Compute the metrics of everything seen and return them by name."""
        raise NotImplementedError

    def print_results(self) -> None:
        """Log the table of results."""

    def plot_val_samples(self, batch: Batch, ni: int) -> None:
        """Draw the labels of one batch."""

    def plot_predictions(self, batch: Batch, preds: list[Prediction], ni: int) -> None:
        """Draw the predictions of one batch."""

    def on_plot(self, name: str | Path, data: Mapping[str, object] | None = None) -> None:
        """Note a figure that has been drawn, in `plots`."""
        self.plots[Path(name)] = {"data": data, "timestamp": time.time()}

    def eval_json(self, stats: dict[str, float]) -> dict[str, float]:
        """Return the metrics, possibly with those that another tool finds in predictions.json, which is written."""
        return stats

    def finalize_metrics(self) -> None:
        """Complete the metrics object; write tables, curves and confusion matrices."""

    @property
    def metric_keys(self) -> list[str]:
        """Names of the metrics."""
        return list(self.metrics.keys)

    def gather(self) -> None:
        """Bring together what the processes of a run have seen, each in its part of the images.

        Their k-th batches together are the k-th batch of one process, whose losses are means over its objects.
        """
        gathered = dist.all_gather_objects([(items.tolist(), n) for items, n in self.losses])
        together = []
        for parts in zip_longest(*gathered):
            counts = [n for _, n in filter(None, parts)]
            values = torch.tensor([items for items, _ in filter(None, parts)], dtype=torch.float64)
            weights = torch.tensor(counts, dtype=torch.float64) / sum(counts)
            together.append((weights @ values, sum(counts)))
        self.losses = together

    @property
    def loss(self) -> Tensor:
        """Mean of the loss items so far."""
        return self.mean_loss()

    def mean_loss(self) -> Tensor:
        """Mean of the loss items over the batches of a validation in training."""
        total = sum((items.cpu() for items, _ in self.losses), torch.zeros(()))
        return total / max(len(self.losses), 1)

    def class_filter(self, model: Module) -> AbstractContextManager[None]:
        """Make `model` predict only the classes asked for, until the block ends."""
        return nullcontext()

    # ------------------------------------------------------------------------------------------------------- run
    @torch.no_grad()
    def __call__(self, trainer: TrainingContext | None = None, model: WeightsSource | None = None) -> dict[str, float]:
        """Evaluate; see the class for what is returned.

        `model` may be a weights path, a module or a loaded backend; without it the argument `model` is used.
        """
        self.training = trainer is not None
        network = None if trainer is None else trained_network(trainer)
        module = self._setup_standalone(model) if trainer is None else self._setup_training(trainer)
        with in_eval_mode(network), self.class_filter(module):
            self._loop(module, trainer, network)
        if trainer is not None and trainer.shared_validation and dist.is_initialized():
            self.gather()
        stats = self.get_stats()
        self.print_results()
        if self.args.save_json and trainer is None:
            self.write_json()
            stats = self.eval_json(stats)
        self.finalize_metrics()
        self.run_callbacks("on_val_end")
        if trainer is not None:
            stats.update(trainer.label_loss_items(self.mean_loss(), prefix="val"))
            return {k: round(float(v), 5) for k, v in stats.items()}
        self._log_end()
        return stats

    def write_json(self) -> None:
        """Write predictions.json."""

    def _setup_training(self, trainer: TrainingContext) -> Module:
        """Take device and data from the trainer, and run its network as `val` of the saved weights will."""
        self.device, self.data = trainer.device, trainer.data
        self.model = network = trained_network(trainer)
        if isinstance(network, BaseModel):
            args = self.args.replace(amp=trainer.args.amp, compile=False)
            self.model = load_backend(network, self.device, args)
        self.drawing = bool(self.args.plots) and (trainer.stopper.possible_stop or trainer.epoch >= trainer.epochs - 1)
        self._set_names(getattr(network, "names", {}))
        return self.model

    def _setup_standalone(self, model: WeightsSource | None) -> Module:
        """Load model and data set."""
        if self.args.data is None and self.dataloader is None and not self.data:
            raise ConfigError("no data set to validate on", "pass data=my.yaml")
        self.device = select_device(self.args.device, batch=int(self.args.batch), verbose=self.args.verbose)
        if not self.data and self.args.data is not None:
            self.data = self.get_dataset(self.args.data)
        weights = self.args.model if model is None else model
        if weights is None:
            raise ConfigError("no model to validate", "pass model=weights.pt")
        self.model = self._backend(weights)
        self.stride = int(max(torch.as_tensor(self.model.stride).flatten().tolist()))
        side = max_side(check_imgsz(max_side(self.args.imgsz), stride=self.stride))
        self.args = self.args.replace(imgsz=side_taken(getattr(self.model, "metadata", None), side))
        self._set_names(self.model.names)
        if self.dataloader is None:
            self.dataloader = self.get_dataloader(self._split_path(), int(self.args.batch))
        self.drawing = bool(self.args.plots)
        return self.model

    @property
    def folder(self) -> Path:
        """The run folder, made when the first file is written."""
        folder = self.planned_folder()
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def planned_folder(self) -> Path:
        """Return the run folder, which may not exist yet."""
        if self.save_dir is None:
            self.save_dir = Path(get_save_dir(self.args))
        return self.save_dir

    def _backend(self, weights: WeightsSource) -> AutoBackend:
        """Return what runs the network; a backend that was given is used as it is."""
        return load_backend(weights, self.device, self.args)

    def _split_path(self) -> str | list[str]:
        """Return the image source of the split that is evaluated."""
        path = self.data.get(self.args.split)
        if path is None:
            have = ", ".join(k for k in ("train", "val", "test") if self.data.get(k))
            raise ConfigError(f"split={self.args.split}: the data set has no such split", f"it has: {have}")
        return path

    def _set_names(self, model_names: Mapping[int, str]) -> None:
        """Name classes as the data set does; warn when model and data set disagree about their number."""
        data_names: Mapping[int, str] = self.data.get("names", {})
        if self.args.single_cls:
            data_names = model_names = {0: "item"}
        if data_names and not self.training and len(model_names) != len(data_names):
            LOGGER.warning(
                f"the model has {len(model_names)} classes, the data set {len(data_names)}: "
                "class ids are compared as they are"
            )
        if data_names and not self.training and in_another_order(model_names, data_names):
            LOGGER.warning(
                f"the data set has the model's classes in another order ({', '.join(list(data_names.values())[:9])}): "
                "class ids are compared as they are, so the figures are wrong; correct `names` in the data YAML"
            )
        self.names = {**model_names, **data_names}
        self.nc = len(self.names)

    @property
    def classes(self) -> list[int] | None:
        """Class ids that are predicted, None for all."""
        return as_classes(self.args.classes, self.names)

    @property
    def precision(self) -> str:
        """What the network computes in, such as float32; of an exported file the precision that it was written in."""
        model = getattr(self, "model", None)
        return str(model.precision) if isinstance(model, AutoBackend) else "float32"

    def _loop(self, module: Any, trainer: TrainingContext | None, network: nn.Module | None) -> None:
        """Run every batch through the stages and time them; `network` computes the losses in training."""
        timers = [Profile(device=self.device) for _ in VAL_STAGES]
        spans: dict[str, list[float]] = {name: [] for name in VAL_STAGES}
        self.seen, self.losses = 0, []
        self.init_metrics(module)
        self.run_callbacks("on_val_start")
        loader: Any = self.dataloader
        for i, batch in enumerate(TQDM(batches_of(loader), total=len(loader), desc=self.get_desc())):
            self.batch_i = i
            self.run_callbacks("on_val_batch_start")
            with timers[0]:
                batch = self.preprocess(batch)
                self.network_size = (batch["img"].shape[2], batch["img"].shape[3])
            with timers[1]:
                raw = self.infer(module, batch["img"])
            with timers[2]:
                if network is not None:
                    self.losses.append((network(batch, raw)[1], max(len(batch["cls"]), 1)))
            with timers[3]:
                preds = self.postprocess(raw)
            for name, timer in zip(VAL_STAGES, timers, strict=True):
                spans[name].append(timer.dt / max(len(preds), 1) * 1e3)
            self.update_metrics(preds, batch)
            if self.drawing and i < 3:
                self.plot_val_samples(batch, i)
                self.plot_predictions(batch, preds, i)
            self.run_callbacks("on_val_batch_end")
        images = max(self.seen, 1)
        self.speed = {name: t.t / images * 1e3 for name, t in zip(VAL_STAGES, timers, strict=True)}
        self.times = times_of(spans)

    def _log_end(self) -> None:
        """Log the speed line and the run folder."""
        parts = ", ".join(f"{ms:.1f}ms {name}" for name, ms in self.speed.items())
        LOGGER.info(f"Speed: {parts} per image; computed in {self.precision}")
        if self.save_dir is not None and self.save_dir.exists():
            LOGGER.info(f"Results saved to {colorstr('bold', str(self.save_dir))}")


def trained_network(trainer: TrainingContext) -> nn.Module:
    """The network that a training run evaluates: the averaged one, if there is one."""
    return trainer.ema.ema if trainer.ema is not None else unwrap_model(trainer.model)


def max_side(imgsz: int | list[int] | tuple[int, ...]) -> int:
    """Return the longer side of an image size: validation is square."""
    return int(imgsz if isinstance(imgsz, (int, float)) else max(imgsz))


def side_taken(metadata: ExportMetadata | None, imgsz: int) -> int:
    """Return the side of the square images: of an exported graph of one size this, with a warning.

    Raises `ConfigError` where a file takes no square images, before any data are read.
    """
    if metadata is None or metadata.dynamic or metadata.imgsz == (imgsz, imgsz):
        return imgsz
    h, w = metadata.imgsz
    if h != w:
        remedy = "export a square one, or with dynamic=True"
        raise ConfigError(f"imgsz={imgsz}: validation is square, and the file takes {[h, w]} only", remedy)
    LOGGER.warning(f"imgsz={imgsz}: the exported file takes {h} only, which is used")
    return h


def first_tensor(preds: RawOutput) -> Tensor:
    """Return the tensor of a raw output, the first where it carries others."""
    while not isinstance(preds, Tensor):
        preds = preds[0]
    return preds
