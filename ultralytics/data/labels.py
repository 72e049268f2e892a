"""Label files in YOLO text form: parsed and verified row by row, scanned for a whole split, kept in a cache.

A row is `class cx cy w h`, or `class x1 y1 x2 y2 x3 y3 ...` for a polygon, all coordinates as fractions of the image.
A bad row never takes its image's good rows with it. Shape legend: n rows of one file, N images, P polygon points.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ultralytics.data.image_cache import may_write
from ultralytics.data.images import probe
from ultralytics.utils.errors import DatasetError
from ultralytics.utils.files import atomic_write
from ultralytics.utils.log import LOGGER, ProgressBar

FloatArray = NDArray[np.float32]
LabelDict = dict[str, Any]

TOLERANCE = 0.01  # rounding of label tools: this far outside 0..1 is cut off silently
FAR = 2.0  # values above are no boxes that reach beyond the frame, but of another unit
CACHE_VERSION = 2
_THREADS = min(8, os.cpu_count() or 1)


class Issue(NamedTuple):
    """One finding of a scan: where (line 0 = the whole file), what kind, why, and whether it stops a strict run."""

    file: str
    line: int
    kind: str
    reason: str
    fatal: bool = False

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}" if self.line else f"{self.file}: {self.reason}"


class RowError(ValueError):
    """A label row that cannot be used; `kind` names the rule, `fatal` whether a strict run stops."""

    def __init__(self, kind: str, reason: str, fatal: bool = False) -> None:
        super().__init__(reason)
        self.kind, self.fatal = kind, fatal


@dataclass
class LabelRows:
    """What one label file holds: class ids (n, 1), boxes xywh (n, 4), polygons where all rows have one, findings."""

    cls: FloatArray = field(default_factory=lambda: np.zeros((0, 1), np.float32))
    bboxes: FloatArray = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    segments: list[FloatArray] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)


@dataclass
class Scan:
    """Labels of a split's usable images, findings, and counts found / missing / empty / corrupt / total."""

    labels: list[LabelDict]
    issues: list[Issue]
    counts: dict[str, int]


# ---- one row ----------------------------------------------------------------------------------------------------


def parse_row(text: str, nc: int, single_cls: bool = False) -> tuple[int, list[float], FloatArray | None]:
    """Parse one row into (class id, [cx, cy, w, h], polygon (P, 2) or None); raise RowError.

    >>> parse_row("2 0.5 0.5 0.2 0.4", nc=3)
    (2, [0.5, 0.5, 0.2, 0.4], None)
    """
    words = text.split()
    if len(words) != 5 and (len(words) < 7 or len(words) % 2 == 0):
        raise RowError(
            "columns", f"{len(words)} columns, need 5 (class cx cy w h) or 1 + 2 x points for a polygon", fatal=True
        )
    try:
        numbers = [float(w) for w in words]
    except ValueError:
        raise RowError("number", f"'{text.strip()[:40]}' holds something that is not a number") from None
    if not all(math.isfinite(v) for v in numbers):
        raise RowError("number", "a value is not finite")
    class_id = _class_id(numbers[0], nc, single_cls)
    _check_range(numbers[1:], is_box=len(numbers) == 5)
    if len(numbers) == 5:
        return class_id, _inside(numbers[1:]), None
    polygon = np.clip(np.asarray(numbers[1:], np.float32).reshape(-1, 2), 0, 1)  # (P, 2)
    (x1, y1), (x2, y2) = polygon.min(0).tolist(), polygon.max(0).tolist()
    return class_id, _inside([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]), polygon


def _class_id(value: float, nc: int, single_cls: bool) -> int:
    if value != int(value):
        raise RowError("class", f"class {value:g} is not an integer")
    if single_cls:
        return 0
    if not 0 <= value < nc:
        raise RowError("class", f"class {value:g} is out of range: nc={nc} allows 0 to {nc - 1}", fatal=True)
    return int(value)


def _check_range(values: Sequence[float], is_box: bool) -> None:
    """Refuse values that are clearly negative or clearly above 1."""
    if min(values) < -TOLERANCE or (is_box and min(values[2:]) < 0):
        what = "box" if is_box else "polygon"
        raise RowError("negative", f"negative {what} value {min(values):g}; coordinates run from 0 to 1", fatal=True)
    top = max(values)
    if top > 1 + TOLERANCE:
        kind = "outside" if top <= FAR else "percent" if top <= 100 else "pixels"
        hint = "" if kind == "outside" else f" (these look like {kind})"
        raise RowError(kind, f"value {top:g} above 1; coordinates must be fractions of the image{hint}")


