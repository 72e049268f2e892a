"""Top-1 and top-5 accuracy of a classifier. Shapes: N images, nc classes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ultralytics.utils.metrics.confusion import ConfusionMatrix
from ultralytics.utils.tables import csv_of, names_by_id

if TYPE_CHECKING:
    import pandas as pd

CLASSIFY_KEYS = ("metrics/accuracy_top1", "metrics/accuracy_top5")


class ClassifyMetrics:
    """Accuracy over a data set: `top1`, `top5`, `fitness` (their mean), and per class.

    >>> metrics = ClassifyMetrics({0: "cat", 1: "dog"})
    >>> metrics.process(np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]]))
    >>> round(metrics.top1, 3), metrics.top5, metrics.class_result(1)
    (0.667, 1.0, (2, 0.5))
    >>> metrics
    ClassifyMetrics(2 classes, 3 images: top-1 0.6667, top-5 1)
    """

    def __init__(self, names: Mapping[int, str] | Sequence[str]) -> None:
        """Start with nothing measured, for the classes in `names`."""
        self.names = names_by_id(names)
        self.top1 = self.top5 = 0.0
        self.images = np.zeros(len(self.names), np.int64)
        self.correct = np.zeros(len(self.names), np.int64)
        self.speed: dict[str, float] = {}
        self.confusion_matrix: ConfusionMatrix | None = None

    def __repr__(self) -> str:
        counts = f"{len(self.names)} classes, {int(self.images.sum())} images"
        return f"ClassifyMetrics({counts}: top-1 {self.top1:.4g}, top-5 {self.top5:.4g})"

    def process(self, targets: npt.NDArray[Any], scores: npt.NDArray[Any]) -> None:
        """Measure: `targets` (N,) class ids, `scores` (N, nc), of which the highest count. No image gives 0."""
        if not len(targets):
            return
        places = np.argsort(-scores, axis=1, kind="stable")[:, :5] == np.asarray(targets)[:, None]  # (N, 5)
        self.top1, self.top5 = float(places[:, 0].mean()), float(places.any(1).mean())
        self.images = np.bincount(targets, minlength=len(self.names))
        self.correct = np.bincount(targets[places[:, 0]], minlength=len(self.names))

    @property
    def fitness(self) -> float:
        """Mean of top-1 and top-5 accuracy."""
        return (self.top1 + self.top5) / 2

    @property
    def keys(self) -> list[str]:
        """Names of the metrics."""
        return list(CLASSIFY_KEYS)

    @property
    def results_dict(self) -> dict[str, float]:
        """Metrics by name, with the fitness."""
        return dict(zip((*CLASSIFY_KEYS, "fitness"), (self.top1, self.top5, self.fitness), strict=True))

    def mean_results(self) -> list[float]:
        """Return top-1 and top-5 accuracy."""
        return [self.top1, self.top5]

    def class_result(self, i: int) -> tuple[int, float]:
        """Return the number of images of class `i` and the fraction of them that was recognised."""
        return int(self.images[i]), float(self.correct[i] / max(self.images[i], 1))

    def summary(self, decimals: int = 5) -> list[dict[str, Any]]:
        """Return a row for each class: name, images, top-1 accuracy."""
        rows = [(name, *self.class_result(i)) for i, name in self.names.items()]
        return [{"class": name, "images": n, "accuracy_top1": round(accuracy, decimals)} for name, n, accuracy in rows]

    def to_json(self, decimals: int = 5) -> str:
        """Return the summary as JSON text."""
        return json.dumps(self.summary(decimals), indent=2, ensure_ascii=False)

    def to_df(self, decimals: int = 5) -> pd.DataFrame:
        """Return the summary as a pandas table."""
        import pandas as pd

        return pd.DataFrame(self.summary(decimals))

    def to_csv(self, decimals: int = 5) -> str:
        """Return the summary as CSV text."""
        return csv_of(self.to_df(decimals))
