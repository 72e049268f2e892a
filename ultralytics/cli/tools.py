"""The tools of the command line: words that stand in the place of a mode. Nothing here imports torch.

A tool takes the joined words behind its own; its work is done by a name of the package, looked up when it is used.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ultralytics
from ultralytics.cfg.schema import KEYS
from ultralytics.cli.grammar import WEIGHTS, call_arguments, given, open_model, parse_overrides, value_of
from ultralytics.utils import tables
from ultralytics.utils.errors import ConfigError, UnknownArgumentError
from ultralytics.utils.log import LOGGER, write_text

INFO_WORDS = ("model", "scale", "imgsz", "modules", "task", "cfg")
"""Arguments that `info` uses, beside `save` and `format` of its own."""


def info(words: Sequence[str]) -> None:
    """`yolo info`: the layer table of a model, what is in a weights file, or one row for each of several models.

    `save=` draws the model, `format=` is that of the table.
    """
    own = {key: text for w in words for key, _, text in [w.partition("=")] if key in {"save", "format"}}
    names = [w for w in words if "=" not in w and w.endswith((".yaml", ".yml", *WEIGHTS))]
    direct = parse_overrides([w for w in words if w not in names and w.partition("=")[0] not in own])
    values = given(direct)
    _check_used(direct, INFO_WORDS, f"info takes {', '.join(f'{key}=' for key in (*INFO_WORDS, 'save', 'format'))}")
    if values.get("model") is not None:
        names.insert(0, values["model"])
    if not names:
        raise ConfigError("info needs model=, a model YAML or weights file")
    if own.get("format", "text") not in tables.FORMATS:
        raise ConfigError(f"format={own['format']}: a table is printed as {' or '.join(tables.FORMATS)}")
    if "save" in own and len(names) > 1:
        raise ConfigError(f"save={own['save']}: one graph at a time, not of {len(names)} models")
    if len(names) == 1 and names[0].endswith(WEIGHTS) and not own:
        built = "what is inside is told without building the model; format=text builds it and counts"
        _check_used(direct, ("model", "task", "cfg"), built)
        write_text(sys.stdout, "\n".join(ultralytics.RTDETR.contents(names[0])) + "\n")
        return
    imgsz = values.get("imgsz", KEYS["imgsz"].default)
    if len(names) > 1 or "format" in own:
        _compare([open_model(name, values) for name in names], imgsz, own.get("format", "text"))
        return
    model = open_model(names[0], values)
    model.info(detailed=True, verbose=True, imgsz=imgsz)
    if "save" in own:
        LOGGER.info(f"graph: {model.draw(own['save'], imgsz)}")


def _check_used(given: Mapping[str, Any], used: Sequence[str], remedy: str) -> None:
    """Raise ConfigError for the first argument that is not used; a number as `scale` is the zoom of training."""
    for key, value in given.items():
        if key not in used or (key == "scale" and not isinstance(value, str)):
            raise ConfigError(f"{key}={value} would have no effect on info", remedy)


def export(words: Sequence[str]) -> None:
    """`yolo export`: the model in another form."""
    model, arguments = _weights_and_arguments("export", words)
    model.export(**arguments)


def convert(words: Sequence[str]) -> None:
    """`yolo convert`: a data set's labels in another form."""
    values = _own_words("convert", words, required=("data", "format", "save_dir"), optional=("images",))
    ultralytics.convert(**values)


def doctor(words: Sequence[str]) -> None:
    """`yolo doctor`: a report on a data set; exit code 1 when training on it is not safe."""
    values = _own_words("doctor", words, required=("data",), optional=("imgsz", "queries", "save_dir"))
    if not ultralytics.doctor(**values).safe:
        raise SystemExit(1)


def replay(words: Sequence[str]) -> None:
    """`yolo replay`: a training step that failed, run again."""
    files = [w for w in words if "=" not in w]
    if len(files) != 1:
        raise ConfigError("replay needs one file, the replay.pt in the folder of a run that failed")
    options = _own_words("replay", [w for w in words if "=" in w], required=(), optional=("device", "amp", "modules"))
    ultralytics.replay(files[0], **options)


