"""From defaults, recipe, file and overrides to the arguments of a run.

Later sources win: defaults, then the recipe, then a `cfg=` file, then what the user gives directly. Which keys the user
gave is remembered, so that a recipe chosen later never replaces one of them.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

from ultralytics.cfg.kinds import INT_OR_INTS
from ultralytics.cfg.schema import EXTRA_KEYS, KEYS, UPSTREAM_KEYS, defaults
from ultralytics.utils.checks import check_yaml
from ultralytics.utils.config.namespace import IterableSimpleNamespace
from ultralytics.utils.config.paths import CFG_DIR
from ultralytics.utils.config.yaml_io import load_with_lines
from ultralytics.utils.errors import ConfigError, NotFoundError, UnknownArgumentError
from ultralytics.utils.log import LOGGER

Source: TypeAlias = "str | Path | Mapping[str, Any] | SimpleNamespace | None"
Rename: TypeAlias = Callable[[Any], dict[str, Any]]

_RENAMED: Mapping[str, Rename] = {
    "boxes": lambda v: {"show_boxes": v},
    "hide_labels": lambda v: {"show_labels": not v},
    "hide_conf": lambda v: {"show_conf": not v},
    "line_thickness": lambda v: {"line_width": v},
    "half": lambda v: {"quantize": 16 if v else None},
    "int8": lambda v: {"quantize": 8} if v else {},
    "end2end": lambda v: {"nms": None if v is None else not v},
}
"""Names of older versions, each with what it means today."""

_DROPPED: Mapping[str, str] = {
    "label_smoothing": "; classification has smoothing=",
    **dict.fromkeys(("save_hybrid", "crop_fraction", "keras"), ""),
}
"""Names of older versions that mean nothing any more, and where to look instead."""

_SGD_OWN = frozenset({"lr0", "momentum"})
"""What a recipe for an adaptive optimizer cannot know of SGD, whose step is its rate times the gradient."""

_OF_ONE_RUN = ("save_dir", "resume")
"""What the `args.yaml` of a run says of that run alone: where it lies, and what it went on from."""

OLD_NAMES = frozenset(_RENAMED) | frozenset(_DROPPED)
"""Every name that `migrate` still understands."""


def migrate(values: Mapping[str, Any]) -> dict[str, Any]:
    """Translate names of older versions, and a model scale written as `scale=n`."""
    result: dict[str, Any] = {}
    for name, value in values.items():
        if name == "label_smoothing" and values.get("task") == "classify":
            LOGGER.warning(f"argument {name} is old; smoothing={value} does the same")
            result["smoothing"] = value
        elif name in _DROPPED:
            LOGGER.warning(f"argument {name} has no meaning any more and is left out{_DROPPED[name]}")
        elif name in _RENAMED:
            new = _RENAMED[name](value)
            LOGGER.warning(f"argument {name} is old; {_shown(new) or 'leaving it out'} does the same")
            result.update(new)
        elif name == "scale" and isinstance(value, str):
            result["model_scale"] = value
        else:
            result[name] = value
    if result.get("name") == "model" and result.get("model"):
        result["name"] = Path(str(result["model"])).stem
    return result


def _shown(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{k}={v}" for k, v in values.items())


def check_names(names: Iterable[str], origins: Mapping[str, str] | None = None) -> None:
    """Raise UnknownArgumentError for the first names that are no argument, with the nearest that are."""
    unknown = [n for n in names if n not in KEYS and n not in EXTRA_KEYS]
    if not unknown:
        return
    lines = []
    for name in unknown[:3]:
        near = difflib.get_close_matches(str(name), KEYS, n=3, cutoff=0.6)
        hint = f"did you mean {' or '.join(near)}?" if near else "`yolo cfg` lists all arguments."
        origin = (origins or {}).get(name, "")
        lines.append(f"there is no argument {name!r}{f' ({origin})' if origin else ''}; {hint}")
    raise UnknownArgumentError("\n".join(lines))


def check_values(values: Mapping[str, Any], origins: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the values in their stored form; the first wrong one raises ConfigTypeError or ConfigError."""
    at = origins or {}
    return {n: KEYS[n].check(v, at.get(n, "")) if n in KEYS else v for n, v in values.items()}


def read_file(path: str | Path) -> dict[str, Any]:
    """Read a YAML of arguments: names translated and checked, values checked, with file:line in errors."""
    file = check_yaml(path)
    data, lines = load_with_lines(file)
    values = migrate(data)
    origins = {n: f"{file}:{lines[(n,)]}" for n in values if (n,) in lines}
    check_names(values, origins)
    return _for_a_new_run(check_values(values, origins), file)


