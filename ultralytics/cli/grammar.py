"""The words of the command line become arguments and models. Nothing here imports torch."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any

import ultralytics
from ultralytics.cfg import kinds
from ultralytics.cfg.renames import OLD_NAMES, check_names
from ultralytics.cfg.resolution import expand
from ultralytics.cfg.schema import KEYS, MODES, TASKS
from ultralytics.utils.checks import check_yaml, nearest
from ultralytics.utils.config.yaml_io import YAML
from ultralytics.utils.errors import ConfigError, NotFoundError, UnknownArgumentError

TOOLS = ("info", "export", "benchmark", "convert", "doctor", "replay", "heatmap", "show")
"""Words that stand in the place of a mode; `commands.py` has a function for each."""
WEIGHTS = (".pt", ".pth", ".safetensors")
OTHER_WORDS = ("help", "version", "checks", "settings", "cfg", "copy-cfg")

_TEXT_KINDS = (kinds.TEXT, kinds.PATH, kinds.WORD)
_OLD_SWITCHES = frozenset({"half", "int8", "end2end", "nms"})


def join_pieces(argv: Sequence[str]) -> list[str]:
    """Join `key = value` and bracketed values that the shell has split; strip `--` and trailing commas.

    Raises:
        ConfigError: a bracket is not closed, or `=` has no key or no value.

    >>> join_pieces(["imgsz", "=", "640", "classes=[0,", "2]", "--plots"])
    ['imgsz=640', 'classes=[0,2]', 'plots']
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
        key, equals, value = text.partition("=")
        if _depth(text):
            raise ConfigError(f"the brackets of {text!r} do not match")
        if equals and not (key and value):
            raise ConfigError(f"{text!r} needs a key and a value: key=value")
    return joined


def _bare(piece: str) -> str:
    """The piece without `--` in front and without a comma behind, which inside brackets stays."""
    text = piece.lstrip("-") if piece.startswith("--") else piece
    return text[:-1] if text.endswith(",") and not _depth(text) and len(text) > 1 and "[" not in text else text


def _depth(text: str) -> int:
    """Opened minus closed square brackets of the value."""
    value = text.partition("=")[2]
    return value.count("[") - value.count("]") if value.startswith("[") else 0


def parse_overrides(argv: Sequence[str]) -> dict[str, Any]:
    """Turn `key=value` pairs, and bare names of switches, into arguments; names are checked, values are not.

    Raises:
        UnknownArgumentError: a key that does not exist.
        ConfigError: a bare word that is no switch.

    >>> parse_overrides(["epochs=3", "plots", "classes=[0,2]", "name=7", "cache=ram"])
    {'epochs': 3, 'plots': True, 'classes': [0, 2], 'name': '7', 'cache': 'ram'}
    """
    values: dict[str, Any] = {}
    for text in join_pieces(argv):
        key, equals, value = text.partition("=")
        values[key.strip()] = value_of(key.strip(), value.strip()) if equals else _switch(key.strip())
    check_names(name for name in values if name not in OLD_NAMES)
    return values


def value_of(key: str, text: str) -> Any:
    """The value of a text: none, true, false, a Python literal, or the text itself."""
    words: dict[str, Any] = {"none": None, "null": None, "true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    if key in KEYS and KEYS[key].kind in _TEXT_KINDS:
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _switch(key: str) -> bool:
    """A bare name stands for true if it is a switch."""
    if key in _OLD_SWITCHES or (key in KEYS and isinstance(KEYS[key].default, bool)):
        return True
    if key in KEYS:
        raise ConfigError(f"{key!r} needs a value: {key}={KEYS[key].default}\nAllowed: {KEYS[key].bounds}.")
    near = nearest(key, [*TASKS, *MODES, *TOOLS, *OTHER_WORDS, *KEYS])
    hint = f"Did you mean {' or '.join(near)}?" if near else "`yolo help` shows what can be said."
    raise UnknownArgumentError(f"{key!r} is no mode, command or argument\n{hint}")


def weight_words(words: Sequence[str]) -> list[str]:
    """The bare words that name weights files.

    >>> weight_words(["val", "a.pt", "model=b.pt", "data=c.yaml"])
    ['a.pt']
    """
    return [w for w in words if "=" not in w and w.lower().endswith(WEIGHTS)]


def one_of(words: Sequence[str], known: Sequence[str], what: str) -> str | None:
    """The word among the known ones, None without; two are too many."""
    found = [w for w in words if w in known]
    if len(found) > 1:
        raise ConfigError(f"only one {what} at a time, not {' and '.join(found)}")
    return found[0] if found else None


def given(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that the user meant, those of a `cfg=` file included."""
    values, meant = expand(overrides)
    return {k: v for k, v in values.items() if k in meant}


def call_arguments(values: Mapping[str, Any]) -> dict[str, Any]:
    """What a method of the model takes: the arguments without those that chose the model and the method."""
    return {k: v for k, v in values.items() if k not in {"model", "task", "mode", "cfg"}}


def open_model(name: str, values: Mapping[str, Any]) -> Any:
    """The model of a YAML or weights file, at the asked-for compound scale, with the user's own blocks.

    A model YAML may name its task itself; the word on the command line goes before it.
    """
    task = task_of(name, values)
    family = ultralytics.SHViTClassifier if task == "classify" else ultralytics.RTDETR
    options = {"scale": values.get("model_scale"), "modules": values.get("modules")}
    return family(name, **{k: v for k, v in options.items() if v is not None})


def task_of(name: str, values: Mapping[str, Any]) -> str:
    """The task given, else what the key `task` of a model YAML says, else detect."""
    if values.get("task"):
        return str(values["task"])
    try:
        data = YAML.load(check_yaml(name)) if name.endswith((".yaml", ".yml")) else {}
    except NotFoundError:
        data = {}  # whoever opens the model says so
    return str(data.get("task") or "detect") if isinstance(data, Mapping) else "detect"
