"""The label cache: shared by processes, followed when labels change, kept elsewhere for read-only sets."""

from __future__ import annotations

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
from ultralytics.data.label_cache import _stamps, content_key, load_cache, spare_path
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


def test_nested_folders_have_one_cache_beside_the_labels(tmp_path: Path) -> None:
    for sub in ("x", "y/z"):
        for kind in ("images", "labels"):
            (tmp_path / kind / "train" / sub).mkdir(parents=True)
        write_set(tmp_path, {f"{sub}/a": "0 .5 .5 .2 .2"})
    found = dataset(str(tmp_path / "images" / "train"), tmp_path)
    assert len(found) == 2 and found.cache_path == tmp_path / "labels" / "train.cache"
