"""The object that users hold: one model, and everything that can be done with it.

The family of the network's head names the four classes (network, trainer, validator, predictor, see `task_map`); this
class only passes arguments between them. Precedence of arguments: defaults, those stored in the weights file, those of
the call.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from ultralytics.cfg import Args, get_save_dir
from ultralytics.cfg.resolution import refuse_views, resolve, user_values
from ultralytics.cfg.schema import MODES, Trait, keys_with
from ultralytics.engine.export.benchmark import Benchmark, Figures, check_saved, form_arguments, runnable_formats
from ultralytics.engine.export.exporter import Export, weights_format
from ultralytics.engine.export.hub_push import push_model
from ultralytics.engine.export.parity import ParityReport
from ultralytics.engine.export.weights_forms import export_weights
from ultralytics.engine.handover.writer import pack_model_files
from ultralytics.engine.origin import NewWeights, naming_stored_data, stored_precision
from ultralytics.engine.published import locate_weights, weights_path
from ultralytics.engine.results.result_list import ResultList
from ultralytics.engine.results.results import Results
from ultralytics.engine.tracking.mode import TrackMode, start_stream
from ultralytics.engine.tracking.tracks import Tracks
from ultralytics.engine.training.optimizer import report_unfrozen
from ultralytics.nn.autobackend import EXPORTED, AutoBackend, exported_suffix
from ultralytics.nn.build.spec import find_model_yaml
from ultralytics.nn.build.user_blocks import pack_user_modules
from ultralytics.nn.checkpoint.describe import describe_file
from ultralytics.nn.checkpoint.format import pack_model, save_checkpoint
from ultralytics.nn.families import FAMILIES, Family
from ultralytics.nn.tasks import BaseModel, check_rebuilds, family_of_yaml, load_checkpoint
from ultralytics.utils.callbacks import Callback, CallbackMixin, Callbacks
from ultralytics.utils.checks import check_file, check_imgsz
from ultralytics.utils.config.absent import absence
from ultralytics.utils.dist import ProcessLock
from ultralytics.utils.errors import ConfigError, ConfigTypeError
from ultralytics.utils.files import WEIGHTS_SUFFIXES, has_yaml_suffix
from ultralytics.utils.log import LOGGER
from ultralytics.utils.metrics import DetMetrics
from ultralytics.utils.torch_utils import select_device
from ultralytics.utils.user_modules import Files, load_user_modules


class Model(TrackMode):
    """A model built from a YAML (file, name or dict), loaded from a weights file, or taken from another `Model`.

    Unknown attributes are looked up on the network, so `model.parameters()` and `model.state_dict()` work. Several
    threads may predict with one; a copy or a pickle starts without the predictor.

    Args:
        model: `.yaml`/`.yml` file or name, YAML dict, `.pt` file, a pack, a file that `export` wrote (for predict and
            val), or another `Model` (both then share one state).
        task: must be a task of `task_map`; by default the only one there is.
        verbose: log the layer table when a YAML is built.
        scale: letter of the compound scale of a model YAML.
        modules: Python file, or list of files, with registered blocks of your own; they are run.
    """

    default_family: ClassVar[str] = "rtdetr"
    """Family of a head that no family owns."""
    family_name: str
    task: str
    cfg: str | dict[str, Any] | None
    overrides: dict[str, Any]
    callbacks: Callbacks
    model: Any
    predictor: Any
    trainer: Any
    ckpt: dict[str, Any] | None
    ckpt_path: str | None
    metrics: DetMetrics | Any
    model_name: str
    user_files: list[str]

    def __init__(
        self,
        model: str | Path | dict[str, Any] | Model,
        task: str | None = None,
        verbose: bool = False,
        scale: str | None = None,
        modules: Files | None = None,
    ) -> None:
        if isinstance(model, Model):
            self.__dict__ = model.__dict__
            return
        self._lock = ProcessLock()
        self._new_weights = NewWeights()
        self.user_files = [str(path) for path in load_user_modules(modules)]
        self.callbacks = Callbacks()
        self.predictor = self.trainer = self.ckpt = self.ckpt_path = self.cfg = self.metrics = None
        self.family_name = self.default_family
        self.task = task or next(iter(self.task_map))
        self._class("model")
        if not isinstance(model, (str, Path, dict)):
            raise ConfigTypeError(
                f"model is a {type(model).__name__}: give the path of a YAML or weights file, a YAML dict, or "
                f"another {type(self).__name__}; load() takes weights from a network"
            )
        if isinstance(model, dict) or has_yaml_suffix(model):
            self._new(model if isinstance(model, dict) else str(model).strip(), verbose, scale)
        else:
            self._load(str(model).strip(), scale)

    # ------------------------------------------------------------------------------------------------ construction
    def _new(self, cfg: str | dict[str, Any], verbose: bool, scale: str | None) -> None:
        """Build a network from a YAML."""
        self.cfg = cfg
        if not isinstance(cfg, dict):  # a name with a scale letter stays as it is: the letter chooses the scale
            found = find_model_yaml(cfg)
            self.cfg = str(found) if found.name == Path(cfg).name else cfg
        self._take_family(family_of_yaml(self.cfg, scale))
        self.model = self._class("model")(copy.deepcopy(self.cfg), verbose=verbose, scale=scale)
        self.model_name = "model" if isinstance(cfg, dict) else Path(cfg).stem
        self._new_weights.note(self.model)
        self.overrides = {"task": self.task, "model": None if isinstance(cfg, dict) else cfg}
        if scale is not None:
            self.overrides["model_scale"] = scale

    def _load(self, weights: str, scale: str | None = None) -> None:
        """Load a weights file; the network is fp32, in eval mode, with EMA weights where the file has them."""
        weights = locate_weights(weights)
        if scale is not None:
            raise ConfigError(f"scale={scale}: {weights} has its scale already", "give a YAML, or leave scale out")
        if exported_suffix(weights) is not None:
            self._open_exported(weights)
            return
        if Path(weights).suffix.lower() not in WEIGHTS_SUFFIXES:
            known = f"a model YAML (.yaml, .yml) nor weights ({', '.join((*WEIGHTS_SUFFIXES, *EXPORTED))})"
            raise ConfigError(f"model={weights}: neither {known}")
        path = str(check_file(weights))
        self.model, self.ckpt = load_checkpoint(path)
        self._check_task(path)
        self._take_family(FAMILIES.of_head(type(self.model.model[-1])))
        self.ckpt_path, self.model_name = path, Path(path).stem
        stored = self.ckpt.get("train_args") or {}
        self.overrides = {k: stored[k] for k in keys_with(Trait.WEIGHTS) if stored.get(k) is not None}
        self.overrides.update(task=self.task, model=path)

    def _open_exported(self, path: str, device: Any = "cpu") -> None:
        """Open a file that `export` wrote; it takes the image size that it was written for."""
        self.model = AutoBackend(path, device=device)
        self._check_task(path)
        metadata = self.model.metadata
        self._take_family(FAMILIES.of_head_name(metadata.head))
        self.model_name = Path(path).stem
        self.overrides = {"task": self.task, "model": path, "imgsz": list(metadata.imgsz)}
        if metadata.imgsz[0] == metadata.imgsz[1]:
            self.overrides["imgsz"] = metadata.imgsz[0]
        if self.task == "detect":
            self.overrides["letterbox"] = metadata.letterbox

    def _check_task(self, path: str) -> None:
        if self.model.task != self.task:
            hint = f"on the command line: yolo {self.model.task} ... model={path}"
            raise ConfigError(f"{path}: holds a model of task {self.model.task}, not {self.task}", hint)

    def _take_family(self, family: Family | None) -> None:
        """Use the classes of the family of a head; a head without one, or of another task, has the default family."""
        known = family is not None and family.task == self.task
        self.family_name = family.name if family is not None and known else self.default_family

    def _need_network(self, what: str) -> None:
        """Raise ConfigTypeError for an exported file, which is a fixed graph."""
        if not isinstance(self.model, BaseModel):
            raise ConfigTypeError(
                f"{self.overrides['model']} is an exported file: it cannot {what}", "use the weights (.pt)"
            )

    def _runnable(self, args: Mapping[str, Any] | Args) -> Any:
        """The network, or the exported file opened on the device of the call."""
        if not isinstance(self.model, AutoBackend):
            return self.model
        device = select_device("" if args.get("device") is None else args.get("device"), verbose=False)
        if device != self.model.device:
            self._open_exported(str(self.overrides["model"]), device)
        return self.model

    @property
    def task_map(self) -> dict[str, dict[str, type[Any]]]:
        """Classes by task: {task: {"model", "trainer", "validator", "predictor"}}."""
        raise NotImplementedError

    def family_classes(self) -> dict[str, dict[str, type[Any]]]:
        """Return the `task_map` of the family of the network's head."""
        family = FAMILIES.named(self.family_name)
        return {family.task: {"model": family.network, **family.classes()}}

    def _class(self, role: str, given: type[Any] | None = None) -> type[Any]:
        """Return the class that plays `role`, as given or of the task; an error names class, mode and task."""
        found = given or self.task_map.get(self.task, {}).get(role)
        if found is None:
            raise NotImplementedError(f"{type(self).__name__} has no '{role}' for task '{self.task}'")
        if isinstance(found, CallbackMixin):
            raise ConfigTypeError(f"{role}= takes the class {type(found).__name__}, not an object of it")
        return found

    def _args(self, mode: str, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the overrides of one call; its `modules` are loaded, and kept for later calls."""
        self._check_task_argument(kwargs.get("task"))
        for path in load_user_modules(kwargs.get("modules")):
            if str(path) not in self.user_files:
                self.user_files.append(str(path))
        self._new_weights.warn(self.model, self.model_name, mode)
        call = {"mode": mode, "task": self.task, **({"modules": list(self.user_files)} if self.user_files else {})}
        return {**stored_precision(self.ckpt, mode), **self.overrides, **kwargs, **call}

    def _check_task_argument(self, task: str | None) -> None:
        """Raise ConfigError for another task than the model's; a mode in its place has no effect."""
        if task in MODES:
            LOGGER.warning(f"task={task} is a mode, not a task, and is ignored")
        elif task not in {None, self.task}:
            raise ConfigError(f"task={task}: this is a model of task {self.task}", "leave task out")

    # ----------------------------------------------------------------------------------------------------- actions
    def __call__(self, source: Any = None, stream: bool = False, **kwargs: Any) -> list[Results] | Iterator[Results]:
        """Same as `predict`."""
        return self.predict(source, stream, **kwargs)

    def predict(
        self, source: Any = None, stream: bool = False, predictor: type[Any] | None = None, **kwargs: Any
    ) -> list[Results] | Iterator[Results]:
        """Detect objects in any source: path, folder, glob, list, URL, video, webcam number, array, PIL, tensor.

        Returns a list of `Results`, or with `stream=True` a generator that holds one batch at a time. Defaults: conf
        0.25, batch 1, nothing saved.
        """
        args = self._args("predict", {"batch": 1, "save": False, **kwargs})
        args.pop("data", None)
        found = self._start(self._class("predictor", predictor), args, source)
        return found if stream else ResultList(found)

    def embed(self, source: Any = None, stream: bool = False, **kwargs: Any) -> list[Any] | Iterator[Any]:
        """Return a feature vector per image: pooled outputs of the layers in `embed` (default: the last but one)."""
        self._need_network("embed")
        return self.predict(source, stream, **{**kwargs, "embed": kwargs.get("embed") or [len(self.model.model) - 2]})

    def _start(
        self, cls: type[Any], args: Mapping[str, Any], source: object, tracks: Tracks | None = None
    ) -> Iterator[Results]:
        """Open the source for a pass with these arguments, which other threads' calls do not change."""
        resolved = resolve(overrides=args)
        with self._lock:
            run = self.predictor
            if not isinstance(run, cls) or not self._is_current(run, resolved):
                run = self.predictor = (type(run) if isinstance(run, cls) else cls)(overrides=user_values(resolved))
            with run.lock:
                if run.model is None:  # also one that the user has put here
                    run.setup_model(self._runnable(resolved))
                run.update_args(resolved, reset=True)
                run.follow(self.callbacks)
                return start_stream(run, source, tracks)

    def _is_current(self, kept: Any, args: Args) -> bool:
        """Whether a predictor, which holds a copy of the network, would be made the same again."""
        changed = any(args.get(k) != kept.args.get(k) for k in keys_with(Trait.REBUILD))
        return not changed and bool(kept.holds(self.model))

    def val(self, validator: type[Any] | None = None, **kwargs: Any) -> DetMetrics:
        """Evaluate on a data set (`data=`, else the one that the weights were trained on); return the metrics."""
        args = self._args("val", kwargs)
        run = self._class("validator", validator)(args=args, _callbacks=self.callbacks)
        with naming_stored_data(self.overrides.get("data"), kwargs, self.ckpt_path):
            run(model=self._runnable(args))
        self.metrics = run.metrics
        return run.metrics

    def train(self, trainer: type[Any] | None = None, **kwargs: Any) -> Any:
        """Train; afterwards this object holds the best weights. Returns the metrics of the final validation.

        `pretrained=False` starts from fresh weights even when some were loaded. `resume=True` continues from this
        object's weights file, `resume="last.pt"` from that file.
        """
        self._need_network("train")
        cls = self._class("trainer", trainer)
        args = self._args("train", kwargs)
        if args.get("resume") is True and self.ckpt_path:
            args["resume"] = self.ckpt_path
        with naming_stored_data(self.overrides.get("data"), kwargs, self.ckpt_path):
            run = self.trainer = cls(overrides=args, _callbacks=self.callbacks)
        if not args.get("resume"):
            keep = self.ckpt is not None and args.get("pretrained", True) is not False
            network = run.get_model(cfg=self.model.yaml, weights=self.model if keep else None, verbose=False)
            if not args.get("freeze"):
                report_unfrozen(self.model, network)
            run.start_from(network, trained=keep)
        self.metrics = run.train()
        self._take_trained(run)
        return self.metrics

    def _take_trained(self, run: Any) -> None:
        """Hold the run's best weights (the last ones when there are no best ones)."""
        self.predictor = None
        best = next((p for p in (run.best, run.last) if p and Path(p).exists()), None)
        if best is not None:
            self._load(str(best))

    def fuse(self, verbose: bool = True, imgsz: int | Sequence[int] = 640) -> Model:
        """Fold every BatchNorm and re-parameterisable branch into plain convolutions, in place."""
        self._need_network("be fused")
        self.predictor = None
        self.model.fuse(verbose=verbose, imgsz=imgsz)
        return self

    def info(
        self, detailed: bool = False, verbose: bool = True, imgsz: int | Sequence[int] = 640
    ) -> tuple[int, int, int, float] | None:
        """Log a summary, with `detailed` the layer table; return (layers, parameters, gradients, GFLOPs).

        `imgsz` is in px; for a detector it is rounded up to a multiple of the stride, with a warning.
        """
        self._need_network("count its layers")
        summary: tuple[int, int, int, float] | None = self.model.info(detailed=detailed, verbose=verbose, imgsz=imgsz)
        return summary

    @staticmethod
    def contents(weights: str | Path) -> list[str]:
        """Lines about what is inside a weights file; the model is not built."""
        return describe_file(weights_path(str(weights)))

    def export(self, format: str = "torchscript", **kwargs: Any) -> str:
        """Write the model in another form beside its weights file (else in the working folder); return the path.

        The file is run beside the model, the differences are logged, and a file beyond the tolerance is an error, after
        which nothing was written (`allow_mismatch=True` keeps it); with `data` AP is compared too. `batch` is 1 and the
        device the CPU unless given. `state_dict` writes plain tensors and a YAML for stock `ultralytics`, and logs the
        lines that load them, `stock` a pickled checkpoint that it opens, `safetensors` that form, `hf` a folder that
        `transformers` opens; none takes arguments.
        """
        self._need_network("be exported")
        stem = Path(self.ckpt_path).with_suffix("") if self.ckpt_path else Path(self.model_name)
        if plain := weights_format(format, {"task": self.task, **kwargs}):
            return str(export_weights(self, plain, stem))
        return str(self._export_graph(stem, {**kwargs, "format": format})[0])

    def _export_graph(
        self, stem: Path, given: Mapping[str, Any], shared: dict[str, bytes] | None = None
    ) -> tuple[Path, ParityReport]:
        """Write a graph and compare it with the model; the data set of the training is not taken unasked."""
        refuse_views(given, "export", "leave it out, and give it to predict or val of the exported file")
        args = self._args("predict", {"batch": 1, "data": None, **given})
        parts = self._class("predictor"), self._class("validator")
        job = Export(self.model, resolve(overrides=args), stem, self.ckpt_path, *parts, shared)
        self.callbacks.run("on_export_start", job)
        written = job()
        self.callbacks.run("on_export_end", job)
        return written

    def benchmark(self, data: Any = None, format: str = "", **kwargs: Any) -> list[Figures]:
        """Measure size, accuracy (with `data`), latency, throughput at batch 1 and 8, and peak memory of each form.

        `format` names forms, such as `onnx,onnx-int8`; all that this machine can write and run unless given. Logs a
        table and the best form, writes benchmark.csv, .json and .png into runs/<task>/benchmark; returns the figures.
        """
        self._need_network("be benchmarked")
        refuse_views(kwargs, "benchmark", "leave it out")
        weights = check_saved(self.ckpt_path)
        args = resolve(overrides=self._args("predict", {"name": "benchmark", "batch": 1, **kwargs}))
        chosen = {k: v for k, v in user_values(args).items() if k not in {"mode", "task", "model", "name"}}
        size = check_imgsz(args.imgsz, stride=int(self.model.stride.max()), min_dim=2)
        shared: dict[str, bytes] = {}

        def write(name: str, batch: int, folder: Path) -> tuple[Path, ParityReport]:
            asked = {**chosen, **form_arguments(name), "batch": batch, "data": data if batch == 1 else None}
            return self._export_graph(folder / weights.stem, asked, shared)

        device = select_device("cpu" if args.device is None else args.device, verbose=False)
        run = Benchmark(
            weights, write, size if isinstance(size, list) else [size] * 2, int(self.model.yaml.get("channels", 3)),
            Path(get_save_dir(args)), device=str(device), modules=self.user_files,
        )  # fmt: skip
        return run(runnable_formats(format, data is not None))

    def push(self, repo: str, private: bool = True, message: str = "Upload model") -> str:
        """Upload the folder of `format=hf` to `owner/name` on the hub, and return its address (extra `hub`)."""
        self._need_network("be uploaded")
        return push_model(self, repo, private, message, Path(self.ckpt_path or self.model_name).stem)

    pack = pack_model_files

    def load(self, weights: str | Path | Mapping[str, Any] | nn.Module | Model) -> Model:
        """Copy every tensor that fits from a file, checkpoint dict, network or other `Model`; log what did not."""
        self._need_network("take weights")
        source = weights.model if isinstance(weights, Model) else weights
        self.model.load(str(weights_path(str(source))) if isinstance(source, (str, Path)) else source)
        self.predictor = None
        self.ckpt = self.ckpt or {}
        return self

    def save(self, filename: str | Path = "saved_model.pt") -> Path:
        """Write the model as it is now; arguments and metrics of the file it came from are kept. Returns the path."""
        self._need_network("be saved as weights")
        check_rebuilds(self.model)
        kept = {k: v for k, v in (self.ckpt or {}).items() if k in {"train_args", "train_metrics", "train_results"}}
        record = {"model": pack_model(self.model), "modules": pack_user_modules(self.model)}
        return Path(save_checkpoint(filename, {**kept, **record}))

    def reset_weights(self) -> Model:
        """Start again from the initial weights that a newly built network of this YAML has."""
        self._need_network("be reset")
        fresh = self._class("model")(copy.deepcopy(self.model.yaml), verbose=False)
        if self.model.is_fused():
            raise ConfigError("a fused model cannot be reset", "build it again from its YAML")
        self.model.load_state_dict(fresh.state_dict())
        self.ckpt = self.predictor = None
        return self

    # --------------------------------------------------------------------------------------------------- callbacks
    def add_callback(self, event: str, func: Callback) -> None:
        """Call `func(owner)` whenever `event` happens in training, validation or prediction."""
        self.callbacks.add(event, func)

    def clear_callback(self, event: str) -> None:
        """Remove all functions of an event."""
        self.callbacks.clear(event)

    def reset_callbacks(self) -> None:
        """Remove the functions of all events."""
        self.callbacks.clear()

    # ------------------------------------------------------------------------------------------------ device, state
    @property
    def names(self) -> dict[int, str]:
        """Class names by id."""
        return dict(self.model.names)

    @property
    def transforms(self) -> Any:
        """Image transforms that belong to the network; None for detectors, whose predictor resizes."""
        return getattr(self.model, "transforms", None)

    @property
    def device(self) -> torch.device:
        """Where the parameters are; of an exported file, where it runs."""
        device: torch.device = (
            self.model.device if isinstance(self.model, AutoBackend) else next(self.model.parameters()).device
        )
        return device

    def to(self, *args: Any, **kwargs: Any) -> Model:
        """Move or cast the network as `nn.Module.to` does; later calls use the same device."""
        self._need_network("be moved or cast")
        self.model.to(*args, **kwargs)
        self.overrides["device"] = str(self.device)
        self.predictor = None
        return self

    def cpu(self) -> Model:
        """Move the network to the CPU."""
        return self.to("cpu")

    def cuda(self, device: int | str | None = None) -> Model:
        """Move the network to a CUDA device."""
        return self.to(torch.device("cuda", device) if isinstance(device, int) else device or "cuda")

    def half(self) -> Model:
        """Cast the network to fp16."""
        return self.to(torch.float16)

    def float(self) -> Model:
        """Cast the network to fp32."""
        return self.to(torch.float32)

    def eval(self) -> Model:
        """Put the network in evaluation mode."""
        self.model.eval()
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.ckpt_path or self.model_name}, {len(self.names)} classes)"

    def __getstate__(self) -> dict[str, Any]:
        """All but the predictor, which holds open files and locks, and the lock."""
        return {k: v for k, v in self.__dict__.items() if k not in {"predictor", "_lock", "_tracks"}}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state, predictor=None, _lock=ProcessLock())

    def __getattr__(self, name: str) -> Any:
        """Look unknown attributes up on the network."""
        model = self.__dict__.get("model")
        if why := absence(name):
            raise AttributeError(f"{type(self).__name__}.{name}: {why}")
        if model is None or name.startswith("__"):
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
        return getattr(model, name)
