"""The label cache: shared by processes, followed when labels change, kept elsewhere for read-only sets."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.sets import data_dict, make_set, write_set
from ultralytics.data import YOLODataset
from ultralytics.data.formats import open_reader
from ultralytics.data.labels.cache import _stamps, cached_scan, content_key, load_cache, save_cache, spare_path
from ultralytics.data.labels.parse import Issue, Scan
from ultralytics.data.labels.table import LabelTable, ParsedLabels
from ultralytics.data.utils import list_images


def dataset(source: str | list[str], root: Path) -> YOLODataset:
    return YOLODataset(source, imgsz=32, hyp={}, data=data_dict(root), augment=False)


def content(data: YOLODataset) -> list[tuple[str, list[list[float]]]]:
    return [(d["im_file"], d["bboxes"].tolist()) for d in data.labels]


def start(images: str, root: Path, gate: Any, answers: Any) -> None:
    """Build the data set in a process of its own, when the other one is ready too."""
    gate.wait(60)
    answers.put(content(dataset(images, root)))


@pytest.mark.skipif(sys.platform == "win32", reason="processes are forked")
def test_two_processes_at_once_on_a_cold_cache(tmp_path: Path) -> None:
    images = make_set(tmp_path, 60)
    context = multiprocessing.get_context("fork")
    gate, answers = context.Barrier(2), context.Queue()
    pair = [context.Process(target=start, args=(str(images), tmp_path, gate, answers)) for _ in range(2)]
    for process in pair:
        process.start()
    rows = [answers.get(timeout=120) for _ in pair]
    for process in pair:
        process.join(60)
        assert process.exitcode == 0
    assert rows[0] == rows[1] and len(rows[0]) == 60
    assert not list(tmp_path.rglob("*.tmp"))
    with np.load(tmp_path / "labels" / "train.cache") as stored:
        assert json.loads(stored["meta"].tobytes())["counts"]["total"] == 60
    assert content(dataset(str(images), tmp_path)) == rows[0]


def test_a_changed_label_is_seen_and_a_new_image_too(tmp_path: Path) -> None:
    images = write_set(tmp_path, {"a": "0 .5 .5 .2 .2", "b": None})
    assert [len(d["cls"]) for d in dataset(str(images), tmp_path).labels] == [1, 0]
    (tmp_path / "labels/train/b.txt").write_text("1 .5 .5 .1 .1", encoding="utf-8")
    assert [len(d["cls"]) for d in dataset(str(images), tmp_path).labels] == [1, 1]
    write_set(tmp_path, {"c": "2 .5 .5 .2 .2"})
    assert [len(d["cls"]) for d in dataset(str(images), tmp_path).labels] == [1, 1, 1]


def test_the_key_follows_every_file(tmp_path: Path) -> None:
    images, labels = ([str(tmp_path / f"{i}.{kind}") for i in range(3)] for kind in ("jpg", "txt"))
    for file in (*images, *labels[:2]):  # the last one has no label
        Path(file).write_text("x", encoding="utf-8")
        os.utime(file, ns=(0, 5))

    def key(*more: str) -> str:
        return content_key(images, labels, 3, False, more)

    keys = [key(), key("names"), content_key(images, labels, 4, False), content_key(labels, images, 3, False)]
    for file in (images[1], labels[1]):
        os.utime(file, ns=(0, 6))
        keys.append(key())
        Path(file).write_text("xy", encoding="utf-8")
        os.utime(file, ns=(0, 6))
        keys.append(key())
    Path(labels[2]).write_bytes(b"")
    os.utime(labels[2], ns=(0, 0))
    keys.append(key())
    Path(images[0]).unlink()
    keys.append(key())
    assert len(set(keys)) == len(keys) and key() == key()


@pytest.mark.parametrize("there", [(), (0, 1), (2,), (1, 4), (0, 1, 2, 3, 4)])
def test_missing_files_are_stamped_at_their_places(tmp_path: Path, there: tuple[int, ...]) -> None:
    files = [tmp_path / f"{i}.txt" for i in range(5)]
    for i in there:
        files[i].write_text("x" * i, encoding="utf-8")
        os.utime(files[i], ns=(0, i))
    want = [(i, i) if i in there else (-1, -1) for i in range(5)]
    assert _stamps(list(map(str, files))).tolist() == [number for pair in want for number in pair]


def test_a_time_far_ahead_has_a_key(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    file.touch()
    os.utime(file, (1.2e10, 1.2e10))  # the year 2350: more nanoseconds than 63 bits hold
    assert content_key([str(file)], [], 1, False)


def test_a_read_only_set_is_cached_with_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path / "config"))
    images = make_set(tmp_path / "set", 4)
    for folder in (tmp_path / "set/labels", tmp_path / "set/labels/train"):
        folder.chmod(0o555)
    try:
        first = dataset(str(images), tmp_path / "set")
        assert not first.cache_path.exists()
        spare = spare_path(first.cache_path)
        assert spare.is_file() and spare.is_relative_to(tmp_path / "config")
        monkeypatch.setattr("ultralytics.data.formats.base.scan_images", lambda *a: pytest.fail("scanned again"))
        again = dataset(str(images), tmp_path / "set")
        assert len(again) == 4 and load_cache(spare, "other key") is None
    finally:
        for folder in (tmp_path / "set/labels", tmp_path / "set/labels/train"):
            folder.chmod(0o755)


def test_each_kind_of_source_has_a_cache_of_its_own(tmp_path: Path) -> None:
    """Folders, lists, patterns and several of them over the same images do not take each other's place."""
    images = make_set(tmp_path, 4)
    (tmp_path / "some.txt").write_text("\n".join(list_images(str(images))[:2]), encoding="utf-8")
    sources: list[str | list[str]] = [str(images), str(tmp_path / "some.txt"), f"{images}/*1.png"]
    sources.append([f"{images}/*1.png", f"{images}/*2.png"])
    found = [dataset(s, tmp_path) for s in sources]
    assert [len(d) for d in found] == [4, 2, 1, 2]
    assert len({d.cache_path for d in found}) == 4 and all(d.cache_path.exists() for d in found)
    assert found[0].cache_path == tmp_path / "labels" / "train.cache"


