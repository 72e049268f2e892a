"""The help texts: the overview, the arguments of a mode by group, the arguments of a tool."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from ultralytics.cfg.schema import GROUPS, KEYS, MODES, Key, Trait
from ultralytics.cli.tool_calls import Tool
from ultralytics.cli.tools import TOOLS

_WIDTH = 120

_OVERVIEW = """\
yolo [TASK] MODE key=value ...          (also: ultralytics ..., python -m ultralytics ...)

  TASK     detect (the default) | classify
  MODE     train | val | predict | track, or one of the tools below
  key      any argument that `yolo cfg` lists; cfg=my.yaml reads them from a file, arguments beside it have precedence

  yolo detect train model=rtdetr-l.yaml data=data.yaml epochs=100 imgsz=640
  yolo detect train model=rtdetr-l.yaml scale=n data=data.yaml
  yolo detect val model=runs/detect/train/weights/best.pt data=data.yaml
  yolo detect predict model=runs/detect/train/weights/best.pt source=images save_txt=True
  yolo track model=runs/detect/train/weights/best.pt source=clip.mp4 tracker=botsort.yaml save_mot=True
  yolo classify train model=shvit_s1.yaml data=folder imgsz=224     folder/train/<class>/*.jpg, folder/val/<class>/*.jpg
  yolo train model=my.yaml modules=my_blocks.py data=data.yaml     registered blocks: docs/model-yaml.md

Tools
{examples}

Other commands
  yolo help [MODE | TOOL] | version     this text, the arguments of a mode or tool, the version
  yolo checks                           the machine, the packages, and which `ultralytics` is imported
  yolo settings [reset | key=value ...] show or change the folders of runs, data sets and weights
  yolo cfg                              all arguments with their defaults
  yolo copy-cfg                         write them to default_copy.yaml, to be edited
"""

_GROUPS_OF: Mapping[str, tuple[str, ...]] = {
    "train": ("Training run", "Validation", "Optimisation", "Augmentation", "More files", "Only here"),
    "val": ("Validation",),
    "predict": ("Prediction", "What predictions show and save"),
    "track": ("Prediction", "What predictions show and save", "More files"),
    "export": ("Export",),
    "benchmark": ("Export",),
    "pack": ("Export",),
    "heatmap": ("Prediction",),
    "show": ("Augmentation",),
    "compare": ("Validation",),
    "erf": ("Prediction",),
    "tune": ("Training run", "Optimisation", "Augmentation", "Only here"),
}
"""Groups of arguments of a run that belong to a mode or tool, beside those of every mode."""


def overview() -> str:
    """The text of `yolo help`."""
    examples = "\n".join(f"  {tool.example:<64} {tool.purpose}" for tool in TOOLS.values())
    return _OVERVIEW.format(examples=examples)


def help_on(topic: str) -> str:
    """The text of `yolo help TOPIC`, where the topic is a mode, a tool or an argument."""
    if topic in MODES:
        return _mode_help(topic)
    return _tool_help(TOOLS[topic]) if topic in TOOLS else "\n".join(_rows([KEYS[topic]])) + "\n"


def _mode_help(mode: str) -> str:
    lines = [f"yolo [TASK] {mode} key=value ...", ""]
    return "\n".join(lines + _groups(mode)) + "\n"


def _tool_help(tool: Tool) -> str:
    files = " [FILE ...]" if tool.files else ""
    lines = [f"yolo {tool.name}{files} key=value ...", f"  {tool.purpose}", "", "Example", f"  {tool.example}", ""]
    if tool.required:
        lines += [f"Required: {', '.join(f'{name}=' for name in tool.required)}", ""]
    if tool.own:
        lines += ["Arguments of this tool", *_rows(tool.own), ""]
    if tool.run_keys is None:
        lines += _groups(tool.name)
    elif tool.run_keys:
        taken = [key for group in GROUPS.values() for key in group if key.name in tool.run_keys]
        lines += ["Arguments of a run", *_rows([key for key in taken if key.name != "scale"])]
    return "\n".join(lines).rstrip() + "\n"


def _groups(topic: str) -> list[str]:
    """The arguments of a mode: those of every mode, then the groups that belong to it."""
    titles, lines = _GROUPS_OF[topic], []
    common = [key for title, group in GROUPS.items() if title not in titles for key in group if _is_common(key)]
    for title, keys in (("General", common), *((title, GROUPS[title]) for title in titles)):
        lines += [title, *_rows([key for key in keys if not key.inert and topic not in key.inert_in]), ""]
    return lines


def _is_common(key: Key) -> bool:
    return Trait.EVERY_MODE in key.traits


def _rows(keys: Sequence[Key]) -> list[str]:
    """Two columns: `key=default`, and the meaning with the allowed values."""
    heads = [f"{key.name}={'' if key.default is None else key.default}" for key in keys]
    width = max(map(len, heads), default=0) + 2
    lines: list[str] = []
    for key, head in zip(keys, heads, strict=True):
        only = f" [{key.only} only]" if key.only else ""
        text = textwrap.wrap(f"{key.meaning} ({key.bounds}){only}", _WIDTH - width - 2)
        lines += [f"  {head:<{width}}{text[0]}", *(f"  {'':<{width}}{line}" for line in text[1:])]
    return lines
