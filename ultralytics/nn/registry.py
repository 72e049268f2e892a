"""The table of YAML module names, and the rules that turn a YAML row into constructor arguments and output channels.

A block registers itself, beside its own definition:

    @register(scaled_conv)
    class Conv(nn.Module): ...

A rule is a function of a frozen `RowContext` (input channels, row arguments, repeats, scale) that returns a `Plan`
(constructor arguments, output channels). The parser does not know any class by name. This module
imports only `nn.argument_names` and `utils.ops` of the package.
"""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar, overload

from ultralytics.nn.argument_names import take_other_names
from ultralytics.utils.ops import make_divisible as make_divisible  # blocks import it from here, too

ModuleType = TypeVar("ModuleType", bound=type)


class Scale(NamedTuple):
    """Compound scaling of a model YAML: repeats times `depth`, channels times `width`, capped at `max_channels`."""

    depth: float = 1.0
    width: float = 1.0
    max_channels: float = math.inf


@dataclass(frozen=True)
class RowContext:
    """What a rule knows about one YAML row.

    `in_channels` has one entry for each source layer; `args` are the row's arguments with literals and `nc` resolved,
    `kwargs` those written `name=value`;
    `repeats` is the row's count after depth scaling, `scale_name` the letter of the scale ('' without a table).
    `options` are the YAML's top-level keys, `above` the module names of the rows before this one.
    """

    in_channels: tuple[int, ...]
    args: tuple[Any, ...] = ()
    repeats: int = 1
    scale: Scale = field(default_factory=Scale)
    nc: int = 80
    scale_name: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    above: tuple[str, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def c1(self) -> int:
        """Channels of the (first) input."""
        return self.in_channels[0]

    def scaled(self, channels: int) -> int:
        """Channels after width scaling: min(channels, max_channels) * width, to a multiple of 8.

        Raises TypeError or ValueError when `channels` is not a positive integer.
        """
        if isinstance(channels, bool) or not isinstance(channels, int):
            raise TypeError(f"output channels must be an integer, not {channels!r}")
        if channels < 1:
            raise ValueError(f"output channels must be at least 1, not {channels}")
        return make_divisible(min(channels, self.scale.max_channels) * self.scale.width, 8)


@dataclass(frozen=True)
class Plan:
    """How to construct one row's module: arguments, output channels, and who handles the repeats.

    With `repeats_inside` the module got the repeat count as an argument; otherwise the builder chains that many copies.
    `kwargs` are the keyword arguments; None: those of the row. `block` names the registered block to build in place of
    the row's own, '' for none.
    """

    args: tuple[Any, ...]
    out_channels: int
    repeats_inside: bool = False
    kwargs: Mapping[str, Any] | None = None
    block: str = ""


ChannelRule = Callable[[RowContext], Plan]


MODULE_ERRORS = (ValueError, TypeError, RuntimeError, ArithmeticError, LookupError, AttributeError, AssertionError)
"""What constructors, rules and forwards raise when a row is wrong; anything else is a bug and keeps its traceback."""


@dataclass(frozen=True)
class Entry:
    """One registered block: its class, its rule (None: found by a dry run) and whether it takes a list of inputs.

    `fills_slots` says for a row's arguments whether its maps take the layer indices 0 to 4 (a one-row backbone).
    `row` holds the forms of the row's arguments, see `register`; empty: they follow from the rule. `not_exported` maps
    a format (`onnx`, `torchscript`) in which the block does not give the same output to the reason.
    """

    cls: type
    rule: ChannelRule | None
    multi_input: bool = False
    is_head: bool = False
    fills_slots: Callable[[Sequence[Any]], bool] | None = None
    row: tuple[str, ...] = ()
    not_exported: Mapping[str, str] = field(default_factory=dict)

    @property
    def purpose(self) -> str:
        """The first paragraph of the class's docstring, in one line."""
        return (inspect.getdoc(self.cls) or "").strip().split("\n\n")[0].replace("\n", " ")

    def first_plan(self, c: int, forms: Iterable[tuple[Any, ...]]) -> Plan | None:
        """Return the plan of the first of some row arguments that rule and constructor take for c input channels."""
        for args in forms if self.rule is not None else ():
            try:
                plan = self.rule(RowContext((c,), args))  # type: ignore[misc]
                inspect.signature(self.cls).bind(*plan.args)
            except MODULE_ERRORS:
                continue
            return plan
        return None


class Registry:
    """Module name -> `Entry`; a name has one owner."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    def add(self, name: str, entry: Entry) -> None:
        """Add an entry; raise ValueError when another class owns the name. The same class may be added again."""
        old = self._entries.get(name)
        if old is not None and (old.cls.__module__, old.cls.__qualname__) != (
            entry.cls.__module__,
            entry.cls.__qualname__,
        ):
            raise ValueError(
                f"module name '{name}' is already registered by {old.cls.__module__}.{old.cls.__qualname__}; "
                f"choose another with @register(name=...)"
            )
        self._entries[name] = entry

    def get(self, name: str) -> Entry | None:
        """Return the entry of a name, or None."""
        return self._entries.get(name)

    def nearest(self, name: str, n: int = 3) -> list[str]:
        """Return registered names that look like `name`, best first; the case of letters is ignored."""
        by_lower = {key.lower(): key for key in self._entries}
        return [by_lower[k] for k in difflib.get_close_matches(name.lower(), list(by_lower), n=n, cutoff=0.5)]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))

    def __contains__(self, name: object) -> bool:
        return name in self._entries


REGISTRY = Registry()
_OWN_BLOCKS = "ultralytics."
"""Where blocks of this package are; constructors of others stay as they are."""


@overload
def register(rule: ModuleType) -> ModuleType: ...


@overload
def register(
    rule: ChannelRule | None = None,
    *,
    name: str | None = None,
    multi_input: bool = False,
    is_head: bool = False,
    fills_slots: bool | Callable[[Sequence[Any]], bool] = False,
    row: str | Sequence[str] | None = None,
    not_exported: Mapping[str, str] | None = None,
) -> Callable[[ModuleType], ModuleType]: ...


def register(
    rule: Any = None,
    *,
    name: str | None = None,
    multi_input: bool = False,
    is_head: bool = False,
    fills_slots: bool | Callable[[Sequence[Any]], bool] = False,
    row: str | Sequence[str] | None = None,
    not_exported: Mapping[str, str] | None = None,
) -> Any:
    """Class decorator: make a block usable in a model YAML under its class name (or `name`).

    Used bare (`@register`) or without a rule, the first constructor parameter receives the input channels, the row's
    arguments follow, and a dry run on the meta device finds the output channels. A class whose first parameter cannot
    be a number of channels (its default is not an integer, or there is none) gets the row's arguments alone and keeps
    the channels. With `multi_input` the block's forward takes the list of its inputs. `is_head`
    marks the last, predicting layer. `fills_slots` marks a backbone of one row: its forward returns two to five maps,
    finest first, which take the layer indices up to 4; the next row is layer 5.

    `row` states the arguments that a row gives where the rule is one of the block's own, by the names of constructor
    parameters, in the form of a Python signature: `"c2, k, shortcut"`, several forms as a list. A name with a type
    (`"c2: int, index"`) is an argument of the rule alone. `yolo schema` and messages are made from it. `not_exported`
    maps a format (`onnx`, `torchscript`) that does not keep the block's output to the reason.
    """
    forms = () if row is None else (row,) if isinstance(row, str) else tuple(row)

    def add(cls: ModuleType, with_rule: ChannelRule | None) -> ModuleType:
        with_rule = same_channels if with_rule is None and not _takes_channels(cls) else with_rule
        slots = fills_slots if callable(fills_slots) else (lambda args: True) if fills_slots else None
        entry = Entry(cls, with_rule, multi_input, is_head, slots, forms, dict(not_exported or {}))
        REGISTRY.add(name or cls.__name__, entry)
        if cls.__module__.startswith(_OWN_BLOCKS):
            take_other_names(cls)
        return cls

    if isinstance(rule, type):
        return add(rule, None)
    return lambda cls: add(cls, rule)


def _takes_channels(cls: type) -> bool:
    """Whether the first positional parameter of a block's constructor can be the number of input channels."""
    try:
        first = next(iter(inspect.signature(cls).parameters.values()), None)
    except (TypeError, ValueError):  # without a signature that Python can read
        return True
    if first is None or first.kind is inspect.Parameter.KEYWORD_ONLY:
        return False
    default = first.default
    return default is inspect.Parameter.empty or default is None or type(default) is int


def scaled_conv(row: RowContext) -> Plan:
    """`[c2, ...]` -> (c1, c2 scaled, ...): convolutions and everything shaped like one."""
    c2 = row.scaled(row.args[0])
    return Plan((row.c1, c2, *row.args[1:]), c2)


def scaled_repeat(row: RowContext) -> Plan:
    """`[c2, ...]` -> (c1, c2 scaled, repeats, ...): cross-stage blocks that hold their own repeats."""
    c2 = row.scaled(row.args[0])
    return Plan((row.c1, c2, row.repeats, *row.args[1:]), c2, repeats_inside=True)


def same_channels(row: RowContext) -> Plan:
    """`[...]` -> (...): the row's arguments as they are; channels pass through."""
    return Plan(row.args, row.c1)


def channels_first(row: RowContext) -> Plan:
    """`[...]` -> (c1, ...): attention-like blocks that keep their channels."""
    return Plan((row.c1, *row.args), row.c1)


def keeps_channels(row: RowContext) -> Plan:
    """As `channels_first`; the channels of the input, which forks write in front once or twice, are left out."""
    args = row.args
    for _ in range(2):
        if args and type(args[0]) is int and args[0] == row.c1:
            args = args[1:]
    return Plan((row.c1, *args), row.c1)


CHANNELS_ONCE = frozenset({channels_first, keeps_channels})
"""Rules of blocks that are built from the channels of their input alone, which they keep."""


def without_alias(given: Mapping[str, Any], alias: str, name: str) -> dict[str, Any]:
    """Return named arguments with an alias under its real name; ValueError where both are given."""
    if alias in given and name in given:
        raise ValueError(f"{alias}= is another name of {name}=; give one of them")
    return {name if key == alias else key: value for key, value in given.items()}


def summed_channels(row: RowContext) -> Plan:
    """`[...]` -> (...): joins its inputs on the channel axis."""
    return Plan(row.args, sum(row.in_channels))
