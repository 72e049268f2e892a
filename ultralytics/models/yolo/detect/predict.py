"""Prediction with the YOLO family."""

from __future__ import annotations

from ultralytics.models.rtdetr.predict import RTDETRPredictor


class DetectionPredictor(RTDETRPredictor):
    """Detect objects; `iou` and `agnostic_nms` steer the suppression, images are letterboxed.

    predictor = DetectionPredictor(overrides={"model": "best.pt", "iou": 0.5})
    for result in predictor("photos/", stream=True): ...
    """