def heatmap(words: Sequence[str]) -> None:
    """`yolo heatmap`: why a detector answers as it does, as pictures and arrays."""
    mine = ("kind", "layer", "query", "pixel")
    own = {key: text for w in words for key, _, text in [w.partition("=")] if key in mine}
    values = given(parse_overrides([w for w in words if w.partition("=")[0] not in own]))
    for name in ("model", "source"):
        if values.get(name) is None:
            raise ConfigError(f"heatmap needs {name}=", "such as yolo heatmap model=best.pt source=photo.jpg query=0")
    options: dict[str, Any] = {key: own[key] for key in ("kind", "layer") if key in own}
    if "query" in own:
        options["query"] = _whole_numbers("query", own["query"], 1)[0]
    if "pixel" in own:
        options["pixel"] = _whole_numbers("pixel", own["pixel"], 2)
    open_model(str(values["model"]), values).heatmap(**call_arguments(values), **options)


def _whole_numbers(key: str, text: str, count: int) -> list[int]:
    """The numbers of a text such as `120,80`."""
    parts = [p.strip() for p in text.strip("[]()").split(",")]
    if len(parts) != count or not all(p.isdecimal() for p in parts):
        raise ConfigError(f"{key}={text}: {'a whole number' if count == 1 else 'two whole numbers, x,y'}, 0 or above")
    return [int(p) for p in parts]


def show(words: Sequence[str]) -> None:
    """`yolo show`: pictures of the samples that the network will see."""
    own = ("augment", "n", "epoch", "split", "save_dir")
    mine = [w for w in words if w.partition("=")[0] in own and "=" in w]
    values = given(parse_overrides([w for w in words if w not in mine]))
    if values.get("data") is None:
        raise ConfigError("show needs data=, a data set YAML", "yolo show data=data.yaml augment=True")
    switches = _own_words("show", mine, required=(), optional=own)
    ultralytics.show(**{k: v for k, v in values.items() if k not in {"task", "mode", "cfg"}}, **switches)


def _own_words(
    tool: str, words: Sequence[str], required: Sequence[str], optional: Sequence[str] = ()
) -> dict[str, Any]:
    """The key=value words of a tool whose arguments are not those of a run."""
    pairs = {key: value_of(key, text) for key, _, text in (w.partition("=") for w in words)}
    unknown = [key for key in pairs if key not in {*required, *optional}]
    if unknown:
        raise UnknownArgumentError(f"{tool} knows {', '.join((*required, *optional))}, not {unknown[0]!r}")
    missing = [key for key in required if key not in pairs]
    if missing:
        raise ConfigError(f"{tool} needs {', '.join(f'{key}=' for key in missing)}", "`yolo help` shows an example")
    return pairs


def compare(names: Sequence[str], overrides: Mapping[str, Any]) -> bool:
    """`yolo val a.pt b.pt`: validate several weights on the same images; False when there is only one."""
    if len(names) < 2:
        return False
    values = given(overrides)
    models = [open_model(name, values) for name in names]
    ultralytics.compare(models, **call_arguments(values))
    return True


def benchmark(words: Sequence[str]) -> None:
    """`yolo benchmark`: the model in each form that this machine can run, measured."""
    model, arguments = _weights_and_arguments("benchmark", words)
    model.benchmark(**arguments)


def _weights_and_arguments(tool: str, words: Sequence[str]) -> tuple[Any, dict[str, Any]]:
    """The opened model of `model=`, and the arguments beside it."""
    values = given(parse_overrides(words))
    if values.get("model") is None:
        raise ConfigError(f"{tool} needs model=, a weights file such as runs/detect/train/weights/best.pt")
    return open_model(str(values["model"]), values), call_arguments(values)


def _compare(models: Sequence[Any], imgsz: int, form: str) -> None:
    """Print one row a model, with the differences to the first."""
    rows = models[0].comparison([m.totals(imgsz) for m in models])
    write_text(sys.stdout, "\n".join(tables.FORMATS[form](rows)) + "\n")


COMMANDS: Mapping[str, Callable[[Sequence[str]], None]] = {
    "info": info,
    "export": export,
    "benchmark": benchmark,
    "convert": convert,
    "replay": replay,
    "doctor": doctor,
    "heatmap": heatmap,
    "show": show,
}
