"""What every Matplotlib figure here shares: how it is made and written, and how the user's strings get into it.

Matplotlib is imported inside the functions and used through its object interface, so that no global figure state, style
or backend of the caller is touched.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ultralytics.utils.files import atomic_write
from ultralytics.utils.plotting.fonts import use_fonts_for

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Return a figure of `width` x `height` inches on the Agg canvas, and its axes row by row."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(np.atleast_1d(figure.subplots(rows, columns)).ravel())


def save_figure(figure: Figure, file: Path, dpi: int) -> None:
    """Write the figure in the format of the file's suffix."""
    content = figure_bytes(figure, file.suffix.lstrip(".").lower() or "png", dpi)
    with atomic_write(file, "wb") as f:
        f.write(content)


def figure_bytes(figure: Figure, format: str, dpi: int, metadata: Mapping[str, str | None] | None = None) -> bytes:
    """Return the figure as a file of a format, its strings in fonts that have their characters where there are any.

    `metadata` replaces entries that Matplotlib writes into the file; None leaves one out.
    """
    use_fonts_for(figure)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # one warning of ours says what to do
        figure.savefig(buffer, format=format, dpi=dpi, metadata=metadata)
    return buffer.getvalue()


def literal(text: object) -> str:
    """Return `text` as a string that Matplotlib draws unchanged: what is between two `$` would become a formula."""
    return str(text).replace("$", r"\$")


def add_legend(owner: Axes | FigureBase, entries: Sequence[tuple[str, Artist]], **style: Any) -> None:
    """Add a legend with a row for each (name, artist), whatever the name is; `style` goes to Matplotlib."""
    # The names come last: Matplotlib leaves out what has a name that begins with an underscore.
    legend = owner.legend([artist for _, artist in entries], [" "] * len(entries), **style)
    for row, (name, _) in zip(legend.get_texts(), entries, strict=True):
        row.set_text(literal(name))
