"""A model YAML as frozen values: which layers, fed by which, with which arguments, at which scale.

Nothing is built here. Every mistake that can be seen in the text alone (a row of the wrong form, a `from` that points
forward, an unknown scale letter) is reported with the layer index, the file and the line.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

from ultralytics.nn.build.names import find_entry, nearest_key
from ultralytics.nn.build.row_names import has_names, plain_rows
from ultralytics.nn.registry import Scale
from ultralytics.utils.checks import check_yaml
from ultralytics.utils.config.yaml_io import load_with_lines
from ultralytics.utils.errors import ModelYAMLError, NotFoundError
from ultralytics.utils.log import LOGGER

YAML_PARTS = ("backbone", "head")
SCALE_IN_NAME = re.compile(r"(yolo(?:e-)?v?\d+)([nsmlx])(6?)")  # of YOLO files only; the letter of rtdetr-l is a name
SLOTS = 5  # layer indices that the maps of a one-row backbone take, the coarsest the last
KEYWORD = re.compile(r"([A-Za-z_]\w*)=(?!=)(.*)", re.DOTALL)
MAX_CLASSES, MAX_REPEATS = 100_000, 200  # beyond any data set or network: a typing error that would take all memory
# `channels`, `yaml_file` and `names` are written by us; the last row are keys of other heads that share the grammar.
# `criterion` holds what published models of a family were trained with, see `nn/dfine.py`.
TOP_KEYS = frozenset(
    {"nc", "scales", "scale", "depth_multiple", "width_multiple", "activation", "backbone", "head", "inplace"}
    | {"channels", "yaml_file", "names", "ch", "criterion"}
    | {"end2end", "reg_max", "kpt_shape", "task"}
)


@dataclass(frozen=True)
class LayerSpec:
    """One row `[from, repeats, module, args]`.

    `source` holds the layer indices as written, `joined` says that they were a list. `args` have `nc`, `None` and other
    literals resolved; strings that start with `nn.` stay for the builder. `kwargs` are the arguments written as
    `name=value`. `line` counts from 1; None: not from a file. `index` is the position in the file; behind a one-row
    backbone `from` counts `shift` more.
    """

    index: int
    part: str
    source: tuple[int, ...]
    joined: bool
    repeats: int
    module: str
    args: tuple[Any, ...] = ()
    line: int | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    shift: int = 0

    @property
    def slot(self) -> int:
        """The number by which `from` of later rows names this layer."""
        return self.index + self.shift

    @property
    def route(self) -> int | list[int]:
        """`from` in the form of the YAML."""
        return list(self.source) if self.joined else self.source[0]

    @property
    def inputs(self) -> tuple[int, ...]:
        """Absolute slots of the input layers; -1 is the network's input."""
        first = self.slot if self.index else 0
        return tuple(f if f >= 0 else max(first + f, -1) for f in self.source)

    @property
    def saved(self) -> tuple[int, ...]:
        """Absolute slots of the outputs that must be kept for this layer (not the one just before it)."""
        return tuple(i for f, i in zip(self.source, self.inputs, strict=True) if f != -1)


@dataclass(frozen=True)
class ModelSpec:
    """A whole model YAML. `data` is the mapping it came from, with `nc` and `scale` as chosen."""

    layers: tuple[LayerSpec, ...]
    nc: int
    scale_name: str = ""
    scale: Scale = field(default_factory=Scale)
    activation: str | None = None
    origin: str = "model dict"
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def save(self) -> list[int]:
        """Sorted slots of the outputs that the forward pass must keep."""
        return sorted({i for layer in self.layers for i in layer.saved})

    @property
    def unused(self) -> list[int]:
        """Indices of layers whose output is not used; the last layer is the model's output."""
        used = {self.position(i) for layer in self.layers for i in layer.inputs}
        return [layer.index for layer in self.layers[:-1] if layer.index not in used]

    @property
    def shift(self) -> int:
        """How many more `from` counts than the position in the file: 4 with a one-row backbone."""
        return self.layers[0].shift if self.layers else 0

    def position(self, slot: int) -> int:
        """Position in the file of the layer of a slot; -1, the network's input, stays."""
        return slot if slot < 0 else max(slot - self.shift, 0)

    def place(self, line: int | None) -> str:
        """`file:line`, as far as it is known."""
        return self.origin if line is None else f"{self.origin}:{line}"

    def name(self, index: int) -> str:
        """The layer of a slot for use in a message: `layer 4 (SHSA, line 20)`."""
        if index < 0:
            return "the network's input"
        layer = self.layers[self.position(index)]
        return f"layer {index} ({layer.module}" + (")" if layer.line is None else f", line {layer.line})")

    def error(self, layer: LayerSpec, problem: str, *more: str) -> ModelYAMLError:
        """An error about one layer: where, what, and up to two further lines."""
        return _row_error(self.place(layer.line), layer.slot, layer.module, problem, *more)


