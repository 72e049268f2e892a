"""What results of other tasks hold, as names: scripts import them and ask `isinstance`, and nothing is one."""

from __future__ import annotations

from ultralytics.engine.results.boxes import BaseTensor
from ultralytics.utils.errors import ConfigError

__all__ = ["OBB", "Keypoints", "Masks"]


class AbsentResult(BaseTensor):
    """A part of results that no model here gives; constructing one raises ConfigError."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        raise ConfigError(f"{type(self).__name__}: results of this task are not part of this package")


class Masks(AbsentResult):
    """Masks of instance segmentation."""


class Keypoints(AbsentResult):
    """Points of pose estimation."""


class OBB(AbsentResult):
    """Rotated boxes."""
