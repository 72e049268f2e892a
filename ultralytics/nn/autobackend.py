"""One call for inference, for every format in which a model is stored.

The suffix of a file determines the runner; a runner turns an image batch into the output of the model and holds its
metadata.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ultralytics.nn.backends.base import Runner
from ultralytics.nn.backends.compiled import CompiledRows
from ultralytics.nn.backends.coreml import coreml_runner
from ultralytics.nn.backends.onnx import onnx_runner
from ultralytics.nn.backends.openvino import FOLDER_SUFFIX, openvino_runner
from ultralytics.nn.backends.tensorrt import tensorrt_runner
from ultralytics.nn.backends.torchscript import torchscript_runner
from ultralytics.nn.cpu import optimize_for_cpu
from ultralytics.nn.cpu.finite import check_finite
from ultralytics.nn.tasks import BaseModel, load_checkpoint, pack_model, unpack_model
from ultralytics.nn.yolo import choose_branch
from ultralytics.utils.config.absent import absent_names
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.files import WEIGHTS_SUFFIXES
from ultralytics.utils.torch_tools.copying import copy_network, has_hooks, has_own_forward, share_hooks
from ultralytics.utils.torch_utils import autocast


def _torch_runner(
    weights: str | Path | BaseModel, device: torch.device, fp16: bool, fuse: bool, end2end: bool | None = None
) -> Runner:
    """A checkpoint file, or a copy of a model in memory, which itself stays as it is.

    The copy has the hooks of the model and each `forward` that was set on a module. With any it is not fused, as
    folding drops the modules that they are on.
    """
    model = _copy(weights) if isinstance(weights, BaseModel) else load_checkpoint(weights, device)[0]
    model = model.to(device).eval()
    choose_branch(model, None if end2end is None else not end2end)
    if fuse and not (has_hooks(model) or has_own_forward(model)):
        model.fuse(verbose=False)
    model.half() if fp16 else model.float()
    args = model.args if isinstance(model.args, Mapping) else vars(model.args)
    return Runner(
        forward=model,
        names=model.names,
        stride=int(model.stride.max()),
        task=model.task,
        imgsz=args.get("imgsz"),
        channels=int(model.yaml.get("channels", 3)),
        module=model,
    )


def _copy(network: BaseModel) -> BaseModel:
    """Return a copy that shares the hooks; one with attributes that cannot be copied is built from its YAML."""
    try:
        return copy_network(network, share_hooks=True)
    except (TypeError, RuntimeError, NotImplementedError):  # a lock, a generator, an open file
        built = unpack_model(pack_model(network))
        share_hooks(network, built)
        return built


Loader = Callable[..., Runner]

EXPORTED: Mapping[str, Loader] = {
    ".onnx": onnx_runner,
    ".torchscript": torchscript_runner,
    ".xml": openvino_runner,
    ".engine": tensorrt_runner,
    ".mlpackage": coreml_runner,
}
"""Runners of files that `yolo export` wrote, by suffix; a folder named *_openvino_model counts as its .xml."""

RUNNERS: Mapping[str, Loader] = {**dict.fromkeys(WEIGHTS_SUFFIXES, _torch_runner), **EXPORTED}


class AutoBackend(nn.Module):
    """Run a model from a file or from memory.

    Attributes:
        names: Class names by index.
        stride: Image sides must be multiples of it, px.
        imgsz: Size that the model was trained at, None when unknown.
        pt: Whether it is a PyTorch model; then `model` is the module.
        metadata: Metadata of an exported file, None for a PyTorch model.
        fp16: Whether images must come in half precision.
        dtype: What a PyTorch model computes in by autocast, None for its own; embeddings are always its own.

    In bfloat16 on a CPU the network's weights are kept in a second form, which follows their changes but for those
    through `.data`, NumPy or in inference mode: make a new AutoBackend after those.

    `end2end` chooses the branch of a dual YOLO network, which fusing makes final; None leaves it.

    With `compile` (True, or a mode of `torch.compile`) the network runs compiled and `forward` returns its rows alone.

    Weights that are not finite give a warning, in every precision.

    `dnn`, `data` and `channels_last` are taken for scripts of the interface; they have no effect: files know their
    classes, and ONNX files run by ONNX Runtime.

    Raises ConfigError for a file of an unknown kind or one that is to be compiled again, NotFoundError and
    CheckpointError as `load_checkpoint`.
    """

    def __init__(
        self,
        model: str | Path | BaseModel = "best.pt",
        device: torch.device | str = "cpu",
        dnn: bool = False,
        data: str | Path | None = None,
        fp16: bool = False,
        fuse: bool = True,
        verbose: bool = True,
        channels_last: bool = False,
        end2end: bool | None = None,
        *,
        dtype: torch.dtype | None = None,
        compile: bool | str = False,
    ) -> None:
        super().__init__()
        self.device = torch.device(device)
        self.fp16 = fp16 and self.device.type != "cpu"  # half precision is slower than fp32 on a CPU
        loader = _runner_for(model)
        branch = {"end2end": end2end} if loader is _torch_runner else {}
        runner = loader(model, self.device, self.fp16, fuse, **branch)
        self.fp16 &= runner.module is not None  # exported files take fp32 images and cast inside
        self.metadata = runner.metadata
        self.model = runner.module
        self._forward = CompiledRows(_compilable(self, model, compile), compile) if compile else runner.forward
        self.pt = runner.module is not None
        self.dtype = dtype if self.pt else None
        if self.model is not None:
            origin = str(self.model.pt_path or "the network")
            if self._has_second_form and not compile:
                optimize_for_cpu(self.model, origin, self.dtype or torch.float32)
            else:
                check_finite(self.model, origin)
        self.names = runner.names
        self.stride = runner.stride
        self.task = runner.task
        self.imgsz = runner.imgsz
        self.channels = runner.channels
        self.eval()

    @property
    def _has_second_form(self) -> bool:
        """Whether the network's layers may be overridden by faster ones, which a user's own `forward` excludes."""
        here = self.dtype in (None, torch.bfloat16) and self.device.type == "cpu"
        return here and self.model is not None and not has_own_forward(self.model)

    @property
    def precision(self) -> str:
        """What the network computes in, such as float32; of an exported file the precision that it was written in."""
        if self.metadata is not None:
            return self.metadata.precision
        return "float16" if self.fp16 else str(self.dtype or torch.float32).removeprefix("torch.")

    def forward(self, im: Tensor, embed: Sequence[int] | None = None, **kwargs: Any) -> Any:
        """Output of the model for an image batch (B, C, H, W) in 0..1."""
        im = im.half() if self.fp16 and im.dtype is not torch.float16 else im
        if embed is not None:
            return self._forward(im, embed=embed, **kwargs)
        if self.dtype is None:
            return self._forward(im, **kwargs)
        with autocast(True, self.device, self.dtype):
            return self._forward(im, **kwargs)

    def warmup(self, imgsz: Sequence[int] = (1, 3, 640, 640), im: Tensor | None = None) -> None:
        """Run once on `im`, else zeros of shape (B, C, H, W), so that the first call is not slow; not on a CPU."""
        if self.device.type != "cpu":
            dtype = torch.float16 if self.fp16 else torch.float32
            with torch.inference_mode():
                self(torch.zeros(*imgsz, device=self.device, dtype=dtype) if im is None else im.to(self.device, dtype))


def exported_suffix(path: str | Path) -> str | None:
    """Return the key in `EXPORTED` of a path that looks like an exported file or folder, else None."""
    name = Path(path).name.lower()
    suffix = ".xml" if name.endswith(FOLDER_SUFFIX) else Path(name).suffix
    return suffix if suffix in EXPORTED else None


def _compilable(backend: AutoBackend, weights: object, compile: bool | str) -> BaseModel:
    """Return the network to compile; an exported file has none."""
    if backend.model is None:
        raise ConfigError(f"compile={compile}: {weights} is a compiled graph already", "leave compile out")
    return backend.model


def _runner_for(weights: object) -> Loader:
    if isinstance(weights, nn.Module):
        return _torch_runner
    suffix = exported_suffix(str(weights)) or Path(str(weights)).suffix.lower()
    if suffix not in RUNNERS:
        raise ConfigError(f"cannot run '{weights}': no runner for '{suffix}' files\nknown: {', '.join(RUNNERS)}")
    return RUNNERS[suffix]


if not TYPE_CHECKING:  # a type checker shall see what is missing
    __getattr__ = absent_names(__name__)
