"""The plan of a study: a YAML file becomes frozen values, and every error names its file and line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from ultralytics.cfg.renames import check_names, migrate
from ultralytics.cfg.resolution import check_values, load_recipe
from ultralytics.cfg.schema import KEYS, Trait, keys_with
from ultralytics.utils.checks import nearest
from ultralytics.utils.config.yaml_io import KeyPath, load_with_lines
from ultralytics.utils.errors import ConfigError, UserError
from ultralytics.utils.files import has_yaml_suffix

BASE = "base"
EDIT_KEYS = ("insert", "replace")
VARIANT_KEYS = ("model", "scale", *EDIT_KEYS)
PLAN_KEYS = ("name", "base", "seeds", "variants", "devices", "split", "weights", "variance", "slurm", "stop_early")
STOP_DEFAULTS: Mapping[str, float] = {"start": 0.5, "alpha": 0.01, "window": 3}
"""The rule of `stopping`, when a plan says `stop_early: true`."""
_STOP_FORM = "{start: 0.5, alpha: 0.01, window: 3}"
RESERVED = frozenset({*keys_with(Trait.PLACE), *keys_with(Trait.SELECTS), "seed", "device", "ci", "split"})
RESERVED -= {"model", "recipe"}
"""Arguments that a study sets for each run itself."""
_NAME = re.compile(r"[^\W_][\w.+-]*")
_EXAMPLE = "for example: variants: {focal: {loss: focal}, shsa: {insert: {after: 6, row: [SHSA, []]}}}"


@dataclass(frozen=True)
class Edit:
    """A change of the base's model YAML: a row put in behind layer `layer`, or put in its place."""

    action: str
    layer: int | str
    row: tuple[Any, ...]
    place: str


@dataclass(frozen=True)
class Variant:
    """A model with its edits, and the arguments of training; those of the base are included.

    `changes` are the keys that the plan gives for the variant alone, `place` is file and line.
    """

    name: str
    model: str
    scale: str | None = None
    edits: tuple[Edit, ...] = ()
    args: Mapping[str, Any] = field(default_factory=dict)
    changes: Mapping[str, Any] = field(default_factory=dict)
    place: str = ""


@dataclass(frozen=True)
class StudyPlan:
    """A study. `split` is the evaluated one, `weights` best or last, `variance` pooled or own (see `statistics`).

    `stop_early` holds start, alpha and window of the rule in `stopping`; empty: no run is stopped.
    """

    name: str
    base: Variant
    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]
    devices: tuple[str, ...] = ()
    split: str = "val"
    weights: str = "best"
    variance: str = "pooled"
    slurm: Mapping[str, Any] = field(default_factory=dict)
    stop_early: Mapping[str, Any] = field(default_factory=dict)
    file: Path = Path()

    @property
    def arms(self) -> tuple[Variant, ...]:
        """The base, then the variants."""
        return (self.base, *self.variants)


def load_plan(source: str | Path | Mapping[str, Any]) -> StudyPlan:
    """Read the YAML file of a study, or a mapping of its form.

    Raises:
        NotFoundError: there is no such file.
        ConfigError: a key or value is wrong; the message has file and line, of a mapping the key.
    """
    if isinstance(source, Mapping):
        return _Reader(Path("plan"), dict(source), {}).plan()
    return _Reader(Path(source), *load_with_lines(Path(source))).plan()


def _is_augmentation(key: Any, value: Any) -> bool:
    """Whether a key is the augmentation `scale`: a letter is the scale of the model."""
    return bool(key == "scale" and not isinstance(value, str))


