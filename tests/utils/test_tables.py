"""Tables of text: empty, aligned, Markdown."""

import pytest

from ultralytics.utils.tables import aligned, markdown


@pytest.mark.parametrize("form", [aligned, markdown])
def test_empty(form):
    assert form([]) == []


@pytest.mark.parametrize(
    ("form", "want"),
    [
        (aligned, ["name    n", "a      10", "long  100"]),
        (markdown, ["| name | n |", "|:---|---:|", "| a | 10 |", "| long | 100 |"]),
    ],
)
def test_rows(form, want):
    assert form([("name", "n"), ("a", "10"), ("long", "100")]) == want
