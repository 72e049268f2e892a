"""FiftyOne: `to_detections` of its ultralytics utilities."""

from __future__ import annotations

import numpy as np
import pytest

from ultralytics import YOLO

fou = pytest.importorskip("fiftyone.utils.ultralytics", exc_type=ImportError)


def test_to_detections(weights: str, picture: str) -> None:
    result = YOLO(weights)(picture, conf=0.02, verbose=False)[0]
    detections = fou.to_detections(result).detections
    assert [d.label for d in detections] == [result.names[int(c)] for c in result.boxes.cls]
    left, top, right, bottom = result.boxes.xyxyn.numpy().T
    boxes = np.array([d.bounding_box for d in detections])
    np.testing.assert_allclose(boxes, np.stack([left, top, right - left, bottom - top], 1), atol=1e-5)
