"""The quick checks before a run."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.data.sets import make_set, scan_labels, write_set
from ultralytics.data.doctor import Finding, preflight, worst
from ultralytics.data.doctor.quick_checks import check_labels, count_repeated, same_files
from ultralytics.data.labels.table import LabelTable, ParsedLabels
from ultralytics.data.utils import img2label_paths, list_images


def scanned(folder: Path) -> SimpleNamespace:
    """Return what `preflight` reads of a data set."""
    files = list_images(str(folder))
    scan = scan_labels(files, img2label_paths(files), nc=3)
    return SimpleNamespace(labels=scan.labels, report=scan.issues)


def test_nothing_to_find(tmp_path: Path) -> None:
    assert preflight(SimpleNamespace(labels=[], report=[])) == []
    assert preflight(scanned(make_set(tmp_path / "a")), scanned(write_set(tmp_path / "b", {}))) == []


@pytest.mark.parametrize(
    ("rows", "code", "severity"),
    [
        ("9 .5 .5 .2 .2", "class", "error"),
        ("0 .5 .5 .2", "columns", "error"),
        ("0 .5 .5 -.2 .2", "negative", "error"),
        ("0 320 240 64 48", "pixels", "error"),
        ("0 50 50 20 20", "percent", "error"),
        ("0 1.2 .5 .2 .2", "outside", "warning"),
        ("0 .5 .5 0 .2", "area", "warning"),
        ("0 .5 .5 nan .2", "number", "warning"),
        ("0 .5 .5 .2 .2\n0 .5 .5 .2 .2", "duplicate", "warning"),
        ("0 .5 .5 .2 .2\n1 .5 .5 .2 .2", "twice", "warning"),
        ("0 .5 .5 .001 .2", "tiny", "warning"),
        ("".join(f"0 {i / 40} .5 .02 .2\n" for i in range(1, 9)), "queries", "error"),
    ],
)
def test_each_kind_is_named_with_its_place(tmp_path: Path, rows: str, code: str, severity: str) -> None:
    data = scanned(write_set(tmp_path, {"good": "0 .5 .5 .5 .5", "bad": f"1 .3 .3 .2 .2\n{rows}"}))
    found = {f.code: f for f in preflight(data, queries=8)}
    assert set(found) == {code} and found[code].severity == severity
    assert "bad" in found[code].examples[0] and found[code].split == "train" and found[code].count >= 1
    assert code in str(found[code]) and found[code].remedy


def test_the_same_image_in_both_splits(tmp_path: Path) -> None:
    train, val = make_set(tmp_path, 4), make_set(tmp_path, 2, "val")
    (val / "im1.png").write_bytes((train / "im3.png").read_bytes())
    shutil.copy(val / "im1.png", val / "im0.png")
    found = preflight(scanned(train), scanned(val))
    assert [(f.code, f.count, f.severity) for f in found] == [("leak", 2, "error")]
    assert "im3.png" in found[0].examples[0]
    assert preflight(scanned(train), scanned(train))[0].count == 4, "the very same folder"


def test_equal_size_is_not_equal_content(tmp_path: Path) -> None:
    a, b, c = (str(tmp_path / n) for n in "abc")
    body = np.random.default_rng(0).bytes(100_000)
    Path(a).write_bytes(body)
    Path(b).write_bytes(body[:30_000] + b"x" + body[30_001:])
    Path(c).write_bytes(body)
    assert same_files([a], [b, c, str(tmp_path / "none")]) == [(a, c)]
    assert same_files([], [a]) == []


def test_counts_are_those_of_a_loop_over_the_images() -> None:
    rng = np.random.default_rng(0)
    images = []
    for i in range(40):
        boxes = rng.choice([0.001, 0.2, 0.3], (i % 9, 4)).astype(np.float32)
        images.append(ParsedLabels(f"im{i}.jpg", (9, 9), np.zeros((len(boxes), 1), np.float32), boxes))
    labels = LabelTable.from_images(images)
    many, tiny, twice = [], 0, 0
    for label in labels:
        rows = [tuple(np.round(box, 3)) for box in label["bboxes"].tolist()]
        many += [f"{label['im_file']}: {len(rows)} objects"] * (len(rows) > 6)
        tiny += sum(min(row[2:]) * 640 < 2 for row in rows)
        twice += len(rows) - len(set(rows))
    found = {f.code: f for f in check_labels(labels, "val", queries=6, imgsz=640)}
    assert (
        found["queries"].count == len(many)
        and list(found["queries"].examples) == many[: len(found["queries"].examples)]
    )
    assert (found["tiny"].count, found["twice"].count) == (tiny, twice) and tiny and twice


def test_worst_and_repeated() -> None:
    assert worst([]) is None
    assert worst([Finding("a", "note", "x"), Finding("b", "warning", "y")]) == "warning"
    boxes = np.array([[0.5, 0.5, 0.2, 0.2]] * 3 + [[0.5, 0.5, 0.2, 0.21]])
    assert (count_repeated(boxes[:0]), count_repeated(boxes), count_repeated(boxes[2:])) == (0, 2, 0)
