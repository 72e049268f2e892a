"""Core ML packages, which run on macOS only. Written from coremltools' interface; not run by this project yet."""

from __future__ import annotations

import platform
from pathlib import Path

import torch
from torch import Tensor

from ultralytics.nn.backends.base import Runner, exported_runner
from ultralytics.nn.backends.metadata import METADATA_KEY, ExportMetadata
from ultralytics.utils.checks import require
from ultralytics.utils.errors import DeviceError, NotFoundError


def coreml_runner(weights: str | Path, device: torch.device, fp16: bool, fuse: bool) -> Runner:
    """Open an `.mlpackage` folder. Raises MissingPackageError without coremltools, DeviceError off macOS."""
    path = Path(weights)
    if not path.is_dir():
        raise NotFoundError(f"{path}: no such Core ML package")
    if platform.system() != "Darwin":
        raise DeviceError(f"{path.name}: Core ML runs on macOS only, this is {platform.system()}")
    ct = require("coremltools", f"running {path.name}")
    model = ct.models.MLModel(str(path))
    metadata = ExportMetadata.from_json(model.user_defined_metadata.get(METADATA_KEY), str(path))
    source = model.get_spec().description.input[0].name
    sink = model.get_spec().description.output[0].name

    def call(im: Tensor) -> Tensor:
        return torch.from_numpy(model.predict({source: im.cpu().numpy()})[sink])

    return exported_runner(call, metadata, path.name)
