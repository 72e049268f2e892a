"""Tables of text: aligned columns for a terminal, Markdown, LaTeX or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar
from unicodedata import east_asian_width

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")
Rows = Sequence[Sequence[str]]
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters of cells that spreadsheets evaluate."""


def aligned(rows: Rows, left: Collection[int] = (0,)) -> list[str]:
    """One line a row, columns two blanks apart; the columns in `left` start flush, the others end flush.

    >>> aligned([("model", "params"), ("a", "12")])
    ['model  params', 'a          12']
    """
    widths = [max(cell_width(row[k]) for row in rows) for k in range(len(rows[0]))] if rows else []
    lines = []
    for row in rows:
        blanks = [" " * (width - cell_width(cell)) for cell, width in zip(row, widths, strict=True)]
        cells = [c + b if k in left else b + c for k, (c, b) in enumerate(zip(row, blanks, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return lines


def cell_width(text: str) -> int:
    """Return the columns that a terminal takes for a string: two for each Chinese, Japanese or Korean letter.

    >>> cell_width("abc"), cell_width("细胞")
    (3, 4)
    """
    return len(text) if text.isascii() else sum(1 + (east_asian_width(c) in "WF") for c in text)


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


def csv_cell(value: T) -> T | str:
    """Return a cell that no spreadsheet evaluates: what looks like a formula and is not a number gets a quote in front.

    >>> [csv_cell(v) for v in ("=1+1", "-0.5", "-x", "cat", 3)]
    ["'=1+1", '-0.5', "'-x", 'cat', 3]
    """
    if not isinstance(value, str) or not value.startswith(_FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return value if value == "-" else f"'{value}"  # a dash alone stands for nothing
    return value


def comma_separated(rows: Rows, left: Collection[int] = (0,)) -> list[str]:
    """One line of CSV a row, see `csv_cell`; `left` plays no part.

    >>> comma_separated([("a,b", "1")])
    ['"a,b",1']
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([csv_cell(cell) for cell in row] for row in rows)
    return text.getvalue().splitlines()


def csv_of(table: pd.DataFrame) -> str:
    """Return a pandas table as CSV text without its index, see `csv_cell`."""
    safe = table.rename(columns=csv_cell)
    for name in safe.select_dtypes(exclude="number").columns:
        safe[name] = safe[name].map(csv_cell)
    return str(safe.to_csv(index=False))


TABLE_FORMATS = {"text": aligned, "markdown": markdown, "latex": latex, "csv": comma_separated}


def names_by_id(names: Mapping[int, str] | Iterable[str]) -> dict[int, str]:
    """Return class names by id, from such a table or from names in the order of their ids.

    >>> names_by_id(["cat", "dog"])
    {0: 'cat', 1: 'dog'}
    """
    items = names.items() if isinstance(names, Mapping) else enumerate(names)
    return {int(i): str(name) for i, name in items}
