"""The command line `yolo` (also `ultralytics`, and `python -m ultralytics`).

Words and `key=value` pairs become a task, a mode and arguments; the model's method of the mode's name is called.
Nothing here imports torch, so help, version, cfg and settings answer at once.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ultralytics
from ultralytics.cfg import kinds
from ultralytics.cfg.resolve import OLD_NAMES, check_names, expand
from ultralytics.cfg.schema import KEYS, MODES, TASKS
from ultralytics.utils import tables
from ultralytics.utils.checks import check_yaml, nearest, print_checks
from ultralytics.utils.errors import ConfigError, NotFoundError, UnknownArgumentError, UserError
from ultralytics.utils.files import atomic_write
from ultralytics.utils.log import LOGGER, write_text
from ultralytics.utils.paths import DEFAULT_CFG_PATH
from ultralytics.utils.settings import SETTINGS
from ultralytics.utils.yaml_io import YAML

HELP = """\
yolo [TASK] MODE key=value ...          (also: ultralytics ..., python -m ultralytics ...)

  TASK     detect (the default) | classify
  MODE     train | val | predict | export | info
  key      any argument that `yolo cfg` lists; cfg=my.yaml takes them from a file, keys given beside it win

  yolo detect train model=rtdetr-l.yaml data=data.yaml epochs=100 imgsz=640
  yolo detect train model=rtdetr-l.yaml scale=n data=data.yaml
  yolo detect val model=runs/detect/train/weights/best.pt data=data.yaml
  yolo detect predict model=runs/detect/train/weights/best.pt source=images save_txt=True
  yolo classify train model=shvit_s1.yaml data=folder imgsz=224     folder/train/<class>/*.jpg, folder/val/<class>/*.jpg
  yolo info model=rtdetr-l.yaml imgsz=640 save=graph.svg
  yolo info rtdetr-l.yaml rtdetr-hgnetv2-l.yaml rtdetr-resnet18.yaml format=markdown
  yolo train model=my.yaml modules=my_blocks.py data=data.yaml     blocks of your own: docs/model-yaml.md
  yolo info best.pt                                                what is inside, without building the model
  yolo export model=best.pt format=state_dict                      plain tensors and a YAML for stock ultralytics

Other words
  yolo help | version                   this text, the version
  yolo checks                           the machine, the packages, and which `ultralytics` is imported
  yolo settings [reset | key=value ...] show or change where runs, data sets and weights go
  yolo cfg                              all arguments with their defaults
  yolo copy-cfg                         write them to default_copy.yaml, to be edited
"""

WEIGHTS = (".pt", ".pth", ".safetensors")
COPY_NAME = "default_copy.yaml"
DEFAULT_MODEL = {"detect": "rtdetr-l.yaml", "classify": "shvit_s1.yaml"}
DEFAULT_DATA = "demo.yaml"

_ELSEWHERE = ("segment", "semantic", "depth", "pose", "obb", "track", "benchmark", "solutions")
"""Words of the same grammar that stand for something this version does not have."""

_TEXT_KINDS = (kinds.TEXT, kinds.PATH, kinds.WORD)
_OLD_SWITCHES = frozenset({"half", "int8", "end2end", "nms"})


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn a UserError into at most three lines on standard error and exit status 1; Ctrl-C gives 130.

    Any other exception is a bug and keeps its traceback.
    """
    try:
        yield
    except UserError as e:
        lines = str(e).strip().splitlines()[:3] or [type(e).__name__]
        write_text(sys.stderr, "ERROR ❌ " + "\n".join(lines) + "\n")
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        write_text(sys.stderr, "\ninterrupted\n")
        raise SystemExit(130) from None
    except BrokenPipeError:  # the reader of `yolo cfg | head` has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None


def entrypoint(argv: Sequence[str] | None = None) -> None:
    """Run the command line; `argv` defaults to the process's arguments. Exits with 1 on a user's mistake."""
    with user_errors():
        _run(join_pieces(sys.argv[1:] if argv is None else argv))


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
        values[key.strip()] = _value(key.strip(), value.strip()) if equals else _switch(key.strip())
    check_names(name for name in values if name not in OLD_NAMES)
    return values


def _value(key: str, text: str) -> Any:
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
    near = nearest(key, [*TASKS, *MODES, "info", *_SPECIAL, *KEYS])
    hint = f"Did you mean {' or '.join(near)}?" if near else "`yolo help` shows what can be said."
    raise UnknownArgumentError(f"{key!r} is no mode, command or argument\n{hint}")


def _run(words: Sequence[str]) -> None:
    """Do what the joined words say."""
    special = next((w for w in words if w.lstrip("-").lower() in _SPECIAL), None)
    if special is not None or not words:
        rest = [w for w in words if w != special]
        _SPECIAL["help" if special is None else special.lstrip("-").lower()](rest)
        return
    elsewhere = [w for w in words if w in _ELSEWHERE]
    if elsewhere:
        raise ConfigError(f"{elsewhere[0]!r} is not available here\nThere are: {', '.join((*TASKS, *MODES, 'info'))}.")
    if "export" in words:
        _export([w for w in words if w not in {"export", *TASKS}])
        return
    if "info" in words:
        _info([w for w in words if w not in {"info", *TASKS}])
        return
    mode, task = _one_of(words, MODES, "mode"), _one_of(words, TASKS, "task")
    overrides = parse_overrides([w for w in words if w not in {*TASKS, *MODES}])
    _call_model(mode, overrides if task is None else {**overrides, "task": task})


def _one_of(words: Sequence[str], known: Sequence[str], what: str) -> str | None:
    """The word among the known ones, None without; two are too many."""
    found = [w for w in words if w in known]
    if len(found) > 1:
        raise ConfigError(f"only one {what} at a time, not {' and '.join(found)}")
    return found[0] if found else None


def _call_model(mode: str | None, overrides: Mapping[str, Any]) -> None:
    """Build the model and call its method of the mode's name with the arguments."""
    values = _given(overrides)
    mode = mode or values.get("mode")
    if mode is None:
        mode = "train"
        LOGGER.warning(f"no mode is given; it is {mode}. Others: {', '.join(MODES[1:])}, info")
    name = _required_model(mode, values)
    task, model = _task_of(name, values), _open_model(name, values)
    values = {k: v for k, v in values.items() if k not in {"model", "task", "mode", "cfg"}}
    if mode == "train":
        if values.get("data") is None and not values.get("resume") and task == "detect":
            values["data"] = DEFAULT_DATA
            LOGGER.warning(f"data= is not given; it is {DEFAULT_DATA}, a small drawn set")
        model.train(**values)
    elif mode == "val":
        model.val(**values)
    else:
        if values.get("source") is None:
            raise ConfigError("predict needs source=, an image, video, folder, glob, list file or address")
        for _ in model.predict(**{"save": True, **values, "stream": True}):
            pass  # a generator, so that a long video does not pile up in memory


def _given(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that the user meant, those of a `cfg=` file included."""
    values, meant = expand(overrides)
    return {k: v for k, v in values.items() if k in meant}


def _required_model(mode: str, values: Mapping[str, Any]) -> str:
    """The model argument; training has a default, the others have not."""
    if values.get("model") is not None:
        return str(values["model"])
    if mode != "train":
        raise ConfigError(f"{mode} needs model=, a weights file such as runs/detect/train/weights/best.pt")
    resume = values.get("resume")
    if isinstance(resume, str):
        return resume
    default = DEFAULT_MODEL[values.get("task", "detect")]
    LOGGER.warning(f"model= is not given; it is {default}")
    return default


def _open_model(name: str, values: Mapping[str, Any]) -> Any:
    """The model of a YAML or weights file, at the asked-for compound scale, with the user's own blocks.

    A model YAML may name its task itself; the word on the command line goes before it.
    """
    task = _task_of(name, values)
    family = ultralytics.SHViTClassifier if task == "classify" else ultralytics.RTDETR
    options = {"scale": values.get("model_scale"), "modules": values.get("modules")}
    return family(name, **{k: v for k, v in options.items() if v is not None})


def _task_of(name: str, values: Mapping[str, Any]) -> str:
    """The task given, else what the key `task` of a model YAML says, else detect."""
    if values.get("task"):
        return str(values["task"])
    try:
        data = YAML.load(check_yaml(name)) if name.endswith((".yaml", ".yml")) else {}
    except NotFoundError:
        data = {}  # whoever opens the model says so
    return str(data.get("task") or "detect") if isinstance(data, Mapping) else "detect"


def _info(words: Sequence[str]) -> None:
    """`yolo info`: the layer table of a model, what is in a weights file, or one row for each of several models.

    `save=` draws the model, `format=` is that of the table.
    """
    own = {key: text for w in words for key, _, text in [w.partition("=")] if key in {"save", "format"}}
    names = [w for w in words if "=" not in w and w.endswith((".yaml", ".yml", *WEIGHTS))]
    values = _given(parse_overrides([w for w in words if w not in names and w.partition("=")[0] not in own]))
    if values.get("model") is not None:
        names.insert(0, values["model"])
    if not names:
        raise ConfigError("info needs model=, a model YAML or weights file")
    if own.get("format", "text") not in tables.FORMATS:
        raise ConfigError(f"format={own['format']}: a table is printed as {' or '.join(tables.FORMATS)}")
    if "save" in own and len(names) > 1:
        raise ConfigError(f"save={own['save']}: one graph at a time, not of {len(names)} models")
    if len(names) == 1 and names[0].endswith(WEIGHTS) and not own:
        write_text(sys.stdout, "\n".join(ultralytics.RTDETR.contents(names[0])) + "\n")
        return
    imgsz = values.get("imgsz", KEYS["imgsz"].default)
    if len(names) > 1 or "format" in own:
        _compare([_open_model(name, values) for name in names], imgsz, own.get("format", "text"))
        return
    model = _open_model(names[0], values)
    model.info(detailed=True, verbose=True, imgsz=imgsz)
    if "save" in own:
        LOGGER.info(f"graph: {model.draw(own['save'], imgsz)}")


def _export(words: Sequence[str]) -> None:
    """`yolo export`: the model in another form."""
    values = _given(parse_overrides(words))
    if values.get("model") is None:
        raise ConfigError("export needs model=, a weights file such as runs/detect/train/weights/best.pt")
    model = _open_model(str(values["model"]), values)
    model.export(**{k: v for k, v in values.items() if k not in {"model", "task", "mode", "cfg"}})


def _compare(models: Sequence[Any], imgsz: int, form: str) -> None:
    """Print one row a model, with the differences to the first."""
    rows = models[0].comparison([m.totals(imgsz) for m in models])
    write_text(sys.stdout, "\n".join(tables.FORMATS[form](rows)) + "\n")


def _print_help(rest: Sequence[str]) -> None:
    write_text(sys.stdout, HELP)


def _print_version(rest: Sequence[str]) -> None:
    write_text(sys.stdout, f"{ultralytics.__version__}\n")


def _checks(rest: Sequence[str]) -> None:
    print_checks()


def _print_cfg(rest: Sequence[str]) -> None:
    write_text(sys.stdout, DEFAULT_CFG_PATH.read_text(encoding="utf-8"))


def _copy_cfg(rest: Sequence[str]) -> None:
    target = Path(COPY_NAME)
    if target.exists():
        raise ConfigError(f"{target.resolve()} exists already\nRename or delete it first.")
    with atomic_write(target) as f:
        f.write(DEFAULT_CFG_PATH.read_text(encoding="utf-8"))
    LOGGER.info(f"{target.resolve()} written; use it as: yolo train cfg={COPY_NAME} model=... data=...")


def _settings(rest: Sequence[str]) -> None:
    """Show, reset or change the settings."""
    if list(rest) == ["reset"]:
        SETTINGS.reset()
    elif rest:
        pairs = [w.partition("=") for w in rest]
        wrong = [key for key, equals, _ in pairs if not equals]
        if wrong:
            raise ConfigError(f"{wrong[0]!r} is no setting=value\nyolo settings [reset | key=value ...]")
        SETTINGS.update({key: _setting_value(key, value) for key, _, value in pairs})
    LOGGER.info(str(SETTINGS))


def _setting_value(key: str, text: str) -> Any:
    """Text settings stay text; switches take true and false."""
    return text if isinstance(SETTINGS[key], str) else _value(key, text)


_SPECIAL: Mapping[str, Callable[[Sequence[str]], None]] = {
    **dict.fromkeys(("help", "h"), _print_help),
    **dict.fromkeys(("version", "v"), _print_version),
    **dict.fromkeys(("checks", "check"), _checks),
    **dict.fromkeys(("settings", "setting"), _settings),
    "cfg": _print_cfg,
    **dict.fromkeys(("copy-cfg", "c"), _copy_cfg),
}
"""Commands that need no model."""
