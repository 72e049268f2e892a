"""Tables of text: empty, aligned, Markdown, LaTeX, CSV."""

import pytest

from ultralytics.utils.tables import TABLE_FORMATS, aligned, comma_separated, latex, markdown


@pytest.mark.parametrize("form", TABLE_FORMATS.values())
def test_empty(form):
    assert form([]) == []


@pytest.mark.parametrize(
    ("form", "want"),
    [
        (aligned, ["name    n", "a      10", "long  100"]),
        (markdown, ["| name | n |", "|:---|---:|", "| a | 10 |", "| long | 100 |"]),
        (comma_separated, ["name,n", "a,10", "long,100"]),
        (
            latex,
            [
                r"\begin{tabular}{lr}",
                r"\toprule",
                r"name & n \\",
                r"\midrule",
                r"a & 10 \\",
                r"long & 100 \\",
                r"\bottomrule",
                r"\end{tabular}",
            ],
        ),
    ],
)
def test_rows(form, want):
    assert form([("name", "n"), ("a", "10"), ("long", "100")]) == want


def test_latex_escapes_what_would_be_markup():
    assert latex([("a_b&c", "5%"), ("x^2 < 1", r"\n {#$}")])[2] == r"a\_b\&c & 5\% \\"
    assert latex([("h",), (r"\x^~",)])[4] == r"\textbackslash{}x\textasciicircum{}\textasciitilde{} \\"


def test_wide_letters_take_two_columns_of_a_terminal() -> None:
    assert TABLE_FORMATS["text"]([("arm", "AP"), ("细胞", "1"), ("base", "2")]) == ["arm   AP", "细胞   1", "base   2"]
