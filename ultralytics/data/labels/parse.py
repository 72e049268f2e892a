"""Label files in YOLO text form: parsed and verified row by row, scanned for a whole split.

A row is `class cx cy w h`, or `class x1 y1 x2 y2 x3 y3 ...` for a polygon, all coordinates as fractions of the image.
A bad row never takes its image's good rows with it. Shapes: n rows of one file, N images, P polygon points.
"""

from __future__ import annotations

import gc
import math
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ultralytics.data.images import TemporaryReadError, is_transient, probe
from ultralytics.data.labels.table import LabelTable, ParsedLabels
from ultralytics.data.types import LabelDict
from ultralytics.utils.errors import DatasetError
from ultralytics.utils.log import ProgressBar
from ultralytics.utils.torch_tools.arrays import Float32Array, Float64Array

TRUTH_COLUMNS = ("class", "x1", "y1", "x2", "y2", "area", "crowd", "row")
"""Of `LabelRows.truth`: corners and area in px of the image as it is on disk, whether it is a crowd region, and the row
among the training boxes that the same object has, -1 for none."""

TOLERANCE = 0.01  # rounding of label tools: this far outside 0..1 is cut off silently
MAX_LABEL_BYTES = 8 << 20  # of a label file: two hundred thousand boxes
CUT = 0.05  # boxes that reach this far outside are cut off and reported
FAR = 2.0  # values above are not of a box that reaches beyond the frame, but of another unit
IMAGE_STATES = ("found", "missing", "empty", "corrupt")  # of an image of the split, as they are counted
HARMLESS = frozenset({"crowd", "duplicate"})  # findings that leave an image without objects a background
_THREADS = min(8, os.cpu_count() or 1)
_CHUNK = 64
_QUICK_S = 1e-3  # an image that takes longer waits for a disk or is decoded, which threads can do side by side


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
    """A label row that cannot be used; `kind` names the rule, `fatal` whether a strict run stops.

    `transient` says that the system did not hand out the file, so that a second attempt may read it.
    """

    def __init__(self, kind: str, reason: str, fatal: bool = False, transient: bool = False) -> None:
        super().__init__(reason)
        self.kind, self.fatal, self.transient = kind, fatal, transient


@dataclass
class LabelRows:
    """What one label file holds: class ids (n, 1), boxes xywh (n, 4), polygons where all rows have one, findings.

    `truth` (m, 8) is there where an evaluation compares with more than what is trained on: a row for each object and
    crowd region, see `TRUTH_COLUMNS`.
    """

    cls: Float32Array = field(default_factory=lambda: np.zeros((0, 1), np.float32))
    bboxes: Float32Array = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    segments: list[Float32Array] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)
    truth: Float64Array | None = None


@dataclass
class Scan:
    """Labels of a split's usable images, findings, and counts found / missing / empty / corrupt / total.

    `transient` is the number of images that are left out since the system did not hand out a file.
    """

    labels: Sequence[LabelDict]
    issues: list[Issue]
    counts: dict[str, int]
    transient: int = 0


# ---- one row ----------------------------------------------------------------------------------------------------


def parse_row(text: str, nc: int, single_cls: bool = False) -> tuple[int, list[float], Float32Array | None]:
    """Parse one row into (class id, [cx, cy, w, h] cut off at the frame, polygon (P, 2) or None); raise RowError.

    >>> parse_row("2 0.5 0.5 0.2 0.4", nc=3)
    (2, [0.5, 0.5, 0.2, 0.4], None)
    """
    class_id, box, polygon = _read_row(text, nc, single_cls)
    return class_id, inside(box), polygon


def _read_row(text: str, nc: int, single_cls: bool) -> tuple[int, list[float], Float32Array | None]:
    """Parse one row; a box that reaches beyond the image stays as it is."""
    tokens = text.split()
    if len(tokens) != 5 and (len(tokens) < 7 or len(tokens) % 2 == 0):
        raise RowError(
            "columns", f"{len(tokens)} columns, need 5 (class cx cy w h) or 1 + 2 x points for a polygon", fatal=True
        )
    try:
        numbers = [float(token) for token in tokens]
    except ValueError:
        raise RowError("number", f"'{text.strip()[:40]}' holds something that is not a number") from None
    if not all(math.isfinite(v) for v in numbers):
        raise RowError("number", "a value is not finite")
    class_id = _class_id(numbers[0], nc, single_cls)
    if len(numbers) == 5:
        return class_id, checked_box(numbers[1:]), None
    polygon = checked_polygon(numbers[1:])
    return class_id, frame_of(polygon), polygon


