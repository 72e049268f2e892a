"""Export: a model in another format, compared with the model before the file gets its name.

A file is written into a hidden folder beside its target, opened by the backend that will run it later, compared, and
moved into place when it passes; on an error the target stays as it was.
"""

from __future__ import annotations

import datetime
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ultralytics import __version__
from ultralytics.cfg import Args, get_cfg
from ultralytics.cfg.resolution import drop_foreign
from ultralytics.cfg.schema import Trait, keys_with
from ultralytics.engine.export.parity import LEVELS, SLACK, TOLERANCES, ParityReport
from ultralytics.engine.export.samples import (
    ParityInputs,
    cycle_images,
    drawn_images,
    read_image,
    smaller_size,
    split_images,
)
from ultralytics.engine.export.tie_breaking import TieResolver
from ultralytics.engine.validator import SHOWN_CONF
from ultralytics.nn.autobackend import AutoBackend
from ultralytics.nn.backends.metadata import ExportMetadata
from ultralytics.nn.backends.openvino import FOLDER_SUFFIX
from ultralytics.nn.export.onnx import (
    DEFAULT_OPSET,
    MAX_TRACED_OPSET,
    quantize,
    set_batch,
    simplify,
    write_metadata,
    write_onnx,
)
from ultralytics.nn.export.prepare import export_form
from ultralytics.nn.export.suppression import SuppressedForm, Suppression
from ultralytics.nn.export.writers import write_coreml, write_engine, write_openvino, write_torchscript
from ultralytics.nn.families import PostOptions, Postprocess, find_family, letterboxes
from ultralytics.nn.modules.query_head import QueryHead
from ultralytics.nn.tasks import BaseModel
from ultralytics.utils.checks import check_imgsz, nearest, require
from ultralytics.utils.config.precision import EXPORTED_PRECISIONS, NAME_OF_BITS
from ultralytics.utils.errors import CheckpointError, ConfigError
from ultralytics.utils.files import file_sha256, file_size
from ultralytics.utils.log import LOGGER, log_level
from ultralytics.utils.tables import aligned
from ultralytics.utils.torch_utils import select_device

COMPARED_IMAGES = 8  # images of a data set on which the file and the model are compared
COMPARED_PLACES = 300  # of an image, where the rows are found after the network
CALIBRATION_IMAGES = 128  # at most; int8 ranges come from them


@dataclass(frozen=True)
class ExportFormat:
    """One target: its suffix, the packages that write and run it, the precisions it can have, and its writer."""

    suffix: str
    packages: tuple[str, ...]
    precisions: tuple[str, ...]
    write: Callable[[Export, Path], None]
    extra: str | None = "export"
    dynamic: bool = True
    runs_anywhere: bool = True  # False: needs special hardware or another operating system


