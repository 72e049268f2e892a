"""Confusion matrix of a detector, with a background class.

The matrix is (nc + 1, nc + 1): rows are predicted classes, columns true ones, the last of each is the background. A
missed object counts in the background row, a prediction without an object in the background column.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ultralytics.utils.log import LOGGER
from ultralytics.utils.metrics.iou import box_iou
from ultralytics.utils.plotting.curves import plot_confusion_matrix
from ultralytics.utils.tables import csv_of, names_by_id

if TYPE_CHECKING:
    import pandas as pd

BACKGROUND = "background"


def _match_any_class(iou: npt.NDArray[np.floating], threshold: float) -> npt.NDArray[np.int64]:
    """Return for each prediction (rows of `iou`, best first) the target it claims, or -1.

    Each in turn takes the free target of highest overlap above the threshold, whatever its class.
    """
    claimed = np.full(len(iou), -1, dtype=np.int64)
    if not iou.size:
        return claimed
    free = np.ones(iou.shape[1], dtype=bool)
    for i in np.flatnonzero(iou.max(1) > threshold):
        overlap = iou[i] * free
        j = int(overlap.argmax())
        if overlap[j] > threshold:
            claimed[i], free[j] = j, False
    return claimed


def column_ratios(matrix: npt.NDArray[np.number]) -> npt.NDArray[np.float64]:
    """Return a matrix with each column divided by its sum; a column without counts stays 0."""
    return np.asarray(matrix / np.maximum(matrix.sum(0, keepdims=True), 1), np.float64)


class ConfusionMatrix:
    """Counts of predicted against true classes, collected image by image."""

    def __init__(
        self,
        names: Mapping[int, str] | Sequence[str] = (),
        task: str = "detect",
        save_matches: bool = False,
        *,
        background: bool = True,
    ) -> None:
        """Start at zero for the classes in `names`; a classifier's matrix (`task`) has no `background`.

        `save_matches` is taken for scripts of the interface and has no effect.
        """
        background &= task != "classify"
        self.names = names_by_id(names)
        self.nc = len(self.names)
        self.background = background
        side = self.nc + background
        self.matrix: npt.NDArray[np.int64] = np.zeros((side, side), dtype=np.int64)

    def process_batch(
        self,
        detections: Mapping[str, Tensor],
        batch: Mapping[str, Tensor],
        conf: float = 0.25,
        iou_thres: float = 0.45,
    ) -> None:
        """Add one image.

        `detections` holds `bboxes` (N, 4), `conf` (N,) and `cls` (N,); `batch` holds `bboxes` (M, 4) and `cls` (M,);
        all boxes are xyxy in the same pixels. Only predictions above `conf` count; each target is claimed at most
        once, by an overlap above `iou_thres`, predictions choosing in falling confidence.
        """
        scores = detections["conf"].reshape(-1)
        keep = (scores > conf).nonzero()[:, 0]
        keep = keep[scores[keep].argsort(descending=True, stable=True)]
        predicted = detections["cls"].reshape(-1)[keep].cpu().numpy().astype(np.int64)
        true = batch["cls"].reshape(-1).cpu().numpy().astype(np.int64)
        iou = box_iou(detections["bboxes"].reshape(-1, 4)[keep], batch["bboxes"].reshape(-1, 4))
        claimed = _match_any_class(iou.cpu().numpy(), iou_thres)
        rows = np.full(len(true), self.nc)
        rows[claimed[claimed >= 0]] = predicted[claimed >= 0]
        np.add.at(self.matrix, (rows, true), 1)
        self.matrix[:-1, self.nc] += np.bincount(predicted[claimed < 0], minlength=self.nc)

    def process_cls_preds(self, preds: npt.NDArray[np.int64], targets: npt.NDArray[np.int64]) -> None:
        """Add classified images: predicted and true class ids, (N,) both."""
        np.add.at(self.matrix, (preds, targets), 1)

    def tp_fp(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return (true, false) positives of each class, (nc,) both."""
        tp = self.matrix.diagonal()
        return tp[: self.nc], (self.matrix.sum(1) - tp)[: self.nc]

    def normalized(self) -> npt.NDArray[np.float64]:
        """Return the matrix with each column divided by its sum: what became of the objects of each class."""
        return column_ratios(self.matrix)

    def plot(
        self,
        normalize: bool = True,
        save_dir: str | Path = "",
        on_plot: Callable[[Path], None] | None = None,
    ) -> Path:
        """Draw `confusion_matrix.png`, or `confusion_matrix_normalized.png`, into `save_dir`; return its path."""
        file = Path(save_dir) / ("confusion_matrix_normalized.png" if normalize else "confusion_matrix.png")
        values = self.normalized() if normalize else self.matrix.astype(np.float64)
        plot_confusion_matrix(values, self._labels(), file, normalize)
        if on_plot:
            on_plot(file)
        return file

    def print(self) -> None:
        """Log the matrix, one row a line."""
        for row in self.matrix:
            LOGGER.info(" ".join(f"{v:6d}" for v in row))

    def _labels(self) -> list[str]:
        """Return the names of rows and columns; equal names get a number so that none is lost as a key."""
        labels: list[str] = []
        for name in [*self.names.values(), *([BACKGROUND] if self.background else [])]:
            labels.append(name if name not in labels else f"{name}_{len(labels)}")
        return labels

    def summary(self, normalize: bool = False, decimals: int = 5) -> list[dict[str, str | float]]:
        """Return one row per predicted class: {"Predicted": name, true class: count or share, ...}."""
        labels, values = self._labels(), self.normalized() if normalize else self.matrix
        return [
            {"Predicted": label, **{name: round(float(v), decimals) for name, v in zip(labels, row, strict=True)}}
            for label, row in zip(labels, values, strict=True)
        ]

    def to_df(self, normalize: bool = False, decimals: int = 5) -> pd.DataFrame:
        """Return the summary as a pandas table."""
        import pandas as pd

        return pd.DataFrame(self.summary(normalize, decimals))

    def to_csv(self, normalize: bool = False, decimals: int = 5) -> str:
        """Return the summary as CSV text."""
        return csv_of(self.to_df(normalize, decimals))

    def to_json(self, normalize: bool = False, decimals: int = 5) -> str:
        """Return the summary as JSON text."""
        return str(self.to_df(normalize, decimals).to_json(orient="records"))
