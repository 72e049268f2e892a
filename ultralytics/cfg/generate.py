"""The files that are written from the table of arguments: `default.yaml` and `args.py`."""

from __future__ import annotations

from pathlib import Path

from ultralytics.cfg import kinds as k
from ultralytics.cfg.schema import EXTRA_KEYS, GROUPS, KEYS
from ultralytics.utils.config.paths import CFG_DIR, DEFAULT_CFG_PATH
from ultralytics.utils.config.yaml_io import YAML
from ultralytics.utils.files import atomic_write

ARGS_PATH: Path = CFG_DIR / "args.py"

ARGS_HEADER = '''"""The typed arguments of a run, written by `cfg/generate.py` from the table of arguments."""

from __future__ import annotations

from typing import Any

from ultralytics.cfg.typed import TypedNamespace


class Args(TypedNamespace):
    """Every argument with the type of its stored value."""

'''


def render_default_yaml() -> str:
    """The content of `default.yaml`: a line and a comment for each argument, by group."""
    lines = [
        "# Every argument with its default. Written from ultralytics/cfg/table.py; change it there.",
        "# Copy this file with `yolo copy-cfg`, edit the copy and pass it with `cfg=default_copy.yaml`.",
    ]
    for title, keys in GROUPS.items():
        lines += ["", f"# {title}"]
        for key in keys:
            setting = YAML.dumps({key.name: key.default}).strip()
            shown = key.choices or key.kind in (k.INT, k.COUNT, k.FLOAT, k.UNIT, k.BOX_LOSS)
            note = f" [no effect: {key.inert}]" if key.inert else f" ({key.bounds})" if shown else ""
            note += f" [{key.only} only]" if key.only else ""
            note += "".join(f" [no effect in {mode}]" for mode in key.inert_in)
            lines.append(f"{setting}  # {key.meaning}{note}")
    return "\n".join(lines) + "\n"


def render_args() -> str:
    """The content of `args.py`: the class `Args` with one annotation for each argument."""
    rows = (*KEYS.values(), *EXTRA_KEYS.values())
    return ARGS_HEADER + "".join(f"    {key.name}: {key.annotation}\n" for key in rows)


def write_files() -> None:
    """Write both files again."""
    for path, content in ((DEFAULT_CFG_PATH, render_default_yaml()), (ARGS_PATH, render_args())):
        with atomic_write(path) as file:
            file.write(content)
