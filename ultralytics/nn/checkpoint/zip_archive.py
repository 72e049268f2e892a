"""The zip file that `torch.save` writes, opened with bounds and without torch's own reader.

Members are stored, never compressed, so a member cannot be larger than the file: a zip bomb is refused by its form.
Every member that is used is checked against its CRC-32; a flipped bit in a weight is found. The pickle inside goes
through `pickle_reader`, and storages become tensors only where the caller asks.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from ultralytics.nn.checkpoint.pickle_reader import SCALARS, Name, Record, StorageRef, StoredTensor, read_pickle
from ultralytics.utils.errors import CheckpointError

MAX_PICKLE = 64 << 20  # bytes of data.pkl; a large training checkpoint has about 1 MB
MAX_DIRECTORY = 16 << 20  # bytes of the zip's table of contents, about 70 a member
MAX_VALUE_DEPTH = 64  # nesting of plain values
MAX_VALUES = 2_000_000  # plain values, each counted as often as it is reached
ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    RuntimeError,  # encrypted member
    NotImplementedError,
    EOFError,
    OSError,
    ValueError,
    KeyError,
    IndexError,
    OverflowError,
)
DTYPES: Mapping[str, torch.dtype] = {
    "torch.FloatStorage": torch.float32,
    "torch.DoubleStorage": torch.float64,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}


@dataclass(frozen=True)
class Archive:
    """What a file holds: the object of its pickle (tensors as `StoredTensor`), all class names in it, and storages.

    `tensor` and `plain` turn parts of `root` into torch tensors and plain values. Use it inside `with`.
    """

    path: Path
    size: int
    root: Any
    names: frozenset[str]
    storages: _Storages

    def tensor(self, stored: StoredTensor) -> Tensor:
        """The tensor of a description; storages are read once and shared, as in the file."""
        return self.storages.tensor(stored)

    def plain(self, value: object) -> Any:
        """Copy a value into dicts, lists, plain values and tensors.

        Raises CheckpointError where it holds an object of another kind, a cycle, or more than a checkpoint may.
        """
        return _Plainer(self).convert(value)

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self.storages.zip.close()


def open_archive(path: Path) -> Archive:
    """Open a zip checkpoint and read its pickle as data. Raises CheckpointError for a file that breaks a bound."""
    size = path.stat().st_size
    try:
        with path.open("rb") as f:
            _check_directory(f, size)
        file = zipfile.ZipFile(path)
    except ZIP_ERRORS as e:
        raise CheckpointError(f"the zip's table of contents cannot be read: {_line(e)}") from None
    try:
        prefix = _check_members(file.infolist(), size)
        storages = _Storages(file, prefix)
        if storages.read_optional("byteorder", b"little").strip() != b"little":
            raise CheckpointError("it was written on a big-endian machine, which is not supported")
        root, names = read_pickle(storages.read("data.pkl"))
    except CheckpointError:
        file.close()
        raise
    return Archive(path, size, root, names, storages)


def _check_directory(f: BinaryIO, size: int) -> None:
    """Bound the table of contents before `zipfile` reads it whole."""
    start = max(size - (1 << 16) - 128, 0)
    f.seek(start)
    tail = f.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0:
        raise ValueError("it has none, so the file is truncated")
    (length,) = struct.unpack_from("<I", tail, end + 12)
    long_form = tail.rfind(b"PK\x06\x06", 0, end)
    if long_form >= 0:
        length = max(length if length != 0xFFFFFFFF else 0, *struct.unpack_from("<Q", tail, long_form + 40))
    if length > MAX_DIRECTORY:
        raise ValueError(f"it has {length:,} bytes, above {MAX_DIRECTORY:,}")


def _check_members(members: list[zipfile.ZipInfo], size: int) -> str:
    """Demand plain stored members that fit in the file; return the folder of the pickle, with a slash."""
    names = [m.filename for m in members]
    pickles = [n for n in names if n == "data.pkl" or n.endswith("/data.pkl")]
    if any(n.endswith("constants.pkl") for n in names):
        raise CheckpointError("it is a TorchScript program, not weights; use its .pt checkpoint")
    if len(pickles) != 1 or len(set(names)) != len(names):
        raise CheckpointError(f"it is a zip, but not of torch.save ({len(pickles)} data.pkl in {len(names)} members)")
    packed = [m.filename for m in members if m.compress_type != zipfile.ZIP_STORED or m.flag_bits & 1]
    if packed:
        raise CheckpointError(f"member {packed[0]!r:.60} is compressed or encrypted, which torch.save never does")
    if any(m.file_size != m.compress_size for m in members) or sum(m.file_size for m in members) > size:
        raise CheckpointError("its members claim more bytes than the file has")
    prefix = pickles[0][: -len("data.pkl")]
    if next(m for m in members if m.filename == pickles[0]).file_size > MAX_PICKLE:
        raise CheckpointError(f"its pickle is larger than {MAX_PICKLE >> 20} MiB; tensors belong beside it")
    return prefix


class _Storages:
    """Storages of an archive, each read once."""

    def __init__(self, file: zipfile.ZipFile, prefix: str) -> None:
        self.zip = file
        self.prefix = prefix
        self.loaded: dict[tuple[str, str], Tensor] = {}

    def read(self, name: str) -> bytes:
        """The bytes of a member, checked against their CRC."""
        try:
            return self.zip.read(self.prefix + name)
        except ZIP_ERRORS as e:
            raise CheckpointError(f"member {name!r:.60} is missing or damaged: {_line(e)}") from None

    def read_optional(self, name: str, default: bytes) -> bytes:
        """The same, or `default` where there is no such member."""
        return self.read(name) if self.prefix + name in self.zip.NameToInfo else default

    def tensor(self, stored: StoredTensor) -> Tensor:
        """View a storage as the tensor says; every element must lie inside it."""
        check_view(stored)
        flat = self._storage(stored.storage)
        if not numel(stored):
            return torch.empty(stored.size, dtype=flat.dtype)
        return flat.as_strided(stored.size, stored.stride, stored.offset)

    def _storage(self, ref: StorageRef) -> Tensor:
        known = self.loaded.get((ref.dtype, ref.key))
        if known is not None and len(known) == ref.numel:
            return known
        dtype = DTYPES.get(ref.dtype)
        if dtype is None:
            raise CheckpointError(f"it holds tensors of type {ref.dtype!r:.40}, which is not supported")
        data = self.read(f"data/{ref.key}")
        if len(data) != ref.numel * dtype.itemsize:
            raise CheckpointError(f"storage {ref.key!r:.20} has {len(data):,} bytes, not {ref.numel:,} elements")
        if dtype is torch.bool and data.strip(b"\x00\x01"):
            raise CheckpointError(f"storage {ref.key!r:.20} of booleans holds other values")
        flat = torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)
        self.loaded[ref.dtype, ref.key] = flat
        return flat


def numel(stored: StoredTensor) -> int:
    """Number of elements of a description."""
    n = 1
    for side in stored.size:
        n *= side
    return n


def check_view(stored: StoredTensor) -> None:
    """Demand that a view lies in its storage and names no element twice over."""
    count = numel(stored)
    last = stored.offset + sum((n - 1) * s for n, s in zip(stored.size, stored.stride, strict=True))
    if count > stored.storage.numel or (count and last >= stored.storage.numel):
        raise CheckpointError(f"a tensor of shape {list(stored.size)!s:.60} reaches outside its storage")


class _Plainer:
    """One conversion to plain values: bounds, and tensors made once each."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.count = 0
        self.elements = 0
        self.tensors: dict[int, Tensor] = {}

    def convert(self, value: object, depth: int = 0) -> Any:
        """Copy a value; see `Archive.plain`."""
        self.count += 1
        if depth > MAX_VALUE_DEPTH or self.count > MAX_VALUES:
            raise CheckpointError(
                f"its values are nested deeper than {MAX_VALUE_DEPTH}, or are more than {MAX_VALUES:,}"
            )
        if isinstance(value, SCALARS):
            return value
        if isinstance(value, dict):
            return {k: self.convert(v, depth + 1) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)([self.convert(v, depth + 1) for v in value])
        if isinstance(value, StoredTensor):
            return self.tensor(value)
        name = value.name if isinstance(value, Record) else value.text if isinstance(value, Name) else "a storage"
        number = numpy_scalar(value)
        if number is not None:
            return number
        raise CheckpointError(
            f"holds pickled objects ({name!r:.60}), not plain values; loading them could run code from the file"
        )

    def tensor(self, stored: StoredTensor) -> Tensor:
        """Make a tensor, one for each description in the file."""
        if id(stored) not in self.tensors:
            self.elements += numel(stored)
            if self.elements > 2 * self.archive.size + MAX_VALUES:  # views of one storage, each copied later
                raise CheckpointError("its tensors have more elements than the file can hold")
            self.tensors[id(stored)] = self.archive.tensor(stored)
        return self.tensors[id(stored)]


def numpy_scalar(value: object) -> float | int | None:
    """The number of a pickled NumPy scalar, which old training code left in metrics; None for anything else."""
    if not (isinstance(value, Record) and value.name.endswith("multiarray.scalar") and len(value.args) == 2):
        return None
    kind, data = value.args
    code = {"f8": "<d", "f4": "<f", "f2": "<e", "i8": "<q", "i4": "<i"}.get(
        str(kind.args[0]) if isinstance(kind, Record) and kind.args else ""
    )
    if code is None or not isinstance(data, bytes) or len(data) != struct.calcsize(code):
        return None
    number: float | int = struct.unpack(code, data)[0]
    return number


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:100]
