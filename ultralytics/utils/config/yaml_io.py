"""Reading and writing YAML, with line numbers for error messages.

Scalars follow YAML 1.2: `1e-4` is a number, only true/false are booleans (so `yes`, `no` and `on` may be class names),
and dates stay text. Nothing but plain values can come out of a file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import yaml

from ultralytics.utils.errors import ConfigError, NotFoundError
from ultralytics.utils.files import atomic_write

KeyPath: TypeAlias = tuple[str | int, ...]

_BASE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_BOOL = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
_INT = re.compile(r"^(?:[-+]?[0-9]+|0x[0-9a-fA-F]+|0o[0-7]+)$")
_FLOAT = re.compile(
    r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)


MAX_ITEMS, _MAX_LEVELS = 500_000, 100
"""Bounds on what a file may stand for: a file of 300 bytes with nested aliases would take all memory."""

FOREIGN = {
    "\t": "a tab: indent with spaces",
    "\uff0c": "a full-width comma '\uff0c': write ','",
    "\uff1a": "a full-width colon '\uff1a': write ':'",
    "\uff08": "a full-width bracket '\uff08': write '('",
    "\uff3b": "a full-width bracket '\uff3b': write '['",
    "\uff3d": "a full-width bracket '\uff3d': write ']'",
    "\u3010": "a bracket '\u3010': write '['",
    "\u3011": "a bracket '\u3011': write ']'",
    "\u201c": "a typographic quote '\u201c': write a straight one",
    "\u201d": "a typographic quote '\u201d': write a straight one",
    "\u3001": "an ideographic comma '\u3001': write ','",
}
"""Characters that input methods and editors write in place of those of YAML, and what to do."""


class _Loader(_BASE):
    """The safe loader with YAML 1.2 scalars and an error for a key that occurs twice."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode) and key_node.tag != "tag:yaml.org,2002:merge":
                key = self.construct_object(key_node)
                if key in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"key {key!r} occurs twice", key_node.start_mark
                    )
                seen.add(key)
        result: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return result

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        text = self.construct_scalar(node)
        return int(text, 0) if text[:2] in {"0x", "0o"} else int(text)


