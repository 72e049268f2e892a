"""Losses of whole detectors that need no more than box geometry and the assigner."""

from __future__ import annotations

from ultralytics.utils.losses.yolo import (
    DFLoss,
    E2ELoss,
    RawBranch,
    class_frequency_weights,
    pad_targets,
    v8DetectionLoss,
)

__all__ = ("DFLoss", "E2ELoss", "RawBranch", "class_frequency_weights", "pad_targets", "v8DetectionLoss")
