"""Tables of text: aligned columns for a terminal, or Markdown."""

from __future__ import annotations

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


FORMATS = {"text": aligned, "markdown": markdown}
