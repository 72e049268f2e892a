"""The command line `yolo` (also `ultralytics`, and `python -m ultralytics`).

Words and `key=value` pairs become a task, a mode and arguments; the model's method of the mode's name is called.
Nothing here imports torch, so help, version, cfg and settings answer at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ultralytics
from ultralytics.cfg.schema import KEYS, MODES, TASKS
from ultralytics.cli.grammar import (
    TOOLS,
    call_arguments,
    given,
    join_pieces,
    one_of,
    open_model,
    parse_overrides,
    task_of,
    value_of,
    weight_words,
)
from ultralytics.cli.tools import COMMANDS, compare
from ultralytics.utils.checks import print_checks
from ultralytics.utils.config.paths import DEFAULT_CFG_PATH
from ultralytics.utils.config.settings import SETTINGS
from ultralytics.utils.errors import ConfigError, UserError
from ultralytics.utils.files import atomic_write, resumed_file
from ultralytics.utils.log import LOGGER, write_text

HELP = """\
yolo [TASK] MODE key=value ...          (also: ultralytics ..., python -m ultralytics ...)

  TASK     detect (the default) | classify
  MODE     train | val | predict | export | benchmark | info
  key      any argument that `yolo cfg` lists; cfg=my.yaml takes them from a file, keys given beside it win

  yolo detect train model=rtdetr-l.yaml data=data.yaml epochs=100 imgsz=640
  yolo detect train model=rtdetr-l.yaml scale=n data=data.yaml
  yolo detect val model=runs/detect/train/weights/best.pt data=data.yaml
  yolo detect val a.pt b.pt data=data.yaml                         side by side, with intervals of the differences
  yolo detect predict model=runs/detect/train/weights/best.pt source=images save_txt=True
  yolo classify train model=shvit_s1.yaml data=folder imgsz=224     folder/train/<class>/*.jpg, folder/val/<class>/*.jpg
  yolo info model=rtdetr-l.yaml imgsz=640 save=graph.svg
  yolo info rtdetr-l.yaml rtdetr-hgnetv2-l.yaml rtdetr-resnet18.yaml format=markdown
  yolo train model=my.yaml modules=my_blocks.py data=data.yaml     blocks of your own: docs/model-yaml.md
  yolo info best.pt                                                what is inside, without building the model
  yolo heatmap model=best.pt source=photo.jpg query=0              why; kind=hirescam, gradcam, shsa or sampling
  yolo export model=best.pt format=onnx imgsz=640                  also torchscript, openvino, engine, coreml,
                                                                   safetensors; state_dict for stock `ultralytics`
  yolo benchmark model=best.pt data=data.yaml imgsz=640            each form that this machine can run, measured

  yolo convert data=data.yaml format=coco save_dir=out             labels as yolo, coco or voc, in a new folder
  yolo show data=data.yaml augment=True n=16                       pictures of what the network will see in training
  yolo doctor data=data.yaml                                       is it safe to train on? exit code, HTML page
  yolo replay runs/detect/train/replay.pt device=cpu amp=fp32      a training step that failed, once more

Other words
  yolo help | version                   this text, the version
  yolo checks                           the machine, the packages, and which `ultralytics` is imported
  yolo settings [reset | key=value ...] show or change where runs, data sets and weights go
  yolo cfg                              all arguments with their defaults
  yolo copy-cfg                         write them to default_copy.yaml, to be edited
"""

COPY_NAME = "default_copy.yaml"
DEFAULT_MODEL = {"detect": "rtdetr-l.yaml", "classify": "shvit_s1.yaml"}
DEFAULT_DATA = "demo.yaml"

_ELSEWHERE = ("segment", "semantic", "depth", "pose", "obb", "track", "solutions")
"""Words of the same grammar that stand for something this version does not have."""


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


def _run(words: Sequence[str]) -> None:
    """Do what the joined words say."""
    special = next((w for w in words if w.lstrip("-").lower() in _SPECIAL), None)
    if special is not None or not words:
        rest = [w for w in words if w != special]
        _SPECIAL["help" if special is None else special.lstrip("-").lower()](rest)
        return
    elsewhere = [w for w in words if w in _ELSEWHERE]
    if elsewhere:
        raise ConfigError(f"{elsewhere[0]!r} is not available here\nThere are: {', '.join((*TASKS, *MODES, *TOOLS))}.")
    run = any(w in MODES for w in words)  # then `show` is the switch of that name
    tool = one_of([w for w in words if not (run and w in KEYS)], TOOLS, "tool")
    if tool is not None:
        COMMANDS[tool]([w for w in words if w not in {tool, *TASKS}])
        return
    mode, task = one_of(words, MODES, "mode"), one_of(words, TASKS, "task")
    names = weight_words(words) if mode == "val" else []
    overrides = parse_overrides([w for w in words if w not in {*TASKS, *MODES, *names}])
    overrides = overrides if task is None else {**overrides, "task": task}
    if names and compare([*([overrides["model"]] if overrides.get("model") else []), *names], overrides):
        return
    _call_model(mode, {**overrides, "model": names[0]} if names else overrides)


def _call_model(mode: str | None, overrides: Mapping[str, Any]) -> None:
    """Build the model and call its method of the mode's name with the arguments."""
    values = given(overrides)
    mode = mode or values.get("mode")
    if mode is None:
        mode = "train"
        LOGGER.warning(f"no mode is given; it is {mode}. Others: {', '.join(MODES[1:])}, info")
    name = _required_model(mode, values)
    task, model = task_of(name, values), open_model(name, values)
    values = call_arguments(values)
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


def _required_model(mode: str, values: Mapping[str, Any]) -> str:
    """The model argument; training has a default, the others have not."""
    if values.get("model") is not None:
        return str(values["model"])
    if mode != "train":
        raise ConfigError(f"{mode} needs model=, a weights file such as runs/detect/train/weights/best.pt")
    if values.get("resume"):
        return str(resumed_file(values["resume"], values.get("project")))
    default = DEFAULT_MODEL[values.get("task", "detect")]
    LOGGER.warning(f"model= is not given; it is {default}")
    return default


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
        SETTINGS.update({key: _settingvalue_of(key, value) for key, _, value in pairs})
    LOGGER.info(str(SETTINGS))


def _settingvalue_of(key: str, text: str) -> Any:
    """Text settings stay text; switches take true and false."""
    return text if isinstance(SETTINGS[key], str) else value_of(key, text)


_SPECIAL: Mapping[str, Callable[[Sequence[str]], None]] = {
    **dict.fromkeys(("help", "h"), _print_help),
    **dict.fromkeys(("version", "v"), _print_version),
    **dict.fromkeys(("checks", "check"), _checks),
    **dict.fromkeys(("settings", "setting"), _settings),
    "cfg": _print_cfg,
    **dict.fromkeys(("copy-cfg", "c"), _copy_cfg),
}
"""Commands that need no model."""
