"""Validation of a data set of one's own in COCO's form compares with the labels that it returns."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.sets import write_set
from ultralytics.data.dataset import YOLODataset
from ultralytics.data.labels.truth import truth_of
from ultralytics.data.utils import check_det_dataset

Edit = Callable[[dict[str, Any]], Any]


def coco_data(root: Path) -> dict[str, Any]:
    """Write two images of 64 x 48 with an object of stated area 50 and a crowd each."""
    write_set(root, {"a": None, "b": None})
    images = [{"id": i, "file_name": f"{n}.png", "width": 64, "height": 48} for i, n in enumerate("ab")]
    rows = [
        {"id": 2 * i + crowd, "image_id": i, "category_id": 1, "bbox": [8, 12, 16, 24], "area": 50, "iscrowd": crowd}
        for i in (0, 1) for crowd in (0, 1)
    ]  # fmt: skip
    table = {"images": images, "categories": [{"id": 1, "name": "x"}], "annotations": rows}
    (root / "a.json").write_text(json.dumps(table), encoding="utf-8")
    (root / "data.yaml").write_text("train: images/train\nval: images/train\nnames: [x, y]\nannotations: a.json\n")
    return check_det_dataset(root / "data.yaml")


def classes(label: dict[str, Any]) -> None:
    label["cls"] = label["cls"] + 1


def in_place(label: dict[str, Any]) -> None:
    label["cls"][:] = 1


def gone(label: dict[str, Any]) -> None:
    label["cls"], label["bboxes"] = label["cls"][:0], label["bboxes"][:0]


def in_pixels(label: dict[str, Any]) -> None:
    label |= {"bboxes": np.array([[0, 0, 32, 24]], np.float32), "bbox_format": "xyxy", "normalized": False}


SCANNED = [[0, 8, 12, 24, 36, 50, 0, 0], [0, 8, 12, 24, 36, 50, 1, -1]]


@pytest.mark.parametrize(
    ("edit", "want"),
    [
        (lambda label: label.update(note=1), SCANNED),
        (classes, [[1, 8, 12, 24, 36, 16 * 24, 0, 0]]),
        (in_place, [[1, 8, 12, 24, 36, 16 * 24, 0, 0]]),
        (gone, []),
        (in_pixels, [[0, 0, 0, 32, 24, 32 * 24, 0, 0]]),
    ],
)
def test_the_truth_of_changed_labels_is_made_of_them(tmp_path: Path, edit: Edit, want: list[list[float]]) -> None:
    class Own(YOLODataset):
        def get_labels(self) -> list[dict[str, Any]]:
            labels = [dict(label) for label in super().get_labels()]
            edit(labels[1])
            return labels[::-1]

    data = coco_data(tmp_path)
    found = Own(data["val"], imgsz=64, data=data, augment=False, letterbox=False)
    batch = found.collate_fn([found[0], found[1]])
    np.testing.assert_allclose(batch["truth"][0], np.reshape(want, (-1, 8)), atol=1e-4)
    np.testing.assert_array_equal(batch["truth"][1], SCANNED)


def test_labels_as_rows() -> None:
    label = {
        "shape": (48, 64),
        "cls": np.array([[2.0], [0.0]], np.float32),
        "bboxes": np.array([[0.5, 0.5, 0.5, 0.25], [0.25, 0.5, 0.5, 1]], np.float32),
        "bbox_format": "xywh",
        "normalized": True,
    }
    assert truth_of(label).tolist() == [[2, 16, 18, 48, 30, 32 * 12, 0, 0], [0, 0, 0, 32, 48, 32 * 48, 0, 1]]
