"""A row put into a model YAML, or in the place of another one.

`from` of the rows below a new one is renumbered, in the mapping and in the text of a file.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ultralytics.nn.build.row_names import is_name, sources
from ultralytics.nn.build.spec import YAML_PARTS, LayerSpec, ModelSpec, find_model_yaml, load_model_yaml
from ultralytics.utils.config.yaml_io import YAML, KeyPath, load_with_lines
from ultralytics.utils.errors import ConfigError, ModelYAMLError, NotFoundError
from ultralytics.utils.files import YAML_SUFFIXES, atomic_write, has_yaml_suffix

FORMS = "write [module, args], such as [SHSA, []], [repeats, module, args] or [from, repeats, module, args]"
_FROM = re.compile(r"(^\s*-\s*\[\s*)(\[[^\]]*\]|[^,\[\]]+?)(\s*,)")
"""A row up to its `from`, in the form in which files have it: `- [-1, 1, Conv, [64, 3, 2]]`."""
_NUMBER = re.compile(r"(\]\s*#\s*)(\d+)\b")
"""The number of a layer with which the comment of its row begins."""


def insert_row(spec: Mapping[str, Any], after: int | str, row: Sequence[Any]) -> dict[str, Any]:
    """Return a copy of a model YAML with a row behind layer `after`, which takes the place of that layer.

    The new row reads layer `after`, and every row that read layer `after` reads the new row: the one just below, and
    those that name it in `from`. All other indices are moved so that they name the layers that they named before.

    >>> model = {"nc": 2, "backbone": [[-1, 1, "Conv", [8, 3, 2]], [-1, 1, "Conv", [16, 3, 2]]]}
    >>> model["head"] = [[-1, 1, "Conv", [16]], [[1, 2], 1, "Concat", [1]], [-1, 1, "Conv", [8]]]
    >>> new = insert_row(model, 1, ["SHSA", []])
    >>> new["backbone"][2], new["head"][1]
    ([-1, 1, 'SHSA', []], [[2, 3], 1, 'Concat', [1]])

    Args:
        spec: Model YAML as a mapping; it is not changed.
        after: Index of a layer as `from` counts it (the maps of a one-row backbone are 0 to 4), or the name of a row.
        row: `[module, args]`, `[repeats, module, args]` or `[from, repeats, module, args]`, where `from` counts as in
            the result; each may end with `{name: ...}`.

    Raises:
        ModelYAMLError: The YAML cannot be read, there is no such layer, it is the last one, or the row is malformed.
    """
    return _inserted(spec, after, row)[0]


def replace_row(spec: Mapping[str, Any], layer: int | str, row: Sequence[Any]) -> dict[str, Any]:
    """Return a copy of a model YAML with module and arguments of one row replaced; `from`, repeats and name stay.

    >>> model = {"nc": 1, "backbone": [[-1, 2, "Conv", [8]]], "head": [[-1, 1, "Conv", [8]]]}
    >>> replace_row(model, 0, ["SHSA", []])["backbone"]
    [[-1, 2, 'SHSA', []]]

    Args:
        spec: Model YAML as a mapping; it is not changed.
        layer: Index of a layer as `from` counts it, or the name of a row.
        row: `[module, args]`.

    Raises:
        ModelYAMLError: The YAML cannot be read, there is no such layer, or the row is malformed.
    """
    plan = load_model_yaml(spec)
    if len(row) != 2 or not isinstance(row[1], list):
        raise ModelYAMLError(f"row: {list(row)} is not [module, args], such as [SHSA, []]")
    result = copy.deepcopy(dict(spec))
    found = _rows(result)[plan.position(_named_slot(spec, plan, layer, plan.layers[-1].slot, "layer"))]
    found[2:4] = copy.deepcopy(list(row))
    load_model_yaml(result)
    return result


def insert_into_file(model: str | Path, after: int | str, row: Sequence[Any], out: str | Path) -> bool:
    """Write a model YAML file with a row put in, see `insert_row`; return whether its comments could be kept.

    Raises:
        ConfigError: `out` exists already.
    """
    target = Path(out)
    if target.exists():
        raise ConfigError(f"out={target}: the file exists already", "choose another name, or delete it first")
    if not has_yaml_suffix(model):
        raise NotFoundError(
            f"model={model}: a row is put into a model YAML ({', '.join(YAML_SUFFIXES)}), not into weights"
        )
    path = find_model_yaml(model)
    data, lines = load_with_lines(path)
    new, position, shift = _inserted(data, after, row)
    text = _edited(path.read_text(encoding="utf-8-sig"), lines, new, position, shift)
    kept = _is_same(text, new)
    with atomic_write(target) as f:
        f.write(text if kept else YAML.dumps(new))
    return kept


def _inserted(spec: Mapping[str, Any], after: int | str, row: Sequence[Any]) -> tuple[dict[str, Any], int, int]:
    """The new mapping, the position of the new row, and what layer indices count more than positions."""
    plan = load_model_yaml(spec)
    slot = _slot(spec, plan, after)
    position = plan.position(slot) + 1
    new_slot = position + plan.shift
    result = copy.deepcopy(dict(spec))
    rows = _rows(result)
    for layer in plan.layers[position:]:
        rows[layer.index][0] = _renumbered(rows[layer.index][0], layer, slot, new_slot)
    new = _full_row(row, -1 if slot == new_slot - 1 else slot)
    backbone = len(result["backbone"])
    part, place = ("backbone", position) if position <= backbone else ("head", position - backbone)
    result[part].insert(place, new)
    load_model_yaml(result)
    return result, position, plan.shift


def _rows(data: Mapping[str, Any]) -> list[list[Any]]:
    return [row for part in YAML_PARTS for row in data[part]]


def _slot(spec: Mapping[str, Any], plan: ModelSpec, after: int | str) -> int:
    """The slot of layer `after`, which exists and is not the last."""
    last = plan.layers[-1]
    try:
        return _named_slot(spec, plan, after, last.slot - 1, "after")
    except ModelYAMLError as e:
        raise ModelYAMLError(str(e), f"layer {last.slot} ({last.module}) must stay the last row") from None


def _named_slot(spec: Mapping[str, Any], plan: ModelSpec, layer: int | str, last: int, key: str) -> int:
    """The slot of a layer by its index, at most `last`, or by the name of its row."""
    rows = _rows(spec)
    named = [k for k, row in enumerate(rows) if len(row) == 5 and row[4]["name"] == layer]
    slot = named[0] + plan.shift if named else layer
    if not isinstance(slot, bool) and isinstance(slot, int) and 0 <= slot <= last:
        return slot
    problem = f"{key}={layer!r}: give the index of a layer, 0 to {last}, or the name of a row"
    same = [str(k + plan.shift) for k, row in enumerate(rows) if row[2] == layer]
    raise ModelYAMLError(problem, *([f"rows with the module {layer}: {', '.join(same)}"] if same else []))


def _renumbered(written: object, layer: LayerSpec, slot: int, new_slot: int) -> object:
    """`from` of a row below the new one, in the form in which it was written; names stay, but for that of `slot`."""
    entries: list[object] = []
    for source, meant in zip(sources([written]), layer.inputs, strict=True):
        target = new_slot if meant == slot else meant + (meant >= new_slot)
        if isinstance(source, int) and source < 0:
            target -= layer.slot + 1
        entries.append(source if is_name(source) and meant != slot else target)
    return entries if isinstance(written, list) else entries[0]


def _full_row(row: Sequence[Any], source: int) -> list[Any]:
    """The new row in full: what it leaves out is the given `from`, and one repeat."""
    items = list(row) if isinstance(row, (list, tuple)) else []
    name = [items.pop()] if items and isinstance(items[-1], Mapping) else []
    if not 2 <= len(items) <= 4:
        raise ModelYAMLError(f"row={row!r:.80}: {FORMS}")
    return [*[source, 1][: 4 - len(items)], *items, *name]


def _edited(text: str, lines: Mapping[KeyPath, int], new: Mapping[str, Any], position: int, shift: int) -> str:
    """The text of a file with the new row and the moved indices; comments stay, and the layer numbers in them move."""
    content = text.split("\n")
    places = sorted(line for key, line in lines.items() if len(key) == 2 and key[0] in YAML_PARTS)
    rows = _rows(new)
    for k, line in enumerate(places[position:], position):
        content[line - 1] = _count_up(_with_from(content[line - 1], rows[k + 1][0]), k + shift)
    above = content[places[position - 1] - 1]
    slot = position + shift
    numbered = _NUMBER.search(above)
    note = f" # {slot}" if numbered and int(numbered[2]) == slot - 1 else ""
    indent = above[: len(above) - len(above.lstrip())]
    content.insert(places[position - 1], f"{indent}- {flow_text(rows[position])}{note}")
    return "\n".join(content)


def _with_from(line: str, source: object) -> str:
    """The line of a row with another `from`."""
    return _FROM.sub(lambda m: m[1] + flow_text(source) + m[3], line, count=1)


def _count_up(line: str, slot: int) -> str:
    """The line of a layer with its number in the comment raised by one, where the comment begins with it."""
    return _NUMBER.sub(lambda m: m[1] + (str(slot + 1) if int(m[2]) == slot else m[2]), line, count=1)


def flow_text(value: object) -> str:
    """Return a value in one line of YAML.

    >>> flow_text([-1, 1, "SHSA", []])
    '[-1, 1, SHSA, []]'
    """
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10_000)
    return text.strip().removesuffix("...").strip()


def _is_same(text: str, data: Mapping[str, Any]) -> bool:
    """Whether a string reads as the mapping."""
    try:
        return load_with_lines(text)[0] == data
    except ConfigError:
        return False
