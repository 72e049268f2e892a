"""COCO's JSON: one file with the images, categories and annotations of a split.

Boxes are left, top, width, height in pixels of the image that the file describes. Shape legend: P polygon points.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Any

import numpy as np

from ultralytics.data.formats.base import LabelReader, Split
from ultralytics.data.labels import (
    FloatArray,
    Issue,
    LabelRows,
    Pair,
    RowCollector,
    RowError,
    checked_box,
    checked_polygon,
    verify_image,
)
from ultralytics.utils.errors import DatasetError

MAX_BYTES = 8 << 30
ASPECT_TOLERANCE = 0.02  # of the noted aspect: a resized copy of the labelled image still has it


@dataclass
class _Entry:
    """One image of the file: name, noted (w, h) or zeros, its annotations."""

    name: str
    size: tuple[float, float]
    annotations: list[Mapping[str, Any]] = field(default_factory=list)


class CocoReader(LabelReader):
    """Labels from a JSON file; images are found in it by their path below the split's folder, or by a unique name.

    The file is read when the first image is verified, so a cached scan never opens it. Crowd regions and ignored
    annotations are left out, since they are no single objects.

    Raises:
        DatasetError: the file is no COCO annotation file.
    """

    format = "coco"

    def __init__(self, split: Split, file: str | Path) -> None:
        super().__init__(split)
        self.file = str(file)
        self.label_files = [self.file]
        self._lock = Lock()
        self._table: dict[str, _Entry | None] | None = None
        self._classes: dict[Any, int] = {}
        self._general: list[Issue] = []
        self._used: set[str] = set()

    def cache_folder(self) -> Path:
        """Return the JSON's path without its suffix, with the images' folder: one JSON may serve several splits."""
        folder = Path(self.split.im_files[0]).parent.name
        return Path(self.file).with_suffix(f".{folder}")

    def verify(self, im_file: str) -> Pair:
        """Check one image and take its annotations out of the JSON."""
        entry = self._find(im_file)
        if entry is None:
            reason = f"the image is not listed in {self.file}"
            return Pair(im_file, None, LabelRows(issues=[Issue(im_file, 0, "unlisted", reason)]), "corrupt")
        return verify_image(im_file, self.file, lambda shape: self._rows(entry, shape))

    def leftover(self) -> list[Issue]:
        """Return what the file says about images or categories that do not exist."""
        table = self._index()
        entries = {e.name: e for e in table.values() if e is not None}
        absent = [name for name in entries if name not in self._used and not self._elsewhere(name)]
        return [
            *self._general,
            *(Issue(self.file, 0, "missing", f"image '{name}' is listed but not there") for name in absent),
        ]

    def _elsewhere(self, name: str) -> bool:
        """Return whether a listed image exists though the split (a list or a fraction, say) does not take it."""
        sources = [self.split.source, *(self.split.options.get(key, ()) for key in ("train", "val", "test", "path"))]
        roots = {os.path.dirname(f) for f in self.split.im_files[:1]} | {f for s in sources for f in _folders(s)}
        return any(os.path.exists(os.path.join(root, name)) for root in roots)

    # -- the file --

    def _index(self) -> dict[str, _Entry | None]:
        with self._lock:
            if self._table is None:
                self._table = self._read()
            return self._table

    def _read(self) -> dict[str, _Entry | None]:
        """Return the entries by path and by bare name; None stands for a name that several images share."""
        content = load_coco(self.file)
        self._classes = match_categories(content["categories"], self.split.names)
        by_id: dict[Any, _Entry] = {}
        for image in content["images"]:
            size = (_number(image.get("width")), _number(image.get("height")))
            by_id[image.get("id")] = _Entry(str(image.get("file_name", "")), size)
        for annotation in content["annotations"]:
            entry = by_id.get(annotation.get("image_id"))
            if entry is None:
                reason = f"annotation {annotation.get('id')} belongs to image {annotation.get('image_id')}, not listed"
                self._general.append(Issue(self.file, 0, "category", reason))
            else:
                entry.annotations.append(annotation)
        table: dict[str, _Entry | None] = {}
        for entry in by_id.values():
            name = PurePosixPath(entry.name.replace("\\", "/"))
            table[str(name)] = entry
            if name.name != str(name):
                table[name.name] = None if name.name in table else entry
        return table

    def _find(self, im_file: str) -> _Entry | None:
        """Return the image's entry: the longest end of its path that the file knows."""
        table = self._index()
        parts = Path(im_file).parts
        for i in range(max(1, len(parts) - 6), len(parts)):
            entry = table.get("/".join(parts[i:]))
            if entry is not None:
                self._used.add(entry.name)
                return entry
        return None

    # -- one image --

    def _rows(self, entry: _Entry, shape: tuple[int, int]) -> LabelRows | None:
        if not entry.annotations:
            return None
        rows = RowCollector(self.file)
        w, h = noted_size(entry.size, shape)
        for annotation in entry.annotations:
            name = f"annotation {annotation.get('id')} of {entry.name}: "
            try:
                self._add(rows, annotation, (w, h), name)
            except RowError as error:
                rows.issue(0, error.kind, f"{name}{error}", error.fatal)
        return rows.rows(mixed_ok=True)  # masks in run lengths are boxes here

    def _add(self, rows: RowCollector, annotation: Mapping[str, Any], size: tuple[float, float], name: str) -> None:
        if annotation.get("iscrowd") or annotation.get("ignore"):
            raise RowError("crowd", "a crowd or ignored region is left out")
        if annotation.get("category_id") not in self._classes:
            raise RowError("category", f"category {annotation.get('category_id')} is not listed")
        class_id = self._classes[annotation["category_id"]]
        if class_id < 0:
            known = ", ".join(map(str, list(self.split.names.values())[:8]))
            reason = f"category {annotation['category_id']} is not among the data YAML's names ({known})"
            raise RowError("class", reason, fatal=True)
        box = checked_box(_box(annotation.get("bbox"), size))
        polygon = _polygon(annotation.get("segmentation"), size)
        rows.add(0, 0 if self.split.single_cls else class_id, box, polygon, name)


