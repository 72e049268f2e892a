"""What a search varies: ranges and choices of arguments of training, by the recipe of the base and by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from ultralytics.cfg.renames import check_names
from ultralytics.cfg.schema import KEYS, Trait
from ultralytics.utils.config.yaml_io import load_with_lines
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.files import has_yaml_suffix

if TYPE_CHECKING:
    import optuna

AXIS_GROUPS = ("optimizer", "augmentation", "loss")
_FORM = "write a range such as lr0: {low: 1e-5, high: 1e-2, log: true}, or choices such as loss: [vfl, mal, focal]"


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; `log` draws evenly in the logarithm, `integer` whole steps."""

    low: float
    high: float
    log: bool = False
    integer: bool = False

    def suggest(self, trial: optuna.trial.Trial, name: str) -> float | int:
        """Let a trial choose a value, rounded to four digits so that tables and YAML files show all of it."""
        if self.integer:
            return int(trial.suggest_int(name, int(self.low), int(self.high), log=self.log))
        return float(f"{trial.suggest_float(name, self.low, self.high, log=self.log):.4g}")


@dataclass(frozen=True)
class Choices:
    """One of several values."""

    values: tuple[str | int | float | bool, ...]

    def suggest(self, trial: optuna.trial.Trial, name: str) -> str | int | float | bool:
        """Let a trial choose a value."""
        return cast("str | int | float | bool", trial.suggest_categorical(name, self.values))


Axis: TypeAlias = Range | Choices
Space: TypeAlias = Mapping[str, Axis]

_ADAM: Space = {
    "lr0": Range(1e-5, 3e-3, log=True),
    "weight_decay": Range(1e-5, 1e-2, log=True),
    "warmup_epochs": Range(0.0, 5.0),
    "backbone_lr_ratio": Range(0.05, 1.0, log=True),
}
_SGD: Space = {
    "lr0": Range(1e-5, 1e-1, log=True),
    "lrf": Range(0.01, 1.0, log=True),
    "momentum": Range(0.7, 0.98),
    "weight_decay": Range(1e-5, 1e-2, log=True),
    "warmup_epochs": Range(0.0, 5.0),
}
_SHIFTS: Space = {"scale": Range(0.0, 0.9), "translate": Range(0.0, 0.3), "fliplr": Choices((0.0, 0.5))}
_COLOURS: Space = {"hsv_h": Range(0.0, 0.05), "hsv_s": Range(0.0, 0.9), "hsv_v": Range(0.0, 0.9)}
_MIXES: Space = {"mosaic": Range(0.0, 1.0), "mixup": Range(0.0, 0.3)}
_SSD: Space = {"photometric": Range(0.0, 1.0), "zoom_out": Range(0.0, 1.0), "iou_crop": Range(0.0, 1.0)}
_LOSS: Space = {
    "loss": Choices(("vfl", "mal", "focal")),
    "box_loss": Choices(("giou", "ciou", "diou")),
    "box": Range(1.0, 15.0, log=True),
    "cls": Range(0.1, 4.0, log=True),
    "dfl": Range(0.3, 6.0, log=True),
}
_PLAIN: Mapping[str, Space] = {"optimizer": _ADAM, "augmentation": {**_SHIFTS, **_COLOURS, **_MIXES}, "loss": _LOSS}
_PUBLISHED: Mapping[str, Space] = {
    "optimizer": _ADAM,
    "augmentation": {"fliplr": _SHIFTS["fliplr"], **_SSD},
    "loss": _LOSS,
}
_INTERFACE: Mapping[str, Space] = {**_PLAIN, "optimizer": _SGD}
SPACES: Mapping[str, Mapping[str, Space]] = {
    **dict.fromkeys(("official", "d-fine", "deim"), _PUBLISHED),
    "ultralytics": _INTERFACE,
}
"""Groups of axes by recipe; every other recipe has `_PLAIN`."""


