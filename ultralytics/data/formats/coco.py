"""COCO's JSON: one file with the images, categories and annotations of a split.

Boxes are left, top, width, height in pixels of the image that the file describes. Shapes: P polygon points.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, TypeGuard

import numpy as np

from ultralytics.data.formats.base import LabelReader, Split
from ultralytics.data.formats.listing import Matches, match_images, plain_name
from ultralytics.data.labels.parse import (
    TRUTH_COLUMNS,
    Issue,
    LabelRows,
    RowCollector,
    RowError,
    VerifiedImage,
    checked_box,
    checked_polygon,
    verify_rows,
)
from ultralytics.utils.errors import DatasetError
from ultralytics.utils.torch_tools.arrays import Float32Array, Float64Array

MAX_NAME = 200  # letters of an id that are compared
MAX_JSON_BYTES = 8 << 30
MATCHING = 2  # number of the rules by which images are found; others make a cached scan invalid
ASPECT_TOLERANCE = 0.02  # of the noted aspect: a resized copy of the labelled image still has it


@dataclass
class _Entry:
    """One image of the file: name, noted (w, h) or zeros, its annotations."""

    name: str
    size: tuple[float, float]
    id: Any = None
    annotations: list[Mapping[str, Any]] = field(default_factory=list)


@dataclass
class _Listing:
    """Content of the file: the entries by plain name, those of the split's images, findings about the file."""

    entries: dict[str, _Entry]
    matches: Matches
    issues: list[Issue]


def _is_set(flag: object) -> bool:
    """Whether a flag of an annotation is set; some tools write it as a string, "0" or "false"."""
    return bool(flag) and str(flag).strip().lower() not in {"0", "0.0", "false", "no", ""}