class _Dumper(yaml.SafeDumper):
    """The safe dumper; quotes texts that the loader would take for numbers."""


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))
for _tag, _pattern, _first in (
    ("bool", _BOOL, "tTfF"),
    ("int", _INT, "-+0123456789"),
    ("float", _FLOAT, "-+0123456789."),
    ("null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    ("merge", re.compile(r"^(?:<<)$"), "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _pattern, list(_first))


class YAML:
    """Load, save and print YAML files."""

    @staticmethod
    def load(file: str | Path = "data.yaml", append_filename: bool = False) -> dict[str, Any]:
        """Read a YAML file that holds a mapping; an empty file gives an empty one.

        `append_filename` adds the path as the key `yaml_file`.

        Raises:
            NotFoundError: there is no such file.
            ConfigError: the syntax is wrong (with file:line), or the top level is not a mapping.
        """
        data = load_with_lines(file)[0]
        return {**data, "yaml_file": str(file)} if append_filename else data

    @staticmethod
    def save(file: str | Path = "data.yaml", data: Mapping[str, Any] | None = None, header: str = "") -> None:
        """Write `header`, then a mapping of plain values, paths and tuples; the file is whole or not there."""
        text = header + YAML.dumps(data or {})
        with atomic_write(file) as f:
            f.write(text)

    @staticmethod
    def dumps(data: Mapping[str, Any]) -> str:
        """The YAML text of a mapping, keys in their own order."""
        return yaml.dump(plain(data), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)

    @staticmethod
    def print(data: Mapping[str, Any] | str | Path) -> None:
        """Print a mapping, or the mapping in a file, as YAML."""
        print(YAML.dumps(YAML.load(data) if isinstance(data, (str, Path)) else data), end="")


def plain(value: Any) -> Any:
    """Turn mappings, sequences, paths and array scalars into what YAML and JSON can hold."""
    if isinstance(value, Mapping):
        return {k if isinstance(k, int) else str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()  # a file name may not be UTF-8
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:  # numpy and torch scalars
        return value.item()
    return str(value)


def canonical(value: Any) -> str:
    """Return one string for equal content, as JSON, whatever the order of the keys; it can be hashed.

    >>> canonical({"b": (1, 2), "a": None})
    '{"a": null, "b": [1, 2]}'
    """
    return json.dumps(plain(value), sort_keys=True)


def load_with_lines(source: str | Path) -> tuple[dict[str, Any], dict[KeyPath, int]]:
    """Read a YAML mapping with the line of each key and list item.

    `source` is a path, or the YAML text itself if it holds a line break. The second result maps a key path, such as
    `("backbone", 3)`, to its line, counted from 1.

    Raises:
        NotFoundError: there is no such file.
        ConfigError: the syntax is wrong (with file:line), or the top level is not a mapping.
    """
    is_text = isinstance(source, str) and "\n" in source
    name = "<text>" if is_text else str(source)
    text = str(source) if is_text else _read(Path(source))
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return {}, {}
        data = loader.construct_document(node)
    except yaml.MarkedYAMLError as e:
        raise _syntax_error(name, text, e) from None
    except RecursionError:
        raise ConfigError(f"{name}: nested too deep, or an alias that contains itself") from None
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, OverflowError) as e:
        raise ConfigError(f"{name}: not valid YAML: {(str(e).splitlines() or [type(e).__name__])[0]:.200}") from None
    finally:
        loader.dispose()
    if not isinstance(data, dict):
        raise ConfigError(f"{name}:1: expected `key: value` lines at the top level, found {type(data).__name__}")
    return data, _bounded_lines(name, node, data)


def _bounded_lines(name: str, node: yaml.Node, data: dict[str, Any]) -> dict[KeyPath, int]:
    """Return the line of each key and list item; ConfigError when aliases stand for too many of them."""
    lines: dict[KeyPath, int] = {}
    for place, line in _lines(node, (), data):
        lines[place] = line
        if len(lines) > MAX_ITEMS or len(place) > _MAX_LEVELS:
            raise ConfigError(
                f"{name}:{line}: its aliases (*name) stand for more than {MAX_ITEMS:,} items or {_MAX_LEVELS} levels",
                "write the values out",
            )
    return lines


def _syntax_error(name: str, text: str, error: yaml.MarkedYAMLError) -> ConfigError:
    """Return the error with its line: that of the bracket which is not closed, and the character that is not YAML's."""
    opened = error.context_mark if "flow" in (error.context or "") else None
    key = error.context_mark if "simple key" in (error.context or "") else None  # its colon is missing
    mark = opened or key or error.problem_mark or error.context_mark
    number = mark.line + 1 if mark else 1
    problem = error.problem or error.context
    if opened is not None:
        problem = f"{problem}; is the bracket that opens here closed?"
    numbers = sorted({number, error.problem_mark.line + 1 if error.problem_mark else number})
    return ConfigError(f"{name}:{number}: not valid YAML: {problem}", *_foreign_characters(text, numbers)[:2])


def _foreign_characters(text: str, numbers: Iterable[int]) -> list[str]:
    """Return a hint for each character of these lines, counted from 1, that stands where YAML has another one."""
    lines = dict(enumerate(text.split("\n"), 1))
    found = ((n, letter) for n in numbers for letter in lines.get(n, "") if letter in FOREIGN)
    return [f"line {n} has {FOREIGN[letter]}" for n, letter in dict.fromkeys(found)]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as e:
        raise ConfigError(f"{path}: not UTF-8 text (byte {e.start})\nSave the file as UTF-8.") from None
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise NotFoundError(f"{path}: is a folder, not a YAML file") from None


def _lines(node: yaml.Node, path: KeyPath, data: Any) -> Iterator[tuple[KeyPath, int]]:
    """Walk the node tree beside the values; keys that a merge brought in keep the line of the anchor's mapping."""
    if isinstance(node, yaml.MappingNode):
        keys: dict[str, Any] = {str(k): k for k in reversed(list(data))} if isinstance(data, dict) else {}
        for key_node, value_node in node.value:
            if isinstance(key_node, yaml.ScalarNode) and isinstance(data, dict):
                key: Any = keys.get(key_node.value, key_node.value)
                yield (*path, key), key_node.start_mark.line + 1
                yield from _lines(value_node, (*path, key), data.get(key))
    elif isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            yield (*path, i), item.start_mark.line + 1
            yield from _lines(item, (*path, i), data[i] if isinstance(data, list) and i < len(data) else None)