def space_for(recipe: str, group: str, acting: Trait) -> Space:
    """Return the axes of a group (`all`: of all groups) for a recipe, without those that do not act in a family.

    `acting` are the traits of arguments that act there (`Family.arguments`).

    >>> sorted(space_for("small", "loss", Trait.MATCHING)), sorted(space_for("small", "loss", Trait.GAIN))
    (['box_loss', 'loss'], ['box', 'cls', 'dfl'])
    """
    groups = SPACES.get(recipe, _PLAIN)
    axes = {name: axis for key in (AXIS_GROUPS if group == "all" else (group,)) for name, axis in groups[key].items()}
    return {name: axis for name, axis in axes.items() if not KEYS[name].foreign or KEYS[name].traits & acting}


def read_space(given: str | Path | Mapping[str, Any], recipe: str, acting: Trait) -> Space:
    """Return the space that a user means: a group, `all`, a YAML file, or a mapping of its form.

    Raises:
        ConfigError: an axis is malformed, or a value is outside the bounds of its argument.
        UnknownArgumentError: an axis is not an argument.
    """
    if isinstance(given, str) and given in (*AXIS_GROUPS, "all"):
        return space_for(recipe, given, acting)
    if isinstance(given, Mapping):
        return _checked({str(k): _axis(str(k), v) for k, v in given.items()}, "space")
    if not has_yaml_suffix(given):
        raise ConfigError(f"space={given!r} is not one of {', '.join((*AXIS_GROUPS, 'all'))}, nor a YAML file", _FORM)
    return _checked({str(k): _axis(str(k), v) for k, v in load_with_lines(Path(given))[0].items()}, str(given))


def _axis(name: str, value: Any) -> Axis:
    """Read one axis: a mapping with low and high, a list of choices, or the interface's tuple (low, high)."""
    if isinstance(value, (Range, Choices)):
        return value
    if isinstance(value, tuple) and len(value) in (2, 3) and all(isinstance(v, (int, float)) for v in value[:2]):
        return _range(name, {"low": value[0], "high": value[1]})
    if isinstance(value, Mapping):
        if set(value) == {"choices"} and isinstance(value["choices"], (list, tuple)):
            return _choices(name, value["choices"])
        return _range(name, value)
    if isinstance(value, list):
        return _choices(name, value)
    raise ConfigError(f"{name}: {value!r:.60} is neither a range nor choices", _FORM)


def _choices(name: str, values: Sequence[Any]) -> Choices:
    if len(values) < 2:
        raise ConfigError(f"{name}: {list(values)!r:.60} leaves nothing to choose", "give at least two values")
    return Choices(tuple(values))


def _range(name: str, value: Mapping[str, Any]) -> Range:
    """Read the mapping of a range; a range is of integers when both ends are and the argument is one."""
    try:
        low, high = float(value["low"]), float(value["high"])
    except (KeyError, TypeError, ValueError):
        raise ConfigError(f"{name}: {dict(value)!r:.80} has no numbers low and high", _FORM) from None
    if set(value) - {"low", "high", "log"}:
        raise ConfigError(f"{name}: unknown key {min(set(value) - {'low', 'high', 'log'})!r}", _FORM)
    if low >= high or (value.get("log") and low <= 0):
        raise ConfigError(f"{name}: low={low:g}, high={high:g}", "low must be below high, and above 0 with log: true")
    integer = name in KEYS and isinstance(KEYS[name].default, int) and not isinstance(KEYS[name].default, bool)
    return Range(low, high, bool(value.get("log", False)), integer)


def _checked(space: Space, origin: str) -> Space:
    """Check names, and both ends of a range or every choice against the argument's bounds."""
    if not space:
        raise ConfigError(f"{origin}: is empty, so that there is nothing to search", _FORM)
    check_names(space, dict.fromkeys(space, origin))
    for name, axis in space.items():
        for value in axis.values if isinstance(axis, Choices) else (axis.low, axis.high):
            whole = isinstance(axis, Range) and axis.integer
            KEYS[name].check(int(value) if whole else value, origin)
    return space


def as_record(space: Space) -> dict[str, Any]:
    """Return a space in the form of its YAML file."""
    return {
        name: {"choices": list(axis.values)}
        if isinstance(axis, Choices)
        else {"low": axis.low, "high": axis.high, "log": axis.log}
        for name, axis in space.items()
    }
