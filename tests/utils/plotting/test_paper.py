"""The legend of a figure for print stays within the figure, whatever the names are."""

from __future__ import annotations

import pytest

from ultralytics.utils.plotting.paper import LONG_NAME, label_below, paper_figure, paper_style


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        ([], 0),
        (["base"], 1),
        (["base", "focal", "shsa"], 3),
        (["base", "shsa-p4-with-a-quite-long-name", "shsa_p5", "cosine", "mal+giou"], 2),
        (["base", "x" * 200], 1),
    ],
)
def test_the_legend_has_as_many_columns_as_fit(names: list[str], columns: int) -> None:
    with paper_style():
        figure, axes = paper_figure(2.0)
        for name in names:
            axes[0].plot([0, 1], label=name)
        label_below(figure, axes[0], names)
        figure.canvas.draw()
    assert len(figure.legends) == bool(names)
    for legend in figure.legends:
        box = legend.get_window_extent()
        assert box.x0 >= -1 and box.x1 <= figure.bbox.width + 1
        assert legend._ncols == columns  # type: ignore[attr-defined]
        assert all(len(text.get_text()) <= LONG_NAME for text in legend.get_texts())
