"""Networks of tasks that are not here, as names: scripts ask `isinstance` of them, and no network is one."""

from __future__ import annotations

from ultralytics.nn.base_model import BaseModel
from ultralytics.utils.errors import ConfigError

__all__ = [
    "OBBModel",
    "PoseModel",
    "SegmentationModel",
    "SemanticSegmentationModel",
    "WorldModel",
    "YOLOEModel",
    "YOLOESegModel",
]


class AbsentNetwork(BaseModel):
    """A network that cannot be built; constructing one raises ConfigError."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        raise ConfigError(f"{type(self).__name__}: networks of this task are not part of this package")


class SegmentationModel(AbsentNetwork):
    """Instance segmentation."""


class SemanticSegmentationModel(AbsentNetwork):
    """Semantic segmentation."""


class PoseModel(AbsentNetwork):
    """Pose estimation."""


class OBBModel(AbsentNetwork):
    """Detection of rotated boxes."""


class WorldModel(AbsentNetwork):
    """Detection by text prompts."""


class YOLOEModel(AbsentNetwork):
    """Detection by prompts."""


class YOLOESegModel(AbsentNetwork):
    """Segmentation by prompts."""
