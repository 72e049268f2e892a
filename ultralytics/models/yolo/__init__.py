"""The front door of all detectors, and what the YOLO family adds to training, validation and prediction."""

from ultralytics.models.yolo.model import YOLO

__all__ = ["YOLO"]
