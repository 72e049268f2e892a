"""Validation of the YOLO family."""

from __future__ import annotations

from ultralytics.models.rtdetr.val import RTDETRValidator


class DetectionValidator(RTDETRValidator):
    """Evaluate a detector as COCO does, after suppression in which a place may have several classes."""
