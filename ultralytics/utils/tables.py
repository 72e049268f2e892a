"""Tables of text: aligned columns for a terminal, Markdown, LaTeX or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Sequence

Rows = Sequence[Sequence[str]]


def aligned(rows: Rows, left: Collection[int] = (0,)) -> list[str]:
    """One line a row, columns two blanks apart; the columns in `left` start flush, the others end flush.

    >>> aligned([("model", "params"), ("a", "12")])
    ['model  params', 'a          12']
    """
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))] if rows else []
    lines = []
    for row in rows:
        cells = [f"{c:<{w}}" if k in left else f"{c:>{w}}" for k, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return lines


def markdown(rows: Rows, left: Collection[int] = (0,)) -> list[str]:
    """The first row as the head of a Markdown table, the others below it.

    >>> markdown([("model", "params"), ("a|b", "12")])
    ['| model | params |', '|:---|---:|', '| a\\\\|b | 12 |']
    """
    if not rows:
        return []
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    rule = "|" + "|".join(":---" if k in left else "---:" for k in range(len(rows[0]))) + "|"
    return [lines[0], rule, *lines[1:]]


_LATEX = str.maketrans(
    {
        **{c: f"\\{c}" for c in "&%$#_{}"},
        "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
        ">": r"\textgreater{}", "|": r"\textbar{}",
    }
)  # fmt: skip


def latex(rows: Rows, left: Collection[int] = (0,)) -> list[str]:
    """The first row as the head of a LaTeX table with the rules of `booktabs`, the others below it.

    >>> latex([("model", "AP"), ("a_b", "12")])[2:5]
    ['model & AP \\\\\\\\', '\\\\midrule', 'a\\\\_b & 12 \\\\\\\\']
    """
    if not rows:
        return []
    lines = [" & ".join(cell.translate(_LATEX) for cell in row) + r" \\" for row in rows]
    columns = "".join("l" if k in left else "r" for k in range(len(rows[0])))
    return [
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        lines[0],
        r"\midrule",
        *lines[1:],
        r"\bottomrule",
        r"\end{tabular}",
    ]


def comma_separated(rows: Rows, left: Collection[int] = (0,)) -> list[str]:
    """One line of CSV a row; `left` plays no part.

    >>> comma_separated([("a,b", "1")])
    ['"a,b",1']
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().splitlines()


TABLE_FORMATS = {"text": aligned, "markdown": markdown, "latex": latex, "csv": comma_separated}