def did_you_mean(name: object, known: Sequence[str]) -> str:
    """Return `; did you mean seeds?` for a misspelt key, else an empty string."""
    near = nearest(str(name), known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


class _Reader:
    """Checks one file; holds what its messages need."""

    def __init__(self, file: Path, data: Mapping[str, Any], lines: Mapping[KeyPath, int]) -> None:
        self.file, self.data, self.lines = file, data, lines

    def place(self, key: KeyPath) -> str:
        """File and line of a key, or of the nearest one around it; of a mapping the key itself."""
        if not self.lines:
            return f"{self.file}: {'.'.join(map(str, key))}"
        while key and key not in self.lines:
            key = key[:-1]
        return f"{self.file}:{self.lines.get(key, 1)}"

    def fail(self, key: KeyPath, problem: str, remedy: str = "") -> NoReturn:
        raise ConfigError(f"{self.place(key)}: {problem}", *([remedy] if remedy else []))

    def plan(self) -> StudyPlan:
        """The whole plan."""
        for key in self.data:
            if key not in PLAN_KEYS:
                self.fail(
                    (key,), f"unknown key '{key}'{did_you_mean(key, PLAN_KEYS)}", f"a plan has {', '.join(PLAN_KEYS)}"
                )
        base = self.variant((BASE,), BASE, self.mapping((BASE,), "a mapping with model, data and arguments"), None)
        if not base.args.get("data"):
            self.fail((BASE,), "base: needs data=, the YAML of a data set")
        table = self.mapping(("variants",), f"a mapping of names\n{_EXAMPLE}")
        variants = [self.variant(("variants", name), str(name), value, base) for name, value in table.items()]
        if not variants:
            self.fail(("variants",), "variants: is empty, so that there is nothing to compare", _EXAMPLE)
        return StudyPlan(
            name=self.name(("name",), str(self.data.get("name") or self.file.stem)),
            base=base,
            variants=tuple(variants),
            seeds=self.seeds(),
            devices=tuple(str(d) for d in self.listed("devices")),
            split=self.choice("split", ("val", "test", "train")),
            weights=self.choice("weights", ("best", "last")),
            variance=self.choice("variance", ("pooled", "own")),
            slurm=self.mapping(("slurm",), "a mapping of sbatch options") if self.data.get("slurm") else {},
            stop_early=self.stop_early(),
            file=self.file,
        )

    def mapping(self, key: KeyPath, wanted: str) -> dict[Any, Any]:
        value = self.data.get(str(key[0]))
        if not isinstance(value, dict):
            self.fail(key, f"{key[0]}: is {value!r:.60}, not {wanted}")
        return value

    def listed(self, key: str) -> list[Any]:
        value = self.data.get(key)
        return [] if value is None else list(value) if isinstance(value, list) else [value]

    def choice(self, key: str, choices: Sequence[str]) -> str:
        value = str(self.data.get(key) or choices[0])
        if value not in choices:
            self.fail((key,), f"{key}: {value!r} is not one of {', '.join(choices)}")
        return value

    def name(self, key: KeyPath, name: str) -> str:
        """A name that can be that of a folder."""
        if not _NAME.fullmatch(name):
            self.fail(
                key, f"the name {name!r} cannot be that of a folder", "use letters, digits, '.', '+', '-' and '_'"
            )
        return name

    def seeds(self) -> tuple[int, ...]:
        """Different integers; one is allowed, though nothing can be tested then."""
        seeds = self.listed("seeds") or [0]
        if any(isinstance(s, bool) or not isinstance(s, int) or s < 0 for s in seeds):
            self.fail(("seeds",), f"seeds: {seeds} are not integers of at least 0", "for example: seeds: [0, 1, 2]")
        if len(set(seeds)) < len(seeds):
            self.fail(("seeds",), f"seeds: {seeds} has one twice, which would be the same run")
        return tuple(seeds)

    def stop_early(self) -> dict[str, Any]:
        """The rule that stops hopeless variants: `true` for its defaults, or a mapping of what differs."""
        value = self.data.get("stop_early") or {}
        value = {} if value is True else value
        if not isinstance(value, dict) or set(value) - set(STOP_DEFAULTS):
            self.fail(
                ("stop_early",), f"stop_early: {value!r:.60} is malformed", f"write true, or some of {_STOP_FORM}"
            )
        if not self.data.get("stop_early"):
            return {}
        rule = {**STOP_DEFAULTS, **value}
        within = {"start": (0.0, 1.0), "alpha": (0.0, 0.5), "window": (1, 1000)}
        for key, (low, high) in within.items():
            if isinstance(rule[key], (str, bool)) or not low <= rule[key] <= high:
                self.fail(("stop_early", key), f"{key}: {rule[key]!r} is not from {low:g} to {high:g}")
        if rule["window"] != int(rule["window"]):
            self.fail(("stop_early", "window"), f"window: {rule['window']!r} is not an integer: it counts epochs")
        return {**rule, "window": int(rule["window"])}

    def variant(self, key: KeyPath, name: str, value: Any, base: Variant | None) -> Variant:
        """The base (`base` None), or a variant on top of it."""
        value = {} if value is None else value
        if not isinstance(value, dict):
            self.fail(key, f"{name}: is {value!r:.60}, not a mapping", _EXAMPLE)
        if base is not None and (name == BASE or not value):
            self.fail(key, f"{name}: is the base again", "give at least one key, and another name than base")
        self.name(key, name)
        own = {k: v for k, v in value.items() if k not in VARIANT_KEYS or _is_augmentation(k, v)}
        model, scale = self.model(key, value, base)
        edits, args = tuple(self.edits(key, value)), self.arguments(key, own)
        if base is None:
            return Variant(name, model, scale, edits, args, {}, self.place(key))
        edits = edits if "model" in value else (*base.edits, *edits)
        return Variant(name, model, scale, edits, {**base.args, **args}, dict(value), self.place(key))

    def model(self, key: KeyPath, value: Mapping[str, Any], base: Variant | None) -> tuple[str, str | None]:
        """Model YAML and scale; a new model keeps the base's scale only where the plan repeats it."""
        scale = value.get("scale") if isinstance(value.get("scale"), str) else None
        if value.get("model") is None:
            if base is None:
                self.fail(key, "base: needs model=, a model YAML such as rtdetr-l.yaml")
            return base.model, scale or base.scale
        name = str(value["model"])
        if not has_yaml_suffix(name):
            remedy = f"give the YAML of the model, and its weights as pretrained: {name}"
            self.fail((*key, "model"), f"model: {name} is not a model YAML", remedy)
        return self.path(name), scale

    def path(self, name: str) -> str:
        """A path as it is where it exists, else beside the plan; names of shipped files stay."""
        beside = self.file.parent / name
        return name if Path(name).exists() or not beside.exists() else str(beside)

    def arguments(self, key: KeyPath, own: Mapping[str, Any]) -> dict[str, Any]:
        """Checked arguments of training."""
        for name in own:
            if name in RESERVED:
                self.fail((*key, name), f"{name}: is set by the study for each run", "leave it out")
            if name not in KEYS and (hint := did_you_mean(name, EDIT_KEYS)):
                self.fail((*key, name), f"unknown key '{name}'{hint}", _EXAMPLE)
        origins = {str(n): self.place((*key, n)) for n in own}
        try:
            values = migrate(own)
            check_names(values, origins)
            values = check_values(values, origins)
        except UserError as e:
            place = "" if f"{self.file}:" in str(e) else f"{self.place(key)}: "
            raise type(e)(f"{place}{e}") from None
        values.update(self.files(values))
        recipe = str(values.get("recipe") or "auto")
        if recipe != "auto":
            try:
                load_recipe(recipe)
            except UserError as e:
                raise type(e)(f"{self.place((*key, 'recipe'))}: {e}") from None
        return values

    def files(self, values: Mapping[str, Any]) -> dict[str, str | list[str]]:
        """Return the arguments that name files, with those that lie beside the plan found."""
        given = {name: values[name] for name in keys_with(Trait.NAMES_FILE) if name in values}
        one = {name: self.path(value) for name, value in given.items() if isinstance(value, str)}
        several = {name: value for name, value in given.items() if isinstance(value, (list, tuple))}
        return {**one, **{name: [self.path(str(file)) for file in value] for name, value in several.items()}}

    def edits(self, key: KeyPath, value: Mapping[str, Any]) -> list[Edit]:
        """The rows to put in, in the order of the file."""
        found = []
        for action, at in (("insert", "after"), ("replace", "layer")):
            items = value.get(action, [])
            several = isinstance(items, list)
            for i, item in enumerate(items if several else [items]):
                where = (*key, action, i) if several else (*key, action)
                found.append(self.edit(where, action, at, item))
        return found

    def edit(self, key: KeyPath, action: str, at: str, item: Any) -> Edit:
        """One of `insert: {after: 6, row: [SHSA, []]}` and `replace: {layer: 6, row: [SHSA, []]}`."""
        if not isinstance(item, dict) or set(item) != {at, "row"} or not isinstance(item["row"], list):
            self.fail(key, f"{action}: {item!r:.60} is malformed", f"write {action}: {{{at}: 6, row: [SHSA, []]}}")
        layer = item[at]
        if isinstance(layer, bool) or not isinstance(layer, (int, str)):
            self.fail((*key, at), f"{at}: {layer!r} is neither the index of a layer nor the name of a row")
        return Edit(action, layer, tuple(item["row"]), self.place(key))