def _inside(box: list[float]) -> list[float]:
    """Cut a box off at the image's frame; refuse one without area."""
    cx, cy, w, h = box
    x1, y1, x2, y2 = cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2
    if min(x1, y1) < 0 or max(x2, y2) > 1:
        x1, y1, x2, y2 = max(x1, 0.0), max(y1, 0.0), min(x2, 1.0), min(y2, 1.0)
        box = [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
    if box[2] <= 0 or box[3] <= 0:
        raise RowError("area", "box without area inside the image")
    return box


# ---- one file ---------------------------------------------------------------------------------------------------


def parse_labels(text: str, nc: int, file: str = "<text>", single_cls: bool = False) -> LabelRows:
    """Parse a label file's text; bad and repeated rows are left out and reported with their line.

    Rows keep their order. A file that mixes boxes and polygons gives boxes only.
    """
    found = LabelRows()
    classes: list[list[int]] = []
    boxes: list[list[float]] = []
    polygons: list[FloatArray | None] = []
    seen: set[tuple[Any, ...]] = set()
    for line, row in enumerate(text.splitlines(), 1):
        if not row.strip():
            continue
        try:
            class_id, box, polygon = parse_row(row, nc, single_cls)
        except RowError as error:
            found.issues.append(Issue(file, line, error.kind, str(error), error.fatal))
            continue
        key = (class_id, *(box if polygon is None else polygon.ravel().tolist()))
        if key in seen:
            found.issues.append(Issue(file, line, "duplicate", "the same object as an earlier row"))
            continue
        seen.add(key)
        classes.append([class_id])
        boxes.append(box)
        polygons.append(polygon)
    if boxes:
        found.cls, found.bboxes = np.asarray(classes, np.float32), np.asarray(boxes, np.float32)
        kept = [p for p in polygons if p is not None]
        found.segments = kept if len(kept) == len(boxes) else []
    return found


@dataclass
class _Pair:
    """One image with its label file, verified; `shape` is None when the image cannot be used."""

    im_file: str
    shape: tuple[int, int] | None
    rows: LabelRows
    state: str  # found, empty, missing or corrupt


def verify_pair(im_file: str, label_file: str, nc: int, single_cls: bool = False) -> _Pair:
    """Check one image and its label file; nothing on disk is changed."""
    try:
        shape = probe(im_file)
    except ValueError as error:
        return _Pair(im_file, None, LabelRows(issues=[Issue(im_file, 0, "image", str(error))]), "corrupt")
    try:
        text = Path(label_file).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return _Pair(im_file, shape, LabelRows(), "missing")
    except (OSError, UnicodeDecodeError) as error:
        rows = LabelRows(issues=[Issue(label_file, 0, "unreadable", f"label file cannot be read: {error}")])
        return _Pair(im_file, None, rows, "corrupt")
    rows = parse_labels(text, nc, label_file, single_cls)
    if rows.issues and not len(rows.bboxes):
        # All rows were bad: as a background image it would teach the network to see nothing there.
        rows.issues.append(Issue(im_file, 0, "labels", "image left out: none of its label rows can be used"))
        return _Pair(im_file, None, rows, "corrupt")
    return _Pair(im_file, shape, rows, "found" if len(rows.bboxes) else "empty")


# ---- a split ----------------------------------------------------------------------------------------------------


def scan_labels(
    im_files: Sequence[str], label_files: Sequence[str], nc: int, single_cls: bool = False, desc: str = ""
) -> Scan:
    """Verify all image-label pairs in threads; the result is in the order of the images."""
    pairs: list[_Pair] = []
    bar: ProgressBar[None] = ProgressBar(total=len(im_files), desc=desc)

    def verify(chunk: list[tuple[str, str]]) -> list[_Pair]:
        return [verify_pair(im_file, label_file, nc, single_cls) for im_file, label_file in chunk]

    with ThreadPoolExecutor(_THREADS) as pool, bar:
        for chunk in pool.map(verify, _chunks(im_files, label_files)):
            pairs += chunk
            bar.update(len(chunk))
        counts = _count(pairs)
        bar.set_description(f"{desc} {describe(counts)}")
    return Scan(
        labels=[_label_dict(p.im_file, p.shape, p.rows) for p in pairs if p.shape is not None],
        issues=[issue for p in pairs for issue in p.rows.issues],
        counts=counts,
    )


def describe(counts: dict[str, int]) -> str:
    """Return the counts of a scan as the progress line shows them."""
    return f"{counts['found']} images, {counts['missing'] + counts['empty']} backgrounds, {counts['corrupt']} corrupt"


def check_strict(issues: Iterable[Issue]) -> None:
    """Raise DatasetError at the first label row that a run must not silently leave out."""
    fatal = [issue for issue in issues if issue.fatal]
    if fatal:
        files = len({issue.file for issue in fatal})
        remedy = {
            "class": "mend the class id, or name all classes under 'names:' in the data YAML",
            "columns": "mend the row: class cx cy w h, as fractions of the image",
            "negative": "mend the row: cx cy w h are fractions of the image from 0 to 1, w and h above 0",
        }[fatal[0].kind]
        raise DatasetError(
            str(fatal[0]), remedy, f"{len(fatal)} label row(s) in {files} file(s) stop the run like this one"
        )


def _chunks(im_files: Sequence[str], label_files: Sequence[str], size: int = 64) -> list[list[tuple[str, str]]]:
    pairs = list(zip(im_files, label_files, strict=True))
    return [pairs[i : i + size] for i in range(0, len(pairs), size)]


def _count(pairs: Sequence[_Pair]) -> dict[str, int]:
    counts = dict.fromkeys(("found", "missing", "empty", "corrupt"), 0)
    for pair in pairs:
        counts[pair.state] += 1
    return {**counts, "total": len(pairs)}


def _label_dict(im_file: str, shape: tuple[int, int], rows: LabelRows) -> LabelDict:
    return {
        "im_file": im_file,
        "shape": shape,  # height, width
        "cls": rows.cls,
        "bboxes": rows.bboxes,
        "segments": rows.segments,
        "keypoints": None,
        "normalized": True,
        "bbox_format": "xywh",
    }


# ---- the cache --------------------------------------------------------------------------------------------------


def content_key(im_files: Sequence[str], label_files: Sequence[str], nc: int, single_cls: bool) -> str:
    """Return a digest of all paths, sizes and times of change, and of what the scan depends on."""
    digest = hashlib.sha256(json.dumps([CACHE_VERSION, nc, single_cls, len(im_files)]).encode())
    for path in (*im_files, *label_files):
        try:
            stat = os.stat(path)
            stamp = f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\n"
        except OSError:
            stamp = f"{path}\0-\n"
        digest.update(stamp.encode(errors="surrogateescape"))
    return digest.hexdigest()


def save_cache(path: Path, key: str, scan: Scan) -> bool:
    """Write a scan as an npz archive of plain arrays, atomically; False where the folder cannot be written."""
    labels = scan.labels
    segments = [s for label in labels for s in label["segments"]]
    meta = {
        "version": CACHE_VERSION,
        "key": key,
        "im_files": [label["im_file"] for label in labels],
        "issues": [list(issue) for issue in scan.issues],
        "counts": scan.counts,
    }
    arrays = {
        "meta": np.frombuffer(json.dumps(meta).encode(), np.uint8),
        "shapes": np.asarray([label["shape"] for label in labels], np.int32).reshape(-1, 2),  # (N, 2)
        "rows": np.asarray([len(label["cls"]) for label in labels], np.int64),
        "cls": _joined([label["cls"] for label in labels], 1),
        "bboxes": _joined([label["bboxes"] for label in labels], 4),
        "polygons": np.asarray([len(label["segments"]) for label in labels], np.int64),
        "points": np.asarray([len(s) for s in segments], np.int64),
        "segments": _joined(segments, 2),
    }
    if not may_write(path.parent):
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
        with np.load(path, allow_pickle=False) as stored:
            meta = json.loads(stored["meta"].tobytes())
            if meta["version"] != CACHE_VERSION or meta["key"] != key:
                return None
            arrays = {name: stored[name] for name in stored.files if name != "meta"}
        return _restore(meta, arrays)
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile, zlib.error):
        return None


