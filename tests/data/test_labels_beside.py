"""A label file that lies beside its image, where labels are not read from, is reported."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest

from ultralytics.data.dataset import YOLODataset


@pytest.mark.parametrize(
    ("beside", "labelled", "reported"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_a_label_file_beside_its_image(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, beside: bool, labelled: bool, reported: bool
) -> None:
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for name in ("a", "b"):
        cv2.imwrite(str(tmp_path / "images" / f"{name}.png"), np.full((32, 32, 3), 90, np.uint8))
    row = "0 .5 .5 .2 .2\n"
    (tmp_path / "labels" / "a.txt").write_text(row)
    if labelled:
        (tmp_path / "labels" / "b.txt").write_text(row)
    if beside:
        (tmp_path / "images" / "b.txt").write_text(row)
    data = {"names": {0: "ball"}, "nc": 1, "channels": 3, "path": str(tmp_path)}
    with caplog.at_level(logging.WARNING):
        YOLODataset(img_path=str(tmp_path / "images"), data=data, imgsz=32, augment=False)
    lines = [r.getMessage() for r in caplog.records if "lies beside them" in r.getMessage()]
    assert [str(tmp_path / "images" / "b.txt") in line for line in lines] == [True] * reported
