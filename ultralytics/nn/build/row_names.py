"""Names of rows in a model YAML: a fifth item `{name: p3}` on a row, and that name in the `from` of later rows.

A row with names becomes a plain row `[from, repeats, module, args]` before anything else reads it, so that a saved
model holds numbers alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeGuard

from ultralytics.utils.checks import nearest

ROW_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
ITEM = "the fifth item of a row is its name, such as {name: p3}"

Fail = Callable[[int, str, str], NoReturn]
"""Raises an error about a row: its position, the problem, and the remedy."""


def has_names(rows: Sequence[object]) -> bool:
    """Whether a row has a name, or names another in `from`."""
    return any(isinstance(row, list) and (len(row) == 5 or any(map(is_name, sources(row)))) for row in rows)


def plain_rows(rows: Sequence[object], shift: int, fail: Fail) -> list[object]:
    """Return the rows of both parts without names: each name in `from` becomes the index of its layer.

    `shift` is what layer indices count more than positions. Rows of a wrong form stay as they are. `fail` raises for a
    name that is given twice, unknown, or of a row that does not stand above.
    """
    positions = _positions(rows, fail)
    result: list[object] = []
    for k, row in enumerate(rows):
        if not isinstance(row, list) or not row:
            result.append(row)
            continue
        found = [_index(k, source, positions, shift, fail) for source in sources(row)]
        result.append([found if isinstance(row[0], list) else found[0], *row[1:4], *row[5:]])
    return result


def sources(row: Sequence[object]) -> list[object]:
    """The entries of a row's `from`."""
    first = row[0] if row else []
    return first if isinstance(first, list) else [first]


def is_name(source: object) -> TypeGuard[str]:
    """Whether an entry of `from` has the form of a name."""
    return isinstance(source, str) and ROW_NAME.fullmatch(source) is not None


def _positions(rows: Sequence[object], fail: Fail) -> dict[str, int]:
    """Position of the row of each name."""
    positions: dict[str, int] = {}
    for k, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != 5:
            continue
        item = row[4]
        name = item.get("name") if isinstance(item, dict) and set(item) == {"name"} else None
        if not is_name(name):
            fail(k, f"its fifth item is {item!r:.60}", f"{ITEM}: letters, digits, _ . and -, a letter first")
        if name in positions:
            fail(k, f"the name '{name}' is given twice, first to layer {positions[name]}", "each row has its own name")
        positions[str(name)] = k
    return positions


def _index(k: int, source: object, positions: dict[str, int], shift: int, fail: Fail) -> object:
    """The index of the layer that an entry of `from` in row `k` names; an entry that is not a name as it is."""
    if not is_name(source):
        return source
    position = positions.get(source)
    if position is None:
        near = nearest(source, positions)
        known = f"did you mean {' or '.join(near)}?" if near else "-1 is the layer just above, 4 is layer 4;"
        fail(k, f"from is '{source}', and no row has this name", f"{known} {ITEM}")
    if position >= k:
        where = "at itself" if position == k else f"forward, to row {position}"
        fail(k, f"from '{source}' points {where}", "a layer sees only those above it")
    return -1 if position == k - 1 else position + shift
