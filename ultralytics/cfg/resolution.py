"""From defaults, recipe, file and overrides to the arguments of a run.

Later sources win: defaults, then the recipe, then a `cfg=` file, then direct arguments. The names of the arguments that
the user gave are kept, so that a recipe chosen later never replaces one of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

from ultralytics.cfg.args import Args
from ultralytics.cfg.renames import check_names, migrate
from ultralytics.cfg.schema import EXTRA_KEYS, KEYS, UPSTREAM_KEYS, Key, Trait, defaults, keys_with
from ultralytics.utils.checks import check_yaml
from ultralytics.utils.config.namespace import IterableSimpleNamespace
from ultralytics.utils.config.paths import CFG_DIR
from ultralytics.utils.config.yaml_io import load_with_lines
from ultralytics.utils.errors import ConfigError, NotFoundError
from ultralytics.utils.log import LOGGER

Source: TypeAlias = "str | Path | Mapping[str, Any] | SimpleNamespace | None"
Overrides: TypeAlias = "Mapping[str, Any] | SimpleNamespace | None"


_OTHER_DEFAULTS: Mapping[str, tuple[Any, ...]] = {"nms": (False,), "tracker": ("tracktrack.yaml", "botsort.yaml")}
"""Defaults that other releases have; in a list of all arguments they ask for nothing."""


def check_values(values: Mapping[str, Any], origins: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the values in their stored form; the first wrong one raises ConfigTypeError or ConfigError."""
    rows, at = {**EXTRA_KEYS, **KEYS}, origins or {}
    return {n: rows[n].check(v, at.get(n, "")) if n in rows else v for n, v in values.items()}


def read_file(path: str | Path) -> dict[str, Any]:
    """Read a YAML of arguments: names translated and checked, values checked, with file:line in errors."""
    file = check_yaml(path, kind="")
    data, lines = load_with_lines(file)
    values = migrate(data)
    if _lists_every_argument(values):
        others = {name for name, old in _OTHER_DEFAULTS.items() if values.get(name) in old}
        values = {**values, **{name: KEYS[name].default for name in others}}
    origins = {n: f"{file}:{lines[(n,)]}" for n in values if (n,) in lines}
    check_names(values, origins)
    return _without_its_run(check_values(values, origins), file)


def _lists_every_argument(values: Mapping[str, Any]) -> bool:
    """Whether these are a copy of the defaults or the record of a run, of this release or of an older one."""
    return 2 * len(UPSTREAM_KEYS & values.keys()) > len(UPSTREAM_KEYS)


def _without_its_run(values: dict[str, Any], file: str | Path) -> dict[str, Any]:
    """Leave out of the record of a run what belongs to that run alone: the next run has its own folder."""
    if not (_lists_every_argument(values) and values.get("save_dir")):
        return values
    LOGGER.warning(f"{file} records the run in {values['save_dir']}: this run has its own folder, unless save_dir=")
    return {k: v for k, v in values.items() if k not in keys_with(Trait.ONE_RUN)}


def expand(overrides: Mapping[str, Any]) -> tuple[dict[str, Any], frozenset[str]]:
    """Direct arguments with the file named by their `cfg` merged below them, and the names that the user gave.

    Names and values are checked. The `cfg` key itself is kept, so that the run records the origin of its arguments.
    """
    values = migrate(overrides)
    check_names(values)
    values = check_values(values)
    if values.get("cfg") is None:
        return values, _user_keys(values)
    below = read_file(values["cfg"])
    return {**below, **values}, _user_keys(below) | _user_keys(values)


def resolve(cfg: Source = None, overrides: Overrides = None) -> Args:
    """Return the frozen arguments of a call: defaults, then `cfg` (a file, mapping or namespace), then `overrides`.

    A namespace that an earlier call returned counts as complete: its values stay, and so does its set of user keys.
    A value that has no effect on the task is reported once and replaced by the default.

    Raises:
        UnknownArgumentError: a name that does not exist; the message gives the nearest.
        ConfigError: a value outside its bounds (ConfigTypeError: of the wrong type).
        NotFoundError: there is no such file.
    """
    base, user = _base(cfg)
    direct = overrides or {}
    values, keys = expand(vars(direct) if isinstance(direct, SimpleNamespace) else direct)
    args = Args(**{**defaults(), **base, **values})
    args.user_keys = user | (direct.user_keys if isinstance(direct, IterableSimpleNamespace) else keys)
    return drop_inert(args).frozen()


