"""Figures for print: one column wide, colours that colour-blind readers distinguish, fonts embedded, PNG and vector.

The palette is that of Okabe and Ito ("Color Universal Design", 2008); arms differ in marker and dash as well, so that a
figure is readable in grey.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ultralytics.utils.errors import ConfigError
from ultralytics.utils.files import atomic_write
from ultralytics.utils.plotting.figure import figure_bytes, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

COLUMN_WIDTH = 3.4
"""Inches: a column of the two-column styles of IEEE (3.5) and CVPR (3.25) takes it nearly unscaled."""
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8F8F00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES: tuple[tuple[int, tuple[float, ...]], ...] = (
    (0, ()), (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)), (0, (2, 1)), (0, (6, 2)), (0, (3, 1, 1, 1, 1, 1)),
    (0, (1, 2)),
)  # fmt: skip
LONG_NAME = 44
"""Characters of a name that a legend of one column takes."""
FORMATS = ("png", "pdf", "svg")
DPI = 300
_NO_DATE = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}


def style_of(i: int) -> tuple[str, str, tuple[int, tuple[float, ...]]]:
    """Return colour, marker and dash of the i-th arm; the combinations repeat after 64 arms."""
    return PALETTE[i % 8], MARKERS[(i + i // 8) % 8], DASHES[(i + i // 8) % 8]


@contextmanager
def paper_style() -> Iterator[None]:
    """Draw and write figures in the style for print until the block ends."""
    import matplotlib as mpl

    style: Any = {
        "font.size": 8, "axes.titlesize": 8, "axes.labelsize": 8, "xtick.labelsize": 7,
        "ytick.labelsize": 7, "legend.fontsize": 7, "axes.linewidth": 0.6, "lines.linewidth": 1.2,
        "lines.markersize": 4, "grid.linewidth": 0.4, "grid.alpha": 0.35, "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "axes.spines.top": False, "axes.spines.right": False, "pdf.fonttype": 42, "ps.fonttype": 42,
        "svg.fonttype": "path", "svg.hashsalt": "ultralytics",
    }  # fmt: skip
    with mpl.rc_context(style):
        yield


def paper_figure(
    height: float, rows: int = 1, columns: int = 1, width: float = COLUMN_WIDTH
) -> tuple[Figure, list[Axes]]:
    """Return a figure, by default one column wide (inches), and its axes row by row, each with a grid."""
    figure, axes = new_figure(width, height, rows, columns)
    for ax in axes:
        ax.grid(True)
        ax.set_axisbelow(True)
    return figure, axes


def check_format(fmt: str) -> None:
    """Raise ConfigError for a format that figures are not written in."""
    if fmt not in FORMATS:
        raise ConfigError(f"fmt={fmt!r} is not one of {', '.join(FORMATS)}")


def save_paper(figure: Figure, stem: Path, fmt: str = "pdf") -> list[Path]:
    """Write `<stem>.png` and the vector file of `fmt`, without a date so that equal figures are equal files.

    Returns the files.

    Raises:
        ConfigError: an unknown format.
    """
    check_format(fmt)
    files = []
    for suffix in dict.fromkeys(("png", fmt)):
        files.append(stem.with_name(f"{stem.name}.{suffix}"))
        with atomic_write(files[-1], "wb") as f:
            f.write(figure_bytes(figure, suffix, DPI, _NO_DATE.get(suffix)))
    return files


def short_name(name: str, limit: int = LONG_NAME) -> str:
    """Return a name that is shortened in its middle where it has more characters.

    >>> short_name("base"), short_name("shsa-behind-layer-5", 10)
    ('base', 'shsa-…er-5')
    """
    return name if len(name) <= limit else f"{name[: limit // 2]}…{name[limit // 2 + 1 - limit :]}"


def label_below(figure: Figure, axes: Axes, names: Sequence[str], columns: int = 3) -> None:
    """Put the legend of an axes' labelled artists below the figure, in as many columns as its width takes.

    Names that a single column does not take are shortened in their middle.
    """
    if not names:
        return
    handles, labels = axes.get_legend_handles_labels()
    shown = [short_name(name) for name in labels]
    for count in range(min(columns, len(names)), 0, -1):
        legend = figure.legend(handles, shown, loc="outside lower center", ncols=count)
        if count == 1 or width_of(legend) <= figure.bbox.width:
            return
        legend.remove()


def width_of(legend: Legend) -> float:
    """Return the pixels that a legend takes across; letters that the font does not have count as its boxes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        return float(legend.get_window_extent().width)
