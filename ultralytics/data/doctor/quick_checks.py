"""The quick checks before a run's first epoch: what the scanned labels and the file sizes show.

Nothing is decoded and nothing on disk is changed. Shapes: n objects of one image, T of all.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ultralytics.data.doctor.finding import Finding, FindingRule, finding, from_issues, worst_first
from ultralytics.data.labels.parse import Issue
from ultralytics.data.labels.table import LabelTable
from ultralytics.data.types import LabelDict

TINY_PX = 2.0  # pixels of the network's input: less than that is beyond any stride
SAME = 1e-4  # boxes whose four values differ by less are one box
_SAMPLE = 4096  # bytes

_QUERIES = FindingRule("error", "image(s) with more objects than the {} queries of the head", "more queries, or tiles")
_TINY = FindingRule(
    "warning", f"box(es) below {TINY_PX:g} px at this imgsz", "raise imgsz, cut the images into tiles, or delete"
)
_TWICE = FindingRule("warning", "box(es) that lie on another of the same image", "keep one of them")
_LEAK = FindingRule("error", "validation image(s) that are training images too", "take them out of one of the splits")


class LabelledSet(Protocol):
    """What the checks need of a data set: its label dicts (see `data.labels`) and what its scan reported."""

    @property
    def labels(self) -> Sequence[LabelDict]: ...

    @property
    def report(self) -> list[Issue]: ...


def preflight(
    train: LabelledSet, val: LabelledSet | None = None, *, queries: int | None = 300, imgsz: int = 640
) -> list[Finding]:
    """Return what is wrong with the scanned splits of a run, worst first; an empty list means nothing was seen.

    `queries` is the number of queries of the model's head (`RTDETRDecoder.num_queries`), None for a head without any,
    and `imgsz` the side of its input in pixels. Checked are class ids, numbers and units of the label rows, unreadable
    files, boxes without area or below two pixels, boxes given twice, images with more objects than queries, and images
    of `train` whose bytes appear in `val` as well. The caller decides what to do about errors; the findings print as
    one line each.
    """
    findings = []
    for split, data in (("train", train), ("val", val)):
        if data is not None:
            findings += from_issues(data.report, split)
            findings += check_labels(data.labels, split, queries, imgsz)
    if val is not None:
        findings += leaks([d["im_file"] for d in train.labels], [d["im_file"] for d in val.labels])
    return worst_first(findings)


def check_labels(labels: Sequence[LabelDict], split: str, queries: int | None, imgsz: int) -> list[Finding]:
    """Return findings about the boxes of a split: too many in an image, too small, given twice."""
    table = LabelTable.from_dicts(labels)
    boxes, owners, number = table.bboxes.values, table.bboxes.owners, table.bboxes.counts
    small = boxes[:, 2:].min(1) * imgsz < TINY_PX  # (T,)
    many = _QUERIES._replace(what=_QUERIES.what.format(queries))
    groups = (
        ("queries", many, number * (number > (np.inf if queries is None else queries)), "objects", False),
        ("tiny", _TINY, np.bincount(owners[small], minlength=len(table)), "box(es)", True),
        ("twice", _TWICE, _repeats(boxes, owners, len(table)), "box(es)", True),
    )
    findings = []
    for code, rule, counts, what, each in groups:
        where = np.flatnonzero(counts)
        places = [f"{table.im_files[i]}: {counts[i]} {what}" for i in where]
        if places:
            findings.append(finding(code, rule, places, split, int(counts.sum()) if each else len(places)))
    return findings


def count_repeated(boxes: NDArray[Any]) -> int:
    """Return how many of n boxes (n, 4) lie on an earlier one, whatever their classes.

    >>> count_repeated(np.array([[0.5, 0.5, 0.2, 0.2], [0.5, 0.5, 0.2, 0.2], [0.1, 0.1, 0.1, 0.1]]))
    1
    """
    return int(_repeats(boxes, np.zeros(len(boxes), np.int64), 1)[0])


def _repeats(boxes: NDArray[Any], owners: NDArray[np.int64], images: int) -> NDArray[np.int64]:
    """Return for each image how many of its boxes lie on an earlier one; `boxes` (T, 4) of images `owners` (T,)."""
    places = np.round(boxes / SAME).astype(np.int64)  # (T, 4)
    order = np.lexsort((*places.T, owners))
    places, owners = places[order], owners[order]
    again = (places[1:] == places[:-1]).all(1) & (owners[1:] == owners[:-1])
    return np.bincount(owners[1:][again], minlength=images)


# ---- the same image in two splits -------------------------------------------------------------------------------


def leaks(train: Sequence[str], val: Sequence[str]) -> list[Finding]:
    """Return a finding when files of `val` are, by path or by content, files of `train` as well."""
    pairs = same_files(train, val)
    if not pairs:
        return []
    return [finding("leak", _LEAK, [f"{b}: the same as {a}" for a, b in pairs], "val")]


def same_files(first: Sequence[str], second: Sequence[str]) -> list[tuple[str, str]]:
    """Return pairs of files of two lists that are one path or have the same bytes.

    Sizes are compared first, then a sample of the bytes, and only files that still look equal are read as a whole.
    """
    size = {p: size_of(p) for p in dict.fromkeys([*first, *second])}
    sizes = {size[p] for p in first} & {size[p] for p in second} - {0, -1}
    left, right = ([p for p in files if size[p] in sizes] for files in (first, second))
    for key in (_sampled, digest):
        stamps = {p: key(p) for p in dict.fromkeys([*left, *right])}
        common = {stamps[p] for p in left} & {stamps[p] for p in right} - {""}
        left, right = ([p for p in files if stamps[p] in common] for files in (left, right))
    owner = {stamps[p]: p for p in reversed(left)}
    return [(owner[stamps[p]], p) for p in right]


def size_of(path: str) -> int:
    """Return a file's size in bytes, -1 when it cannot be read."""
    try:
        return os.path.getsize(path)
    except OSError:
        return -1


def _sampled(path: str) -> str:
    """Return a digest of a file's size and of three short parts of it, empty when it cannot be read."""
    try:
        size = os.path.getsize(path)
        state = hashlib.blake2b(str(size).encode())
        with open(path, "rb") as file:
            for start in (0, size // 2, max(0, size - _SAMPLE)):
                file.seek(start)
                state.update(file.read(_SAMPLE))
    except OSError:
        return ""
    return state.hexdigest()


def digest(path: str) -> str:
    """Return a digest of a file's bytes, empty when it cannot be read."""
    state = hashlib.blake2b()
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                state.update(block)
    except OSError:
        return ""
    return state.hexdigest()
