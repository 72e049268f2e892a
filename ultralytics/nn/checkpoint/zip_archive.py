"""The zip file that `torch.save` writes, opened with bounds and without torch's own reader.

Members are stored, never compressed, so a member cannot be larger than the file: a zip bomb is refused by its form.
Every member that is used is checked against its CRC-32; a flipped bit in a weight is found. The pickle inside goes
through `pickle_reader`, and storages become tensors only where the caller asks.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ultralytics.nn.checkpoint.pickle_reader import SCALARS, Name, Record, StorageRef, StoredTensor, read_pickle
from ultralytics.utils.archives.zip_directory import ZIP_ERRORS, check_directory, zip_reason
from ultralytics.utils.errors import CheckpointError

MAX_PICKLE = 64 << 20  # bytes of data.pkl; a large training checkpoint has about 1 MB
MAX_VALUE_DEPTH = 64  # nesting of plain values
MAX_VALUES = 2_000_000  # plain values, each counted as often as it is reached
TENSOR_COST = 256  # elements as which a tensor counts, besides those that it has
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


class _Budget:
    """What may be made of one file: a number of elements of tensors, and a number of plain values."""

    def __init__(self, size: int) -> None:
        self.elements = 2 * size + MAX_VALUES
        self.values = MAX_VALUES

    def spend(self, elements: int) -> None:
        """Count elements; CheckpointError when they are more than the file can hold."""
        self.elements -= elements
        if self.elements < 0:
            raise CheckpointError("its tensors have more elements than the file can hold")

    def spend_value(self, depth: int) -> None:
        """Count a plain value."""
        self.values -= 1
        if depth > MAX_VALUE_DEPTH or self.values < 0:
            raise CheckpointError(
                f"its values are nested deeper than {MAX_VALUE_DEPTH}, or are more than {MAX_VALUES:,}"
            )


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
    budget: _Budget

    def tensor(self, stored: StoredTensor) -> Tensor:
        """The tensor of a description; storages are read once and shared, as in the file.

        Each call counts: views of one storage are small in the file, and copies of them, in another type, are not.
        """
        self.budget.spend(numel(stored) + TENSOR_COST)
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


def open_archive(path: Path, content: BytesIO | None = None) -> Archive:
    """Open a zip checkpoint, of a file or of its content in memory, and read its pickle as data.

    Raises CheckpointError for a file that breaks a bound.
    """
    size = path.stat().st_size if content is None else content.getbuffer().nbytes
    try:
        with path.open("rb") if content is None else nullcontext(content) as f:
            check_directory(f, size)
        file = zipfile.ZipFile(path if content is None else content)
    except ZIP_ERRORS as e:
        raise CheckpointError(f"the zip's table of contents cannot be read: {zip_reason(e)}") from None
    try:
        prefix = _check_members(file.infolist(), size)
        storages = _Storages(file, prefix)
        if storages.read_optional("byteorder", b"little").strip() != b"little":
            raise CheckpointError("it was written on a big-endian machine, which is not supported")
        root, names = read_pickle(storages.read("data.pkl"))
    except CheckpointError:
        file.close()
        raise
    return Archive(path, size, root, names, storages, _Budget(size))


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
            raise CheckpointError(f"member {name!r:.60} is missing or damaged: {zip_reason(e)}") from None

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
    reach = 1
    for stride, side in sorted((s, n) for n, s in zip(stored.size, stored.stride, strict=True) if n > 1):
        if stride < reach and count:
            raise CheckpointError(f"a tensor of shape {list(stored.size)!s:.60} names elements twice")
        reach += stride * (side - 1)


class _Plainer:
    """One conversion to plain values: bounds, and tensors made once each."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.tensors: dict[int, Tensor] = {}

    def convert(self, value: object, depth: int = 0) -> Any:
        """Copy a value; see `Archive.plain`."""
        self.archive.budget.spend_value(depth)
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
        """Make a tensor, one for each description in the file; each place of it counts."""
        tensor = self.tensors.get(id(stored))
        if tensor is None:
            tensor = self.tensors[id(stored)] = self.archive.tensor(stored)
        else:
            self.archive.budget.spend(tensor.numel() + TENSOR_COST)
        return tensor


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