def checked_box(values: list[float]) -> list[float]:
    """Return cx, cy, w, h as fractions; raise RowError where these are not a box of the image."""
    _check_range(values, is_box=True)
    return values


def checked_polygon(values: Sequence[float]) -> Float32Array:
    """Return x1, y1, x2, y2, ... as points (P, 2), cut off at the frame; raise RowError when they are far outside."""
    _check_range(values, is_box=False)
    return np.clip(np.asarray(values, np.float32).reshape(-1, 2), 0, 1)  # (P, 2)


def frame_of(polygon: Float32Array) -> list[float]:
    """Return the box cx, cy, w, h around a polygon (P, 2)."""
    (x1, y1), (x2, y2) = polygon.min(0).tolist(), polygon.max(0).tolist()
    return [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]


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


def inside(box: Sequence[float]) -> list[float]:
    """Cut a box off at the image's frame; raise RowError where nothing is left."""
    cx, cy, w, h = box
    x1, y1, x2, y2 = cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2
    if min(x1, y1) < 0 or max(x2, y2) > 1:
        x1, y1, x2, y2 = max(x1, 0.0), max(y1, 0.0), min(x2, 1.0), min(y2, 1.0)
        cx, cy, w, h = (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
    if w <= 0 or h <= 0:
        raise RowError("area", "box without area inside the image")
    return [cx, cy, w, h]


def overhang(box: Sequence[float]) -> float:
    """Return how far a box cx, cy, w, h reaches beyond the image, as a part of its side; 0 when it is inside."""
    cx, cy, w, h = box
    return max(w / 2 - cx, h / 2 - cy, cx + w / 2 - 1, cy + h / 2 - 1, 0.0)


def cut_reason(box: Sequence[float]) -> tuple[str, str] | None:
    """Return kind and reason of a finding about a box that reaches clearly beyond the image; None when it does not.

    >>> cut_reason([0.5, 0.5, 0.2, 0.2])
    >>> cut_reason([0.2, 0.3, 0.8, 0.9])[0], cut_reason([0.9, 0.5, 0.6, 0.1])[0], cut_reason([0.9, 0.5, 0.3, 0.4])[0]
    ('corners', 'axes', 'cut')
    """
    over = overhang(box)
    if over <= CUT:
        return None
    text = f"box reaches {over:.0%} beyond the image and is cut off"
    cx, cy, w, h = box
    if w > cx and h > cy:
        return "corners", f"{text}; it looks like corners x1 y1 x2 y2 instead of cx cy w h"
    if overhang((cx, cy, h, w)) <= TOLERANCE:
        return "axes", f"{text}; with width and height exchanged it would fit"
    return "cut", text


# ---- one file ---------------------------------------------------------------------------------------------------


class RowCollector:
    """Gathers the good rows of one file and the findings about the others; a repeated row is left out and reported."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.issues: list[Issue] = []
        self._classes: list[list[int]] = []
        self._boxes: list[list[float]] = []
        self._polygons: list[Float32Array | None] = []
        self._seen: set[tuple[Any, ...]] = set()

    def __len__(self) -> int:
        """Return how many rows were taken."""
        return len(self._boxes)

    def add(self, line: int, class_id: int, box: Sequence[float], polygon: Float32Array | None, name: str = "") -> None:
        """Take a checked row, cut off at the frame; raise RowError when nothing of its box is left.

        `name` identifies the row in a finding where the line does not.
        """
        suspicion, box = cut_reason(box), inside(box)
        if suspicion is not None:
            self.issue(line, suspicion[0], name + suspicion[1])
        key = (class_id, *(box if polygon is None else polygon.ravel().tolist()))
        if key in self._seen:
            self.issue(line, "duplicate", f"{name}the same object as an earlier row")
            return
        self._seen.add(key)
        self._classes.append([class_id])
        self._boxes.append(list(box))
        self._polygons.append(polygon)

    def issue(self, line: int, kind: str, reason: str, fatal: bool = False) -> None:
        """Report a row, or with line 0 the file."""
        self.issues.append(Issue(self.file, line, kind, reason, fatal))

    def rows(self, mixed_ok: bool = False) -> LabelRows:
        """Return the rows. A file that mixes boxes and polygons gives boxes only, with a finding unless `mixed_ok`."""
        rows = LabelRows(issues=self.issues)
        if self._boxes:
            rows.cls, rows.bboxes = np.asarray(self._classes, np.float32), np.asarray(self._boxes, np.float32)
            polygons = [p for p in self._polygons if p is not None]
            rows.segments = polygons if len(polygons) == len(self._boxes) else []
            if polygons and not rows.segments and not mixed_ok:
                self.issue(0, "mixed", f"{len(polygons)} of {len(self._boxes)} rows are polygons: boxes only are used")
        return rows


def parse_labels(text: str, nc: int, file: str = "<text>", single_cls: bool = False) -> LabelRows:
    """Parse a label file's text; bad and repeated rows are left out and reported with their line.

    Rows keep their order. A file that mixes boxes and polygons gives boxes only.
    """
    plain = None if single_cls else _plain_boxes(text, nc)
    if plain is not None:
        return plain
    collector = RowCollector(file)
    for line, row in enumerate(text.splitlines(), 1):
        if not row.strip():
            continue
        try:
            collector.add(line, *_read_row(row, nc, single_cls))
        except RowError as error:
            collector.issue(line, error.kind, str(error), error.fatal)
    return collector.rows()


def _plain_boxes(text: str, nc: int) -> LabelRows | None:
    """Return the rows of a file that holds nothing but different boxes, all of them valid and inside the image.

    None for any other file: it is read row by row, which gives the same and takes twice as long.
    """
    rows = [row.split() for row in text.splitlines()]
    try:
        values = [tuple(map(float, row)) for row in rows if row]
    except ValueError:
        return None
    if not values or any(len(row) != 5 for row in values) or len(set(values)) != len(values):
        return None
    table = np.asarray(values)
    ids, half, centre = table[:, 0], table[:, 3:] / 2, table[:, 1:3]
    known = (ids >= 0) & (ids < nc) & (ids == np.floor(ids))
    if not (known.all() and (half > 0).all() and (centre >= half).all() and (centre + half <= 1).all()):
        return None
    return LabelRows(table[:, :1].astype(np.float32), table[:, 1:].astype(np.float32))


@dataclass
class VerifiedImage:
    """One image with its labels, verified; `shape` is None when the image cannot be used."""

    im_file: str
    shape: tuple[int, int] | None
    rows: LabelRows
    state: str  # found, empty, missing, corrupt, or foreign: an image of another split
    transient: bool = False  # whether it is corrupt only since the system did not hand out a file


def verify_pair(im_file: str, label_file: str, nc: int, single_cls: bool = False) -> VerifiedImage:
    """Check one image and its label file; nothing on disk is changed."""

    def read(shape: tuple[int, int]) -> LabelRows | None:
        try:
            status = os.stat(label_file)
            if status.st_size > MAX_LABEL_BYTES:
                raise RowError("unreadable", f"label file is larger than {MAX_LABEL_BYTES >> 20} MiB")
            if stat.S_ISFIFO(status.st_mode):  # reading it would wait for a writer
                raise RowError("unreadable", "label file is a pipe")
            text = Path(label_file).read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            transient = is_transient(error)
            raise RowError("unreadable", f"label file cannot be read: {error}", transient=transient) from None
        return parse_labels(text, nc, label_file, single_cls)

    return verify_rows(im_file, label_file, read)


def verify_rows(im_file: str, label_file: str, read: Callable[[tuple[int, int]], LabelRows | None]) -> VerifiedImage:
    """Check one image; `read` gives its rows from its shape (h, w), or None, or raises RowError for all of them."""
    try:
        shape = probe(im_file)
    except ValueError as error:
        return _unusable(im_file, Issue(im_file, 0, "image", str(error)), isinstance(error, TemporaryReadError))
    try:
        rows = read(shape)
    except RowError as error:
        return _unusable(im_file, Issue(label_file, 0, error.kind, str(error)), error.transient)
    return _classify(im_file, shape, rows)


def _unusable(im_file: str, issue: Issue, transient: bool) -> VerifiedImage:
    return VerifiedImage(im_file, None, LabelRows(issues=[issue]), "corrupt", transient)


def _classify(im_file: str, shape: tuple[int, int], rows: LabelRows | None) -> VerifiedImage:
    """Return an image with its rows and the state in which it is counted."""
    if rows is None:
        return VerifiedImage(im_file, shape, LabelRows(), "missing")
    if not len(rows.bboxes) and any(issue.kind not in HARMLESS for issue in rows.issues):
        # All rows were bad: as a background image it would teach the network to see nothing there.
        rows.issues.append(Issue(im_file, 0, "labels", "image left out: none of its label rows can be used"))
        return VerifiedImage(im_file, None, rows, "corrupt")
    return VerifiedImage(im_file, shape, rows, "found" if len(rows.bboxes) else "empty")


# ---- a split ----------------------------------------------------------------------------------------------------


def scan_images(im_files: Sequence[str], verify: Callable[[str], VerifiedImage], desc: str = "") -> Scan:
    """Verify all images, in threads where that pays; the result is in the order of the images."""
    pairs: list[VerifiedImage] = []
    bar: ProgressBar[None] = ProgressBar(total=len(im_files), desc=desc)
    with gc_paused(), bar:
        for chunk in _verify_all(im_files, verify):
            pairs += chunk
            bar.update(len(chunk))
        counts = _count(pairs)
        bar.set_description(f"{desc} {describe(counts)}")
        labels = LabelTable.from_images(
            [
                ParsedLabels(p.im_file, p.shape, p.rows.cls, p.rows.bboxes, p.rows.segments, p.rows.truth)
                for p in pairs
                if p.shape is not None
            ]
        )
    return Scan(labels, [issue for p in pairs for issue in p.rows.issues], counts, sum(p.transient for p in pairs))


def _verify_all(im_files: Sequence[str], verify: Callable[[str], VerifiedImage]) -> Iterator[list[VerifiedImage]]:
    """Yield the pairs, a chunk at a time: one after another while they are quick, and from threads once they are not.

    Quick ones, read from the system's cache, are work of the interpreter alone: eight threads that wait for it in turn
    took twice as long as one (10,000 images, 2 cores).
    """
    chunks = [im_files[i : i + _CHUNK] for i in range(0, len(im_files), _CHUNK)]

    def run(files: Sequence[str]) -> list[VerifiedImage]:
        return [verify(f) for f in files]

    for i, chunk in enumerate(chunks):
        start = time.perf_counter()
        pairs = run(chunk)
        slow = time.perf_counter() - start > _QUICK_S * len(chunk)
        yield pairs
        if slow:
            with ThreadPoolExecutor(_THREADS) as pool:
                yield from pool.map(run, chunks[i + 1 :])
            return


@contextmanager
def gc_paused() -> Iterator[None]:
    """Pause the garbage collector while many objects that all stay are made: it would visit all of them again.

    They then count as old, as if it had; unless there are frozen objects, which belong to the caller.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            if not gc.get_freeze_count():
                gc.freeze()
                gc.unfreeze()  # to the oldest generation
            gc.enable()


def describe(counts: dict[str, int]) -> str:
    """Return the counts of a scan as the progress line shows them."""
    return f"{counts['found']} images, {counts['missing'] + counts['empty']} backgrounds, {counts['corrupt']} corrupt"


def check_strict(issues: Iterable[Issue]) -> None:
    """Raise DatasetError at the first label row that a run must not silently leave out."""
    fatal = [issue for issue in issues if issue.fatal]
    if fatal:
        files = len({issue.file for issue in fatal})
        remedy = {
            "class": "correct the class id, or name all classes under 'names:' in the data YAML",
            "columns": "correct the row: class cx cy w h, as fractions of the image",
            "negative": "correct the row: cx cy w h are fractions of the image from 0 to 1, w and h above 0",
        }[fatal[0].kind]
        raise DatasetError(
            str(fatal[0]), remedy, f"{len(fatal)} label row(s) in {files} file(s) stop the run like this one"
        )


def _count(pairs: Sequence[VerifiedImage]) -> dict[str, int]:
    counts = dict.fromkeys(IMAGE_STATES, 0)
    counted = [pair for pair in pairs if pair.state != "foreign"]
    for pair in counted:
        counts[pair.state] += 1
    return {**counts, "total": len(counted)}
