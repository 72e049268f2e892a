"""Metrics of other tasks, as names: loggers import them and ask `isinstance`, and nothing is one."""

from __future__ import annotations

from ultralytics.utils.errors import ConfigError

__all__ = ["OBBMetrics", "PoseMetrics", "SegmentMetrics"]


class AbsentMetrics:
    """Metrics that cannot be computed here; constructing them raises ConfigError."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        raise ConfigError(f"{type(self).__name__}: metrics of this task are not part of this package")


class SegmentMetrics(AbsentMetrics):
    """Metrics of instance segmentation."""


class PoseMetrics(AbsentMetrics):
    """Metrics of pose estimation."""


class OBBMetrics(AbsentMetrics):
    """Metrics of rotated boxes."""
