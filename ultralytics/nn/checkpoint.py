"""Checkpoint files: a dict of tensors and plain values, read with `weights_only=True`, written whole or not at all.

Keys: `format`, `format_version`, `epoch`, `best_fitness`, `model` and `ema` (model records or None), `updates`,
`optimizer`, `scheduler`, `scaler`, `rng`, `stopper`, `train_state`, `train_args`, `train_metrics`, `train_results`,
`date`, `version`, `license`, `docs`, `modules`. A model record (see `pack_model`) holds `class`, `yaml`, `nc`, `ch`,
`names`, `bn_eps`, `stride`, `args`, `fused` and an fp32 `state_dict`; `tasks.unpack_model` builds the model from it.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ultralytics import __version__
from ultralytics.utils.errors import CheckpointError, NotFoundError
from ultralytics.utils.files import atomic_write

FORMAT = "rtdetr-shsa"
FORMAT_VERSION = 1
TEMPLATE: Mapping[str, Any] = {
    "epoch": -1,
    "best_fitness": None,
    "model": None,
    "ema": None,
    "updates": None,
    "optimizer": None,
    "scheduler": None,
    "scaler": None,
    "rng": None,
    "stopper": None,
    "train_state": None,
    "train_args": {},
    "train_metrics": {},
    "train_results": {},
    "modules": [],
}
PLAIN = (bool, int, float, str, bytes, type(None))


def pack_model(model: nn.Module) -> dict[str, Any]:
    """Return the record of a detection model: what is needed to build it again, and its fp32 tensors."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    args = getattr(model, "args", None) or {}
    state = {k: v.detach().float() if v.is_floating_point() else v.detach() for k, v in model.state_dict().items()}
    return {
        "class": type(model).__name__,
        "yaml": plain(getattr(model, "yaml", {})),
        "nc": int(model.nc),  # type: ignore[arg-type]
        "ch": int(model.yaml.get("channels", 3)),  # type: ignore[union-attr, operator]
        "names": {int(k): str(v) for k, v in dict(model.names).items()},  # type: ignore[arg-type]
        "bn_eps": norms[0].eps if norms else None,
        "stride": [float(s) for s in model.stride],  # type: ignore[union-attr]
        "args": plain(args if isinstance(args, Mapping) else vars(args)),
        "fused": bool(getattr(model, "is_fused", lambda: False)()),
        "state_dict": {k: v.cpu().contiguous() for k, v in state.items()},
    }


def plain(value: Any) -> Any:
    """Copy a value into tensors, plain values, dicts and lists; paths and other objects become text."""
    if isinstance(value, Mapping):
        return {k if isinstance(k, int) else str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    if isinstance(value, Tensor) or type(value) in PLAIN:
        return value
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:  # numpy scalars
        return value.item()
    return str(value)


def save_checkpoint(path: str | Path, checkpoint: Mapping[str, Any]) -> Path:
    """Write a checkpoint; missing keys get their defaults. Raises CheckpointError for a value that is not plain."""
    full = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        **TEMPLATE,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "version": __version__,
        "license": "AGPL-3.0-or-later",
        "docs": "https://www.gnu.org/licenses/agpl-3.0.html",
        **checkpoint,
    }
    _check_plain(full, "checkpoint")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, "wb") as f:
        torch.save(full, f)
    return path


def _check_plain(value: Any, where: str) -> None:
    """Demand what `weights_only` loading accepts, so that a bad value is found when it is written."""
    if isinstance(value, Mapping):
        for k, v in value.items():
            if not isinstance(k, (str, int, float, bool, type(None))):
                raise CheckpointError(f"{where} has a key of type {type(k).__name__}; keys must be texts or numbers")
            _check_plain(v, f"{where}[{k!r}]")
    elif isinstance(value, (list, tuple)):
        for i, v in enumerate(value):
            _check_plain(v, f"{where}[{i}]")
    elif not (isinstance(value, Tensor) or type(value) in PLAIN):
        raise CheckpointError(f"{where} is a {type(value).__name__}; a checkpoint holds tensors and plain values only")


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint, or a plain state dict, onto the CPU. Nothing in the file is executed.

    Raises NotFoundError, or CheckpointError for a file that is cut short, foreign, or of a newer format.
    """
    path = Path(path)
    if not path.is_file():
        raise NotFoundError(f"weights file '{path}' does not exist\ngive the path of a .pt file, or train first")
    data = _load(path)
    if not isinstance(data, dict):
        raise CheckpointError(f"{path}: holds a {type(data).__name__}, not a checkpoint")
    if data.get("format") != FORMAT:
        if data and all(isinstance(v, Tensor) for v in data.values()):
            return {"state_dict": data}
        keys = ", ".join(map(str, list(data)[:8]))
        raise CheckpointError(f"{path}: not a checkpoint of this package (no key 'format')\nkeys: {keys}")
    version = data.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: has format version {version!r}; this package reads up to {FORMAT_VERSION}\nupgrade the package"
        )
    return data


def _load(path: Path) -> Any:
    size = path.stat().st_size
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as e:
        pickled = _first_byte(path) == b"\x80" or zipfile.is_zipfile(path)
        if pickled and any(words in str(e) for words in ("Unsupported ", "Trying to ")):
            raise CheckpointError(
                f"{path}: holds pickled objects, not plain tensors; loading it could run code from the file\n"
                "load it where it came from and save its state_dict() there, then pass that file"
            ) from None
        raise _damaged(path, size, e) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, AttributeError, TypeError) as e:
        raise _damaged(path, size, e) from None
    except zipfile.BadZipFile as e:
        raise _damaged(path, size, e) from None


def _first_byte(path: Path) -> bytes:
    with path.open("rb") as f:
        return f.read(1)


def _damaged(path: Path, size: int, error: Exception) -> CheckpointError:
    text = str(error).split("WeightsUnpickler error:")[-1].strip()  # torch puts a page of advice before it
    reason = (text.splitlines() or [type(error).__name__])[0][:100]
    return CheckpointError(
        f"{path}: cannot be read as a checkpoint; it is cut short, damaged or of another kind ({size:,} bytes)\n"
        f"reason: {reason}\nuse another copy, such as last.pt of the same run"
    )