def _row_error(place: str, index: int, module: str, problem: str, *more: str) -> ModelYAMLError:
    title = f"layer {index} ({module})" if module else f"layer {index}"
    return ModelYAMLError("\n".join([f"{place}: {title}: {problem}", *more[:2]]))


def load_model_yaml(
    source: str | Path | Mapping[str, Any], scale: str | None = None, nc: int | None = None
) -> ModelSpec:
    """Read a model YAML (a path, a name below `cfg/models`, or a mapping) into a `ModelSpec`.

    `scale` wins over the key `scale` of the YAML, and that over the first key of `scales`. `nc` replaces the YAML's.
    Raises ModelYAMLError, or NotFoundError when there is no such file.
    """
    data, lines, origin = _read(source)
    reader = _Reader(origin, lines)
    reader.check_parts(data)
    reader.variables = _variables(data)
    name, factors = reader.scale(data, scale)
    data["nc"] = reader.classes(data, nc)
    if name:
        data["scale"] = name
    if has_names([row for part in YAML_PARTS for row in data[part]]):
        data.update(reader.without_names(data))
    rows = [(part, k, row) for part in YAML_PARTS for k, row in enumerate(data[part])]
    layers = reader.with_slots([reader.row(i, *row, data["nc"]) for i, row in enumerate(rows)])
    reader.warn_keys(data)
    activation = data.get("activation")
    if activation is not None and not isinstance(activation, str):
        reader.fail(("activation",), f"activation must be a string such as nn.ReLU(), not {activation!r}")
    return ModelSpec(layers, data["nc"], name, factors, activation, origin, data)


def guess_model_scale(model_path: str | Path) -> str:
    """Return the scale letter that the name of a YOLO model file holds behind its number, '' when there is none.

    >>> guess_model_scale("yolo11x-seg.yaml"), guess_model_scale("yolov9c.yaml"), guess_model_scale("rtdetr-l.yaml")
    ('x', '', '')
    """
    found = SCALE_IN_NAME.search(Path(model_path).stem)
    return found[2] if found else ""


def find_model_yaml(name: str | Path) -> Path:
    """Return the path of a model YAML; `yolov8s-p2.yaml` is `yolov8-p2.yaml` when there is no file of its own.

    A 6 behind the letter, as in `yolov5n6.yaml`, stands for `-p6`. Raises NotFoundError.
    """
    try:
        return check_yaml(name)
    except NotFoundError:
        path = Path(name)
        common = SCALE_IN_NAME.sub(lambda m: m[1] + ("-p6" if m[3] else ""), path.name, count=1)
        if common == path.name:
            raise
        try:
            return check_yaml(path.with_name(common))
        except NotFoundError:
            pass
        raise


def _variables(data: Mapping[str, Any]) -> dict[str, Any]:
    """Scalars under keys of the file's own (`head_channel: 256`), which rows may name."""
    return {
        str(key): value
        for key, value in data.items()
        if key not in TOP_KEYS and isinstance(value, (str, int, float)) and str(key).isidentifier()
    }


def _read(source: str | Path | Mapping[str, Any]) -> tuple[dict[str, Any], dict[tuple[str | int, ...], int], str]:
    """Return the mapping, the line of each key path, and a name for messages."""
    if isinstance(source, Mapping):
        return dict(source), {}, str(source.get("yaml_file") or "model dict")
    path = find_model_yaml(source)
    data, lines = load_with_lines(path)
    if not isinstance(data, dict):
        raise ModelYAMLError(f"{path}: a model YAML is a mapping with `nc`, `backbone` and `head`, not {data!r:.40}")
    data["yaml_file"] = str(source)
    letter = guess_model_scale(source)
    if letter and "scale" not in data and letter in (data.get("scales") or ()):
        data["scale"] = letter
    return data, lines, str(path)


