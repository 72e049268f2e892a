"""Label rows one by one, files, whole splits and the cache."""

from __future__ import annotations

import gc
import os
import random
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest

from tests.data.sets import make_set, scan_labels, write_set
from ultralytics.data.labels import parse as module
from ultralytics.data.labels.cache import cached_scan, content_key, load_cache, save_cache
from ultralytics.data.labels.parse import (
    Issue,
    LabelRows,
    RowError,
    VerifiedImage,
    check_strict,
    gc_paused,
    parse_labels,
    parse_row,
    scan_images,
    verify_pair,
)
from ultralytics.data.utils import img2label_paths, list_images
from ultralytics.utils.errors import DatasetError

GOOD = "1 0.5 0.5 0.2 0.2"


@pytest.mark.parametrize(
    "row, kind, fatal",
    [
        ("1 0.5 0.5 0.2", "columns", True),
        ("1 0.5 0.5 0.2 0.2 0.9", "columns", True),
        ("1 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "columns", True),
        ("3 0.5 0.5 0.2 0.2", "class", True),
        ("-1 0.5 0.5 0.2 0.2", "class", True),
        ("1.5 0.5 0.5 0.2 0.2", "class", False),
        ("1 0.5 0.5 -0.2 0.2", "negative", True),
        ("1 0.5 0.5 -0.001 0.2", "negative", True),
        ("1 -0.2 0.5 0.2 0.2", "negative", True),
        ("1 -0.2 0.1 0.5 0.5 0.4 0.9", "negative", True),
        ("1 320 240 50 60", "pixels", False),
        ("1 0.1 0.1 1.5 0.5 0.4 0.9", "outside", False),
        ("1 0.5 0.5 0 0.2", "area", False),
        ("1 0.5 0.5 0.2 0.0", "area", False),
        ("1 0.1 0.1 0.1 0.5 0.1 0.9", "area", False),
        ("1 0.5 x 0.2 0.2", "number", False),
        ("1 0.5 nan 0.2 0.2", "number", False),
        ("1 inf 0.5 0.2 0.2", "number", False),
        ("nan 0.5 0.5 0.2 0.2", "number", False),
    ],
)
def test_bad_rows(row: str, kind: str, fatal: bool) -> None:
    """Each kind of damage has its name; the row goes, its neighbours stay, the line is reported."""
    with pytest.raises(RowError) as caught:
        parse_row(row, nc=3)
    assert (caught.value.kind, caught.value.fatal) == (kind, fatal)
    rows = parse_labels(f"{GOOD}\n\n{row}\n2 0.3 0.3 0.1 0.1\n", nc=3, file="a.txt")
    assert rows.cls.ravel().tolist() == [1, 2] and rows.bboxes.shape == (2, 4)
    assert [(i.file, i.line, i.kind) for i in rows.issues] == [("a.txt", 3, kind)]


@pytest.mark.parametrize("text", ["", "\n", "  \n\t\n"])
def test_empty_text_is_a_background(text: str) -> None:
    rows = parse_labels(text, nc=3)
    assert rows.cls.shape == (0, 1) and rows.bboxes.shape == (0, 4) and not rows.issues


def test_small_overshoot_is_cut_off_silently() -> None:
    class_id, box, _ = parse_row("0 0.0 0.5 0.2 1.005", nc=1)
    assert class_id == 0
    np.testing.assert_allclose(box, [0.05, 0.5, 0.1, 1.0])


def test_duplicates_are_reported_and_order_is_kept() -> None:
    rows = parse_labels(f"2 0.7 0.7 0.1 0.1\n{GOOD}\n2 0.7 0.7 0.1 0.1\n0 0.7 0.7 0.1 0.1\n", nc=3)
    assert rows.cls.ravel().tolist() == [2, 1, 0]
    assert [(i.line, i.kind, i.fatal) for i in rows.issues] == [(3, "duplicate", False)]


def test_polygons_become_boxes() -> None:
    rows = parse_labels("1 0.2 0.1 0.6 0.3 0.4 0.9\n0 0 0 0.5 0 0.5 0.5 0 0.5\n", nc=3)
    np.testing.assert_allclose(rows.bboxes, [[0.4, 0.5, 0.4, 0.8], [0.25, 0.25, 0.5, 0.5]], atol=1e-6)
    assert [len(s) for s in rows.segments] == [3, 4]
    mixed = parse_labels(f"1 0.2 0.1 0.6 0.3 0.4 0.9\n{GOOD}\n", nc=3)
    assert len(mixed.bboxes) == 2 and mixed.segments == [] and [i.kind for i in mixed.issues] == ["mixed"]


def test_single_class_ignores_ids() -> None:
    assert parse_labels("17 0.5 0.5 0.2 0.2\n", nc=1, single_cls=True).cls.tolist() == [[0]]


def test_a_byte_order_mark_and_crlf_do_no_harm(tmp_path: Path) -> None:
    images = write_set(tmp_path, {"a": None})
    (tmp_path / "labels/train/a.txt").write_bytes(b"\xef\xbb\xbf" + f"{GOOD}\r\n".encode())
    scan = scan_labels([str(images / "a.png")], [str(tmp_path / "labels/train/a.txt")], nc=3)
    assert scan.labels[0]["cls"].tolist() == [[1]] and not scan.issues


# ---- a split ----


def scan_of(folder: Path, nc: int = 3):
    files = list_images(str(folder))
    return scan_labels(files, img2label_paths(files), nc)


def test_a_split_with_every_outcome(tmp_path: Path) -> None:
    rows = {"good": GOOD, "missing": None, "empty": "", "some": f"{GOOD}\n1 0.5 0.5 0 0\n", "none": "1 0.5 0.5 0 0"}
    images = write_set(tmp_path, {**rows, "binary": GOOD, "broken": GOOD})
    (images / "broken.png").write_bytes((images / "broken.png").read_bytes()[:300])
    (tmp_path / "labels/train/binary.txt").write_bytes(b"\xff\xfe\x00\x80")
    scan = scan_of(images)
    assert scan.counts == {"found": 2, "missing": 1, "empty": 1, "corrupt": 3, "total": 7}
    assert [Path(label["im_file"]).stem for label in scan.labels] == ["empty", "good", "missing", "some"]
    by_file = {Path(i.file).name: i for i in scan.issues}
    assert set(by_file) == {"some.txt", "none.txt", "none.png", "binary.txt", "broken.png"}
    assert by_file["some.txt"].line == 2
    label = scan.labels[1]
    assert label["shape"] == (48, 64) and label["bbox_format"] == "xywh" and label["normalized"] is True
    assert label["cls"].dtype == label["bboxes"].dtype == np.float32


def test_strict_stops_at_the_first_fatal_row_in_three_lines(tmp_path: Path) -> None:
    images = write_set(tmp_path, {"a": GOOD, "b": f"{GOOD}\n7 0.5 0.5 0.1 0.1\n", "c": "1 0.5 0.5"})
    check_strict([Issue("x", 1, "area", "no area")])
    with pytest.raises(DatasetError) as caught:
        check_strict(scan_of(images).issues)
    text = str(caught.value)
    assert "b.txt:2: class 7" in text and "0 to 2" in text and "2 label row(s) in 2 file(s)" in text
    assert len(text.splitlines()) <= 3


# ---- the cache ----


def files_of(folder: Path) -> tuple[list[str], list[str]]:
    files = list_images(str(folder))
    return files, img2label_paths(files)


def test_the_cache_gives_back_what_was_stored(tmp_path: Path) -> None:
    polygons = "1 0.2 0.1 0.6 0.3 0.4 0.9\n0 0 0 0.5 0 0.5 0.5 0 0.5"
    rows = {"a": GOOD, "b": None, "c": "", "d": polygons, "e": "1 0 0 0 0"}
    images, labels = files_of(write_set(tmp_path, rows))
    scan = scan_labels(images, labels, 3)
    path = tmp_path / "labels/train.cache"
    assert save_cache(path, "key", scan)
    got = load_cache(path, "key")
    assert got is not None and got.issues == scan.issues and got.counts == scan.counts
    for a, b in zip(got.labels, scan.labels, strict=True):
        assert a["im_file"] == b["im_file"] and tuple(a["shape"]) == tuple(b["shape"])
        np.testing.assert_array_equal(a["cls"], b["cls"])
        np.testing.assert_array_equal(a["bboxes"], b["bboxes"])
        assert len(a["segments"]) == len(b["segments"])
        for s, t in zip(a["segments"], b["segments"], strict=True):
            np.testing.assert_array_equal(s, t)
    assert load_cache(path, "other") is None


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 rubbish", b"\x80\x04pickle"])
def test_a_damaged_cache_is_ignored(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "train.cache"
    path.write_bytes(content)
    assert load_cache(path, "key") is None
    assert load_cache(tmp_path / "none.cache", "key") is None


def test_a_truncated_cache_is_ignored(tmp_path: Path) -> None:
    images, labels = files_of(make_set(tmp_path))
    path = tmp_path / "train.cache"
    save_cache(path, "key", scan_labels(images, labels, 3))
    for size in (10, 200, path.stat().st_size // 2, path.stat().st_size - 5):
        path.write_bytes(path.read_bytes()[:size])
        assert load_cache(path, "key") is None


def test_the_key_changes_with_content_and_arguments(tmp_path: Path) -> None:
    images, labels = files_of(make_set(tmp_path))
    keys = {content_key(images, labels, 3, False), content_key(images, labels, 4, False)}
    keys |= {content_key(images, labels, 3, True), content_key(images[1:], labels[1:], 3, False)}
    os.utime(labels[0], ns=(1, 1))
    keys.add(content_key(images, labels, 3, False))
    os.unlink(labels[0])
    keys.add(content_key(images, labels, 3, False))
    assert len(keys) == 6
    assert content_key(images, labels, 3, False) == content_key(images, labels, 3, False)


def test_a_cached_scan_runs_once_until_something_changes(tmp_path: Path) -> None:
    images, labels = files_of(make_set(tmp_path))
    runs = []

    def run():
        runs.append(1)
        return scan_labels(images, labels, 3)

    path = tmp_path / "labels/train.cache"
    for _ in range(2):
        cached_scan(path, run, content_key(images, labels, 3, False))
    assert len(runs) == 1
    Path(labels[0]).write_text("2 0.4 0.4 0.1 0.1\n")
    scan = cached_scan(path, run, content_key(images, labels, 3, False))
    assert len(runs) == 2 and scan.labels[0]["cls"].tolist() == [[2]]
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_scan_that_stops_the_run_writes_nothing(tmp_path: Path) -> None:
    images, labels = files_of(write_set(tmp_path, {"a": GOOD, "b": "9 0.5 0.5 0.1 0.1"}))
    cached_scan(tmp_path / "labels/train.cache", lambda: scan_labels(images, labels, 3), "key")
    assert not (tmp_path / "labels/train.cache").exists()


def test_a_read_only_folder_is_left_alone(tmp_path: Path) -> None:
    images, labels = files_of(make_set(tmp_path))
    folder = tmp_path / "labels"
    folder.chmod(0o555)
    try:
        assert not save_cache(folder / "train.cache", "key", scan_labels(images, labels, 3))
        assert not (folder / "train.cache").exists()
    finally:
        folder.chmod(0o755)


@pytest.mark.parametrize(
    ("row", "kinds"),
    [
        ("0 0.9 0.5 0.28 0.3", []),
        ("0 0.9 0.5 0.4 0.6", ["cut"]),
        ("0 0.9 0.5 0.6 0.1", ["axes"]),
        ("0 0.2 0.3 0.8 0.9", ["corners"]),
    ],
)
def test_boxes_far_beyond_the_frame_are_cut_off_and_reported(row: str, kinds: list[str]) -> None:
    rows = parse_labels(row, nc=1, file="a.txt")
    assert [i.kind for i in rows.issues] == kinds and len(rows.bboxes) == 1
    x, y, w, h = rows.bboxes[0]
    assert x - w / 2 >= 0 and x + w / 2 <= 1.000001 and y + h / 2 <= 1.000001


def random_text(rng: random.Random) -> str:
    """A label file of mostly right rows, with every kind of trouble now and then."""
    odd = (0, 0.5, 1, 0.25, 1.01, -0.1, 2, 0.1, float("nan"), float("inf"))
    rows = []
    for _ in range(rng.randint(0, 4)):
        row = [rng.choice((0, 1, 2, 3, -1, 1.5)) if rng.random() < 0.2 else rng.randint(0, 2)]
        row += [rng.choice(odd) if rng.random() < 0.15 else rng.uniform(0.3, 0.6) for _ in range(4)]
        row = row[: rng.randint(0, 4)] if rng.random() < 0.05 else row + [0.5, 0.5] * (rng.random() < 0.03)
        rows.append(" ".join("x" if rng.random() < 0.01 else repr(v) for v in row))
    return "\n".join(rows + rows[:1] * (rng.random() < 0.1))


def test_the_short_way_gives_what_reading_row_by_row_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(0)
    texts = [random_text(rng) for _ in range(5000)]
    short = [parse_labels(text, 3) for text in texts]
    assert 500 < sum(module._plain_boxes(text, 3) is not None for text in texts) < 4500
    monkeypatch.setattr(module, "_plain_boxes", lambda *_: None)
    for text, got in zip(texts, short, strict=True):
        wanted = parse_labels(text, 3)
        assert got.issues == wanted.issues and len(got.segments) == len(wanted.segments), text
        for a, b in ((got.cls, wanted.cls), (got.bboxes, wanted.bboxes)):
            assert a.dtype == b.dtype and np.array_equal(a, b), text


@pytest.mark.parametrize("slow", [False, True])
def test_slow_images_go_to_threads_and_stay_in_order(slow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = set()
    monkeypatch.setattr(module, "_QUICK_S", 1e-9 if slow else 60.0)

    def verify(name: str) -> VerifiedImage:
        threads.add(threading.get_ident())
        time.sleep(0.001 * (int(name) % 3) if slow else 0)
        return VerifiedImage(name, (8, 8), LabelRows(), "empty")

    names = [str(i) for i in range(300)]
    scan = scan_images(names, verify)
    assert [label["im_file"] for label in scan.labels] == names and scan.counts["total"] == 300
    assert (threads == {threading.get_ident()}) is not slow


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_left_as_it_was_found(enabled: bool) -> None:
    (gc.enable if enabled else gc.disable)()
    try:
        with pytest.raises(ValueError), gc_paused():
            assert not gc.isenabled()
            raise ValueError
        assert gc.isenabled() is enabled
    finally:
        gc.enable()


def test_frozen_objects_stay_frozen_and_others_stay_collectable() -> None:
    class Knot:
        def __init__(self) -> None:
            self.itself = self

    gc.unfreeze()  # what the test session has frozen
    try:
        with gc_paused():
            gone = weakref.ref(Knot())
        assert gc.get_freeze_count() == 0
        gc.collect()
        assert gone() is None
        gc.freeze()
        frozen = gc.get_freeze_count()
        with gc_paused():
            pass
        assert gc.get_freeze_count() == frozen > 0
    finally:
        gc.freeze()


def test_a_label_file_has_a_largest_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = write_set(tmp_path, {"a": "0 .5 .5 .2 .2\n"})
    monkeypatch.setattr("ultralytics.data.labels.parse.MAX_LABEL_BYTES", 5)
    label = str(tmp_path / "labels" / "train" / "a.txt")
    found = verify_pair(str(images / "a.png"), label, nc=3)
    assert found.state == "corrupt" and "label file is larger than" in str(found.rows.issues[0])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_label_file_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    images = write_set(tmp_path, {"a": "0 .5 .5 .2 .2\n"})
    label = tmp_path / "labels" / "train" / "a.txt"
    label.unlink()
    os.mkfifo(label)
    found = verify_pair(str(images / "a.png"), str(label), nc=3)
    assert found.state == "corrupt" and "pipe" in str(found.rows.issues[0])