def load_coco(file: str | Path) -> dict[str, Any]:
    """Read an annotation file and check its three tables `images`, `categories` and `annotations`.

    Raises:
        DatasetError: unreadable, not JSON, or without these tables.
    """
    try:
        if os.path.getsize(file) > MAX_BYTES:
            raise DatasetError(f"{file}: more than {MAX_BYTES >> 30} GiB of JSON", "split the annotation file")
        with open(file, encoding="utf-8-sig") as stream:
            content = json.load(stream)
    except json.JSONDecodeError as error:
        raise DatasetError(f"{file}:{error.lineno}: not well-formed JSON: {error.msg}", "export it again") from None
    except (OSError, UnicodeDecodeError, RecursionError, MemoryError) as error:
        raise DatasetError(f"{file}: cannot be read: {error}", "need COCO's JSON in UTF-8") from None
    for key in ("images", "categories", "annotations"):
        rows = content.get(key) if isinstance(content, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise DatasetError(f"{file}: no table '{key}'", "a COCO file has images, categories and annotations")
    return content


def category_names(file: str | Path) -> dict[int, str]:
    """Return the classes of an annotation file: 0, 1, 2, ... in the order of its category ids, which may have gaps."""
    categories = load_coco(file)["categories"]
    ordered = sorted(categories, key=lambda c: (str(type(c.get("id"))), c.get("id")))
    return {i: str(c.get("name", c.get("id"))) for i, c in enumerate(ordered)}


def match_categories(categories: Sequence[Mapping[str, Any]], names: Mapping[int, str]) -> dict[Any, int]:
    """Return {category id: class}, matched by name whatever the case; -1 where the data YAML has no such name.

    >>> match_categories([{"id": 7, "name": "Cat"}, {"id": 90, "name": "dog"}], {0: "dog", 1: "cat"})
    {7: 1, 90: 0}
    """
    exact = {str(name): i for i, name in names.items()}
    folded = {str(name).strip().casefold(): i for i, name in names.items()}
    found = {}
    for category in categories:
        name = str(category.get("name", ""))
        found[category.get("id")] = exact.get(name, folded.get(name.strip().casefold(), -1))
    return found


def noted_size(noted: tuple[float, float], shape: tuple[int, int]) -> tuple[float, float]:
    """Return the (w, h) in which boxes are given: the noted one if it has the aspect of the image's shape (h, w).

    Raises:
        RowError: another aspect: the labels belong to another picture, or to one that was not turned upright.
    """
    w, h = noted
    if w <= 0 or h <= 0:
        return float(shape[1]), float(shape[0])
    if abs(w / h / (shape[1] / shape[0]) - 1) > ASPECT_TOLERANCE and max(abs(w - shape[1]), abs(h - shape[0])) > 1:
        raise RowError("size", f"labels are for {w:g}x{h:g} px, the image has {shape[1]}x{shape[0]}")
    return w, h


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and np.isfinite(value) else 0.0


def _box(box: Any, size: tuple[float, float]) -> list[float]:
    """Return COCO's left, top, width, height in pixels as cx, cy, w, h in parts of the image."""
    if not isinstance(box, list) or len(box) != 4:
        raise RowError("columns", f"bbox {str(box)[:40]} needs 4 numbers: left, top, width, height", fatal=True)
    if not all(isinstance(v, (int, float)) and np.isfinite(v) for v in box):
        raise RowError("number", f"bbox {str(box)[:40]} holds something that is not a number")
    (x, y, w, h), (width, height) = box, size
    return [(x + w / 2) / width, (y + h / 2) / height, w / width, h / height]


def _polygon(segmentation: Any, size: tuple[float, float]) -> FloatArray | None:
    """Return the outline (P, 2) in parts of the image; None for masks in run lengths and for damaged outlines."""
    if not isinstance(segmentation, list):
        return None
    try:
        parts = [np.asarray(p, np.float64).reshape(-1, 2) / size for p in segmentation]  # (P, 2)
        outline = join_outlines([p for p in parts if len(p) >= 3])
        return checked_polygon(outline.ravel().tolist()) if len(outline) and np.isfinite(outline).all() else None
    except (ValueError, TypeError, RowError):
        return None


def join_outlines(parts: Sequence[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """Join several outlines (P, 2) to one that goes to each part and back on the same line, which adds no area."""
    if not parts:
        return np.zeros((0, 2))
    if len(parts) == 1:
        return parts[0]
    first = parts[0][:1]
    loops = [np.concatenate([p, p[:1], first]) for p in parts[1:]]
    return np.concatenate([parts[0], first, *loops])


def _folders(source: Any) -> list[str]:
    sources = [source] if isinstance(source, (str, Path)) else list(source)
    return [str(s) for s in sources if os.path.isdir(s)]
