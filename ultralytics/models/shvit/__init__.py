"""Image classification with SHViT: façade, trainer, validator and predictor."""

from ultralytics.models.shvit.model import SHViTClassifier
from ultralytics.models.shvit.predict import ClassificationPredictor
from ultralytics.models.shvit.train import ClassificationTrainer
from ultralytics.models.shvit.val import ClassificationValidator

__all__ = ["ClassificationPredictor", "ClassificationTrainer", "ClassificationValidator", "SHViTClassifier"]

CLASSES = {
    "trainer": ClassificationTrainer,
    "validator": ClassificationValidator,
    "predictor": ClassificationPredictor,
}
