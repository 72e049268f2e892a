"""Which arguments the row of a block takes: names, types and defaults, without building anything.

They follow from the block's rule and its constructor; a block with a rule of its own states them at `@register`.
"""

from __future__ import annotations

import ast
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, cast

from torch import nn

from ultralytics.nn.modules.query_head import head_rule
from ultralytics.nn.registry import (
    ChannelRule,
    Entry,
    channels_first,
    same_channels,
    scaled_conv,
    scaled_repeat,
    summed_channels,
)

_SUPPLIED: Mapping[ChannelRule | None, tuple[int, ...]] = MappingProxyType(
    {
        None: (0,),
        scaled_conv: (0,),
        scaled_repeat: (0, 2),
        channels_first: (0,),
        same_channels: (),
        summed_channels: (),
        head_rule: (1,),
    }
)
"""Positions of the constructor parameters that a common rule fills in, and a row leaves out."""

_STATES_FIRST = frozenset({scaled_conv, scaled_repeat, head_rule})
"""Rules that need the first argument, even where the constructor has a default for it."""

_ActivationText = Literal["relu", "ReLU", "RELU", "silu", "SiLU", "SILU", "leaky_relu", "Leaky_ReLU", "gelu", "GELU"]
"""Names of activations in rows of ResNets, in the spellings that are met; a build ignores the case."""

_TYPES: Mapping[str, object] = MappingProxyType(
    {
        "int": int,
        "float": float,
        "bool": bool,
        "str": str,
        "list": Sequence[int],
        "activation": _ActivationText | nn.Module | None,
    }
)
"""Types that a form at `@register` may write."""


class RowArgument(NamedTuple):
    """One argument of a row. `type` is an annotation, `required` says that it has no default."""

    name: str
    type: object
    required: bool
    default: object = None

    def __str__(self) -> str:
        return self.name if self.required else f"{self.name}={self.default!r}"


class RowForm(NamedTuple):
    """The arguments of a row in one of its forms: those by position, which may be named too, and those by name only."""

    positional: tuple[RowArgument, ...]
    by_name: tuple[RowArgument, ...] = ()

    def __str__(self) -> str:
        named = ["*", *map(str, self.by_name)] if self.by_name else []
        return f"[{', '.join([*map(str, self.positional), *named])}]"


def row_forms(entry: Entry) -> tuple[RowForm, ...]:
    """The forms of a block's row; none where its rule is its own and `@register` does not state them.

    Classes of torch take the arguments of their constructors.
    """
    parameters = constructor_arguments(entry.cls)
    if entry.row:
        by_name = {p.name: p for p in parameters}
        return tuple(_stated_form(text, by_name) for text in entry.row)
    if entry.rule not in _SUPPLIED:
        return ()
    of_torch = entry.rule is None and entry.cls.__module__.startswith(("torch.", "torchvision."))
    supplied = () if of_torch else _SUPPLIED[entry.rule]
    arguments = [p for i, p in enumerate(parameters) if i not in supplied]
    if arguments and entry.rule in _STATES_FIRST:
        arguments[0] = arguments[0]._replace(required=True)
    return (RowForm(tuple(arguments)),)


def constructor_arguments(cls: Callable[..., object]) -> tuple[RowArgument, ...]:
    """The parameters of a constructor with a name each; those that cannot be read have no type (`Any`)."""
    try:
        parameters = inspect.signature(cls).parameters.values()
    except (TypeError, ValueError):  # without a signature that Python can read
        return ()
    types = _annotations(cls)
    named = (p for p in parameters if p.kind not in {p.VAR_POSITIONAL, p.VAR_KEYWORD})
    return tuple(RowArgument(p.name, types.get(p.name, Any), p.default is p.empty, p.default) for p in named)


def _annotations(cls: Callable[..., object]) -> dict[str, object]:
    """Annotations of a constructor as types; none where a name in them cannot be resolved."""
    try:
        return dict(typing.get_type_hints(getattr(cls, "__init__")))  # noqa: B009  a class's own is meant
    except (NameError, TypeError, AttributeError):
        return {}


def _stated_form(text: str, parameters: Mapping[str, RowArgument]) -> RowForm:
    """Read a form at `@register`, which is written like a Python signature."""
    tree = cast("ast.FunctionDef", ast.parse(f"def row({text}): ...").body[0]).args
    defaults = [None] * (len(tree.args) - len(tree.defaults)) + tree.defaults
    return RowForm(
        tuple(_argument(arg, default, parameters) for arg, default in zip(tree.args, defaults, strict=True)),
        tuple(_argument(a, d, parameters) for a, d in zip(tree.kwonlyargs, tree.kw_defaults, strict=True)),
    )


def _argument(arg: ast.arg, default: ast.expr | None, parameters: Mapping[str, RowArgument]) -> RowArgument:
    """One name of a form: with a type its own, else the constructor's parameter."""
    if arg.annotation is None:
        return parameters[arg.arg]
    kind = _TYPES[ast.unparse(arg.annotation)]
    return RowArgument(arg.arg, kind, default is None, ast.literal_eval(default) if default else None)
