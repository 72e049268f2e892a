"""Trainer, validator and predictor of the YOLO family."""

from ultralytics.models.yolo.detect.predict import DetectionPredictor
from ultralytics.models.yolo.detect.train import DetectionTrainer
from ultralytics.models.yolo.detect.val import DetectionValidator

__all__ = ["DetectionPredictor", "DetectionTrainer", "DetectionValidator"]

CLASSES = {"trainer": DetectionTrainer, "validator": DetectionValidator, "predictor": DetectionPredictor}
"""What the YOLO family uses."""
