"""Checkpoints as `.safetensors`: tensors in a form that holds no code, and a model record as JSON beside them.

Needs the optional package `safetensors`. A file of this package keeps everything but the state of a run, so it can be
used and trained from, not resumed. Other files give their plain tensors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ultralytics.utils.checks import require
from ultralytics.utils.errors import CheckpointError
from ultralytics.utils.files import atomic_write

SUFFIX = ".safetensors"
_METADATA_KEY = "rtdetr-shsa"
MAX_DESCRIPTION = 8 << 20
MAX_DIGITS = 40  # of an integer in it
DROPPED = ("optimizer", "scheduler", "scaler", "rng", "stopper", "train_state", "updates", "model", "ema")


def write_safetensors(path: Path, checkpoint: Mapping[str, Any]) -> Path:
    """Write the EMA weights, else the model's, of a checkpoint dict. Raises CheckpointError when it has neither."""
    save = require("safetensors.torch", "writing .safetensors", "safetensors").save
    record = checkpoint.get("ema") or checkpoint.get("model")
    if not isinstance(record, Mapping):
        raise CheckpointError(f"{path}: there is no model to write")
    description = {
        **{k: v for k, v in checkpoint.items() if k not in DROPPED},
        "model": {k: v for k, v in record.items() if k != "state_dict"},
    }
    tensors: dict[str, Tensor] = {k: v.contiguous().clone() for k, v in record["state_dict"].items()}
    with atomic_write(path, "wb") as f:
        f.write(save(tensors, {"format": "pt", _METADATA_KEY: json.dumps(description)}))
    return path


def read_safetensors(path: Path) -> dict[str, Any]:
    """Return the checkpoint dict of a file of this package, or `{"state_dict": tensors}` of any other.

    Raises CheckpointError for a damaged file, MissingPackageError without the package.
    """
    package = require("safetensors", "reading .safetensors", "safetensors")
    try:
        with package.safe_open(str(path), framework="pt", device="cpu") as f:
            meta = f.metadata() or {}
            tensors = {key: f.get_tensor(key) for key in f.keys()}
    except (package.SafetensorError, OSError, ValueError, RuntimeError, TypeError, OverflowError) as e:
        reason = (str(e).splitlines() or [type(e).__name__])[0][:100]
        raise CheckpointError(f"the safetensors file is truncated or damaged: {reason}") from None
    description = _description(meta.get(_METADATA_KEY))
    if description is None:
        return {"state_dict": tensors}
    return {**description, "model": {**description["model"], "state_dict": tensors}}


def _short_int(digits: str) -> int:
    """An integer of a description; ValueError for one that no number of a checkpoint is."""
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"an integer of {len(digits):,} digits")
    return int(digits)


def _description(text: str | None) -> dict[str, Any] | None:
    """The JSON of a file of this package."""
    if text is None:
        return None
    if len(text) > MAX_DESCRIPTION:
        raise CheckpointError(f"its description has {len(text):,} letters; at most {MAX_DESCRIPTION:,} are read")
    try:
        description = json.loads(text, parse_int=_short_int)
    except (ValueError, RecursionError):
        raise CheckpointError("its description is not JSON") from None
    if not isinstance(description, dict) or not isinstance(description.get("model"), dict):
        raise CheckpointError("its description lacks the model")
    return description