@pytest.mark.parametrize("form", ["yolo", "coco", "voc"])
def test_sources_that_share_no_folder(tmp_path: Path, form: str) -> None:
    """Nor do sources side by side put their cache beside the set, into a folder that may be anybody's."""
    root = tmp_path / "set"
    files = [str(root / f"{part}/images/0.jpg") for part in ("one", "two")]
    sources = [str(root / "one/images"), str(root / "two/images")]
    for im_files, source in (
        (files, sources),
        (["/a/images/0.jpg", "/b/images/0.jpg"], ["/a/images", "/b/images"]),
        ([str(root / "images/x/0.jpg"), str(root / "images/y/0.jpg")], ["x", "y"]),
    ):
        data = {"path": root, "format": form, "names": {0: "a"}, "train": source}
        data["annotations"] = {"train": str(root / "a.json")}
        path = open_reader(data, source, im_files).cache_path
        assert path.parent == root and path.suffix == ".cache" and len(path.suffixes) >= 2
    assert open_reader({"names": {0: "a"}}, ["/a", "/b"], ["/a/0.jpg", "/b/0.jpg"]).cache_path.parent == Path("/")


def fail(error: Exception) -> Any:
    """Return a function that opens all files but one, for which it raises an error."""

    def opened(file: Any, *args: Any, **kwargs: Any) -> Any:
        if str(file).endswith("im1.png"):
            raise error
        return open(file, *args, **kwargs)

    return opened


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (PermissionError(errno.EACCES, "no right"), True),
        (OSError(errno.EIO, "a broken disk"), True),
        (OSError(errno.EMFILE, "too many files"), True),
        (MemoryError(), True),
        (OSError("image file is truncated"), False),
        (FileNotFoundError(errno.ENOENT, "gone"), False),
    ],
)
def test_what_the_system_did_not_hand_out_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, again: bool
) -> None:
    images = make_set(tmp_path, 4)
    with monkeypatch.context() as patch:
        patch.setattr("ultralytics.data.images.open", fail(error), raising=False)
        first = dataset(str(images), tmp_path)
    assert len(first) == 3 and first.report[0].file.endswith("im1.png")
    assert first.cache_path.exists() is not again
    assert len(dataset(str(images), tmp_path)) == (4 if again else 3)


@pytest.mark.parametrize("form", ["yolo", "voc"])
def test_label_files_that_are_not_handed_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    images = make_set(tmp_path, 4)
    data = {**data_dict(tmp_path), "format": form, "train": str(images)}
    if form == "voc":
        for i in range(4):
            box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
            text = f"<annotation><object><name>a</name>{box}</object></annotation>"
            (images / f"im{i}.xml").write_text(text, encoding="utf-8")
    name, method = ("im2.txt", "read_text") if form == "yolo" else ("im2.xml", "read_bytes")
    read = getattr(Path, method)

    def refused(self: Path, **kwargs: Any) -> Any:
        if self.name == name:
            raise PermissionError(errno.EACCES, "no right")
        return read(self, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Path, method, refused)
        first = YOLODataset(str(images), imgsz=32, data=data, augment=False)
    assert len(first) == 3 and [i.kind for i in first.report] == ["unreadable"] and not first.cache_path.exists()
    assert len(YOLODataset(str(images), imgsz=32, data=data, augment=False)) == 4


