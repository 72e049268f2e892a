"""Checkpoint files: a dict of tensors and plain values, read as data only, written whole or not at all.

Keys: `format`, `format_version`, `epoch`, `best_fitness`, `model` and `ema` (model records or None), `updates`,
`optimizer`, `scheduler`, `scaler`, `rng`, `stopper`, `train_state`, `train_args`, `train_metrics`, `metrics_precision`,
`train_results`, `date`, `version`, `license`, `docs`, `modules`. A model record (see `pack_model`) holds `class`,
`yaml`, `nc`, `ch`, `names`, `bn_eps`, `stride`, `args`, `fused` and an fp32 `state_dict`; `tasks.unpack_model` builds
the model from it.
"""

from __future__ import annotations

import errno
import os
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ultralytics import __version__
from ultralytics.nn.checkpoint.class_names import names_beside
from ultralytics.nn.checkpoint.remap import remap_weights
from ultralytics.nn.checkpoint.safetensors_io import SUFFIX, read_safetensors, write_safetensors
from ultralytics.nn.checkpoint.ultralytics_pickle import convert_ultralytics, is_upstream, suspicious
from ultralytics.nn.checkpoint.validate import check_fields
from ultralytics.nn.checkpoint.zip_archive import Archive, open_archive
from ultralytics.utils.archives.pack_file import is_pack, open_pack
from ultralytics.utils.errors import CheckpointError, NotFoundError
from ultralytics.utils.files import atomic_write, user_path
from ultralytics.utils.log import LOGGER

FORMAT_NAME = "rtdetr-shsa"
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
    "metrics_precision": None,
    "train_results": {},
    "modules": [],
}
PLAIN_TYPES = (bool, int, float, str, bytes, type(None))


def pack_model(model: nn.Module) -> dict[str, Any]:
    """Return the record of a detection model: what is needed to build it again, and its fp32 tensors."""
    norms = [m for m in model.modules() if isinstance(m, (nn.BatchNorm2d, nn.SyncBatchNorm))]
    args = getattr(model, "args", None) or {}
    state = {k: v.detach().float() if v.is_floating_point() else v.detach() for k, v in model.state_dict().items()}
    return {
        "class": getattr(model, "checkpoint_name", "") or type(model).__name__,
        "yaml": to_plain(getattr(model, "yaml", {})),
        "nc": int(model.nc),  # type: ignore[arg-type]
        "ch": int(model.yaml.get("channels", 3)),  # type: ignore[union-attr, operator]
        "names": {int(k): str(v) for k, v in dict(model.names).items()},  # type: ignore[arg-type]
        "bn_eps": norms[0].eps if norms else None,
        "stride": [float(s) for s in model.stride],  # type: ignore[union-attr]
        "args": to_plain(args if isinstance(args, Mapping) else vars(args)),
        "fused": bool(getattr(model, "is_fused", lambda: False)()),
        "state_dict": {k: v.cpu().contiguous() for k, v in state.items()},
    }


def to_plain(value: object) -> Any:
    """Copy a value into tensors, plain values, dicts and lists; paths and other objects become strings."""
    if isinstance(value, Mapping):
        return {k if isinstance(k, int) else str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_plain(v) for v in value]
    if isinstance(value, Tensor) or type(value) in PLAIN_TYPES:
        return value
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:  # numpy scalars
        return value.item()
    return str(value)


