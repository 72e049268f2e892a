"""Figures of a run: batch pictures, label statistics, training curves, precision-recall curves, confusion matrix.

Matplotlib is imported inside the functions and used through its object interface, so that no global figure state, style
or backend of the caller is touched. Every file is written whole or not at all.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ultralytics.utils.files import atomic_write
from ultralytics.utils.ops import smooth

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FloatArray = npt.NDArray[np.float64]
MAX_LEGEND_CLASSES = 20  # more lines than this are drawn alike, and only the mean is named
MAX_NAMED_CLASSES = 100  # more tick labels than this cannot be read


def _new_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Return a figure of `width` x `height` inches on the Agg canvas, and its axes row by row."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(np.atleast_1d(figure.subplots(rows, columns)).ravel())


def _save_figure(figure: Figure, file: Path, dpi: int) -> None:
    """Write the figure in the format of the file's suffix."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=file.suffix.lstrip(".") or "png", dpi=dpi)
    with atomic_write(file, "wb") as f:
        f.write(buffer.getvalue())


def _curve_lines(
    axes: Axes, x: FloatArray, curves: FloatArray, labels: Sequence[str], mean_label: str, summary: FloatArray
) -> None:
    """Draw a thin line per class and `summary` as the thick one; name the classes while they are few."""
    named = len(curves) <= MAX_LEGEND_CLASSES
    for curve, label in zip(curves, labels, strict=True):
        axes.plot(x, curve, linewidth=1, color=None if named else "lightgrey", label=label if named else None)
    axes.plot(x, summary, linewidth=3, color="blue", label=mean_label)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.grid(alpha=0.3)
    axes.figure.legend(loc="outside right upper", fontsize=8)


def plot_pr_curve(
    px: FloatArray,
    py: FloatArray,
    ap: FloatArray,
    save_dir: str | Path = "pr_curve.png",
    names: Mapping[int, str] | None = None,
) -> Path:
    """Draw precision over recall at IoU 0.5 into the file `save_dir`; return its path.

    `px` (1000,) recalls, `py` (C, 1000) precisions, `ap` (C,) AP at IoU 0.5, `names` labels of the C rows.
    """
    names = names or {}
    file, py = Path(save_dir), np.asarray(py).reshape(-1, len(px))
    labels = [f"{names.get(i, i)} {value:.3f}" for i, value in enumerate(ap)]
    mean, map50 = (py.mean(0), float(np.mean(ap))) if len(py) else (np.zeros(len(px)), 0.0)
    figure, (axes,) = _new_figure(9, 6)
    _curve_lines(axes, px, py, labels, f"all classes {map50:.3f} mAP@0.5", mean)
    axes.set(xlabel="Recall", ylabel="Precision", title="Precision-Recall Curve")
    _save_figure(figure, file, dpi=250)
    return file


def plot_mc_curve(
    px: FloatArray,
    py: FloatArray,
    save_dir: str | Path = "mc_curve.png",
    names: Mapping[int, str] | None = None,
    xlabel: str = "Confidence",
    ylabel: str = "Metric",
) -> Path:
    """Draw a metric over confidence into the file `save_dir`; return its path.

    `px` (1000,) confidences, `py` (C, 1000) values, `names` labels of the C rows.
    """
    names = names or {}
    file, py = Path(save_dir), np.asarray(py).reshape(-1, len(px))
    mean = smooth(py.mean(0), 0.1) if len(py) else np.zeros(len(px))
    best = int(mean.argmax())
    figure, (axes,) = _new_figure(9, 6)
    labels = [str(names.get(i, i)) for i in range(len(py))]
    _curve_lines(axes, px, py, labels, f"all classes {mean[best]:.2f} at {px[best]:.3f}", mean)
    axes.set(xlabel=xlabel, ylabel=ylabel, title=f"{ylabel}-Confidence Curve")
    _save_figure(figure, file, dpi=250)
    return file


def plot_confusion_matrix(matrix: FloatArray, labels: Sequence[str], file: Path, normalized: bool) -> Path:
    """Draw a matrix of predicted (rows) against true classes (columns) into `file`; return its path.

    `labels` name rows and columns, the background last. Shares below 0.005 and zero counts stay blank.
    """
    n = len(labels)
    figure, (axes,) = _new_figure(*(max(8.0, min(24.0, 0.32 * n + 4)),) * 2)
    blank = matrix < (0.005 if normalized else 0.5)
    image = axes.imshow(np.where(blank, np.nan, matrix), cmap="Blues", vmin=0, vmax=1 if normalized else None)
    figure.colorbar(image, shrink=0.7)
    if n <= 31:
        _write_cells(axes, matrix, blank, normalized)
    step = -(-n // MAX_NAMED_CLASSES)
    ticks = np.arange(0, n, step)
    names = list(labels[::step])
    size = 10 if n <= 31 else 6
    axes.set_xticks(ticks, names, rotation=90, fontsize=size)
    axes.set_yticks(ticks, names, fontsize=size)
    title = "Confusion Matrix" + (" Normalized" if normalized else "")
    axes.set(xlabel="True", ylabel="Predicted", title=title)
    _save_figure(figure, file, dpi=200)
    return file


def _write_cells(axes: Axes, matrix: FloatArray, blank: npt.NDArray[np.bool_], normalized: bool) -> None:
    """Write each value that is not blank into its cell, light on dark and dark on light."""
    middle = 0.45 if normalized else 0.45 * max(float(matrix.max(initial=0)), 1.0)
    size = 10 if len(matrix) <= 12 else 7
    for i, j in zip(*np.nonzero(~blank), strict=True):
        text = f"{matrix[i, j]:.2f}" if normalized else f"{int(matrix[i, j])}"
        color = "white" if matrix[i, j] > middle else "black"
        axes.text(j, i, text, ha="center", va="center", fontsize=size, color=color)
