"""OpenVINO models (`<name>_openvino_model/<name>.xml` and `.bin`) by OpenVINO."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ultralytics.nn.backends.base import Runner, exported_runner
from ultralytics.nn.backends.metadata import MAX_METADATA_CHARS, METADATA_KEY, METADATA_YAML, read_metadata
from ultralytics.utils.checks import check_file, require
from ultralytics.utils.config.yaml_io import YAML
from ultralytics.utils.errors import CheckpointError, NotFoundError

FOLDER_SUFFIX = "_openvino_model"


def openvino_runner(weights: str | Path, device: torch.device, fp16: bool, fuse: bool) -> Runner:
    """Open a folder, or the `.xml` in it; it runs on the CPU, in as many threads as torch does.

    Raises MissingPackageError without OpenVINO, NotFoundError for a folder without a model, CheckpointError for a file
    that OpenVINO cannot read.
    """
    path = xml_file(Path(weights))
    ov = require("openvino", f"running {path.name}", "export")
    settings = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    try:
        core = ov.Core()
        model = core.read_model(str(path))
        text = str(model.get_rt_info([METADATA_KEY]).value) if model.has_rt_info([METADATA_KEY]) else None
        metadata = read_metadata(text, None if text else _values_beside(path), str(path), "openvino")
        compiled = core.compile_model(model, "CPU", settings)
    except RuntimeError as e:
        if isinstance(e, CheckpointError):
            raise
        raise CheckpointError(f"{path}: OpenVINO cannot read it", str(e).strip().splitlines()[-1][:300]) from None

    def call(im: Tensor) -> Tensor:
        return torch.from_numpy(np.array(compiled(np.ascontiguousarray(im.cpu().numpy()))[0]))

    return exported_runner(call, metadata, path.name)


def _values_beside(path: Path) -> object:
    """Return what the interface writes beside a model; None where there is nothing."""
    file = path.with_name(METADATA_YAML)
    if not file.is_file() or file.stat().st_size > MAX_METADATA_CHARS:
        return None
    return YAML.load(file)


def xml_file(path: Path) -> Path:
    """Return the `.xml` of a model folder, or the file itself."""
    if not path.is_dir():
        return check_file(path)
    files = sorted(path.glob("*.xml"))
    if len(files) != 1:
        raise NotFoundError(f"{path}: {len(files)} .xml files in it; an OpenVINO model has one")
    return files[0]