def save_checkpoint(path: str | Path, checkpoint: Mapping[str, Any]) -> Path:
    """Write a checkpoint; missing keys get their defaults. A path ending in `.safetensors` gets that form.

    Raises CheckpointError for a value that is not plain.
    """
    full = {
        "format": FORMAT_NAME,
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
    if path.suffix.lower() == SUFFIX:
        return write_safetensors(path, full)
    save_tensors(path, full)
    return path


def save_tensors(path: Path, content: object, protocol: int = 2) -> None:
    """Write with `torch.save`, whole or not at all; OSError where the folder cannot be written or the disk is full.

    `protocol` is that of the pickle inside.
    """
    try:
        with atomic_write(path, "wb") as f:
            torch.save(content, f, pickle_protocol=protocol)
    except RuntimeError as e:  # torch's writer turns what the system says into an error of its own
        reason = e.__context__ if isinstance(e.__context__, OSError) else None
        if reason is not None and reason.errno:
            raise OSError(reason.errno, os.strerror(reason.errno), str(path)) from e
        raise OSError(errno.EIO, str(e), str(path)) from e


def _check_plain(value: object, where: str) -> None:
    """Demand what `weights_only` loading accepts, so that a bad value is found when it is written."""
    if isinstance(value, Mapping):
        for k, v in value.items():
            if not isinstance(k, (str, int, float, bool, type(None))):
                raise CheckpointError(f"{where} has a key of type {type(k).__name__}; keys must be strings or numbers")
            _check_plain(v, f"{where}[{k!r}]")
    elif isinstance(value, (list, tuple)):
        for i, v in enumerate(value):
            _check_plain(v, f"{where}[{i}]")
    elif not (isinstance(value, Tensor) or type(value) in PLAIN_TYPES):
        raise CheckpointError(f"{where} is a {type(value).__name__}; a checkpoint holds tensors and plain values only")


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read weights of any kind that is known, onto the CPU. Nothing in the file is executed.

    Files of this package (`.pt`, `.safetensors`) give their checkpoint dict; a genuine Ultralytics checkpoint gives the
    same form, taken from its pickle as data (see `ultralytics_pickle`); plain tensors, also under `model`, `state_dict`
    or `ema.module`, give `{"state_dict": tensors}`; those of other projects come under our keys (see `remap`). Every
    field is checked (see `validate`). Of a pack, its weights are read. Raises NotFoundError, or CheckpointError for a
    file that is truncated, unknown, hostile, or of a newer format.
    """
    path = user_path(path)
    return as_checkpoint(read_content(path), path)


def read_content(path: str | Path) -> dict[str, Any]:
    """The content of a weights file: a checkpoint dict, not checked yet, or `{"state_dict": tensors}` of other files.

    Such tensors have the names of the file. Raises what `read_checkpoint` raises.
    """
    path = user_path(path)
    if not path.is_file():
        raise NotFoundError(f"weights file '{path}' does not exist\ngive the path of a .pt file, or train first")
    with _naming(path):
        return _read(path)


def as_checkpoint(content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Turn what `read_content` gave for a file into its checkpoint. Raises what `read_checkpoint` raises."""
    with _naming(path):
        return check_fields(_migrate(_named(remap_weights(content, path.stem), path)))


def foreign_tensors(content: Mapping[str, Any]) -> dict[str, Tensor] | None:
    """The tensors of another project in the content of a file, under the names of the file; None for our own."""
    state = content.get("state_dict")
    return dict(state) if isinstance(state, Mapping) and "format" not in content else None


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the path before the first lines of a CheckpointError."""
    try:
        yield
    except CheckpointError as e:
        raise CheckpointError("\n".join(f"{path}: {e}".splitlines()[:3])) from None


def _named(data: dict[str, Any], path: Path) -> dict[str, Any]:
    """Give a detector of another project, whose file holds no class names, those that are known of it."""
    record = data.get("model")
    if "format" in data or "source" not in data or not isinstance(record, Mapping) or record.get("names"):
        return data
    return {**data, "model": {**record, "names": names_beside(path, record["nc"]) or None}}


def strip_optimizer(
    f: str | Path = "best.pt", s: str | Path = "", updates: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Leave the averaged weights of a checkpoint alone, so that it cannot be resumed any more; return what was written.

    Args:
        f: The checkpoint.
        s: Where to write it; in place unless given.
        updates: Further keys of the written checkpoint.
    """
    data = read_checkpoint(f)
    gone = dict.fromkeys(("model", "updates", "optimizer", "scheduler", "scaler", "rng", "stopper", "train_state"))
    slim = {**data, **gone, "ema": data.get("ema") or data.get("model"), "epoch": -1, **(updates or {})}
    save_checkpoint(s or f, slim)
    return slim


def read_plain(path: Path) -> Any:
    """The tensors and plain values of any file of `torch.save`, read as data. Raises CheckpointError."""
    with _open(path) as archive:
        return archive.plain(archive.root)


def read_tensors(path: str | Path) -> dict[str, Tensor] | None:
    """Return the tensors of a file of another project under the names that it has; None for a file of this package.

    Raises what `read_checkpoint` raises.
    """
    return foreign_tensors(read_content(path))


def read_library_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file in the cache of another library; an old pickle goes to torch's restricted reader.

    Raises CheckpointError for a file that is damaged, hostile, or holds something else.
    """
    state: object
    if file_kind(path) == "pickle":
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, ValueError, LookupError, TypeError, EOFError, OSError) as e:
            raise CheckpointError(
                f"{path}: damaged, or more than tensors: {e!s:.120}", "fetch the file again"
            ) from None
    else:
        state = read_tensors(path)
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError(f"{path} holds no plain tensors", "fetch the file of the library again")
    return state


def _read(path: Path) -> dict[str, Any]:
    """The content of a file in this package's form; its kind is determined by its first bytes, not by its name."""
    if file_kind(path) == "safetensors":
        return read_safetensors(path)
    content = None
    if is_pack(path):
        pack = open_pack(path)
        content = BytesIO(pack.read(pack.weights))
    with _open(path, content) as archive:
        if is_upstream(archive.root):
            checkpoint = {**TEMPLATE, **convert_ultralytics(archive)}
        else:
            checkpoint = _own_or_plain(archive.plain(archive.root))
    if odd := suspicious(archive.names):
        LOGGER.warning(f"{path}: names {', '.join(odd[:5])}, which no checkpoint needs; nothing of it was run")
    return checkpoint


def file_kind(path: Path) -> str:
    """`zip`, `safetensors`, `pickle` (bare, without a zip around it) or `other`."""
    with path.open("rb") as f:
        start = f.read(9)
    if start[:2] == b"PK":
        return "zip"
    if path.suffix.lower() == ".safetensors" or start[8:] == b"{":
        return "safetensors"
    return "pickle" if start[:1] == b"\x80" else "other"


def _open(path: Path, content: BytesIO | None = None) -> Archive:
    """The archive of a zip file, or of the weights in a pack; every other kind is refused with its reason."""
    kind = file_kind(path)
    try:
        if kind == "pickle":
            raise CheckpointError("an old-style pickle without a zip around it; loading it could run code from it")
        if kind != "zip":
            raise CheckpointError("it does not begin like a checkpoint")
        return open_archive(path, content)
    except CheckpointError as e:
        last = "save it again there with torch.save(state_dict)" if kind == "pickle" else "use another copy of it"
        raise CheckpointError(
            f"cannot be read as a checkpoint; it is cut short, damaged or of another kind "
            f"({path.stat().st_size:,} bytes)\nreason: {e}\n{last}"
        ) from None


def _own_or_plain(data: object) -> dict[str, Any]:
    """A checkpoint dict of this package, or the tensors of another's file."""
    if not isinstance(data, dict):
        raise CheckpointError(f"holds a {type(data).__name__}, not a checkpoint")
    if data.get("format") == FORMAT_NAME:
        return data
    ema = data.get("ema")
    nested = ema.get("module") if isinstance(ema, Mapping) else None
    for state in (data, nested, ema, data.get("model"), data.get("state_dict"), data.get("module")):
        if (
            isinstance(state, Mapping)
            and state
            and all(isinstance(v, Tensor) and type(k) is str for k, v in state.items())
        ):
            return {"state_dict": dict(state)}
    keys = ", ".join(f"{k!s:.30}" for k in list(data)[:8])
    raise CheckpointError(f"not a checkpoint of this package (no key 'format')\nkeys: {keys}")


def _migrate(data: dict[str, Any]) -> dict[str, Any]:
    """Return a checkpoint dict in the current format; older versions get missing keys, newer ones are refused."""
    if "format" not in data:
        return data
    version = data.get("format_version")
    if isinstance(version, bool) or not isinstance(version, int) or version > FORMAT_VERSION:
        raise CheckpointError(
            f"has format version {version!r:.20}; this package reads up to {FORMAT_VERSION}\nupgrade the package"
        )
    return {**TEMPLATE, **data}