class CocoReader(LabelReader):
    """Labels from a JSON file; images are found in it by their path below the split's folder, or by a unique name.

    The file is read when the first image is verified, so a cached scan never opens it. Crowd regions and annotations
    marked `ignore` are not training targets; the `truth` of an image, with which an evaluation compares, holds all that
    pycocotools would take from the file, with the areas that it states. `others` are the files of splits that have
    the same source: an image that only they list is not in this split.

    Raises:
        DatasetError: the file is not a COCO annotation file.
    """

    format = "coco"

    def __init__(self, split: Split, file: str | Path, others: Iterable[str | Path] = ()) -> None:
        super().__init__(split)
        self.file = str(file)
        self._others = [CocoReader(split, other) for other in others]
        self.label_files = [self.file, *(other.file for other in self._others)]
        self._lock = Lock()
        self._listing: _Listing | None = None
        self._classes: dict[Any, int] = {}
        self._by_key: dict[str, int] = {}

    def options(self) -> Mapping[str, Any]:
        """Return the number of the rules of matching."""
        return {"matching": MATCHING}

    def cache_folder(self) -> Path:
        """Return the JSON's path without its suffix, with the images' folder: one JSON may serve several splits."""
        folder = Path(self.split.im_files[0]).parent.name or "images"
        return Path(self.file).with_suffix(f".{folder}")

    def verify(self, im_file: str) -> VerifiedImage:
        """Check one image and take its annotations out of the JSON."""
        entry = self._find(im_file)
        if entry is None:
            return self._without_entry(im_file)
        pair = verify_rows(im_file, self.file, lambda shape: self._rows(entry, shape))
        if pair.rows.truth is None:
            pair.rows.truth = _truth([])
        return pair

    def _without_entry(self, im_file: str) -> VerifiedImage:
        if self.is_foreign(im_file):
            return VerifiedImage(im_file, None, LabelRows(), "foreign")
        reason = f"the image is not listed in {self.file}"
        name = self._index().matches.ambiguous.get(im_file)
        if name is not None:
            reason = f"'{name}' in {self.file} may mean this image or another of that name"
        return VerifiedImage(im_file, None, LabelRows(issues=[Issue(im_file, 0, "unlisted", reason)]), "corrupt")

    def is_foreign(self, im_file: str) -> bool:
        """Return whether an image belongs to another split of the same folder: this file does not list it."""
        return self._find(im_file) is None and any(other._find(im_file) is not None for other in self._others)

    def image_id(self, im_file: str) -> Any:
        """Return the id that the file gives an image, None for an image that it does not list."""
        entry = self._find(im_file)
        return None if entry is None else entry.id

    def category_ids(self) -> dict[int, Any]:
        """Return {class: category id} as the file has them."""
        self._index()
        return {c: category for category, c in reversed(self._classes.items()) if c >= 0}

    def leftover(self) -> list[Issue]:
        """Return findings about listed images or categories that do not exist."""
        listing = self._index()
        matched = {*listing.matches.found.values(), *listing.matches.ambiguous.values()}
        roots = [os.path.dirname(f) for f in self.split.im_files[:1]] + _roots(self.split)
        absent = [
            entry.name
            for name, entry in listing.entries.items()
            if name not in matched and not any(os.path.exists(os.path.join(root, entry.name)) for root in roots)
        ]
        missing = (Issue(self.file, 0, "missing", f"image '{name}' is listed but not there") for name in absent)
        return [*listing.issues, *missing]

    # -- the file --

    def _index(self) -> _Listing:
        with self._lock:
            if self._listing is None:
                self._listing = self._read()
            return self._listing

    def _read(self) -> _Listing:
        content = load_coco(self.file)
        self._classes = match_categories(content["categories"], self.split.names)
        if self.split.single_cls:  # as in YOLO's format: whatever it is, it is an object
            self._classes = {category: max(c, 0) for category, c in self._classes.items()}
        self._by_key = {_id_key(category): c for category, c in self._classes.items()}
        by_id: dict[str, _Entry] = {}
        issues = [] if self.split.single_cls else same_names(self.file, self.split.names, self._classes)
        for image in content["images"]:
            size = (_number(image.get("width")), _number(image.get("height")))
            entry = _Entry(str(image.get("file_name", "")), size, image.get("id"))
            first = by_id.setdefault(_id_key(entry.id), entry)
            if first is not entry:
                reason = f"image id {entry.id} of '{entry.name}' is that of '{first.name}' already"
                issues.append(Issue(self.file, 0, "listed", reason))
        for annotation in content["annotations"]:
            owner = by_id.get(_id_key(annotation.get("image_id")))
            if owner is None:
                reason = f"annotation {annotation.get('id')} belongs to image {annotation.get('image_id')}, not listed"
                issues.append(Issue(self.file, 0, "category", reason))
            else:
                owner.annotations.append(annotation)
        entries = self._by_name(by_id.values(), issues)
        own = _folders(self.split.source)
        return _Listing(entries, match_images(self.split.im_files, entries, own, _roots(self.split)), issues)

    def _by_name(self, entries: Iterable[_Entry], issues: list[Issue]) -> dict[str, _Entry]:
        """Return the entries by plain name; several of one name and size become one, with all their annotations."""
        table: dict[str, _Entry] = {}
        for entry in entries:
            first = table.setdefault(plain_name(entry.name), entry)
            if first is entry:
                continue
            what = "their annotations are joined"
            if first.size == entry.size:
                first.annotations += entry.annotations
            else:
                what = "the later one, of another size, is left out"
            reason = f"image '{entry.name}' is listed as id {first.id} and as id {entry.id}: {what}"
            issues.append(Issue(self.file, 0, "listed", reason))
        return table

    def _find(self, im_file: str) -> _Entry | None:
        """Return the image's entry, None where the file lists no such image."""
        listing = self._index()
        name = listing.matches.found.get(im_file)
        if name is None and im_file not in self._images:
            single = match_images([im_file], listing.entries, _folders(self.split.source), _roots(self.split))
            name = single.found.get(im_file)
        return None if name is None else listing.entries[name]

    @cached_property
    def _images(self) -> frozenset[str]:
        return frozenset(self.split.im_files)

    # -- one image --

    def _rows(self, entry: _Entry, shape: tuple[int, int]) -> LabelRows | None:
        if not entry.annotations:
            return None
        rows = RowCollector(self.file)
        noted = noted_size(entry.size, shape)
        gain = np.array((shape[1], shape[0]) * 2, np.float64) / (noted * 2)  # 1 but for a resized copy of the image
        truth: list[list[float]] = []
        for annotation in entry.annotations:
            name = f"annotation {annotation.get('id')} of {entry.name}: "
            before = len(rows)
            try:
                self._add(rows, annotation, noted, name)
            except RowError as error:
                rows.issue(0, error.kind, f"{name}{error}", error.fatal)
            truth += self._truth_row(annotation, gain, before if len(rows) > before else -1)
        labels = rows.rows(mixed_ok=True)  # masks in run lengths are boxes here
        labels.truth = _truth(truth)
        return labels

    def _add(self, rows: RowCollector, annotation: Mapping[str, Any], size: tuple[float, float], name: str) -> None:
        if _is_set(annotation.get("iscrowd")):
            raise RowError("crowd", "a crowd region is not a training target; validation ignores what lies in it")
        if _is_set(annotation.get("ignore")):
            raise RowError("crowd", "an annotation marked 'ignore' is not a training target")
        class_id = self._class_of(annotation)
        if class_id is None:
            raise RowError("category", f"category {annotation.get('category_id')!s:.40} is not listed")
        if class_id < 0:
            known = ", ".join(map(str, list(self.split.names.values())[:8]))
            reason = f"category {annotation['category_id']} is not among the data YAML's names ({known})"
            raise RowError("class", reason, fatal=True)
        box = checked_box(_box(annotation.get("bbox"), size))
        polygon = _polygon(annotation.get("segmentation"), size)
        rows.add(0, 0 if self.split.single_cls else class_id, box, polygon, name)

    def _class_of(self, annotation: Mapping[str, Any]) -> int | None:
        """Return the class of an annotation's category, -1 where it has no name here, None where it is not listed."""
        return self._by_key.get(_id_key(annotation.get("category_id")))

    def _truth_row(self, annotation: Mapping[str, Any], gain: Float64Array, row: int) -> list[list[float]]:
        """Return the annotation as a row of `TRUTH_COLUMNS`, none where it has no class or no box.

        As in pycocotools it need not lie within the image, nor be trained on; `ignore` has no effect there.
        """
        class_id = self._class_of(annotation)
        try:
            x, y, w, h = _ltwh(annotation.get("bbox"))
        except RowError:
            return []
        if class_id is None or class_id < 0 or min(w, h) < 0:
            return []
        stated = annotation.get("area")
        area = float(stated) if _is_finite(stated) else w * h
        corners = (np.array([x, y, x + w, y + h]) * gain).tolist()
        label = 0 if self.split.single_cls else class_id
        return [[label, *corners, area * gain[0] * gain[1], _is_set(annotation.get("iscrowd")), row]]