def _for_a_new_run(values: dict[str, Any], file: str | Path) -> dict[str, Any]:
    """Leave the folder and `resume` out of the record of a run, which holds every argument: the next run is its own."""
    if not values.keys() >= {*UPSTREAM_KEYS, "save_dir"}:
        return values
    LOGGER.warning(f"{file} is of the run in {values['save_dir']}: this one has a folder of its own, unless save_dir=")
    return {k: v for k, v in values.items() if k not in _OF_ONE_RUN}


def expand(overrides: Mapping[str, Any]) -> tuple[dict[str, Any], frozenset[str]]:
    """Direct arguments with the file named by their `cfg` merged below them, and which of all these the user meant.

    Names and values are checked. The `cfg` key itself is kept, so that the run records where its arguments came from.
    """
    values = migrate(overrides)
    check_names(values)
    values = check_values(values)
    if values.get("cfg") is None:
        return values, _meant(values)
    below = read_file(values["cfg"])
    return {**below, **values}, _meant(below) | _meant(values)


def resolve(
    cfg: Source = None, overrides: Mapping[str, Any] | SimpleNamespace | None = None
) -> IterableSimpleNamespace:
    """Defaults, then `cfg` (a file, mapping or namespace), then `overrides`.

    A namespace that an earlier call returned counts as complete: its values stay, and so does its set of user keys.

    Raises:
        UnknownArgumentError: a name that does not exist; the message gives the nearest.
        ConfigError: a value outside its bounds (ConfigTypeError: of the wrong type).
        NotFoundError: there is no such file.
    """
    base, user = _base(cfg)
    direct = overrides or {}
    given, meant = expand(vars(direct) if isinstance(direct, SimpleNamespace) else direct)
    args = IterableSimpleNamespace(**{**defaults(), **base, **given})
    args.user_keys = user | (direct.user_keys if isinstance(direct, IterableSimpleNamespace) else meant)
    check_task(args)
    return args


def check_task(args: IterableSimpleNamespace) -> None:
    """Raise ConfigError when the user asks for something that only another task does; switching it off is no demand."""
    for name in sorted(args.user_keys & KEYS.keys()):
        key, value = KEYS[name], getattr(args, name)
        off = not value and (value != 0 or key.kind is not INT_OR_INTS)  # of indices, 0 is the first
        if key.only and key.only != args.task and not off and value != key.default:
            raise ConfigError(f"{name}={value!r} would have no effect: it is for {key.only} only\nLeave it out.")


def _base(cfg: Source) -> tuple[dict[str, Any], frozenset[str]]:
    """Values and user keys of the first source."""
    if cfg is None:
        return {}, frozenset()
    if isinstance(cfg, (str, Path)):
        values = read_file(cfg)
        return values, _meant(values)
    if isinstance(cfg, IterableSimpleNamespace):
        return dict(vars(cfg)), cfg.user_keys
    return expand(vars(cfg) if isinstance(cfg, SimpleNamespace) else cfg)


def _meant(values: Mapping[str, Any]) -> frozenset[str]:
    """Keys that the user gave; of a complete copy of the defaults, those whose value was changed."""
    if not UPSTREAM_KEYS <= set(values):
        return frozenset(values)
    return frozenset(k for k, v in values.items() if k not in KEYS or v != KEYS[k].default)


def recipe_names() -> list[str]:
    """Names of the recipes that are shipped."""
    return sorted(p.stem for p in (CFG_DIR / "recipes").glob("*.yaml"))


def load_recipe(name: str | Path) -> dict[str, Any]:
    """Arguments of a recipe: a shipped one by name, or a YAML file.

    Raises:
        NotFoundError: neither exists.
    """
    file = CFG_DIR / "recipes" / f"{name}.yaml"
    if not file.is_file():
        file = Path(name)
    if not file.is_file():
        raise NotFoundError(
            f"recipe={str(name)!r} does not exist\nUse one of auto, {', '.join(recipe_names())}, or a YAML file."
        )
    return read_file(file)


def apply_recipe(args: IterableSimpleNamespace, name: str | Path) -> IterableSimpleNamespace:
    """Return a copy of the arguments with a recipe's values, except for the keys that the user gave.

    Where the user names SGD and the recipe is for another optimizer, its rate and momentum are left out too.

    Raises:
        ConfigError: `name` is "auto", which only a run that knows its data can decide.
    """
    if str(name) == "auto":
        raise ConfigError(f"recipe=auto is decided by the trainer; name one of {', '.join(recipe_names())}")
    recipe = load_recipe(name)
    foreign = args.optimizer == "SGD" != recipe.get("optimizer") and "optimizer" in args.user_keys
    kept = args.user_keys | (_SGD_OWN if foreign else frozenset())
    recipe = {k: v for k, v in recipe.items() if k not in kept}
    new = IterableSimpleNamespace(**{**vars(args), **recipe, "recipe": str(name)})
    new.user_keys = args.user_keys
    return new
