"""SAHI: its models `ultralytics` and `rtdetr`, in tiles and on the whole picture, as its documentation gives them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ultralytics import RTDETR

pytest.importorskip("sahi")


@pytest.mark.parametrize("kind", ["ultralytics", "rtdetr"])
def test_sliced_and_whole(kind: str, weights: str, picture: str, tmp_path: Path) -> None:
    from sahi import AutoDetectionModel
    from sahi.predict import get_prediction, get_sliced_prediction

    detection_model = AutoDetectionModel.from_pretrained(
        model_type=kind, model_path=weights, confidence_threshold=0.02, device="cpu"
    )
    whole = get_prediction(picture, detection_model)
    want = RTDETR(weights).predict(picture, conf=0.02, verbose=False)[0]
    found = torch.tensor([p.bbox.to_xyxy() for p in whole.object_prediction_list])
    assert len(found) == len(want) > 0
    assert (found - want.boxes.xyxy.round()).abs().max() <= 1  # SAHI keeps integers
    assert {p.category.name for p in whole.object_prediction_list} <= {"red", "green", "blue"}

    result = get_sliced_prediction(
        picture, detection_model, slice_height=96, slice_width=96, overlap_height_ratio=0.2, overlap_width_ratio=0.2
    )
    assert result.object_prediction_list
    result.export_visuals(export_dir=str(tmp_path))
    assert list(tmp_path.glob("*.png")) and result.to_coco_annotations()