def resolve_literal(value: object, nc: int) -> object:
    """Turn one YAML argument into a Python value.

    The string `nc` becomes the class count; a Python literal written as a string (`None`, `True`, `1e-3`, `[1, 2]`)
    becomes its value; any other string stays.

    >>> [resolve_literal(v, 3) for v in ("nc", "None", "1e-3", "nearest", 7)]
    [3, None, 0.001, 'nearest', 7]
    """
    if isinstance(value, list):
        return [resolve_literal(v, nc) for v in value]
    if not isinstance(value, str):
        return value
    if value == "nc":
        return nc
    try:
        literal: object = ast.literal_eval(value)
        return literal
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return value


class _Reader:
    """Checks one YAML; holds what its messages need: the origin and the line of each key path."""

    def __init__(self, origin: str, lines: Mapping[tuple[str | int, ...], int]) -> None:
        self.origin = origin
        self.lines = lines
        self.variables: Mapping[str, Any] = {}
        self.used: set[str] = set()  # the variables that a row names

    def place(self, key: tuple[str | int, ...]) -> str:
        line = self.lines.get(key)
        return self.origin if line is None else f"{self.origin}:{line}"

    def fail(self, key: tuple[str | int, ...], problem: str, *more: str) -> NoReturn:
        raise ModelYAMLError("\n".join([f"{self.place(key)}: {problem}", *more[:2]]))

    def warn_keys(self, data: Mapping[str, Any]) -> None:
        """Warn about keys that are not used."""
        for key in data:
            if key not in TOP_KEYS and str(key) not in self.used:
                near = nearest_key(str(key), TOP_KEYS, [data[part] for part in YAML_PARTS])
                hint = f"; did you mean `{near}`?" if near else ""
                LOGGER.warning(f"{self.place((key,))}: unknown key `{key}` is ignored{hint}")

    def check_parts(self, data: Mapping[str, Any]) -> None:
        """Demand the two parts."""
        for part in YAML_PARTS:
            if part not in data:
                near = difflib.get_close_matches(part, [str(k) for k in data], n=1)
                self.fail(
                    ("nc",),
                    f"the key `{part}` is missing" + (f"; `{near[0]}` looks like it" if near else ""),
                    "a model YAML has `nc`, `backbone` and `head`; each part is a list of rows",
                )
            if not isinstance(data[part], list) or not data[part]:
                shown = f"{data[part]!r:.60}"
                self.fail((part,), f"`{part}` must be a list of rows [from, repeats, module, args], not {shown}")

    def classes(self, data: Mapping[str, Any], nc: int | None) -> int:
        """Return the class count: the caller's, else the YAML's."""
        value = data.get("nc") if nc is None else nc
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            self.fail(("nc",), f"nc is {value!r}; it must be an integer, at least 1")
        if value > MAX_CLASSES:
            self.fail(("nc",), f"nc is {value:,}; at most {MAX_CLASSES:,} classes are possible")
        if nc is not None and data.get("nc") not in (None, nc):
            LOGGER.info(f"nc={data['nc']} of {self.origin} is replaced by nc={nc}")
        return value

    def scale(self, data: Mapping[str, Any], wanted: str | None) -> tuple[str, Scale]:
        """Return the scale's letter ('' without a table) and its factors."""
        table = data.get("scales")
        asked = wanted or data.get("scale") or ""
        if not table:
            self._check_lone_scale(data.get("scale"))
            if wanted:
                self.fail(
                    ("nc",),
                    f"scale '{wanted}' was asked for, but the YAML has no `scales`",
                    "add `scales: {n: [depth, width, max_channels], ...}` or leave the scale out",
                )
            return "", self._factors(("nc",), [data.get("depth_multiple", 1.0), data.get("width_multiple", 1.0)])
        if not isinstance(table, dict):
            self.fail(("scales",), f"`scales` must map a letter to [depth, width, max_channels], not {table!r:.60}")
        name = str(asked or next(iter(table)))
        if name not in table:
            self.fail(
                ("scale",) if "scale" in data and not wanted else ("scales",),
                f"there is no scale '{name}'; choose one of {', '.join(map(str, table))}",
            )
        return name, self._factors(("scales", name), table[name])

    def _check_lone_scale(self, value: object) -> None:
        """Raise ModelYAMLError for a table under `scale`; warn about a letter, which without a table has no effect."""
        if isinstance(value, (dict, list)):
            self.fail(
                ("scale",), f"`scale` is the letter of one size, not {value!r:.60}", "write `scales:` for the table"
            )
        if value:
            place = self.place(("scale",))
            LOGGER.warning(f"{place}: scale: {value} has no effect, since the YAML has no `scales`")

    def _factors(self, key: tuple[str | int, ...], row: Any) -> Scale:
        numbers = isinstance(row, list) and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in row)
        if not numbers or not 1 <= len(row) <= 3 or not all(v > 0 for v in row):
            self.fail(key, f"a scale is [depth, width, max_channels], all positive numbers, not {row!r:.60}")
        return Scale(*row)

    def row(self, index: int, part: str, k: int, row: object, nc: int) -> LayerSpec:
        """Check one row and return it as a `LayerSpec`."""
        key = (part, k)
        place = self.place(key)
        if not isinstance(row, list) or len(row) != 4:
            raise _row_error(
                place,
                index,
                "",
                f"a row is [from, repeats, module, args], not {row!r:.80}",
                "write `[]` for args where there are none; a fifth item can name the row: {name: p3}",
            )
        source, repeats, module, args = row
        module = self._variable(module)
        if not isinstance(module, str):
            raise _row_error(place, index, "", f"the module (third item) must be a name, not {module!r}")
        if isinstance(repeats, bool) or not isinstance(repeats, int) or not 1 <= repeats <= MAX_REPEATS:
            problem = f"repeats is {repeats!r:.40}; it must be an integer, at least 1 and at most {MAX_REPEATS:,}"
            raise _row_error(place, index, module, problem)
        if not isinstance(args, list):
            raise _row_error(place, index, module, f"args must be a list, not {args!r:.60}", f"write [{args}]")
        self._check_source_form(place, index, module, source)
        joined = isinstance(source, list)
        positional, keywords = self._arguments(place, index, module, args, nc)
        return LayerSpec(
            index=index,
            part=part,
            source=tuple(source) if joined else (source,),
            joined=joined,
            repeats=repeats,
            module=module,
            args=positional,
            line=self.lines.get(key),
            kwargs=keywords,
        )

    def without_names(self, data: Mapping[str, Any]) -> dict[str, list[object]]:
        """The rows of both parts with layer indices in place of names."""
        keys = [(part, k) for part in YAML_PARTS for k in range(len(data[part]))]
        rows = [data[part][k] for part, k in keys]

        def fail(k: int, problem: str, hint: str) -> NoReturn:
            module = next((item for item in rows[k][2:3] if isinstance(item, str)), "")  # a short row has none
            raise _row_error(self.place(keys[k]), k + shift, module, problem, hint)

        first = rows[0][:4] if isinstance(rows[0], list) else rows[0]
        shift = SLOTS - 1 if _fills_slots(self.row(0, *keys[0], first, data["nc"])) else 0
        plain = plain_rows(rows, shift, fail)
        count = len(data[YAML_PARTS[0]])
        return {YAML_PARTS[0]: plain[:count], YAML_PARTS[1]: plain[count:]}

    def _variable(self, value: Any) -> Any:
        """The value of a variable that a row names; anything else as it is."""
        if not isinstance(value, str) or value not in self.variables:
            return value
        self.used.add(value)
        return self.variables[value]

    def _value(self, value: Any, nc: int) -> Any:
        """One argument with variables, `nc` and literals resolved; lists item by item."""
        if isinstance(value, list):
            return [self._value(v, nc) for v in value]
        return resolve_literal(self._variable(value), nc)

    def _arguments(
        self, place: str, index: int, module: str, args: Sequence[Any], nc: int
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Split a row's arguments into positional ones and those written `name=value`, resolved."""
        positional: list[Any] = []
        keywords: dict[str, Any] = {}
        for arg in args:
            match = KEYWORD.fullmatch(arg) if isinstance(arg, str) else None
            if match:
                name, text = match[1], match[2].strip()
                if name in keywords:
                    raise _row_error(place, index, module, f"argument `{name}` is given twice", "write it once")
                keywords[name] = self._value(text, nc)
            elif keywords:
                problem = f"{arg!r} stands behind `{next(iter(keywords))}=...`"
                raise _row_error(place, index, module, problem, "arguments without a name come first")
            else:
                positional.append(self._value(arg, nc))
        return tuple(positional), keywords

    def with_slots(self, layers: Sequence[LayerSpec]) -> tuple[LayerSpec, ...]:
        """Number the layers as `from` does, and check every `from`.

        The first row decides: a one-row backbone takes the slots 0 to 4. Where a `from` is wrong, unknown modules are
        reported first, because an unknown backbone shifts the numbers of all rows.
        """
        first = layers[0]
        shift = SLOTS - 1 if _fills_slots(first) else 0
        done = tuple(replace(layer, shift=shift) for layer in layers)
        for layer in done:
            try:
                self._check_source(layer)
            except ModelYAMLError:
                _check_modules(done, self.origin)
                raise
        return done

    @staticmethod
    def _check_source_form(place: str, index: int, module: str, source: object) -> None:
        entries: list[Any] = source if isinstance(source, list) else [source]
        if not entries or not all(isinstance(f, int) and not isinstance(f, bool) for f in entries):
            raise _row_error(
                place,
                index,
                module,
                f"from is {source!r}; it must be a layer index or a list of them",
                "-1 is the layer just above, 4 is layer 4",
            )

    def _check_source(self, layer: LayerSpec) -> None:
        place = self.origin if layer.line is None else f"{self.origin}:{layer.line}"
        for f in layer.source:
            _check_input(place, layer, f)


def _check_input(place: str, layer: LayerSpec, f: int) -> None:
    """Demand that one entry of `from` names the image or a layer above the row."""
    index, module = layer.slot if layer.index else 0, layer.module
    image = "row 0 takes -1, the image"
    if f >= index and not (index == 0 and f == -1):
        where = "at itself" if f == index else "forward"
        hint = f"a layer sees only those above it: 0 to {index - 1}" if index else image
        hint += "; the maps of the one-row backbone are 0 to 4" if layer.shift else ""
        raise _row_error(place, index, module, f"from {f} points {where}", hint)
    if f < -max(index, 1):
        hint = f"use -1 to -{index}, or an absolute index" if index else image
        raise _row_error(place, index, module, f"from {f} points before the first layer", hint)


def check_modules(spec: ModelSpec) -> None:
    """Raise ModelYAMLError at the first row whose module is unknown; it names the further ones too."""
    _check_modules(spec.layers, spec.origin)


def _check_modules(layers: Sequence[LayerSpec], origin: str) -> None:
    """Raise ModelYAMLError at the first row whose module is unknown; it names the further ones too."""
    unknown: list[tuple[LayerSpec, str]] = []
    for layer in layers:
        try:
            find_entry(layer.module)
        except ModelYAMLError as e:
            unknown.append((layer, str(e)))
    if not unknown:
        return
    layer, text = unknown[0]
    place = origin if layer.line is None else f"{origin}:{layer.line}"
    others = dict.fromkeys(other.module for other, _ in unknown if other.module != layer.module)
    problem, *more = text.splitlines()
    if others:
        problem += f" (and {', '.join(others)})"
    raise _row_error(place, layer.slot, layer.module, problem, *more)


def _fills_slots(layer: LayerSpec) -> bool:
    """Whether a first row is a one-row backbone; False where its module is unknown, which is reported later."""
    try:
        entry = find_entry(layer.module)
    except ModelYAMLError:
        return False
    return entry.fills_slots is not None and entry.fills_slots(layer.args)


def scaled_repeats(repeats: int, scale: Scale) -> int:
    """Repeats after depth scaling: 1 stays 1, more are rounded and at least 1."""
    return repeats if repeats <= 1 else max(round(repeats * scale.depth), 1)


def describe_sources(spec: ModelSpec, layer: LayerSpec, shapes: Sequence[str]) -> str:
    """One line: the shape of each input of a layer and where it comes from."""
    parts = [f"{spec.name(i)} gives {shape}" for i, shape in zip(layer.inputs, shapes, strict=True)]
    return ("input: " if len(parts) == 1 else "inputs: ") + "; ".join(parts)