class Export:
    """One export of a network.

    Args:
        network: The model; it stays as it is.
        args: Arguments of the call, all names present.
        target: Path of the file without suffix.
        source: Weights file that the network came from, if any.
        predictor: Predictor class of the family, which prepares images.
        validator: Validator class of the family, which measures AP or accuracy.
        shared: What exports have in common whose arguments differ in format and batch alone, filled by the first one:
            an ONNX graph with an open batch, which is what takes long to write.

    Raises (here or when called) ConfigError for arguments that the format cannot serve, MissingPackageError for a
    package that is not installed, DeviceError for a machine that cannot write it.
    """

    def __init__(
        self,
        network: BaseModel,
        args: Args,
        target: Path,
        source: str | None,
        predictor: type[Any],
        validator: type[Any],
        shared: dict[str, bytes] | None = None,
    ) -> None:
        self.network, self.target, self.source = network, target, source
        self.family = find_family(network)
        self.args = args = drop_foreign(args, self.family.arguments if self.family else Trait.NONE)
        self.predictor, self.validator, self.shared = predictor, validator, shared
        self.name = format_name(args.format)
        self.format = EXPORT_FORMATS[self.name]
        self.device = select_device("cpu" if args.device is None else args.device, verbose=False)
        if args.quantize not in NAME_OF_BITS:
            raise ConfigError(f"quantize={args.quantize}: exports are in 8, 16 or 32 bits")
        self.precision = NAME_OF_BITS[args.quantize]
        self._check()
        size = check_imgsz(args.imgsz, stride=self.stride, min_dim=2)
        self.size = (int(size[0]), int(size[1])) if isinstance(size, list) else (int(size), int(size))
        half = self.precision == "fp16"
        agnostic = bool(args.agnostic_nms)
        self.form: torch.nn.Module = export_form(
            network, args.max_det, args.dynamic, half, self.device, args.nms, agnostic
        )
        if self.suppresses:
            self.form = SuppressedForm(self.form, Suppression(self.conf, float(args.iou), int(args.max_det), agnostic))

    def _check(self) -> None:
        """Refuse what the format cannot do, before any work."""
        fmt, args = self.format, self.args
        for package in fmt.packages:
            require(package, f"format={self.name}", fmt.extra)
        if self.precision not in fmt.precisions:
            raise ConfigError(f"format={self.name} has no {self.precision}: {', '.join(fmt.precisions)}")
        if args.dynamic:
            self._check_dynamic()
        if self.precision == "int8" and args.data is None:
            raise ConfigError("quantize=8 needs data=, whose training images give the ranges", "such as data=demo.yaml")
        if not isinstance(args.batch, int) or args.batch < 1:
            raise ConfigError(f"batch={args.batch}: an export needs a number of images, such as batch=1")
        if args.opset is not None and self.name == "torchscript":
            raise ConfigError("opset: TorchScript has no operator sets", "leave opset out")

    @property
    def stride(self) -> int:
        """Image sides are multiples of it."""
        return int(self.network.stride.max())

    def _check_dynamic(self) -> None:
        """Refuse shapes that vary where the format, or suppression in the file, cannot have them."""
        if not self.format.dynamic:
            raise ConfigError(f"format={self.name}: dynamic=True is not possible")
        if self.suppresses:
            raise ConfigError("nms=True: suppression in the file is for one batch and size", "leave dynamic out")

    @property
    def suppresses(self) -> bool:
        """Whether the file suppresses overlapping boxes itself."""
        return bool(self.args.nms)

    @property
    def conf(self) -> float:
        """The lowest score of rows that the file suppresses itself."""
        return SHOWN_CONF if self.args.conf is None else float(self.args.conf)

    @property
    def letterbox(self) -> bool:
        """Whether images keep their aspect ratio and are padded."""
        return letterboxes(self.network, self.args.letterbox)

    @cached_property
    def metadata(self) -> ExportMetadata:
        """The metadata that are stored in the file."""
        source = Path(self.source) if self.source else None
        known = source is not None and source.is_file()
        return ExportMetadata(
            format=self.name,
            task=self.network.task,
            names=export_names(self.network),
            stride=self.stride,
            imgsz=self.size,
            batch=int(self.args.batch),
            channels=int(self.network.yaml.get("channels", 3)),
            dynamic=bool(self.args.dynamic),
            letterbox=self.letterbox,
            precision=self.precision,
            device=self.device.type,
            opset=0 if self.name == "torchscript" else self.args.opset or DEFAULT_OPSET,
            head=type(self.network.model[-1]).__name__,
            source=source.name if source else self.target.name,
            source_sha256=file_sha256(source) if source and known else "",
            version=__version__,
            date=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        )

    @cached_property
    def reference(self) -> AutoBackend:
        """The model that the file must equal: fused, fp32."""
        return AutoBackend(
            self.network, device=self.device, end2end=None if self.args.nms is None else not self.args.nms
        )

    @cached_property
    def inputs(self) -> ParityInputs:
        """Turns images into network input."""
        options: dict[str, Any] = {"task": self.network.task}
        if self.network.task == "detect":
            options |= {"letterbox": self.letterbox, "rect": False}  # a file of one size takes no rectangles
        return ParityInputs(self.predictor, self.reference, options)

    @cached_property
    def data(self) -> dict[str, Any]:
        """The data set that was given."""
        run = self.validator(args={"task": self.network.task, "split": self.args.split, "data": self.args.data})
        checked: dict[str, Any] = run.get_dataset(self.args.data)
        return checked

    @cached_property
    def example(self) -> Tensor:
        """An input (batch, C, H, W) to write the graph with."""
        image = self.inputs.tensor(drawn_images(1), self.size)
        return cycle_images(image, int(self.args.batch)).to(self.device)

    def __call__(self) -> tuple[Path, ParityReport]:
        """Write, compare, move into place; return the path and the comparison.

        Raises CheckpointError when the file differs from the model beyond the tolerance of its precision.
        """
        start = time.perf_counter()
        precision = "" if self.precision == "fp32" else f"_{self.precision}"  # beside the fp32 file, not over it
        target = self.target.with_name(f"{self.target.name}{precision}{self.format.suffix}")
        with work_folder(target) as folder:
            path = folder / target.name
            self.format.write(self, path)
            comparison = self.compare(AutoBackend(str(path), device=self.device))
            self._report(comparison)
            reasons = comparison.reasons(TOLERANCES[self.precision])
            if reasons and not self.args.allow_mismatch:
                hint = "nothing was written; allow_mismatch=True keeps such a file"
                raise CheckpointError(f"the {self.name} file differs from the model: {reasons[0]}", hint)
            for reason in reasons:
                LOGGER.warning(f"allowed: {reason}")
            move_into_place(path, target)
        spent = time.perf_counter() - start
        LOGGER.info(f"{target} written: {file_size(target):.1f} MB, {self.precision}, {spent:.0f} s")
        return target, comparison

    # --------------------------------------------------------------------------------------------------- comparing
    def compare(self, file: AutoBackend) -> ParityReport:
        """Run the file beside the model, on images of the data set or drawn ones; on the whole split for AP."""
        report = ParityReport()
        if self.args.data is None:
            images = drawn_images()
        else:
            images = [read_image(p) for p in split_images(self.data[self.args.split], COMPARED_IMAGES)]
        sizes = [self.size, smaller_size(self.size, self.stride)] if self.args.dynamic else [self.size]
        step = 2 if self.args.dynamic else self.args.batch
        if self.network.task == "classify":
            sizes = [(min(s), min(s)) for s in sizes]
        for size in sizes:
            for batch in self.inputs.tensor(images, size).to(self.device).split(step):
                self._compare(file, batch, report)
        if self.args.data is not None:
            self._compare_metrics(file, report)
        return report

    @torch.no_grad()
    def _compare(self, file: AutoBackend, images: Tensor, report: ParityReport) -> None:
        got = file(images)
        if self.network.task == "classify":
            report.add_logits(self.reference(images), got)
            return
        exact = self.precision == "fp32"
        family = self.family
        if family is not None and family.postprocess is not None:
            self._compare_places(family.postprocess, self.reference(images), got, images, report)
            return
        known = isinstance(self.network.model[-1], QueryHead) and family is not None and family.places is not None
        if not known:  # the selection of a user's head is unknown
            report.add_rows(self.reference(images)[0], got, tuple(images.shape[2:]), slack=None if exact else SLACK)
            return
        resolver = TieResolver(self.reference, self.args.max_det)
        for image, rows in zip(images.split(1), got, strict=True):
            want, swapped = resolver(image, rows, resolve=exact)
            report.add_rows(want[None], rows[None], tuple(images.shape[2:]), swapped, None if exact else SLACK)

    def _compare_places(self, rows: Postprocess, want: Any, got: Any, images: Tensor, report: ParityReport) -> None:
        """Compare the best places of a head whose rows are found afterwards, before any is suppressed.

        A place gives a row for each class, so that classes that tie in a place may change their order. The model's list
        is twice as long, so that a place at the end of the file's list is found in it.
        """
        size = (images.shape[2], images.shape[3])
        if self.suppresses:
            options = PostOptions(
                self.conf, self.args.max_det, None, float(self.args.iou), bool(self.args.agnostic_nms)
            )
            for ours, theirs in zip(rows(want, size, options), rows(got, size, options), strict=True):
                report.add_rows(ours[None], theirs[None], size, slack=SLACK)
            return
        limits = [PostOptions(LEVELS[-1] / 2, n * COMPARED_PLACES, iou=1.0, multi_label=True) for n in (2, 1)]
        lists = [rows(y, size, limit) for y, limit in zip((want, got), limits, strict=True)]
        for ours, theirs in zip(*lists, strict=True):
            report.add_rows(ours[None], theirs[None], size, slack=SLACK)

    def _compare_metrics(self, file: AutoBackend, report: ParityReport) -> None:
        if self.size[0] != self.size[1] and not self.args.dynamic:
            LOGGER.info(f"AP is not measured: validation is square, and the file takes {list(self.size)} only")
            return
        if self.suppresses:
            LOGGER.info(f"AP is not measured: the file has no boxes below conf={self.conf:g}")
            return
        report.add_metrics(self._metrics(self.reference), self._metrics(file))

    def _metrics(self, backend: AutoBackend) -> dict[str, float]:
        run = self.validator(args=self._val_args())
        run.configure(data=self.data)
        with log_level(logging.WARNING):
            metrics: dict[str, float] = run(model=backend)
        return metrics

    def _val_args(self) -> dict[str, Any]:
        kept = {k: getattr(self.args, k) for k in keys_with(Trait.EXPORT_VAL, task=self.network.task)}
        own = {"task": self.network.task, "imgsz": max(self.size), "batch": self.args.batch, "device": str(self.device)}
        own |= {"rect": False} if self.network.task == "detect" else {}  # both see the same inputs
        return {**kept, **own, "plots": False, "verbose": False}

    def _report(self, comparison: ParityReport) -> None:
        what = "drawn images" if self.args.data is None else f"images of {self.args.data}"
        LOGGER.info(f"{self.name} ({self.precision}) beside the PyTorch model, {comparison.images} {what}:")
        for line in aligned(comparison.table()):
            LOGGER.info(f"  {line}")
        if comparison.swapped:
            LOGGER.info(
                f"  {comparison.swapped} of the model's queries were exchanged for others of equal score (ties)"
            )