def stored(tmp_path: Path) -> tuple[Path, Scan]:
    """Write a small cache; return its file and what is in it."""
    labels = LabelTable.from_images(
        [ParsedLabels(f"im{i}.jpg", (10, 20), np.ones((i, 1), "f4"), np.ones((i, 4), "f4")) for i in range(3)]
    )
    counts = {"found": 2, "missing": 0, "empty": 1, "corrupt": 0, "total": 3}
    scan = Scan(labels, [Issue("a", 1, "class", "why")], counts)
    assert save_cache(tmp_path / "a.cache", "key", scan)
    return tmp_path / "a.cache", scan


def test_a_cache_with_any_byte_changed_is_right_or_ignored(tmp_path: Path) -> None:
    path, scan = stored(tmp_path)
    whole, ignored = path.read_bytes(), 0
    for i in range(len(whole)):
        damaged = bytearray(whole)
        damaged[i] ^= (0x01, 0x08, 0x80, 0xFF)[i % 4]
        path.write_bytes(damaged)
        got = load_cache(path, "key")
        ignored += got is None
        if got is not None:
            assert got.counts == scan.counts and got.issues == scan.issues
            for a, b in zip(got.labels, scan.labels, strict=True):
                np.testing.assert_equal(dict(a), dict(b))
    assert ignored > len(whole) / 4
    for marked in (8, 10):  # of the central directory: encrypted, another compression
        damaged = bytearray(whole)
        damaged[whole.index(b"PK\x01\x02") + marked] ^= 1
        path.write_bytes(damaged)
        assert load_cache(path, "key") is None


@pytest.mark.parametrize(
    "change",
    [
        {"counts": {}},
        {"counts": [1]},
        {"counts": {"found": "2", "missing": 0, "empty": 1, "corrupt": 0, "total": 3}},
        {"issues": [["a", 0, "class"]]},
        {"issues": [["a", "0", "class", "why", False]]},
        {"issues": 3},
        {"im_files": [1, 2, 3]},
        {"im_files": "abc"},
        {"shapes": np.zeros((3, 3), np.int32)},
        {"shapes": np.zeros((3, 2))},
        {"cls": np.zeros((3, 2), np.float32)},
        {"cls": np.array([["x"], ["y"], ["z"]])},
        {"cls": np.zeros(3, np.float32)},
        {"bboxes": np.zeros((3, 5), np.float32)},
        {"bboxes": np.zeros((3, 4))},
        {"rows": np.array([0.0, 1.0, 2.0])},
        {"rows": np.array(3)},
        {"extra": np.zeros(3)},
    ],
)
def test_a_cache_of_another_make_is_ignored(tmp_path: Path, change: dict[str, Any]) -> None:
    path, scan = stored(tmp_path)
    with np.load(path) as archive:
        arrays = dict(archive)
    meta = json.loads(arrays["meta"].tobytes())
    for key, value in change.items():
        (meta if key in meta else arrays)[key] = value
    with path.open("wb") as file:
        np.savez(file, **{**arrays, "meta": np.frombuffer(json.dumps(meta).encode(), np.uint8)})
    assert load_cache(path, "key") is None
    assert cached_scan(path, lambda: scan, "key") is scan


def test_nested_folders_have_one_cache_beside_the_labels(tmp_path: Path) -> None:
    for sub in ("x", "y/z"):
        for kind in ("images", "labels"):
            (tmp_path / kind / "train" / sub).mkdir(parents=True)
        write_set(tmp_path, {f"{sub}/a": "0 .5 .5 .2 .2"})
    found = dataset(str(tmp_path / "images" / "train"), tmp_path)
    assert len(found) == 2 and found.cache_path == tmp_path / "labels" / "train.cache"


def test_a_packed_cache_is_not_opened(tmp_path: Path) -> None:
    """A member that is packed may be a thousand times larger than the file."""
    images = write_set(tmp_path, {"a": "0 .5 .5 .2 .2"})
    dataset(str(images), tmp_path)
    file = tmp_path / "labels" / "train.cache"
    with np.load(file) as stored:
        arrays, key = dict(stored), json.loads(stored["meta"].tobytes())["key"]
    assert load_cache(file, key) is not None
    with file.open("wb") as f:
        np.savez_compressed(f, **arrays)
    assert load_cache(file, key) is None
