"""The table of labels against the list of dicts that it stands for."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from tests.data.sets import data_dict, label_dict, make_set
from ultralytics.data.dataset import YOLODataset
from ultralytics.data.labels.cache import CACHE_VERSION, load_cache, save_cache
from ultralytics.data.labels.parse import Scan
from ultralytics.data.labels.table import LabelTable, ParsedLabels, Ragged
from ultralytics.utils.errors import DatasetError

COUNTS = (3, 0, 1, 5, 0, 2)
COUNTED = {"found": 6, "missing": 0, "empty": 0, "corrupt": 0, "total": 6}
ORDER = np.array([4, 3, 3, 0, 5])


def dicts(truth: bool = False, counts: tuple[int, ...] = COUNTS) -> list[dict]:
    """Labels of images with so many objects; every second image with polygons."""
    rng = np.random.default_rng(0)
    labels = []
    for i, n in enumerate(counts):
        cls, boxes = rng.integers(0, 3, (n, 1)).astype(np.float32), rng.random((n, 4), np.float32)
        polygons = [rng.random((3 + j, 2), np.float32) for j in range(n)] if i % 2 else []
        rows = rng.integers(0, 3, (i, 8)).astype(np.float64) if truth else None
        labels.append(label_dict(ParsedLabels(f"im{i}.jpg", (10 + i, 20 + i), cls, boxes, polygons, rows)))
    return labels


def assert_same(table: LabelTable, labels: list[dict]) -> None:
    assert len(table) == len(labels)
    for got, wanted in zip(table, labels, strict=True):
        assert set(got) == set(wanted)
        for key, value in wanted.items():
            np.testing.assert_equal(got[key], value)
        assert got["cls"].dtype == wanted["cls"].dtype and got["bboxes"].shape == wanted["bboxes"].shape


@pytest.mark.parametrize("truth", [False, True])
@pytest.mark.parametrize("counts", [COUNTS, (0,), ()])
def test_a_table_gives_back_what_it_was_made_of(truth: bool, counts: tuple[int, ...]) -> None:
    labels = dicts(truth, counts)
    table = LabelTable.from_dicts(labels)
    assert_same(table, labels)
    assert LabelTable.from_dicts(table) is table
    assert_same(pickle.loads(pickle.dumps(table)), labels)  # as a newly started worker process has it


def test_it_is_a_sequence() -> None:
    labels = dicts()
    table = LabelTable.from_dicts(labels)
    assert [d["im_file"] for d in table[-3:]] == [d["im_file"] for d in labels[-3:]] == table.im_files[-3:]
    np.testing.assert_array_equal(table[-1]["bboxes"], labels[-1]["bboxes"])
    assert table[np.int64(3)]["shape"] == (13, 23) and type(table[3]["shape"][0]) is int
    assert [d["im_file"] for d in reversed(table)] == table.im_files[::-1]
    for i in (6, -7):
        with pytest.raises(IndexError):
            table[i]


@pytest.mark.parametrize("truth", [False, True])
@pytest.mark.parametrize("order", [ORDER, ORDER[:0], np.arange(6)])
def test_images_in_another_order(truth: bool, order: np.ndarray) -> None:
    labels = dicts(truth)
    assert_same(LabelTable.from_dicts(labels).take(order), [labels[i] for i in order])


@pytest.mark.parametrize("classes", [[0], [1, 2], 2, [9], []])
@pytest.mark.parametrize("reordered", [False, True])
def test_objects_of_some_classes(classes: int | list[int], reordered: bool) -> None:
    labels, table = dicts(truth=True), LabelTable.from_dicts(dicts(truth=True))
    if reordered:
        labels, table = [labels[i] for i in ORDER], table.take(ORDER)
    wanted = set(np.atleast_1d(classes).tolist())
    expected = []
    for label in labels:
        rows = [j for j, c in enumerate(label["cls"][:, 0]) if c in wanted]
        polygons = [label["segments"][j] for j in rows] if label["segments"] else []
        truth = label["truth"][[c in wanted for c in label["truth"][:, 0]]]
        expected.append(
            {**label, "cls": label["cls"][rows], "bboxes": label["bboxes"][rows], "segments": polygons, "truth": truth}
        )
    assert_same(table.only(classes), expected)


def test_one_class_and_shapes() -> None:
    table = LabelTable.from_dicts(dicts())
    one = table.of_one_class()
    assert not one.cls.values.any() and table.cls.values.any() and one.cls.counts.tolist() == list(COUNTS)
    table.set_shape(2, (7, 9))
    assert table.shape(2) == table[2]["shape"] == (7, 9) and table.shape(1) == (11, 21)


def test_a_change_that_would_be_lost_is_refused() -> None:
    table = LabelTable.from_dicts(dicts())
    label = table[0]
    for change in (
        lambda: label.__setitem__("cls", None),
        lambda: label.pop("cls"),
        lambda: label.update(cls=None),
        lambda: label.setdefault("mine", 1),
        lambda: label.__delitem__("cls"),
        lambda: label.__ior__({"cls": None}),
        label.clear,
        label.popitem,
    ):
        with pytest.raises(TypeError, match="override get_labels"):
            change()
    assert_same(table, dicts())
    for free in (dict(label), label.copy(), label | {}, copy.copy(label), copy.deepcopy(label)):
        free["cls"] = None
        assert type(free) is dict and table[0]["cls"] is not None
    assert copy.deepcopy(label)["bboxes"].base is None, "a copy of its own"
    label["bboxes"][:] = 0.25  # a view, as it was
    assert (table.bboxes[0] == 0.25).all()


def test_keys_of_a_data_set_of_ones_own_stay() -> None:
    labels = dicts()
    labels[0].pop("segments")
    labels[1]["note"] = "mine"
    labels[2] |= {"normalized": False, "keypoints": np.ones((1, 3))}
    table = LabelTable.from_dicts(labels)
    labels[0]["segments"] = []
    assert_same(table, labels)
    assert_same(table.take(ORDER), [labels[i] for i in ORDER])
    assert LabelTable.from_dicts(dicts()).rest is None


@pytest.mark.parametrize("counts", [[1, 1], [2, 2], [4, -1]])
def test_counts_that_are_not_those_of_the_values(counts: list[int]) -> None:
    with pytest.raises(ValueError, match="3 rows"):
        Ragged(np.zeros((3, 1)), counts)


@pytest.mark.parametrize("truth", [False, True])
def test_the_cache_of_a_table_in_another_order(tmp_path: Path, truth: bool) -> None:
    labels = dicts(truth)
    path = tmp_path / "train.cache"
    assert save_cache(path, "key", Scan(LabelTable.from_dicts(labels).take(ORDER), [], COUNTED))
    got = load_cache(path, "key")
    assert got is not None
    assert_same(LabelTable.from_dicts(got.labels), [labels[i] for i in ORDER])


@pytest.mark.parametrize("column", ["rows", "shapes", "polygons", "points", "truths"])
def test_a_cache_with_a_short_column_is_not_used(tmp_path: Path, column: str) -> None:
    path = tmp_path / "train.cache"
    save_cache(path, "key", Scan(dicts(truth=True), [], COUNTED))
    with np.load(path) as stored:
        arrays = dict(stored)
    assert json.loads(arrays["meta"].tobytes())["version"] == CACHE_VERSION
    arrays[column] = arrays[column][:-1]
    with path.open("wb") as file:
        np.savez(file, **arrays)
    assert load_cache(path, "key") is None


def test_a_data_set_of_ones_own_returns_dicts(tmp_path: Path) -> None:
    make_set(tmp_path, 3)

    class Own(YOLODataset):
        def get_labels(self):
            return [{**label, "note": i} for i, label in enumerate(super().get_labels())]

    data = Own(str(tmp_path / "images/train"), imgsz=64, augment=False, data=data_dict(tmp_path))
    assert [label["note"] for label in data.labels] == [0, 1, 2] and data[1]["img"].shape == (3, 64, 64)


@pytest.mark.parametrize(
    ("cls", "bboxes"),
    [((2, 1), (3, 4)), ((2,), (2, 4)), ((0, 1), (1, 4)), ((2, 1), (2, 5)), ((2, 1), (8,)), ((1, 2), (1, 4))],
)
def test_classes_and_boxes_that_do_not_agree_are_named(cls: tuple[int, ...], bboxes: tuple[int, ...]) -> None:
    labels = dicts()
    labels[2] |= {"cls": np.zeros(cls, np.float32), "bboxes": np.zeros(bboxes, np.float32)}
    with pytest.raises(DatasetError, match=r"im2\.jpg: labels with cls of shape"):
        LabelTable.from_dicts(labels)


def test_truth_that_some_images_lack_is_left_out() -> None:
    labels = dicts(truth=True)
    del labels[1]["truth"]
    table = LabelTable.from_dicts(labels)
    assert table.truth is None and table.rest is None and all("truth" not in label for label in table)