def export_names(network: BaseModel) -> dict[int, str]:
    """Return the class names of a network; one that has none gets class0, class1, ..."""
    names = network.names or {i: f"class{i}" for i in range(network.nc)}
    return {int(k): str(v) for k, v in names.items()}


# -------------------------------------------------------------------------------------------------- formats
def _write_onnx(job: Export, path: Path) -> None:
    _write_graph(job, path)
    if job.precision == "int8":
        plain = path.with_name(f"plain_{path.name}")
        path.rename(plain)
        files = split_images(job.data["train"], CALIBRATION_IMAGES)
        if len(files) < job.args.batch:
            raise ConfigError(
                f"batch={job.args.batch}: the ranges of int8 need as many training images, not {len(files)}"
            )
        LOGGER.info(f"int8 ranges from {len(files)} training images of {job.args.data}")
        images = job.inputs.batches(files, job.size, int(job.args.batch))
        quantize(plain, path, images, head=f"/model.{len(job.network.model) - 1}/")
    write_metadata(path, job.metadata)


def _write_graph(job: Export, path: Path) -> None:
    """Write the graph without quantisation, or reuse that of an export that differs only in its batch."""
    fixed = job.args.dynamic or job.suppresses or job.metadata.opset > MAX_TRACED_OPSET
    shared, form = None if fixed else job.shared, "fp16" if job.precision == "fp16" else "fp32"
    if shared is not None and form in shared:
        path.write_bytes(shared[form])
    else:
        write_onnx(job.form, job.example, path, job.metadata, job.stride, open_batch=shared is not None)
        if job.args.simplify:
            simplify(path)
        if shared is not None:
            shared[form] = path.read_bytes()
    if shared is not None:
        set_batch(path, int(job.args.batch))


