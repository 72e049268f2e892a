"""Figures of a run: batch pictures, label statistics, training curves, precision-recall curves, confusion matrix.

Matplotlib is imported inside the functions and used through its object interface, so that no global figure state, style
or backend of the caller is touched. Every file is written whole or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ultralytics.utils.errors import ConfigError, NotFoundError
from ultralytics.utils.ops import smooth
from ultralytics.utils.plotting.annotator import Annotator, Colors, colors
from ultralytics.utils.plotting.batch import box_shapes, plot_images
from ultralytics.utils.plotting.figure import add_legend, literal, new_figure, save_figure
from ultralytics.utils.torch_tools.arrays import Float64Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
]

MAX_LEGEND_CLASSES = 20  # more lines than this get one style, and only the mean is named
MAX_NAMED_CLASSES = 100  # more tick labels than this cannot be read


def _curve_lines(
    axes: Axes, x: Float64Array, curves: Float64Array, labels: Sequence[str], mean_label: str, summary: Float64Array
) -> None:
    """Draw a thin line per class and `summary` as the thick one; name the classes while they are few."""
    named = len(curves) <= MAX_LEGEND_CLASSES
    lines = [axes.plot(x, curve, linewidth=1, color=None if named else "lightgrey")[0] for curve in curves]
    lines += axes.plot(x, summary, linewidth=3, color="blue")
    entries = list(zip([*labels, mean_label], lines, strict=True))
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.grid(alpha=0.3)
    add_legend(axes.figure, entries if named else entries[-1:], loc="outside right upper", fontsize=8)


def plot_pr_curve(
    px: Float64Array,
    py: Float64Array,
    ap: Float64Array,
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
    figure, (axes,) = new_figure(9, 6)
    _curve_lines(axes, px, py, labels, f"all classes {map50:.3f} mAP@0.5", mean)
    axes.set(xlabel="Recall", ylabel="Precision", title="Precision-Recall Curve")
    save_figure(figure, file, dpi=250)
    return file


def plot_mc_curve(
    px: Float64Array,
    py: Float64Array,
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
    figure, (axes,) = new_figure(9, 6)
    labels = [str(names.get(i, i)) for i in range(len(py))]
    value = float(py[:, best].mean()) if len(py) else 0.0  # the thick line is smoothed, tables hold this value
    _curve_lines(axes, px, py, labels, f"all classes {value:.3f} at {px[best]:.3f}", mean)
    axes.set(xlabel=xlabel, ylabel=ylabel, title=f"{ylabel}-Confidence Curve")
    save_figure(figure, file, dpi=250)
    return file


def plot_confusion_matrix(matrix: Float64Array, labels: Sequence[str], file: Path, normalized: bool) -> Path:
    """Draw a matrix of predicted (rows) against true classes (columns) into `file`; return its path.

    `labels` name rows and columns, the background last. Shares below 0.005 and zero counts stay blank.
    """
    n = len(labels)
    side = max(7.0, min(22.0, 0.2 * n + 4))
    figure, (axes,) = new_figure(1.15 * side, side)
    blank = matrix < (0.005 if normalized else 0.5)
    image = axes.imshow(np.where(blank, np.nan, matrix), cmap="Blues", vmin=0, vmax=1 if normalized else None)
    figure.colorbar(image, shrink=0.7)
    if n <= 31:
        _write_cells(axes, matrix, blank, normalized)
    step = -(-n // MAX_NAMED_CLASSES)
    ticks = np.arange(0, n, step)
    names = [literal(label) for label in labels[::step]]
    size = 10 if n <= 31 else 8
    axes.set_xticks(ticks, names, rotation=90, fontsize=size)
    axes.set_yticks(ticks, names, fontsize=size)
    title = "Confusion Matrix" + (" Normalized" if normalized else "")
    axes.set(xlabel="True", ylabel="Predicted", title=title)
    save_figure(figure, file, dpi=150)
    return file


def _write_cells(axes: Axes, matrix: Float64Array, blank: npt.NDArray[np.bool_], normalized: bool) -> None:
    """Write each value that is not blank into its cell, light on dark and dark on light."""
    middle = 0.45 if normalized else 0.45 * max(float(matrix.max(initial=0)), 1.0)
    size = 10 if len(matrix) <= 12 else 7
    for i, j in zip(*np.nonzero(~blank), strict=True):
        text = f"{matrix[i, j]:.2f}" if normalized else f"{int(matrix[i, j])}"
        color = "white" if matrix[i, j] > middle else "black"
        axes.text(j, i, text, ha="center", va="center", fontsize=size, color=color)


def plot_results(csv_path: str | Path) -> Path:
    """Draw every loss and metric of a `results.csv` over the epochs as `results.png` beside it; return its path.

    Raises:
        NotFoundError: there is no such file.
        ConfigError: it has no column to draw.
    """
    import pandas as pd
    from matplotlib.ticker import MaxNLocator

    file = Path(csv_path)
    if not file.is_file():
        raise NotFoundError(f"{file}: no such results file")
    table = pd.read_csv(file, skipinitialspace=True).rename(columns=str.strip)
    columns = _result_columns([str(c) for c in table.columns])
    if not columns:
        raise ConfigError(f"{file}: no column named train/..., val/... or metrics/...")
    figure, axes = new_figure(2.6 * (-(-len(columns) // 2)), 6, 2, -(-len(columns) // 2))
    epochs = table["epoch"].to_numpy() if "epoch" in table else np.arange(1, len(table) + 1)
    for ax, column in zip(axes, columns, strict=False):
        values = table[column].to_numpy(dtype=np.float64)
        ax.plot(epochs, values, marker=".", linewidth=1.5, markersize=6, label="results")
        if len(values) > 10:
            ax.plot(epochs, smooth(values, 0.1), ":", linewidth=2, label="smooth")
        ax.set_title(literal(column), fontsize=11)
        ax.grid(alpha=0.3)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_xlabel("epoch", fontsize=9)
        ax.set_ylabel(literal(_axis_name(column)), fontsize=9)
    for ax in axes[len(columns) :]:
        ax.axis("off")
    if len(table) > 10:
        axes[0].legend(fontsize=8)
    out = file.with_name("results.png")
    save_figure(figure, out, dpi=160)
    return out


def _axis_name(column: str) -> str:
    """What the values of a column of results.csv are."""
    return "loss" if column.endswith("loss") else "metric, 0 to 1"


def _result_columns(columns: Sequence[str]) -> list[str]:
    """Order the columns for two rows: training losses and P, R above; validation losses and APs below."""
    train, val, metrics = ([c for c in columns if c.startswith(f"{p}/")] for p in ("train", "val", "metrics"))
    half = len(metrics) // 2
    above, below = train + metrics[:half], val + metrics[half:]
    # With an odd number of columns the upper row takes the longer half.
    return above + below if len(above) >= len(below) else below + above


def plot_labels(boxes: Float64Array, cls: Float64Array, names: Mapping[int, str], save_dir: str | Path = "") -> Path:
    """Draw the statistics of a data set's labels as `labels.jpg` in `save_dir`; return its path.

    `boxes` (n, 4) centre and size in 0 to 1, `cls` (n,) class ids. Four panels: objects per class, the shapes of up to
    1000 boxes about one centre, where the centres lie, and widths against heights.
    """
    from matplotlib.ticker import MaxNLocator

    boxes, cls = np.asarray(boxes, dtype=np.float64).reshape(-1, 4), np.asarray(cls).reshape(-1).astype(np.int64)
    figure, (bars, shapes, centres, sizes) = new_figure(9, 8, 2, 2)
    counts = np.bincount(cls, minlength=len(names))
    bars.bar(np.arange(len(counts)), counts, color=[tuple(v / 255 for v in colors(i)) for i in range(len(counts))])
    bars.set_ylabel("objects")
    if len(counts) <= 30:
        ticks = [literal(names.get(i, i)) for i in range(len(counts))]
        bars.set_xticks(np.arange(len(counts)), ticks, rotation=90, fontsize=9)
    else:
        bars.set_xlabel("class")
    shapes.imshow(box_shapes(boxes, cls))
    shapes.set(xticks=[], yticks=[], title="shapes")
    for ax, (x, y), (x_label, y_label) in (
        (centres, boxes.T[:2], ("centre x", "centre y")),
        (sizes, boxes.T[2:], ("width", "height")),
    ):
        *_, grid = ax.hist2d(x, y, bins=50, range=[[0, 1], [0, 1]], cmap="plasma_r", cmin=1)
        if len(boxes):
            figure.colorbar(grid, ax=ax, label="objects", ticks=MaxNLocator(6, integer=True))
        ax.set(xlabel=x_label, ylabel=y_label, aspect="equal")
    centres.invert_yaxis()
    out = Path(save_dir) / "labels.jpg"
    save_figure(figure, out, dpi=150)
    return out
