"""Accuracy of classifiers, against counting by hand; the pictures of a classifier."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch

from tests.utils.plotting.svg import ODD_NAMES, caught
from ultralytics.utils.metrics import ClassifyMetrics, ConfusionMatrix
from ultralytics.utils.plotting import classes as class_pictures
from ultralytics.utils.plotting.classes import plot_class_counts, plot_class_images


def test_nothing_measured():
    metrics = ClassifyMetrics({0: "a", 1: "b"})
    metrics.process(np.zeros(0, np.int64), np.zeros((0, 2)))
    assert metrics.results_dict == {"metrics/accuracy_top1": 0.0, "metrics/accuracy_top5": 0.0, "fitness": 0.0}
    assert metrics.class_result(1) == (0, 0.0) and len(metrics.summary()) == 2


@pytest.mark.parametrize("classes", [1, 2, 5, 12])
def test_against_counting(classes):
    rng = np.random.default_rng(classes)
    targets, scores = rng.integers(0, classes, 60), rng.random((60, classes))
    metrics = ClassifyMetrics({i: f"c{i}" for i in range(classes)})
    metrics.process(targets, scores)
    rank = [
        sorted(range(classes), key=lambda c, row=row: -row[c]).index(t) for row, t in zip(scores, targets, strict=True)
    ]
    assert metrics.top1 == pytest.approx(sum(r == 0 for r in rank) / 60)
    assert metrics.top5 == pytest.approx(sum(r < 5 for r in rank) / 60)
    assert metrics.fitness == pytest.approx((metrics.top1 + metrics.top5) / 2)
    for c in range(classes):
        mine = [r == 0 for r, t in zip(rank, targets, strict=True) if t == c]
        assert metrics.class_result(c) == (len(mine), pytest.approx(sum(mine) / max(len(mine), 1)))
    assert [row["images"] for row in json.loads(metrics.to_json())] == [
        int((targets == c).sum()) for c in range(classes)
    ]
    assert metrics.to_csv().startswith("class,images,accuracy_top1")


def test_confusion_matrix_of_a_classifier(tmp_path):
    matrix = ConfusionMatrix({0: "a", 1: "b"}, background=False)
    matrix.process_cls_preds(np.array([0, 1, 1, 1]), np.array([0, 0, 1, 1]))
    assert matrix.matrix.tolist() == [[1, 0], [1, 2]] and [x.tolist() for x in matrix.tp_fp()] == [[1, 2], [0, 1]]
    assert [row["Predicted"] for row in matrix.summary()] == ["a", "b"]
    assert matrix.plot(save_dir=tmp_path).stat().st_size > 5000


@pytest.mark.parametrize(("count", "grid"), [(1, (1, 1)), (3, (2, 2)), (40, (4, 4))])
def test_picture_of_a_batch(tmp_path, count, grid):
    images = torch.full((count, 3, 32, 32), 100, dtype=torch.uint8)
    right = [i % 2 == 0 for i in range(count)]
    file = plot_class_images(images, [f"class {i}" for i in range(count)], tmp_path / "b.png", right)
    picture = cv2.imread(str(file))
    assert picture.shape == (grid[0] * 160, grid[1] * 160, 3)
    b, g, r = picture[80, 0].tolist()
    assert g > r and g > b, "the first answer is right: green"
    if count > 1:
        b, g, r = picture[80, 160].tolist()
        assert r > g and r > b, "the second is wrong: red"


@pytest.mark.parametrize("classes", [1, 3, 60])
def test_picture_of_the_class_counts(tmp_path, classes):
    file = plot_class_counts(list(range(classes)), {i: f"c{i}" for i in range(classes)}, tmp_path)
    assert file.name == "labels.jpg" and cv2.imread(str(file)).std() > 5


def test_class_names_under_the_counts_are_drawn_as_they_are(tmp_path, monkeypatch):
    found = caught(monkeypatch, class_pictures)
    plot_class_counts([3, 2, 1], ODD_NAMES, tmp_path)
    assert [w for w in found[0] if w in ODD_NAMES.values()] == list(ODD_NAMES.values())
