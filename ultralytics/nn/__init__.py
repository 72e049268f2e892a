"""Networks: blocks, their registry, the YAML builder, model classes and checkpoints.

`register` makes a class of your own usable in a model YAML.
"""

from ultralytics.nn.registry import Plan, RowContext, register
from ultralytics.nn.tasks import (
    BaseModel,
    DetectionModel,
    RTDETRDetectionModel,
    attempt_load_weights,
    guess_model_task,
    load_checkpoint,
    parse_model,
    yaml_model_load,
)

__all__ = [
    "BaseModel",
    "DetectionModel",
    "Plan",
    "RTDETRDetectionModel",
    "RowContext",
    "attempt_load_weights",
    "guess_model_task",
    "load_checkpoint",
    "parse_model",
    "register",
    "yaml_model_load",
]