def _truth(rows: Sequence[Sequence[float]]) -> Float64Array:
    return np.asarray(rows, np.float64).reshape(-1, len(TRUTH_COLUMNS))  # (M, 8)


def load_coco(file: str | Path) -> dict[str, Any]:
    """Read an annotation file and check its three tables `images`, `categories` and `annotations`.

    Raises:
        DatasetError: unreadable, not JSON, or without these tables.
    """
    try:
        if os.path.getsize(file) > MAX_JSON_BYTES:
            raise DatasetError(f"{file}: more than {MAX_JSON_BYTES >> 30} GiB of JSON", "split the annotation file")
        with open(file, encoding="utf-8-sig") as stream:
            content = json.load(stream)
    except json.JSONDecodeError as error:
        raise DatasetError(f"{file}:{error.lineno}: not well-formed JSON: {error.msg}", "export it again") from None
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        raise DatasetError(f"{file}: cannot be read: {error}", "need COCO's JSON in UTF-8") from None
    for key in ("images", "categories", "annotations"):
        rows = content.get(key) if isinstance(content, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise DatasetError(f"{file}: no table '{key}'", "a COCO file has images, categories and annotations")
    return content


def category_names(file: str | Path) -> dict[int, str]:
    """Return the classes of an annotation file: 0, 1, 2, ... in the order of its category ids, which may have gaps."""
    ordered = sorted(load_coco(file)["categories"], key=_by_id)
    return {i: str(c.get("name", c.get("id"))) for i, c in enumerate(ordered)}


def _by_id(category: Mapping[str, Any]) -> tuple[bool, float, str]:
    number = category.get("id")
    return (False, number, "") if _is_finite(number) else (True, 0.0, str(number)[:MAX_NAME])


def _id_key(value: Any) -> str:
    """Return an id for comparison: some tools write the ids of one table as numbers and of another as strings."""
    return str(int(value)) if _is_finite(value) and value == int(value) else str(value)[:MAX_NAME].strip()


def _is_finite(value: Any) -> TypeGuard[float]:
    """Whether a value is a number that a float can hold."""
    try:
        return isinstance(value, (int, float)) and math.isfinite(value)
    except OverflowError:  # an integer of hundreds of digits
        return False


def match_categories(categories: Sequence[Mapping[str, Any]], names: Mapping[int, str]) -> dict[Any, int]:
    """Return {category id: class}, matched by name; -1 where the data YAML has no such name.

    The case counts only where it distinguishes classes. As many categories as classes of one name go in their order.

    >>> match_categories([{"id": 7, "name": "Cat"}, {"id": 90, "name": "dog"}], {0: "dog", 1: "cat"})
    {7: 1, 90: 0}
    >>> match_categories([{"id": 7, "name": "x"}, {"id": 5, "name": "x"}], {0: "x", 1: "x"})
    {5: 0, 7: 1}
    """
    class_of = ClassNames(names)
    classes: dict[Any, int] = {}
    seen: Counter[str] = Counter()
    total = Counter(str(c.get("name", c.get("id"))) for c in categories)
    for category in sorted(categories, key=_by_id):
        name = str(category.get("name", category.get("id")))
        same = class_of.exact.get(name, [])
        index = seen[name] if len(same) == total[name] else 0
        classes[_hashable(category.get("id"))] = same[index] if same else class_of.find(name)
        seen[name] += 1
    return classes


def same_names(file: str, names: Mapping[int, str], classes: Mapping[Any, int]) -> list[Issue]:
    """Return findings about classes of an earlier one's name, and about categories {id: class} that become one."""
    first = {name: i for i, name in reversed(list(names.items()))}
    lost = [i for i in names if first[names[i]] != i and i not in classes.values()]
    reasons = [f"class {i} has the name '{names[i]}' of class {first[names[i]]}, which gets its objects" for i in lost]
    for i, name in names.items():
        same = [str(category) for category, c in classes.items() if c == i]
        if len(same) > 1:
            reasons.append(f"categories {', '.join(same)} all become class {i} '{name}'")
    return [Issue(file, 0, "merged", reason) for reason in reasons]


def _hashable(value: Any) -> Any:
    return value if isinstance(value, (str, int, float, type(None))) else str(value)[:MAX_NAME]


class ClassNames:
    """The classes of a data YAML by name; `exact` holds all of each name as it is written."""

    def __init__(self, names: Mapping[int, str]) -> None:
        self.exact: dict[str, list[int]] = {}
        for i, name in names.items():
            self.exact.setdefault(str(name), []).append(i)
        self._folded: dict[str, list[int]] = {}
        for name, classes in self.exact.items():
            self._folded.setdefault(name.strip().casefold(), []).append(classes[0])

    def find(self, name: str) -> int:
        """Return the first class of a name, whatever its case if that leaves a single one; -1 where there is none."""
        if name in self.exact:
            return self.exact[name][0]
        same = self._folded.get(name.strip().casefold(), [])
        return same[0] if len(same) == 1 else -1


def noted_size(noted: tuple[float, float], shape: tuple[int, int]) -> tuple[float, float]:
    """Return the (w, h) in which boxes are given: the noted one if it has the aspect of the image's shape (h, w).

    Raises:
        RowError: another aspect: the labels belong to another image, or to one that was not turned upright.
    """
    w, h = noted
    if w <= 0 or h <= 0:
        return float(shape[1]), float(shape[0])
    if abs(w / h / (shape[1] / shape[0]) - 1) > ASPECT_TOLERANCE and max(abs(w - shape[1]), abs(h - shape[0])) > 1:
        raise RowError("size", f"labels are for {w:g}x{h:g} px, the image has {shape[1]}x{shape[0]}")
    return w, h


def _number(value: object) -> float:
    return float(value) if _is_finite(value) else 0.0


def _box(box: object, size: tuple[float, float]) -> list[float]:
    """Return COCO's left, top, width, height in pixels as cx, cy, w, h in parts of the image."""
    (x, y, w, h), (width, height) = _ltwh(box), size
    return [(x + w / 2) / width, (y + h / 2) / height, w / width, h / height]


def _ltwh(box: object) -> list[float]:
    """Return the four numbers of a `bbox`; raise RowError where they are not."""
    if not isinstance(box, list) or len(box) != 4:
        raise RowError("columns", f"bbox {str(box)[:40]} needs 4 numbers: left, top, width, height", fatal=True)
    if not all(map(_is_finite, box)):
        raise RowError("number", f"bbox {str(box)[:40]} holds something that is not a number")
    return [float(v) for v in box]


def _polygon(segmentation: object, size: tuple[float, float]) -> Float32Array | None:
    """Return the outline (P, 2) in parts of the image; None for masks in run lengths and for damaged outlines."""
    if not isinstance(segmentation, list):
        return None
    try:
        parts = [np.asarray(p, np.float64).reshape(-1, 2) / size for p in segmentation]  # (P, 2)
        outline = join_outlines([p for p in parts if len(p) >= 3])
        return checked_polygon(outline.ravel().tolist()) if len(outline) and np.isfinite(outline).all() else None
    except (ValueError, TypeError, OverflowError, RowError):
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


def _roots(split: Split) -> list[str]:
    """Return the folders that the names of a file may start from."""
    return [f for key in ("train", "val", "test", "path") for f in _folders(split.options.get(key) or ())]


def _folders(source: str | Sequence[str]) -> list[str]:
    sources = [source] if isinstance(source, (str, Path)) else list(source)
    return [str(s) for s in sources if os.path.isdir(s)]
