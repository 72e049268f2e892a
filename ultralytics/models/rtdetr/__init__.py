"""RT-DETR: façade, trainer, validator and predictor."""

from ultralytics.models.rtdetr.model import RTDETR
from ultralytics.models.rtdetr.predict import RTDETRPredictor
from ultralytics.models.rtdetr.train import RTDETRTrainer
from ultralytics.models.rtdetr.val import RTDETRDataset, RTDETRValidator

__all__ = ["RTDETR", "RTDETRDataset", "RTDETRPredictor", "RTDETRTrainer", "RTDETRValidator"]

CLASSES = {"trainer": RTDETRTrainer, "validator": RTDETRValidator, "predictor": RTDETRPredictor}
"""What a detector family uses unless its package has classes of its own."""