def _write_torchscript(job: Export, path: Path) -> None:
    write_torchscript(job.form, job.example, path, job.metadata)


def _write_openvino(job: Export, path: Path) -> None:
    graph = path.with_name(f"{job.target.name}.onnx")
    _write_onnx(job, graph)
    write_openvino(graph, path, job.metadata)


def _write_engine(job: Export, path: Path) -> None:
    graph = path.with_suffix(".onnx")
    _write_onnx(job, graph)
    write_engine(graph, path, job.metadata, job.args.workspace)


def _write_coreml(job: Export, path: Path) -> None:
    write_coreml(job.form, job.example, path, job.metadata)


EXPORT_FORMATS: Mapping[str, ExportFormat] = {
    "torchscript": ExportFormat(".torchscript", (), ("fp32", "fp16"), _write_torchscript),
    "onnx": ExportFormat(".onnx", ("onnx", "onnxruntime"), EXPORTED_PRECISIONS, _write_onnx),
    "openvino": ExportFormat(FOLDER_SUFFIX, ("openvino", "onnx", "onnxruntime"), EXPORTED_PRECISIONS, _write_openvino),
    "engine": ExportFormat(
        ".engine",
        ("onnx", "onnxruntime", "tensorrt"),
        EXPORTED_PRECISIONS,
        _write_engine,
        extra=None,
        runs_anywhere=False,
    ),
    "coreml": ExportFormat(
        ".mlpackage", ("coremltools",), ("fp32", "fp16"), _write_coreml, extra=None, dynamic=False, runs_anywhere=False
    ),
}
ALIASES = {"tensorrt": "engine", "trt": "engine", "mlpackage": "coreml", "mlmodel": "coreml", "ts": "torchscript"}
WEIGHTS_FORMATS = ("state_dict", "stock", "safetensors", "hf")
"""Formats that `Model.export` writes without a graph."""
WEIGHTS_ARGS = frozenset({"modules", "task", "verbose"})
"""Arguments that are allowed with them: they determine how the model is opened and what is logged."""