def _restore(meta: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Scan:
    """Cut the flat arrays into label dicts; boxes and classes stay views of one matrix."""
    segments = _split(arrays["segments"], arrays["points"])
    firsts = np.concatenate(([0], np.cumsum(arrays["polygons"]))).tolist()
    labels = [
        _label_dict(im_file, (h, w), LabelRows(cls, bboxes, segments[a:b]))
        for im_file, (h, w), cls, bboxes, (a, b) in zip(
            meta["im_files"],
            arrays["shapes"].tolist(),
            _split(arrays["cls"], arrays["rows"]),
            _split(arrays["bboxes"], arrays["rows"]),
            pairwise(firsts),
            strict=True,
        )
    ]
    return Scan(labels, [Issue(*issue) for issue in meta["issues"]], meta["counts"])


def _joined(parts: Sequence[FloatArray], columns: int) -> FloatArray:
    return np.concatenate([*parts, np.zeros((0, columns), np.float32)])


def _split(array: FloatArray, counts: NDArray[np.int64]) -> list[FloatArray]:
    """Undo a concatenation of parts of these lengths."""
    ends = np.cumsum(counts).tolist()
    return [array[end - n : end] for n, end in zip(counts.tolist(), ends, strict=True)]


def cached_scan(cache: Path, run: Callable[[], Scan], key: str, desc: str = "") -> Scan:
    """Return the cached scan if it is up to date, else scan, check nothing, and store the result when it is sound."""
    scan = load_cache(cache, key)
    if scan is not None:
        LOGGER.info(f"{desc} {cache}: {describe(scan.counts)}")
        return scan
    scan = run()
    if scan.labels and not any(issue.fatal for issue in scan.issues):
        save_cache(cache, key, scan)
    return scan
