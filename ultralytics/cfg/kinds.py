"""Kinds of argument values: what each accepts and what it turns it into.

A kind's `convert` returns the value in its one stored form, raises TypeError for a wrong type, ValueError for a value
outside its bounds and OverflowError for a number beyond 64 bits; the message is made by the schema's row, which knows
the argument.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ultralytics.cfg.box_loss_names import BOX_LOSS_RULE, BOX_LOSSES, IOU_LOSSES, PREFIXES, parse_box_loss
from ultralytics.utils.checks import MAX_IMAGE_SIDE
from ultralytics.utils.config.precision import AMP_TYPES, BITS_OF_NAME
from ultralytics.utils.config.settings import LOGGER_SETTINGS

MAX_INTEGER = 2**63 - 1
"""The largest integer of an argument: what tensors, files and seeds can hold."""


@dataclass(frozen=True)
class Kind:
    """One kind of value: its description in messages, its conversion, and the type of the result as Python source.

    `json` is the JSON schema of the values that `convert` takes from a file; an empty one takes all.
    """

    meaning: str
    convert: Callable[[object], Any]
    annotation: str
    json: Mapping[str, Any] = field(default_factory=dict)


def to_python(value: object) -> object:
    """Return scalars of NumPy and torch as Python's numbers, and their one-dimensional arrays as lists.

    >>> import numpy as np
    >>> to_python(np.int64(3)), to_python(np.array([0, 2])), to_python("a")
    (3, [0, 2], 'a')
    """
    shape, tolist = getattr(value, "shape", None), getattr(value, "tolist", None)
    if isinstance(value, range):
        return list(value)
    return tolist() if callable(tolist) and shape is not None and len(shape) <= 1 else value


def _bool(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _real(value: object) -> int | float:
    if isinstance(value, bool):
        raise TypeError
    if isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            raise OverflowError
        return value
    if not isinstance(value, numbers.Real):
        raise TypeError
    if value != value:
        raise ValueError
    return float(value)


def _number(value: object) -> float:
    return float(_real(value))


def _int(value: object) -> int:
    number = _real(value)
    if not float(number).is_integer():
        raise TypeError
    return int(number)


def _count(value: object) -> int:
    return int(value) if isinstance(value, bool) else _int(value)


def _unit(value: object) -> float:
    number = float(value) if isinstance(value, bool) else _number(value)
    if not 0.0 <= number <= 1.0:
        raise ValueError
    return number


def _text(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float, Path)):
        raise TypeError
    return str(value)


def _path(value: object) -> str:
    if not isinstance(value, (str, Path)):
        raise TypeError
    return str(value)


def _word(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _list_of(item: Callable[[object], Any]) -> Callable[[object], list[Any]]:
    def convert(value: object) -> list[Any]:
        if not isinstance(value, (list, tuple)):
            raise TypeError
        return [item(v) for v in value]

    return convert


def _paths(value: object) -> str | list[str]:
    """A path or several; `[a.py, b.py]`, as a shell passes it, is a list."""
    if isinstance(value, str) and value.startswith("[") and value.endswith("]"):
        value = [part.strip().strip("'\"") for part in value[1:-1].split(",") if part.strip()]
    found: str | list[str] = _either(_path, _list_of(_path))(value)
    return found


def _either(*converts: Callable[[object], Any]) -> Callable[[object], Any]:
    """The first conversion that takes the value; if none takes its type, TypeError."""

    def convert(value: object) -> Any:
        for attempt in converts:
            try:
                return attempt(value)
            except TypeError:
                continue
        raise TypeError

    return convert


def _imgsz(value: object) -> int | list[int]:
    if isinstance(value, str):
        parts = [part.strip() for part in value.strip("[]() ").split(",")]
        if not all(part.isdecimal() and len(part) < 6 for part in parts):
            raise TypeError
        value = [int(part) for part in parts] if len(parts) > 1 else int(parts[0])
    sides: int | list[int] = _either(_int, _list_of(_int))(value)
    listed = [sides] if isinstance(sides, int) else sides
    if len(listed) not in {1, 2} or min(listed) < 1 or max(listed) > MAX_IMAGE_SIDE:
        raise ValueError
    return sides


def _batch(value: object) -> int | float:
    number = _number(value)
    if number == -1 or (number >= 1 and number.is_integer()):
        return int(number)
    if 0 < number < 1:
        return number
    raise ValueError


def _tiles(value: object) -> int:
    number = _int(value)
    if number not in {4, 9}:
        raise ValueError
    return number


def _amp(value: object) -> bool | str:
    if isinstance(value, bool):
        return value
    text = _word(value).lower()
    if text not in AMP_TYPES:
        raise ValueError
    return text


def _cache(value: object) -> bool | str:
    if isinstance(value, bool):
        return value
    text = _word(value).lower()
    if text not in {"ram", "disk"}:
        raise ValueError
    return text


def _fraction_part(value: object) -> int | float:
    """A ratio in (0, 1] or a count above 1; the number 1 is a ratio."""
    number = _number(value)
    if not 0 < number or (number > 1 and not number.is_integer()):
        raise ValueError
    return int(number) if number > 1 else number


def _fraction(value: object) -> float | list[float]:
    parts = _either(_fraction_part, _list_of(_fraction_part))(value)
    if isinstance(parts, list) and len(parts) not in {2, 3}:
        raise ValueError
    return parts


def _gain(value: object) -> float | list[float]:
    """A number in [0, 1], or a pair (low, high) of positive factors."""
    gain = _either(_unit, _list_of(_number))(value)
    if isinstance(gain, list) and (len(gain) != 2 or not 0 < gain[0] <= gain[1]):
        raise ValueError
    return gain


def _device(value: object) -> int | str | list[int | str]:
    if type(value).__name__ == "device":  # torch.device, which this file must not import
        return str(value)
    return _either(_int, _word, _list_of(_either(_int, _word)))(value)


def _items(text: str) -> list[str]:
    """The items of a list in the form of a command line."""
    return [item.strip(" '\"") for item in text.strip("[]() ").split(",")]


_NUMBER_OR_LIST = _either(_int, _list_of(_either(_int, _word)))


def _layers(value: object) -> int | list[int | str]:
    """A number, or a list of numbers and names; a string, as a command line gives it, is split at its commas."""
    if isinstance(value, str):
        value = [int(item) if item.isdecimal() and len(item) < 10 else item for item in _items(value)]
    layers: int | list[int | str] = _NUMBER_OR_LIST(value)
    if (isinstance(layers, int) and layers < 0) or (isinstance(layers, list) and "" in layers):
        raise ValueError
    return layers


def _classes(value: object) -> int | list[int | str]:
    """An index, or a list of indices and names; a string, as a command line gives it, is split at its commas."""
    if isinstance(value, str):
        value = [int(item) if item.isdecimal() else item for item in _items(value)]
    classes: int | list[int | str] = _NUMBER_OR_LIST(value)
    if isinstance(classes, list) and "" in classes:
        raise ValueError
    return classes


def _quantize(value: object) -> int | str:
    text = str(_either(_int, _word)(value)).lower()
    if text not in BITS_OF_NAME:
        raise ValueError
    return BITS_OF_NAME[text]


def _box_loss(value: object) -> str:
    return str(parse_box_loss(_word(value)))


def _loggers(value: Any) -> str | list[str]:
    """`auto`, or a list of names; a string, as a command line gives it, is split at its commas."""
    if isinstance(value, str):
        value = _items(value.lower())
    names = list(dict.fromkeys(_list_of(_word)(value)))
    if names == ["auto"]:
        return "auto"
    if names in ([], [""], ["none"]):
        return []
    if not set(names) <= set(LOGGER_SETTINGS):
        raise ValueError
    return names


def any_case(*spellings: str) -> str:
    """A group of a regular expression: strings in any letter case, for which JSON schemas have no switch."""
    forms = ("".join(f"[{c.upper()}{c.lower()}]" if c.isalpha() else c for c in text) for text in spellings)
    return f"({'|'.join(forms)})"


def _box_loss_pattern() -> str:
    inner, focaler = (f"{any_case(prefix)}[-_]" for prefix in PREFIXES)
    prefixes = f"(({inner})?({focaler})?|{focaler}{inner})"
    return f"^({prefixes}{any_case(*IOU_LOSSES)}|{any_case(*BOX_LOSSES)})$"


def _loggers_pattern() -> str:
    first, more = any_case("auto", "none", *LOGGER_SETTINGS), any_case(*LOGGER_SETTINGS)
    return rf"^[\[( ]*({first}( *, *{more})*)?[\]) ]*$"


_LIST_OF_INTS = {"type": "array", "items": {"type": "integer"}}
_PATH_OR_PATHS = {"type": ["string", "array"], "items": {"type": "string"}}
_PART = {"type": "number", "exclusiveMinimum": 0, "if": {"exclusiveMinimum": 1}, "then": {"type": "integer"}}
_SIDE = {"minimum": 1, "maximum": MAX_IMAGE_SIDE}
_SIDES = {
    "type": ["integer", "array", "string"],
    **_SIDE,
    "items": {"type": "integer", **_SIDE},
    "pattern": r"^[\[( ]*[1-9][0-9]{0,4}( *, *[1-9][0-9]{0,4})?[\]) ]*$",
}

BOOL = Kind("true or false", _bool, "bool", {"type": "boolean"})
INT = Kind("an integer", _int, "int", {"type": "integer"})
COUNT = Kind("an integer", _count, "int", {"type": ["integer", "boolean"]})
FLOAT = Kind("a number", _number, "float", {"type": "number"})
UNIT = Kind("a number from 0 to 1", _unit, "float", {"type": ["number", "boolean"], "minimum": 0, "maximum": 1})
TEXT = Kind("a string", _text, "str", {"type": ["string", "number"]})
WORD = Kind("a string", _word, "str", {"type": "string"})
PATH = Kind("a path or name", _path, "str", {"type": "string"})
PATHS = Kind("a path or name, or a list of them", _paths, "str | list[str]", _PATH_OR_PATHS)
SWITCH_OR_PATH = Kind("true, false or a path", _either(_bool, _path), "bool | str", {"type": ["boolean", "string"]})
SWITCH_OR_WORD = Kind("true, false or a mode", _either(_bool, _word), "bool | str", {"type": ["boolean", "string"]})
IMGSZ = Kind(
    f"an integer number of pixels up to {MAX_IMAGE_SIDE}, or [height, width]",
    _imgsz,
    "int | list[int]",
    {**_SIDES, "minItems": 1, "maxItems": 2},
)
BATCH = Kind(
    "an integer, -1 (automatic) or a fraction of the memory between 0 and 1",
    _batch,
    "int | float",
    {
        "type": "number",
        "anyOf": [{"const": -1}, {"type": "integer", "minimum": 1}, {"exclusiveMinimum": 0, "maximum": 1}],
    },
)
TILES = Kind("4 or 9", _tiles, "int", {"enum": [4, 9]})
AMP = Kind(
    "true, false, 'bf16', 'fp16' or 'fp32'",
    _amp,
    "bool | str",
    {"type": ["boolean", "string"], "pattern": f"^{any_case(*AMP_TYPES)}$"},
)
CACHE = Kind(
    "true, false, 'ram' or 'disk'",
    _cache,
    "bool | str",
    {"type": ["boolean", "string"], "pattern": f"^{any_case('ram', 'disk')}$"},
)
FRACTION = Kind(
    "a ratio above 0 up to 1, a count above 1, or a list of 2 or 3 of them",
    _fraction,
    "float | list[float]",
    {"if": {"type": "array"}, "then": {"items": _PART, "minItems": 2, "maxItems": 3}, "else": _PART},
)
GAIN = Kind(
    "a number from 0 to 1, or a pair of factors [low, high]",
    _gain,
    "float | list[float]",
    {**UNIT.json, "type": ["number", "boolean", "array"], "items": {"type": "number", "exclusiveMinimum": 0}}
    | {"minItems": 2, "maxItems": 2},
)
DEVICE = Kind(
    "cpu, mps, a GPU index such as 0, or several such as 0,1",
    _device,
    "int | str | list[int | str]",
    {"type": ["integer", "string", "array"], "items": {"type": ["integer", "string"]}},
)
INTS = Kind("a list of integers", _list_of(_int), "list[int]", _LIST_OF_INTS)
INT_OR_INTS = Kind(
    "an integer or a list of integers",
    _either(_int, _list_of(_int)),
    "int | list[int]",
    {"type": ["integer", "array"], "items": {"type": "integer"}},
)
CLASSES = Kind(
    "an index or name, or a list of them",
    _classes,
    "int | list[int | str]",
    {
        "type": ["integer", "string", "array"],
        "minLength": 1,
        "items": {"type": ["integer", "string"], "minLength": 1},
    },
)
LAYERS = Kind(
    "a number of layers, or a list of layer indices and names, such as [0,1,encoder]",
    _layers,
    "int | list[int | str]",
    {
        "type": ["integer", "string", "array"],
        "minimum": 0,
        "minLength": 1,
        "items": {"type": ["integer", "string"], "minLength": 1},
    },
)
BOX_LOSS = Kind(
    BOX_LOSS_RULE,
    _box_loss,
    "str",
    {"type": "string", "pattern": _box_loss_pattern()},
)
PRECISION = Kind(
    "8, 16, 32, or one of int8, fp16, fp32, w8a8, w16a16, w32a32, w8a16, w8a32",
    _quantize,
    "int | str",
    {"anyOf": [{"enum": [8, 16, 32]}, {"type": "string", "pattern": f"^{any_case(*map(str, BITS_OF_NAME))}$"}]},
)
LOGGERS = Kind(
    f"auto, none, or a list of {', '.join(LOGGER_SETTINGS)}",
    _loggers,
    "str | list[str]",
    {
        "type": ["string", "array"],
        "pattern": _loggers_pattern(),
        "items": {"enum": ["auto", "none", *LOGGER_SETTINGS]},
    },
)
SOURCE = Kind(
    "a path, URL, glob, camera index or array", lambda value: str(value) if isinstance(value, Path) else value, "Any"
)