def format_name(text: str) -> str:
    """Return the name of a format given by name or alias; ConfigError when there is none."""
    name = ALIASES.get(text.lower(), text.lower())
    if name not in EXPORT_FORMATS:
        known = (*EXPORT_FORMATS, *WEIGHTS_FORMATS)
        near = nearest(name, known)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(known)}"
        raise ConfigError(f"format={text}: no such format", hint)
    return name


def weights_format(text: str, given: Mapping[str, Any]) -> str | None:
    """Return the name of a format that `Model.export` writes without a graph, None for any other string.

    Raises ConfigError (UnknownArgumentError for a name that does not exist) for arguments that would change nothing.
    """
    name = str(text).lower()
    if name not in WEIGHTS_FORMATS:
        return None
    usual = get_cfg()
    asked = [f"{k}={v}" for k, v in get_cfg(overrides=given) if k not in WEIGHTS_ARGS and v != usual.get(k)]
    if asked:
        why = f"format={name} is the weights as they are, without a graph"
        raise ConfigError(f"{', '.join(asked)}: no effect, {why}", "leave it out, or choose another format")
    return name


# ----------------------------------------------------------------------------------------------- complete files or none
@contextmanager
def work_folder(target: Path) -> Iterator[Path]:
    """Give a hidden folder beside `target`, and remove it with what is left in it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def move_into_place(path: Path, target: Path) -> None:
    """Give a finished file or folder its name; a previous one of that name is replaced."""
    if target.is_dir():  # a folder cannot be replaced atomically
        os.replace(target, path.with_name(f"old_{target.name}"))
    os.replace(path, target)
