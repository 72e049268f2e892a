"""JSON schemas of the values that the arguments of a row may have, from the types of a constructor.

A model YAML writes some values as strings: `nc`, Python literals such as `None`, `True` or `1e-3`, and the names of
variables (keys of the file's own). Each type here takes these forms too.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, Union

from torch import nn

from ultralytics.nn.build.row_forms import RowArgument
from ultralytics.nn.build.spec import MAX_CLASSES
from ultralytics.utils.config.json_schema import JSONSchema, Part

VARIABLE = r"[a-z][a-z0-9]*(_[a-z0-9]+)+"
"""Names of variables that rows may use, such as `head_channel`; others are read too, but an editor flags them."""

MODULE_TEXT = r"(torch\.)?nn\.[A-Z]\w*(\(.*\))?"
_NUMBER = r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?"
_SEQUENCE = r"[\[(].*[\])]"

_AT_LEAST_ONE = frozenset(
    "c2 c3 c4 cm k s g d n nc hd nq nh ndl ndp d_ffn heads num_heads head dim depth count factor scale_factor "
    "group groups channel channels kernel_size k_size k_enc k_up c_mid embed_dim out_channels length topk "
    "n_div reduction rate ratio".split()
)
"""Integer arguments that count something; these names have one meaning in all blocks."""


@dataclass
class _Values:
    """What values an argument may have: JSON types, forms of strings (None: any string), constants, items of a list."""

    types: set[str] = field(default_factory=set)
    strings: set[str] | None = field(default_factory=lambda: {VARIABLE})
    items: set[object] = field(default_factory=set)
    open: bool = False  # a type that YAML cannot show, or none at all

    def add(self, kind: object) -> None:
        """Widen by a type."""
        origin, parts = typing.get_origin(kind), typing.get_args(kind)
        if origin in {Union, types.UnionType}:
            for part in parts:
                self.add(part)
        elif origin is Literal:
            self.types.add("string")
            self._add_strings(*map(str, parts))
        elif origin in {list, tuple, Sequence, _SEQUENCE_ABC}:
            self.types.add("array")
            self._add_strings(_SEQUENCE)
            self.items |= {part for part in parts if part is not Ellipsis}
        elif origin is type or (inspect.isclass(kind) and issubclass(kind, nn.Module)):
            self._add_strings(MODULE_TEXT)
        elif isinstance(kind, type) and kind in _SCALARS:
            json_type, strings = _SCALARS[kind]
            self.types.add(json_type)
            if strings is None:
                self.strings = None
            else:
                self._add_strings(*strings)
        else:
            self.open = True

    def _add_strings(self, *forms: str) -> None:
        if self.strings is not None:
            self.strings |= set(forms)

    def schema(self, low: int | None = None) -> Part:
        """The JSON schema; true where anything goes."""
        if self.open:
            return True
        made: JSONSchema = {"type": sorted(self.types | {"string"})}
        if self.strings is not None:
            made["pattern"] = f"^({'|'.join(sorted(self.strings))})$"
        if self.items:
            inner = _Values()
            for item in sorted(self.items, key=str):
                inner.add(item)
            made["items"] = inner.schema()
        if low is not None and self.types & {"integer", "number"}:
            made["minimum"] = low
        return made


_SEQUENCE_ABC = typing.get_origin(Sequence[int])
_SCALARS: Mapping[type, tuple[str, tuple[str, ...] | None]] = MappingProxyType(
    {
        int: ("integer", ("nc", r"[-+]?\d+")),
        float: ("number", ("nc", _NUMBER)),
        bool: ("boolean", ("True", "False")),
        str: ("string", None),
        type(None): ("null", ("None",)),
    }
)
"""Type -> its JSON type, and the strings that stand for its values (None: any string)."""


def value_schema(arguments: Sequence[RowArgument]) -> Part:
    """The schema of one place in a row, which the given arguments may take (several where a row has several forms)."""
    values = _Values()
    for argument in arguments:
        values.add(argument.type)
        if argument.default is None and not argument.required:
            values.add(type(None))
    counts = all(argument.name in _AT_LEAST_ONE for argument in arguments)
    made = values.schema(1 if counts else None)
    names = dict.fromkeys(argument.name for argument in arguments)
    if isinstance(made, bool):
        return made
    if list(names) == ["nc"]:
        made["maximum"] = MAX_CLASSES
    return {**made, "title": " or ".join(names), "description": " or ".join(map(_described, arguments))}


def keyword_pattern(
    arguments: Sequence[RowArgument], others: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> str:
    """A regular expression of the arguments written `name=value`; `others` has further names of arguments."""
    forms: list[str] = []
    for argument in arguments:
        values = _Values()
        values.add(argument.type)
        values.add(type(None))
        free = values.open or values.strings is None or not values.types.isdisjoint({"array"})
        number = [] if values.types.isdisjoint({"integer", "number"}) else [_NUMBER]
        known = "" if free else "|".join(sorted({*(values.strings or ()), *number, *_YAML_WORDS}))
        names = [argument.name, *others.get(argument.name, ())]
        name = names[0] if len(names) == 1 else f"({'|'.join(names)})"
        forms.append(f"{name}=" + (".*" if free else rf"\s*({known})\s*"))
    return f"^({'|'.join(dict.fromkeys(forms))})$" if forms else "^(?!)"


_YAML_WORDS = ("true", "false", "null")


def _described(argument: RowArgument) -> str:
    name = getattr(argument.type, "__name__", str(argument.type)).replace("typing.", "")
    return f"{argument.name}: {name}" + ("" if argument.required else f" = {argument.default!r}")
