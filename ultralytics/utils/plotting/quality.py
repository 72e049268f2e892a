"""Figures of several models at once: precision over recall, confusion matrices, AP by size of the targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ultralytics.utils.log import LOGGER
from ultralytics.utils.metrics.quality import SIZE_STATS, ModelQuality
from ultralytics.utils.plotting.figure import literal
from ultralytics.utils.plotting.paper import (
    COLUMN_WIDTH,
    label_below,
    paper_figure,
    paper_style,
    save_paper,
    short_name,
    style_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Models = Mapping[str, Sequence[ModelQuality]]
"""By name of a model, its runs: one, or one for each seed."""

MAX_MATRICES, MAX_NUMBERS, MAX_NAMES = 8, 8, 20
"""Matrices in a figure; classes up to which cells have numbers, and up to which they are named."""
LONG_TITLE = 46
"""Characters of titles that a column takes."""
QUALITY_CAPTIONS = {
    "precision_recall": "Precision over recall at IoU 0.5, mean over classes; bands from lowest to highest seed",
    "confusion": "Confusion matrices, as ratios of the true class (columns)",
    "ap_by_size": "AP50-95 by size of the targets; bars are the deviation over seeds",
}


def draw_quality(models: Models, folder: Path, fmt: str = "pdf") -> list[Path]:
    """Draw the three figures into a folder; return the files, none where no model has the numbers."""
    models = {name: runs for name, runs in models.items() if runs}
    if not models:
        return []
    files = draw_precision_recall(models, folder / "precision_recall", fmt)
    return [
        *files,
        *draw_confusions(models, folder / "confusion", fmt),
        *draw_sizes(models, folder / "ap_by_size", fmt),
    ]


def draw_precision_recall(models: Models, stem: Path, fmt: str = "pdf") -> list[Path]:
    """Draw a curve for each model, with a band over its runs; return the files."""
    with paper_style():
        figure, (ax,) = paper_figure(2.6)
        for i, (name, runs) in enumerate(models.items()):
            color, _, dash = style_of(i)
            values = np.stack([run.precision for run in runs])  # (runs, 101)
            recalls = np.linspace(0, 1, values.shape[1])
            ax.plot(recalls, values.mean(0), color=color, linestyle=dash, label=literal(name))
            if len(runs) > 1:
                ax.fill_between(recalls, values.min(0), values.max(0), color=color, alpha=0.18, linewidth=0)
        ax.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
        label_below(figure, ax, list(models))
        return save_paper(figure, stem, fmt)


def draw_sizes(models: Models, stem: Path, fmt: str = "pdf") -> list[Path]:
    """Draw AP of small, medium and large targets of each model side by side; nothing where none has any."""
    sizes = [s for s in SIZE_STATS if any(s in run.sizes for runs in models.values() for run in runs)]
    if not sizes:
        return []
    width = 0.8 / len(models)
    with paper_style():
        figure, (ax,) = paper_figure(2.4)
        for i, (name, runs) in enumerate(models.items()):
            values = [[run.sizes[s] for run in runs if s in run.sizes] or [np.nan] for s in sizes]
            spread = [float(np.std(v, ddof=1)) if len(v) > 1 else 0.0 for v in values]
            place = np.arange(len(sizes)) + (i - (len(models) - 1) / 2) * width
            ax.bar(
                place, [np.mean(v) for v in values], width * 0.92, yerr=spread if any(spread) else None, capsize=2,
                color=style_of(i)[0], label=literal(name), error_kw={"elinewidth": 0.8},
            )  # fmt: skip
        ax.set_xticks(range(len(sizes)), sizes)
        ax.set(ylabel="AP50-95")
        ax.set_ylim(bottom=0)
        label_below(figure, ax, list(models))
        return save_paper(figure, stem, fmt)


def draw_confusions(models: Models, stem: Path, fmt: str = "pdf") -> list[Path]:
    """Draw the confusion matrix of each model, the mean over its runs, on one scale; return the files."""
    if len(models) > MAX_MATRICES:
        LOGGER.warning(f"confusion matrices of the first {MAX_MATRICES} of {len(models)} models are drawn")
    shown = list(models.items())[:MAX_MATRICES]
    across = 1 if len(shown) == 1 else 2
    down = -(-len(shown) // across)
    side = COLUMN_WIDTH / across
    with paper_style():
        figure, axes = paper_figure(side * down + 0.2, down, across)
        for ax, (name, runs) in zip(axes, shown, strict=False):
            _draw_matrix(ax, np.mean([run.normalized for run in runs], axis=0), runs[0].labels)
            ax.set_title(literal(short_name(name, LONG_TITLE // across)))
        for i, ax in enumerate(axes):
            if i >= len(shown):
                ax.axis("off")
            if i % across:
                ax.set_yticklabels([])
            if i + across < len(shown):
                ax.set_xticklabels([])
        figure.supxlabel("true", fontsize=8)
        figure.supylabel("predicted", fontsize=8)
        return save_paper(figure, stem, fmt)


def _draw_matrix(ax: Axes, values: np.ndarray, labels: Sequence[str]) -> None:
    """One matrix (K, K) of ratios, with numbers in its cells where there are few."""
    ax.imshow(values, cmap="Blues", vmin=0, vmax=1)
    ax.grid(False)
    few = len(labels) <= MAX_NAMES
    ticks = range(len(labels)) if few else []
    names = [literal(label) for label in labels] if few else []
    ax.set_xticks(ticks, names, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(ticks, names)
    if len(labels) <= MAX_NUMBERS:
        for i, j in np.ndindex(*values.shape):
            if values[i, j] >= 0.005:
                color = "white" if values[i, j] > 0.5 else "black"
                ax.text(j, i, f"{values[i, j]:.2f}", ha="center", va="center", color=color, fontsize=5.5)
