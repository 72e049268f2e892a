"""One argument: what it accepts, and everything else that the package knows about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Flag, auto
from typing import Any

from ultralytics.cfg import kinds as k
from ultralytics.utils.config.json_schema import JSONSchema, nullable
from ultralytics.utils.errors import ConfigError, ConfigTypeError
from ultralytics.utils.log import LOGGER


class Trait(Flag):
    """What other parts of the package do with an argument; `schema.keys_with` lists the arguments that have one."""

    NONE = 0
    RESUME = auto()
    """May change when a run is resumed; the others come from the checkpoint."""
    SELECTS = auto()
    """Says which run or model is meant, so a resumed run does not compare it with its checkpoint."""
    REBUILD = auto()
    """A change needs another predictor, since the network is prepared again."""
    ONE_RUN = auto()
    """Belongs to one run: a new run does not take it from the `args.yaml` of another."""
    PLACE = auto()
    """Says into which folder the files of a run go."""
    WEIGHTS = auto()
    """A weights file passes it to later calls."""
    SHOWN = auto()
    """Shown when a weights file is described."""
    OPTIMIZER = auto()
    """Tuned for one optimizer: a recipe for another one does not set it."""
    AUGMENT = auto()
    """Read by the augmentation of detection; a field of `AugmentParams`."""
    INFO = auto()
    """Used by `yolo info`."""
    EXPORT_VAL = auto()
    """Passed by an export to the validation of the exported file."""
    SUPPRESSION = auto()
    """Steers the suppression of overlapping boxes; acts in families that do it."""
    GAIN = auto()
    """Weighs the terms of a loss; acts in families whose loss reads it."""
    SAME_RESULT = auto()
    """Does not change what a run measures, so equal runs may differ in it."""
    MATCHING = auto()
    """Chooses terms of a loss that matches sets of boxes; acts in families whose queries are matched so."""
    SHAPE = auto()
    """Shapes batches by aspect ratio; acts in families that take inputs of any shape."""
    EVERY_MODE = auto()
    """Has a meaning in every mode, so the help of each mode lists it."""
    NAMES_FILE = auto()
    """Names files, which a plan looks for beside itself."""
    GIVEN = auto()
    """Acts otherwise when the user gives it, even with the value that it would have had."""


@dataclass(frozen=True)
class Key:
    """One argument.

    `low` and `high` bound numbers; with `raised` a number below `low` becomes `low`, and a warning gives the reason.
    `choices` lists the allowed strings. An `inert` argument exists in the interface but has no effect here; the string
    says why. `only` names the one task that has the argument, `inert_in` maps a mode without it to the reason. The
    reason in `foreign` holds for detector families whose `Family.arguments` have no trait of the argument. A value
    without effect is reported by a warning and replaced by the default (`drop_inert`, `drop_foreign` in `resolution`).
    """

    name: str
    kind: k.Kind
    default: object
    meaning: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    nullable: bool = False
    inert: str = ""
    foreign: str = ""
    only: str = ""
    inert_in: Mapping[str, str] = field(default_factory=dict)
    raised: str = ""
    traits: Trait = Trait.NONE

    def check(self, value: object, origin: str = "") -> Any:
        """Return the value in its stored form; numbers of NumPy and torch become Python's.

        `origin` (for example a file and line) is added to the message of an error. The value of an inert argument is
        returned as it is.

        Raises:
            ConfigTypeError: wrong type.
            ConfigError: outside the bounds.
        """
        if self.inert:
            return value
        where = f"\n(from {origin})" if origin else ""
        if value is None:
            if self.nullable:
                return None
            raise ConfigTypeError(f"{self.name} must not be null; use {self.bounds}{where}")
        try:
            result = self.kind.convert(value if self.kind is k.SOURCE else k.to_python(value))
        except TypeError:
            raise ConfigTypeError(
                f"{self.name}={value!r} has the wrong type {type(value).__name__}; use {self.bounds}{where}"
            ) from None
        except (ValueError, OverflowError):
            raise ConfigError(f"{self.name}={_shown(value)} is outside its bounds; use {self.bounds}{where}") from None
        result = self._choice(result)
        if self._inside(result):
            return result
        if self.raised and self.low is not None and result < self.low:
            LOGGER.warning(f"{self.name}={value} is raised to {self.low:g}: {self.raised}")
            return self.kind.convert(self.low)
        raise ConfigError(f"{self.name}={value!r} is outside its bounds; use {self.bounds}{where}")

    def without_effect(self, task: str, mode: str | None) -> str:
        """Why the argument has no effect on a task and mode; empty when it has one."""
        if self.inert:
            return self.inert
        if self.only and self.only != task:
            return f"it is for {self.only} only"
        return self.inert_in.get(mode or "", "")

    def is_off(self, value: object) -> bool:
        """Whether a value asks for nothing: the default, or switched off. Of indices, 0 is the first one."""
        return bool(value == self.default or (not value and (value != 0 or self.kind is not k.CLASSES)))

    @property
    def bounds(self) -> str:
        """The allowed values, for a message."""
        text = f"one of {', '.join(self.choices)}" if self.choices else self.kind.meaning
        if self.low is not None and self.high is not None:
            text += f" from {self.low:g} to {self.high:g}"
        elif self.low is not None:
            text += f", at least {self.low:g}"
        return text + (", or null" if self.nullable else "")

    @property
    def json(self) -> JSONSchema:
        """The JSON schema of the values that a file may give."""
        if self.inert:
            return {"description": f"{self.meaning}; no effect: {self.inert}"}
        part = {**self.kind.json, **self._limits()}
        if self.choices:
            part = {"type": "string", "pattern": f"^{k.any_case(*self.choices)}$", "examples": list(self.choices)}
        made = nullable(part) if self.nullable and part else part
        return {**made, "description": f"{self.meaning} ({self.bounds})", "default": self.default}

    def _limits(self) -> JSONSchema:
        """The bounds of numbers; a number that would be raised to `low` is not refused."""
        limits = {"minimum": None if self.raised else self.low, "maximum": self.high}
        return {name: bound for name, bound in limits.items() if bound is not None}

    @property
    def annotation(self) -> str:
        """The type of the stored value, as Python source."""
        return f"{self.kind.annotation} | None" if self.nullable else self.kind.annotation

    def _choice(self, value: object) -> Any:
        """The choice as it is spelt here, whatever the letter case of the value."""
        spelt = {c.lower(): c for c in self.choices}
        return spelt.get(value.lower(), value) if isinstance(value, str) else value

    def _inside(self, value: object) -> bool:
        if self.choices:
            return value in self.choices
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)
        return True


def _shown(value: object) -> str:
    """A value for a message; Python refuses to write out integers of thousands of digits."""
    long = isinstance(value, int) and value.bit_length() > 64
    return "(an integer of more than 64 bits)" if long else repr(value)
