"""Words of the user's in a figure: drawn as they are, wherever they stand."""

import pytest

from tests.utils.plotting.svg import ODD_NAMES, figure_texts
from ultralytics.utils.plotting.figure import add_legend, literal, new_figure

NAMES = ["", *ODD_NAMES.values(), "$x$", "$", "$$", "$a$b$", r"\$5 or \$6", r"C:\new", "_", "a_b^c", "plain", 7]


@pytest.mark.parametrize("name", NAMES)
def test_a_literal_text_is_drawn_as_it_is(name):
    figure, (axes,) = new_figure(3, 2)
    axes.set(xticks=[], yticks=[], title=literal(name))
    assert figure_texts(figure) == [str(name)] * (name != "")


def test_legend_has_every_name_once_for_each_line():
    figure, (axes,) = new_figure(3, 6)
    axes.set(xticks=[], yticks=[])
    names = [*(str(n) for n in NAMES), "_", "plain"]  # two names come twice
    add_legend(axes, [(name, axes.plot([0, 1])[0]) for name in names], loc="upper left")
    assert figure_texts(figure) == [name for name in names if name]
    assert len(axes.get_legend().legend_handles) == len(names)
    assert figure.legends == []
