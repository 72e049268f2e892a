"""Arguments of a run: their table, their files, and how they come together.

`entrypoint` is the command line's function; it lives in `ultralytics.cli.main` and is looked up there when asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ultralytics.cfg.args import Args
from ultralytics.cfg.resolution import Overrides, Source, apply_recipe, resolve
from ultralytics.cfg.schema import MODES, TASKS
from ultralytics.utils.config.absent import absent_names
from ultralytics.utils.config.settings import SETTINGS
from ultralytics.utils.config.yaml_io import YAML
from ultralytics.utils.files import increment_path

__all__ = ["MODES", "TASKS", "Args", "apply_recipe", "cfg2dict", "entrypoint", "get_cfg", "get_save_dir"]


def get_cfg(cfg: Source = None, overrides: Overrides = None) -> Args:
    """Return the complete arguments of a run: defaults, then `cfg` (file, mapping or namespace), then `overrides`.

    The result's `user_keys` names what the user gave. It can be written to, as scripts and callbacks do; the package
    itself uses `args.replace`. A value without effect is reported by a warning and replaced by the default.

    Raises:
        UnknownArgumentError: a name that does not exist; the message gives the nearest.
        ConfigError: a value outside its bounds (ConfigTypeError: of the wrong type).
        NotFoundError: there is no such file.

    >>> args = get_cfg(overrides={"epochs": 3, "mosaic": False})
    >>> args.epochs, args.mosaic, args.batch, sorted(args.user_keys)
    (3, 0.0, 16, ['epochs', 'mosaic'])
    """
    return resolve(cfg, overrides).writable()


def get_save_dir(args: SimpleNamespace, name: str | None = None) -> Path:
    """Return the folder of a run, which may not exist yet.

    An explicit `save_dir` wins. A `project` is relative to the working directory and the run is `<project>/<name>`;
    without one it is `<runs_dir of the settings>/<task>/<name>`. The name is `name`, else the argument, else the mode.
    An existing folder gives `exp2`, `exp3`, ... unless `exist_ok`.
    """
    if save_dir := getattr(args, "save_dir", None):
        return Path(save_dir)
    parent = Path(args.project) if args.project else Path(SETTINGS["runs_dir"]) / args.task
    return increment_path(parent / (name or args.name or args.mode), exist_ok=args.exist_ok)


def cfg2dict(cfg: str | Path | Mapping[str, Any] | SimpleNamespace) -> dict[str, Any]:
    """Return arguments as a dictionary, from a YAML file, a mapping or a namespace."""
    if isinstance(cfg, (str, Path)):
        return YAML.load(cfg)
    return dict(cfg) if isinstance(cfg, Mapping) else dict(vars(cfg))


_WHERE: Mapping[str, tuple[str, str]] = {
    "entrypoint": ("ultralytics.cli.main", "entrypoint"),
    "copy_default_cfg": ("ultralytics.cli.main", "copy_default_cfg"),
    "merge_equals_args": ("ultralytics.cli.grammar", "join_pieces"),
    "parse_key_value_pair": ("ultralytics.cli.grammar", "parse_pair"),
    "handle_yolo_settings": ("ultralytics.cli.main", "change_settings"),
    "smart_value": ("ultralytics.cli.grammar", "value_of"),
    "check_cfg": ("ultralytics.cfg.interface", "check_cfg"),
    "check_dict_alignment": ("ultralytics.cfg.interface", "check_dict_alignment"),
}

__getattr__ = absent_names(__name__, _WHERE)
