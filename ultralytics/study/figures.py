"""The figures of a study and of runs: accuracy against cost, and curves with bands over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ultralytics.study.results import FITNESS_COLUMN, Curve, Findings, curve_of
from ultralytics.study.statistics import Judgement
from ultralytics.utils.plotting.figure import literal
from ultralytics.utils.plotting.paper import label_below, paper_figure, paper_style, save_paper, style_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

COSTS = (("params", "parameters, M", 1e6), ("gflops", "GFLOPs", 1.0), ("latency", "ms per image", 1.0))
MAX_PANELS = 12


def draw_cost(findings: Findings, rows: Sequence[Judgement], stem: Path, fmt: str = "pdf") -> list[Path]:
    """Draw AP, with its deviation over seeds, against parameters, GFLOPs and latency; return the files."""
    from matplotlib.ticker import MaxNLocator

    with paper_style():
        figure, axes = paper_figure(4.9, rows=3)
        for ax, (name, label, unit) in zip(axes, COSTS, strict=True):
            for i, row in enumerate(rows):
                color, marker, _ = style_of(i)
                x = findings.mean_of(row.arm, name) / unit
                ax.errorbar(x, row.mean, yerr=row.deviation, fmt=marker, color=color, capsize=2, label=literal(row.arm))
            ax.set(xlabel=label, ylabel="AP50-95")
            ax.margins(0.12)
            ax.xaxis.set_major_locator(MaxNLocator(nbins=5))
        label_below(figure, axes[0], [row.arm for row in rows])
        return save_paper(figure, stem, fmt)


def draw_run_bands(
    tables: Mapping[str, Sequence[pd.DataFrame]],
    stem: Path,
    columns: Sequence[str] = (FITNESS_COLUMN,),
    fmt: str = "pdf",
) -> list[Path]:
    """Draw columns of results.csv over the epochs: a line for the mean of each arm, a band from lowest to highest run.

    `tables` are the results.csv of the runs by arm. Returns the files, none where no run has a curve. At most 12
    columns are drawn.
    """
    chosen = list(columns)[:MAX_PANELS]
    curves = {column: {arm: curve_of(runs, column) for arm, runs in tables.items()} for column in chosen}
    chosen = [column for column in chosen if any(curves[column].values())]
    if not chosen:
        return []
    across = 1 if len(chosen) == 1 else 2
    down = -(-len(chosen) // across)
    with paper_style():
        figure, axes = paper_figure(2.4 if down == 1 else 1.55 * down + 0.4, down, across)
        for ax, column in zip(axes, chosen, strict=False):
            for i, curve in enumerate(curves[column].values()):
                if curve is not None:
                    _draw_curve(ax, curve, i, literal(list(tables)[i]))
            ax.set_xlabel("epoch")
            _name(ax, column, across > 1)
        for ax in axes[len(chosen) :]:
            ax.axis("off")
        label_below(figure, axes[0], list(tables))
        return save_paper(figure, stem, fmt)


def _name(ax: Axes, column: str, as_title: bool) -> None:
    name = literal("AP50-95" if column == FITNESS_COLUMN else column.replace("(B)", ""))
    if as_title:
        ax.set_title(name)
    else:
        ax.set_ylabel(name)


def _draw_curve(ax: Axes, curve: Curve, i: int, name: str) -> None:
    from matplotlib.ticker import MaxNLocator

    color, _, dash = style_of(i)
    marker = "." if len(curve.epochs) < 10 else None
    ax.plot(curve.epochs, curve.mean, color=color, linestyle=dash, marker=marker, label=name)
    if curve.runs > 1:
        ax.fill_between(curve.epochs, curve.low, curve.high, color=color, alpha=0.18, linewidth=0)
    if len(curve.epochs) > 1:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    else:
        ax.set_xticks(curve.epochs)
