"""The result of a label scan on disk, so that the next start need not read every file.

A cache is an npz archive of plain arrays, valid for one digest of all the files' sizes and times of change. It is
written under another name and renamed, so that processes which share it see a complete one, an older one or none.
Shapes: N images.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zipfile
import zlib
from array import array
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from ultralytics.data.image_cache import INT64, may_write
from ultralytics.data.labels.parse import IMAGE_STATES, Issue, Scan, describe
from ultralytics.data.labels.table import LabelTable, Ragged
from ultralytics.utils.config.settings import config_dir
from ultralytics.utils.files import atomic_write
from ultralytics.utils.log import LOGGER

CACHE_VERSION = 3


# What a file raises whose bytes are not those that were written. RuntimeError: an archive that seems encrypted, or of
# a kind of compression that is not known.
_DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    TypeError,
    AttributeError,
    RuntimeError,
    OverflowError,
    MemoryError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
_COUNTS = frozenset({*IMAGE_STATES, "total"})
_COLUMNS: Mapping[str, tuple[tuple[int, ...], type[Any]]] = {  # dimensions of a row, and type
    "shapes": ((2,), np.int32),
    "rows": ((), np.int64),
    "cls": ((1,), np.float32),
    "bboxes": ((4,), np.float32),
    "polygons": ((), np.int64),
    "points": ((), np.int64),
    "segments": ((2,), np.float32),
    "truths": ((), np.int64),
    "truth": ((8,), np.float64),
}


def content_key(
    im_files: Sequence[str], label_files: Sequence[str], nc: int, single_cls: bool, more: Sequence[Any] = ()
) -> str:
    """Return a digest of all paths, sizes and times of change, and of what the scan depends on (`more` too)."""
    digest = hashlib.sha256(json.dumps([CACHE_VERSION, nc, single_cls, len(im_files), *map(str, more)]).encode())
    for paths in (im_files, label_files):
        digest.update("\0".join(paths).encode(errors="surrogateescape"))
        digest.update(_stamps(paths))
    return digest.hexdigest()


def _stamps(paths: Sequence[str]) -> array[int]:
    """Size and time of change in ns of each file, -1 twice where there is none; in one array, as there may be many."""
    stamps = array("q")
    rest = iter(paths)
    while len(stamps) < 2 * len(paths):
        try:
            for stat in map(os.stat, rest):
                stamps.append(stat.st_size)
                stamps.append(stat.st_mtime_ns & INT64)
        except OSError:  # of the path that was taken last; continue behind it
            stamps.extend((-1, -1))
    return stamps


def save_cache(path: Path, key: str, scan: Scan) -> bool:
    """Write a scan as an npz archive of plain arrays, atomically; False where the folder cannot be written."""
    labels = LabelTable.from_dicts(scan.labels)
    outlines = labels.outlines.take(labels.polygons.values)  # in the order of the images
    meta = {
        "version": CACHE_VERSION,
        "key": key,
        "im_files": labels.im_files,
        "issues": [list(issue) for issue in scan.issues],
        "counts": scan.counts,
    }
    arrays = {
        "meta": np.frombuffer(json.dumps(meta).encode(), np.uint8),
        "shapes": labels.shapes,
        "rows": labels.cls.counts,
        "cls": labels.cls.values,
        "bboxes": labels.bboxes.values,
        "polygons": labels.polygons.counts,
        "points": outlines.counts,
        "segments": outlines.values,
    }
    if labels.truth is not None:
        arrays |= {"truths": labels.truth.counts, "truth": labels.truth.values}
    if path.parent.exists() and not may_write(path.parent):
        LOGGER.info(f"label cache not written, the next start scans again: {path.parent} is read-only")
        return False
    try:
        with atomic_write(path, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
    except OSError as error:
        LOGGER.info(f"label cache not written, the next start scans again: {error}")
        return False
    return True


def load_cache(path: Path, key: str) -> Scan | None:
    """Return the scan stored under `key`, or None when there is none, it is out of date or unreadable."""
    try:
        with open(path, "rb") as file, _open_npz(file) as stored:
            meta = json.loads(stored["meta"].tobytes())
            if meta["version"] != CACHE_VERSION or meta["key"] != key:
                return None
            arrays = {name: stored[name] for name in stored.files if name != "meta"}
        _check(meta, arrays)
        return Scan(_restore(meta, arrays), [Issue(*issue) for issue in meta["issues"]], meta["counts"])
    except _DAMAGE:
        return None


def _open_npz(file: BinaryIO) -> NpzFile:
    """Open the arrays of a file; ValueError where members are packed, which they never are, and may be far larger."""
    if file.read(4) != b"PK\x03\x04":  # before `np.load` takes it for one array of any size
        raise ValueError("not a zip file")
    file.seek(0)
    stored: NpzFile = np.load(file, allow_pickle=False)
    members = stored.zip.infolist() if stored.zip is not None else []
    size = sum(member.file_size for member in members)
    if any(member.compress_type != zipfile.ZIP_STORED for member in members) or size > os.fstat(file.fileno()).st_size:
        raise ValueError("not written here")
    return stored


def _check(meta: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
    """Raise ValueError where stored values are not of the kind that is written."""
    counts, files = meta["counts"], meta["im_files"]
    wrong = [name for name, rows in arrays.items() if not _is_column(rows, *_COLUMNS[name])]
    if wrong or set(counts) != _COUNTS or not all(type(n) is int for n in counts.values()):
        raise ValueError(f"arrays {wrong} or counts {counts} are not as they are written")
    if type(files) is not list or not all(type(file) is str for file in files):
        raise ValueError("im_files: need a list of paths")
    kinds = (str, int, str, str, bool)
    if any(tuple(map(type, issue)) != kinds for issue in meta["issues"]):
        raise ValueError("issues: need file, line, kind, reason and whether it is fatal")


def _is_column(rows: NDArray[Any], row: tuple[int, ...], kind: type[Any]) -> bool:
    return rows.ndim == 1 + len(row) and rows.shape[1:] == row and rows.dtype == kind


def _restore(meta: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> LabelTable:
    """Return the table of stored arrays; ValueError where they do not belong together."""
    table = LabelTable(
        im_files=meta["im_files"],
        shapes=arrays["shapes"],
        cls=Ragged(arrays["cls"], arrays["rows"]),
        bboxes=Ragged(arrays["bboxes"], arrays["rows"]),
        polygons=Ragged(np.arange(len(arrays["points"])), arrays["polygons"]),
        outlines=Ragged(arrays["segments"], arrays["points"]),
        truth=Ragged(arrays["truth"], arrays["truths"]) if "truth" in arrays else None,
    )
    lengths = {
        len(table.shapes),
        len(table.cls),
        len(table.polygons),
        len(table.cls if table.truth is None else table.truth),
    }
    if lengths != {len(table)}:
        raise ValueError(f"{len(table)} images, and rows for {lengths}")
    return table


def cached_scan(cache: Path, run: Callable[[], Scan], key: str, desc: str = "") -> Scan:
    """Return the cached scan if it is up to date, else scan, check nothing, and store the result when it is sound.

    A scan during which a permission, a disk or the memory failed is not: the next start scans again.
    Where the data set's folder cannot be written, the cache is in the user's settings folder.
    """
    paths = (cache, spare_path(cache))
    for path in paths:
        scan = load_cache(path, key)
        if scan is not None:
            LOGGER.info(f"{desc} {path}: {describe(scan.counts)}")
            return scan
    scan = run()
    if scan.transient:
        LOGGER.info(
            f"label cache not written, the next start scans again: {scan.transient} image(s) not read this time"
        )
    elif scan.labels and not any(issue.fatal for issue in scan.issues):
        save_cache(paths[0] if may_write(cache.parent) else paths[1], key, scan)
    return scan


def spare_path(cache: Path) -> Path:
    """Return the path of the cache of a read-only data set."""
    mark = hashlib.sha256(str(cache.absolute()).encode(errors="surrogateescape")).hexdigest()[:16]
    return config_dir() / "label_caches" / f"{cache.stem}.{mark}.cache"
