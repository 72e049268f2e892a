"""ONNX files by ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from ultralytics.nn.backends.base import Runner, exported_runner
from ultralytics.nn.backends.metadata import METADATA_KEY, read_metadata
from ultralytics.utils.checks import check_file, require
from ultralytics.utils.errors import CheckpointError
from ultralytics.utils.log import LOGGER

_ERRORS = (
    "Fail",
    "InvalidArgument",
    "InvalidGraph",
    "InvalidProtobuf",
    "NoModel",
    "NotImplemented",
    "RuntimeException",
)


def onnx_runner(weights: str | Path, device: torch.device, fp16: bool, fuse: bool) -> Runner:
    """Open an `.onnx` file; it runs in as many threads as torch does.

    Raises MissingPackageError without ONNX Runtime, CheckpointError for a file that it cannot read.
    """
    path = check_file(weights)
    ort = require("onnxruntime", f"running {path.name}", "export")
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(str(path), options, providers=_providers(ort, device, path))
    except runtime_errors() as e:
        raise CheckpointError(f"{path}: ONNX Runtime cannot read it", str(e).splitlines()[0][:300]) from None
    stored = session.get_modelmeta().custom_metadata_map
    metadata = read_metadata(stored.get(METADATA_KEY), stored, str(path), "onnx")
    name = session.get_inputs()[0].name

    def call(im: Tensor) -> Tensor:
        output = session.run(None, {name: np.ascontiguousarray(im.cpu().numpy())})[0]
        return torch.from_numpy(output)

    return exported_runner(call, metadata, path.name)


def runtime_errors() -> tuple[type[Exception], ...]:
    """Return the errors of ONNX Runtime, which have no common class of their own, and those of a bad path or text."""
    state = require("onnxruntime.capi.onnxruntime_pybind11_state", "running .onnx files", "export")
    own = tuple(getattr(state, name) for name in _ERRORS if hasattr(state, name))
    return (*own, RuntimeError, ValueError)


def _providers(ort: ModuleType, device: torch.device, path: Path) -> list[str | tuple[str, dict[str, int]]]:
    """Return the execution providers in order of preference, that of a GPU with its number."""
    if device.type == "cuda":
        if "CUDAExecutionProvider" in ort.get_available_providers():
            return [("CUDAExecutionProvider", {"device_id": device.index or 0}), "CPUExecutionProvider"]
        LOGGER.warning(f"{path.name} runs on the CPU: this ONNX Runtime has no CUDA (pip install onnxruntime-gpu)")
    return ["CPUExecutionProvider"]
