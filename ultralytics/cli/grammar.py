"""The tokens of the command line become arguments and models. Nothing here imports torch."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ultralytics
from ultralytics.cfg import kinds
from ultralytics.cfg.renames import OLD_NAMES, check_names
from ultralytics.cfg.resolution import expand
from ultralytics.cfg.schema import KEYS, MODES, TASKS
from ultralytics.utils.checks import check_yaml, nearest
from ultralytics.utils.config.absent import absence
from ultralytics.utils.config.yaml_io import YAML
from ultralytics.utils.errors import ConfigError, NotFoundError, UnknownArgumentError
from ultralytics.utils.files import WEIGHTS_SUFFIXES, YAML_SUFFIXES, has_yaml_suffix

COMMANDS = ("help", "version", "checks", "settings", "cfg", "copy-cfg")
"""Commands that need no model."""

_STRING_KINDS = (kinds.TEXT, kinds.PATH, kinds.WORD)
_OLD_SWITCHES = frozenset({"half", "int8", "end2end", "nms"})
_LITERALS: Mapping[str, Any] = {"none": None, "null": None, "true": True, "false": False}
_SHORT = ("-h", "-v", "-c")


def check_dashes(argv: Sequence[str]) -> None:
    """Raise ConfigError for options in the style of other programs: `--model x` and `-m x`.

    `--plots` and `--epochs=3` are read without their dashes.
    """
    for piece, following in itertools.pairwise([*argv, ""]):
        key = piece.lstrip("-")
        takes_value = key in KEYS and not isinstance(KEYS[key].default, bool)
        if piece.startswith("--") and takes_value and following[:1] != "=":
            raise ConfigError(f"{f'{piece} {following}'.strip()}: arguments are key=value pairs, such as {key}=...")
        if piece.startswith("-") and piece[1:2].isalpha() and piece.lower() not in _SHORT:
            raise ConfigError(f"{piece}: options with one dash do not exist\nWrite key=value; see `yolo help`.")


def join_pieces(argv: Sequence[str]) -> list[str]:
    """Join `key = value` and bracketed values that the shell has split; strip `--`, quotes and trailing commas.

    Raises:
        ConfigError: a bracket is not closed, or `=` has no key or no value.

    >>> join_pieces(["imgsz", "=", "640", "classes=[0,", "2]", "--plots", "'best.pt'"])
    ['imgsz=640', 'classes=[0,2]', 'plots', 'best.pt']
    """
    joined: list[str] = []
    for piece in argv:
        text = _bare(piece)
        open_value = bool(joined) and _depth(joined[-1]) > 0
        if joined and (open_value or piece.startswith("=") or joined[-1].endswith("=")):
            joined[-1] += text
        elif text:
            joined.append(text)
    for text in joined:
        _check_joined(text)
    return joined


def _check_joined(text: str) -> None:
    """Raise ConfigError for an open bracket, or an `=` without key or value."""
    key, equals, value = text.partition("=")
    if _depth(text):
        raise ConfigError(f"the brackets of {text!r} do not match")
    if equals and not (key and value):
        raise ConfigError(f"{text!r} needs a key and a value: key=value")


def unquoted(text: str) -> str:
    """The text without one pair of equal quotes around it, which some shells pass on.

    >>> unquoted("'best.pt'"), unquoted('"a b"'), unquoted("'a"), unquoted("'")
    ('best.pt', 'a b', "'a", "'")
    """
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def _bare(piece: str) -> str:
    """The piece without quotes, `--` in front and a trailing comma, which inside brackets stays."""
    text = unquoted(piece)
    text = text.lstrip("-") if text.startswith("--") else text
    return text[:-1] if text.endswith(",") and not _depth(text) and len(text) > 1 and "[" not in text else text


def _depth(text: str) -> int:
    """Opened minus closed square brackets of the value."""
    value = text.partition("=")[2]
    return value.count("[") - value.count("]") if value.startswith("[") else 0


def parse_overrides(argv: Sequence[str]) -> dict[str, Any]:
    """Turn `key=value` pairs, and bare names of switches, into arguments; names are checked, values are not.

    Raises:
        UnknownArgumentError: a key that does not exist.
        ConfigError: a bare token that is not a switch.

    >>> parse_overrides(["epochs=3", "plots", "classes=[0,2]", "name=7", "cache=ram"])
    {'epochs': 3, 'plots': True, 'classes': [0, 2], 'name': '7', 'cache': 'ram'}
    """
    values: dict[str, Any] = {}
    for text in join_pieces(argv):
        key, equals, value = text.partition("=")
        kind = KEYS[key.strip()].kind if key.strip() in KEYS else None
        values[key.strip()] = value_of(value.strip(), kind) if equals else _switch(key.strip())
    check_names(name for name in values if name not in OLD_NAMES)
    return values


def parse_pair(pair: str) -> tuple[str, Any]:
    """Return key and value of `key=value`; raise ConfigError where one of them is missing.

    >>> parse_pair("imgsz = 640")
    ('imgsz', 640)
    """
    key, _, value = (part.strip() for part in pair.partition("="))
    if not key or not value:
        raise ConfigError(f"{pair!r} is not a key=value pair")
    return key, value_of(value)


def value_of(text: str, kind: kinds.Kind | None = None) -> Any:
    """The value of a token: none, true, false, a Python literal, or the text itself, which is kept for string kinds."""
    text = unquoted(text)
    if text.lower() in _LITERALS:
        return _LITERALS[text.lower()]
    if kind in _STRING_KINDS:
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


_ARGUMENTS_OF_SUFFIX: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys((".pt", ".pth", ".onnx", ".torchscript", ".engine", ".safetensors"), ("model",)),
    **dict.fromkeys((".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".mp4", ".avi", ".mov", ".mkv"), ("source",)),
    **dict.fromkeys(YAML_SUFFIXES, ("model", "data")),
}
"""The arguments that a file name without one may stand for."""


def _switch(key: str) -> bool:
    """A bare name stands for true if it is a switch."""
    if key in _OLD_SWITCHES or (key in KEYS and isinstance(KEYS[key].default, bool)):
        return True
    if key in KEYS:
        default = KEYS[key].default
        example = "..." if default is None else default
        raise ConfigError(f"{key!r} needs a value: {key}={example}\nAllowed: {KEYS[key].bounds}.")
    if absence(key):
        raise UnknownArgumentError(f"{key!r}: {absence(key)}")
    if names := _ARGUMENTS_OF_SUFFIX.get(Path(key).suffix.lower()):
        meant = " or ".join(f"{name}={key}" for name in names)
        raise UnknownArgumentError(f"{key!r} is not a mode, command or argument\nDid you mean {meant}?")
    near = nearest(key, [*TASKS, *MODES, *ultralytics.cli.tools.TOOLS, *COMMANDS, *KEYS])
    hint = f"Did you mean {' or '.join(near)}?" if near else "`yolo help` shows the commands."
    raise UnknownArgumentError(f"{key!r} is not a mode, command or argument\n{hint}")


def weight_paths(tokens: Sequence[str]) -> list[str]:
    """The bare tokens that name weights files.

    >>> weight_paths(["val", "a.pt", "model=b.pt", "data=c.yaml"])
    ['a.pt']
    """
    return [t for t in tokens if "=" not in t and t.lower().endswith(WEIGHTS_SUFFIXES)]


def at_most_one(tokens: Sequence[str], known: Sequence[str], what: str) -> str | None:
    """The token among the known ones, None without; two are too many."""
    matches = [t for t in tokens if t in known]
    if len(matches) > 1:
        raise ConfigError(f"only one {what} at a time, not {' and '.join(matches)}")
    return matches[0] if matches else None


def user_arguments(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that the user gave, those of a `cfg=` file included; names and values are checked."""
    values, names = expand(overrides)
    return {k: v for k, v in values.items() if k in names}


def call_arguments(values: Mapping[str, Any]) -> dict[str, Any]:
    """What a method of the model takes: the arguments without those that chose the model and the method."""
    return {k: v for k, v in values.items() if k not in {"model", "task", "mode", "cfg"}}


def open_model(name: str, values: Mapping[str, Any]) -> Any:
    """The model of a YAML or weights file, at the asked-for compound scale, with the user's own blocks.

    A model YAML may name its task; the task on the command line has precedence.
    """
    task = task_of(name, values)
    family = ultralytics.SHViTClassifier if task == "classify" else ultralytics.RTDETR
    options = {"scale": values.get("model_scale"), "modules": values.get("modules")}
    return family(name, **{k: v for k, v in options.items() if v is not None})


def task_of(name: str, values: Mapping[str, Any]) -> str:
    """The task argument, else the key `task` of a model YAML, else detect."""
    if values.get("task"):
        return str(values["task"])
    try:
        data = YAML.load(check_yaml(name)) if has_yaml_suffix(name) else {}
    except NotFoundError:
        data = {}  # opening the model raises the error
    return str(data.get("task") or "detect") if isinstance(data, Mapping) else "detect"