def drop_inert(args: Args) -> Args:
    """Replace the values of the user that have no effect on the task and mode by the defaults, with a warning each."""
    mode = args.mode if "mode" in args.user_keys else None
    idle = [key for name, key in KEYS.items() if name in args.user_keys and _has_no_effect(key, args, mode)]
    for key in idle:
        why = key.without_effect(args.task, mode)
        LOGGER.warning(f"{key.name}={args.get(key.name)} has no effect: {why}")
    return args.without([key.name for key in idle], **{key.name: key.default for key in idle})


def drop_foreign(args: Args, acting: Trait) -> Args:
    """Replace the values of the user that have no effect in a detector family by the defaults, with a warning each.

    Of the arguments with a reason `foreign` those act that have one of the traits `acting`.
    """
    idle = [
        key
        for name, key in KEYS.items()
        if key.foreign and not key.traits & acting and name in args.user_keys and args.get(name) != key.default
    ]
    for key in idle:
        LOGGER.warning(f"{key.name}={args.get(key.name)} has no effect: {key.foreign}")
    if not idle:
        return args
    return args.without([key.name for key in idle], **{key.name: key.default for key in idle})


REPEATED_VIEW_ARGS = ("slice", "overlap", "augment")
"""Arguments that let val and predict see an image more than once."""


def refuse_views(given: Mapping[str, Any], tool: str, remedy: str) -> None:
    """Raise ConfigError where a tool that sees each image once is asked for more views of it."""
    for name in REPEATED_VIEW_ARGS:
        if name in given and not KEYS[name].is_off(given[name]):
            raise ConfigError(f"{name}={given[name]} has no effect on {tool}: it sees each image once", remedy)


def _has_no_effect(key: Key, args: Args, mode: str | None) -> bool:
    """Whether an argument asks for something that it does not do; switched off it asks for nothing."""
    value = args.get(key.name)
    asks = value != key.default if key.inert else not key.is_off(value)
    return asks and bool(key.without_effect(args.task, mode))


def user_values(args: Args) -> dict[str, Any]:
    """The arguments that the user gave, checked, as overrides of a further call; `cfg` is left out, as it was read."""
    return {name: value for name, value in args if name in args.user_keys and name != "cfg"}


def _base(cfg: Source) -> tuple[dict[str, Any], frozenset[str]]:
    """Values and user keys of the first source."""
    if cfg is None:
        return {}, frozenset()
    if isinstance(cfg, (str, Path)):
        values = read_file(cfg)
        return values, _user_keys(values)
    if isinstance(cfg, IterableSimpleNamespace):
        return dict(vars(cfg)), cfg.user_keys
    return expand(vars(cfg) if isinstance(cfg, SimpleNamespace) else cfg)


def _user_keys(values: Mapping[str, Any]) -> frozenset[str]:
    """Keys that the user gave; of a list of all arguments, those whose value is not the default."""
    if not _lists_every_argument(values):
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


def apply_recipe(args: Args, name: str | Path) -> Args:
    """Return a copy of the arguments with a recipe's values, except for the keys that the user gave.

    Where the user names SGD and the recipe is for another optimizer, its rate and momentum are left out too.

    Raises:
        ConfigError: `name` is "auto", which only a run that knows its data can decide.
    """
    if str(name) == "auto":
        raise ConfigError(f"recipe=auto is decided by the trainer; name one of {', '.join(recipe_names())}")
    recipe = load_recipe(name)
    other = args.optimizer == "SGD" != recipe.get("optimizer") and "optimizer" in args.user_keys
    left_out = {*args.user_keys, *(keys_with(Trait.OPTIMIZER) if other else ())}
    return args.replace(**{k: v for k, v in recipe.items() if k not in left_out}, recipe=str(name))
