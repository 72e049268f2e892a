"""What figures of several models need of each: its precision-recall curve, confusion matrix and AP by size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ultralytics.utils.files import atomic_write
from ultralytics.utils.metrics.confusion import BACKGROUND, column_ratios
from ultralytics.utils.metrics.det import DetMetrics
from ultralytics.utils.torch_tools.arrays import Float64Array

RECALLS_SHOWN = 101
SIZE_STATS = {"small": "AP_small", "medium": "AP_medium", "large": "AP_large"}


@dataclass(frozen=True)
class ModelQuality:
    """Numbers of one model. `precision` (101,) at recalls 0 to 1 is the mean over classes at IoU 0.5.

    `confusion` (K, K) counts predicted (rows) against true classes (columns), the background last, `labels` names both.
    `sizes` is AP50-95 of small, medium and large targets, without those that the data lack.
    """

    precision: Float64Array
    confusion: Float64Array
    labels: tuple[str, ...]
    sizes: Mapping[str, float]

    @property
    def normalized(self) -> Float64Array:
        """The confusion matrix (K, K) as ratios of the true class: each column with a target adds up to 1."""
        return column_ratios(self.confusion)

    def save(self, file: Path) -> None:
        """Write the arrays as .npz."""
        arrays: dict[str, Any] = {
            "precision": self.precision.astype(np.float32),
            "confusion": self.confusion.astype(np.int64),
            "labels": np.array(self.labels, dtype=np.str_),
        }
        with atomic_write(file, "wb") as f:
            np.savez_compressed(f, **arrays)

    @staticmethod
    def load(file: Path, stats: Mapping[str, float]) -> ModelQuality | None:
        """Read the arrays, with COCO's numbers for the sizes; None where there is no such file."""
        try:
            with np.load(file) as arrays:
                parts = [np.asarray(arrays[name], np.float64) for name in ("precision", "confusion")]
                labels = tuple(map(str, arrays["labels"]))
        except (OSError, ValueError, KeyError):
            return None
        return ModelQuality(parts[0], parts[1], labels, sizes_of(stats))


def sizes_of(stats: Mapping[str, float]) -> dict[str, float]:
    """Return AP50-95 by size, without what is not defined (-1)."""
    return {name: float(stats[key]) for name, key in SIZE_STATS.items() if stats.get(key, -1.0) >= 0}


def quality_of(metrics: DetMetrics) -> ModelQuality | None:
    """Return what the figures need of a validation; None where nothing was detected or there are no targets."""
    curves, confusion = metrics.class_curves, metrics.confusion_matrix
    if curves is None or confusion is None or not len(curves.prec_values):
        return None
    recalls = np.linspace(0, 1, RECALLS_SHOWN)
    precision = np.interp(recalls, curves.x, np.asarray(curves.prec_values).mean(0))
    labels = (*confusion.names.values(), *([BACKGROUND] if confusion.background else []))
    matrix = np.asarray(confusion.matrix, np.float64)
    return ModelQuality(precision, matrix, tuple(labels), sizes_of(metrics.coco_stats))
