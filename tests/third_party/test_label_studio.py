"""Label Studio: predictions written by `save_txt` become its tasks by its own converter, boxes where they were."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from ultralytics import RTDETR

yolo = pytest.importorskip("label_studio_sdk.converter.imports.yolo")


def test_labels_are_imported(weights: str, picture: str, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    shutil.copy(picture, tmp_path / "images" / "photo.jpg")
    model = RTDETR(weights)
    result = model.predict(str(tmp_path / "images" / "photo.jpg"), conf=0.02, verbose=False)[0]
    result.save_txt(tmp_path / "labels" / "photo.txt")
    (tmp_path / "classes.txt").write_text("\n".join(model.names.values()) + "\n")
    out = tmp_path / "tasks.json"
    yolo.convert_yolo_to_ls(input_dir=str(tmp_path), out_file=str(out), image_ext=".jpg")
    (task,) = json.loads(out.read_text())
    regions = (task.get("annotations") or task["predictions"])[0]["result"]
    h, w = cv2.imread(picture).shape[:2]
    boxes = [[r["value"][k] for k in ("x", "y", "width", "height")] for r in regions]
    left, top, right, bottom = result.boxes.xyxy.numpy().T
    want = np.stack([left / w, top / h, (right - left) / w, (bottom - top) / h], 1) * 100
    np.testing.assert_allclose(boxes, want, atol=0.01)
    assert [r["value"]["rectanglelabels"] for r in regions] == [[model.names[int(c)]] for c in result.boxes.cls]
