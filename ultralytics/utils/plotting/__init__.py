"""Images and figures: annotated images, batches, label statistics, curves, confusion matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ultralytics.utils.config.absent import absent_names
from ultralytics.utils.plotting.annotator import Annotator, Colors, colors, save_one_box
from ultralytics.utils.plotting.batch import plot_images
from ultralytics.utils.plotting.curves import (
    plot_confusion_matrix,
    plot_labels,
    plot_mc_curve,
    plot_pr_curve,
    plot_results,
)

__all__ = [
    "Annotator",
    "Colors",
    "colors",
    "plot_confusion_matrix",
    "plot_images",
    "plot_labels",
    "plot_mc_curve",
    "plot_pr_curve",
    "plot_results",
    "save_one_box",
]


if not TYPE_CHECKING:  # a type checker shall see what is missing
    __getattr__ = absent_names(__name__)
