"""TorchScript files by torch itself. Such a file is a program: run only those from sources that you trust."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ultralytics.nn.backends.base import Runner, exported_runner
from ultralytics.nn.backends.metadata import CONFIG_FILE, METADATA_KEY, parse_config, read_metadata
from ultralytics.utils.checks import check_file
from ultralytics.utils.errors import CheckpointError
from ultralytics.utils.log import LOGGER

METADATA_FILE = f"{METADATA_KEY}.json"


def torchscript_runner(weights: str | Path, device: torch.device, fp16: bool, fuse: bool) -> Runner:
    """Open a `.torchscript` file. It runs on the kind of device that it was exported on, regardless of `device`.

    Raises CheckpointError for a file that torch cannot read.
    """
    path = check_file(weights)
    extra: dict[str, Any] = {METADATA_FILE: "", CONFIG_FILE: ""}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch intends to replace the format
            module = torch.jit.load(str(path), map_location="cpu", _extra_files=extra)
    except (RuntimeError, ValueError) as e:
        raise CheckpointError(f"{path}: torch cannot read it", str(e).splitlines()[0][:300]) from None
    own, common = (
        text.decode(errors="replace") if isinstance(text, bytes) else text
        for text in (extra[name] for name in (METADATA_FILE, CONFIG_FILE))
    )
    metadata = read_metadata(own, parse_config(common), str(path), "torchscript")
    target = device if device.type == metadata.device else torch.device(metadata.device)
    if target != device:
        LOGGER.warning(f"{path.name} was exported on {metadata.device} and runs there; export it with device={device}")
    module = module.to(target).eval()

    def call(im: Tensor) -> Tensor:
        with torch.inference_mode():
            output: Tensor = module(im.to(target))
        return output.clone()  # out of inference mode, so that callers may change it

    return exported_runner(call, metadata, path.name)
