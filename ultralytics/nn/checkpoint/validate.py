"""Validate the model record of a file, and bound what is built from it.

A file is not trusted: the type and bound of every field are checked before anything is built, and while the YAML is
built, the number and size of tensors are compared with those that the file holds. So a file of a few kilobytes cannot
ask for a model of many gigabytes, or for a download.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from torch import Tensor

from ultralytics.nn.build.budget import ConstructionBudget
from ultralytics.nn.build.spec import MAX_CLASSES, MAX_REPEATS
from ultralytics.utils.errors import CheckpointError, printable

MAX_CHANNELS = 4096
MAX_YAML_ROWS = 1000
MAX_NUMBER = 1_000_000
MAX_STRING = 200
MAX_NESTING = 6

CLASSIFIER = 4 * 150_000_000
"""Numbers of the layers that are made of a classifier and left out, four times: those of VGG, the most there are."""


def record_budget(state: Mapping[str, Tensor], classifier: bool = False) -> ConstructionBudget:
    """The bound on what is built for these tensors.

    A model is made twice (on the meta device, then for real), with constants beside its state; hence the factor. With
    `classifier` a row builds one of torchvision's networks, of which only a part may be kept.
    """
    elements, tensors = 6 * sum(v.numel() for v in state.values()) + 20_000_000, 6 * len(state) + 1_000
    if classifier:
        elements, tensors = elements + CLASSIFIER, tensors + 4_000
    return ConstructionBudget(
        elements, tensors, "it asks for far more than the file holds: the tensors do not fit the YAML"
    )


def check_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record with its YAML made safe to build. Raises CheckpointError at the first field that is wrong."""
    for key in ("yaml", "nc", "state_dict"):
        if key not in record:
            raise CheckpointError(f"the checkpoint's model record lacks the key {key!r}")
    if not isinstance(record.get("class"), str):
        _refuse("class", record.get("class"), "the name of a model class")
    _check_integer("nc", record["nc"], 1, MAX_CLASSES)
    _check_integer("ch", record.get("ch", 3), 1, MAX_CHANNELS)
    _check_epsilon(record.get("bn_eps"))
    names = _names(record.get("names"))
    for key in ("args", "state_dict", "yaml"):
        if not isinstance(record.get(key, {}), Mapping):
            _refuse(key, record[key], "a mapping")
    for key, value in record["state_dict"].items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            _refuse(f"state_dict[{key!r:.60}]", value, "a tensor under a string")
    if not isinstance(record.get("fused", False), bool):
        _refuse("fused", record["fused"], "true or false")
    return {**record, "yaml": safe_yaml(record["yaml"]), "names": names}


def _check_epsilon(eps: object) -> None:
    if eps is not None and not (isinstance(eps, float) and 0 < eps < 1):
        _refuse("bn_eps", eps, "a number between 0 and 1")


def check_fields(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checkpoint dict with its model records checked; CheckpointError names the first field that is wrong."""
    for key, (kind, wanted) in FIELDS.items():
        value = data.get(key)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            _refuse(key, value, wanted)
    for entry in data.get("modules") or []:
        blocks = entry.get("blocks") or [] if isinstance(entry, Mapping) else []
        if not isinstance(entry, (str, Mapping)) or not isinstance(blocks, (list, tuple)):
            _refuse("modules", entry, "a list of names, hashes and blocks")
    records = {k: check_record(data[k]) for k in ("model", "ema") if data.get(k) is not None}
    return {**data, **records}


FIELDS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "epoch": ((int,), "an integer"),
    "best_fitness": ((int, float), "a number"),
    "updates": ((int,), "an integer"),
    **{
        key: ((Mapping,), "a mapping")
        for key in """model ema optimizer scheduler scaler rng stopper train_state train_args train_metrics
        train_results""".split()
    },
    **{key: ((str,), "a string") for key in ("date", "version", "license", "docs", "metrics_precision")},
    "modules": ((list, tuple), "a list"),
}


def is_number(value: object, low: float = -math.inf, high: float = math.inf) -> bool:
    """Whether a value of a file is a number in a range, not NaN and not infinite."""
    return (
        isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high and abs(value) < 1e300
    )


def is_count(value: object) -> bool:
    """Whether a value of a file counts something."""
    return isinstance(value, int) and is_number(value, 0, 1e15)


def is_optional(check: Callable[[object], bool]) -> Callable[[object], bool]:
    """The same check, which None passes too."""
    return lambda value: value is None or check(value)


def is_list_of(check: Callable[[object], bool]) -> Callable[[object], bool]:
    """Whether each item of a list passes a check."""
    return lambda value: isinstance(value, (list, tuple)) and all(map(check, value))


def is_of(*kinds: type) -> Callable[[object], bool]:
    """Whether a value is of one of these types."""
    return lambda value: isinstance(value, kinds)


Checks = Mapping[str, Callable[[object], bool]]

PROGRESS: Checks = {
    **dict.fromkeys(("epoch", "batch", "step", "epochs", "images"), is_count),
    "elapsed": lambda value: is_number(value, 0, 1e12),
    **dict.fromkeys(("mosaic_closed", "best_saved"), is_of(bool)),
    "best_fitness": is_optional(is_number),
    "loss_sum": is_list_of(is_of(int, float)),
    "stage": is_of(dict),
}
STOPPER: Checks = {"best_fitness": is_number, "best_epoch": is_count, "possible_stop": is_of(bool)}
RNG: Checks = {
    "python": is_list_of(is_count),
    "python_gauss": is_optional(is_number),
    "numpy": lambda value: isinstance(value, (list, tuple)) and len(value) == 5,
    "torch": is_of(Tensor),
    "cuda": is_list_of(is_of(Tensor)),
}
OPTIMIZER: Checks = {"state": is_of(dict), "param_groups": is_list_of(is_of(dict))}
RUN: Mapping[str, tuple[Checks, tuple[str, ...]]] = {  # what is checked of each part, and what must be there
    "train_state": (PROGRESS, ("epoch", "batch", "step", "elapsed")),
    "stopper": (STOPPER, ("best_fitness", "best_epoch")),
    "rng": (RNG, tuple(RNG)),
    "optimizer": (OPTIMIZER, tuple(OPTIMIZER)),
}


def check_fields_of(where: str, value: object, checks: Checks, needed: Sequence[str]) -> None:
    """Demand a mapping with these fields, each of its kind; CheckpointError names the first that is wrong."""
    if not isinstance(value, Mapping):
        _refuse(where, value, "a mapping")
    for key in needed:
        if key not in value:
            raise CheckpointError(f"the checkpoint's {where} lacks {key!r}")
    for key, field in value.items():
        if key in checks and not checks[key](field):
            _refuse(f"{where}.{key}", field, "what is written there")


def check_run_state(data: Mapping[str, Any]) -> None:
    """Check what a run resumes from, before anything of that run is changed. Raises CheckpointError."""
    for part, (checks, needed) in RUN.items():
        check_fields_of(part, data.get(part), checks, needed)
    unknown = sorted(str(key) for key in data["train_state"] if key not in PROGRESS)
    if unknown:
        raise CheckpointError(f"the checkpoint's train_state has {unknown[0]!r:.40}, which is not known here")
    for key in ("model", "ema"):
        if not isinstance(data.get(key), Mapping):
            _refuse(key, data.get(key), "a model record")
    if not is_count(data.get("updates")) or not is_number(data.get("epoch"), -1, 1e9):
        raise CheckpointError("the checkpoint's updates and epoch are not the numbers of a run")
    columns = data.get("train_results") or {}
    if not all(is_list_of(is_of(int, float))(c) for c in columns.values()) or len({*map(len, columns.values())}) > 1:
        raise CheckpointError("the checkpoint's train_results are not columns of numbers of one length")


ROWS_WITH_FILES = ("Timm", "TorchVision")  # the fourth argument may be a path


def safe_yaml(yaml: object) -> dict[str, Any]:
    """A copy of a file's model YAML, bounded, and without paths of further weights."""
    if not isinstance(yaml, Mapping):
        _refuse("yaml", yaml, "a mapping")
    _bounded("yaml", yaml, 0)
    clean = copy.deepcopy(dict(yaml))
    rows = [row for part in ("backbone", "head") if isinstance(clean.get(part), list) for row in clean[part]]
    if len(rows) > MAX_YAML_ROWS:
        raise CheckpointError(f"the YAML in it has {len(rows):,} rows; at most {MAX_YAML_ROWS:,} are built")
    for row in rows:
        if not (isinstance(row, list) and len(row) == 4):
            continue  # the YAML reader says what is wrong, with the layer
        if isinstance(row[1], int) and row[1] > MAX_REPEATS:
            raise CheckpointError(f"the YAML in it repeats {row[2]!r:.40} {row[1]:,} times; at most {MAX_REPEATS}")
        if row[2] in ROWS_WITH_FILES and isinstance(row[3], list):
            row[3] = [arg for k, arg in enumerate(row[3]) if k != 3 and not str(arg).startswith("weights=")]
    return clean


def _bounded(where: str, value: object, depth: int) -> None:
    """Bound numbers, strings and nesting of a YAML."""
    if depth > MAX_NESTING:
        raise CheckpointError(f"{where} in it is nested deeper than {MAX_NESTING}")
    if isinstance(value, (Mapping, list)):
        if len(value) > MAX_YAML_ROWS:
            raise CheckpointError(f"{where} in it has {len(value):,} items; at most {MAX_YAML_ROWS:,}")
        pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
        for k, v in pairs:
            if k != "names":  # checked by itself
                _bounded(f"{where}.{k!s:.20}", v, depth + 1)
    else:
        _bounded_scalar(where, value, depth)


def _bounded_scalar(where: str, value: object, depth: int) -> None:
    if isinstance(value, str):
        if len(value) > MAX_STRING * (10 if depth < 2 else 1):  # a path, or an argument of a row
            raise CheckpointError(f"{where} in it is a string of {len(value):,} characters; at most {MAX_STRING}")
    elif isinstance(value, (int, float)) and not abs(value) <= MAX_NUMBER:
        raise CheckpointError(f"{where} in it is above {MAX_NUMBER:,}, the largest number of a YAML in a file")
    elif not isinstance(value, (int, float, type(None))):
        _refuse(where, value, "a plain value")


def _names(names: object) -> Mapping[int | str, str] | None:
    """The class names as they may be shown: a file may hold what steers a terminal, or is not Unicode."""
    if names is None:
        return None
    if not isinstance(names, Mapping) or len(names) > MAX_CLASSES:
        _refuse("names", names, "a mapping from class number to name")
    for k, v in names.items():
        if not (isinstance(k, int) or (isinstance(k, str) and k.isdecimal() and len(k) < 9)) or not isinstance(v, str):
            _refuse(f"names[{k!r:.20}]", v, "a string under an integer")
    return {k: printable(v) for k, v in names.items()}


def _check_integer(key: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        _refuse(key, value, f"an integer from {low} to {high:,}")


def _refuse(key: str, value: object, wanted: str) -> NoReturn:
    shown = f"{value!r:.40}" if isinstance(value, (str, int, float, bool, type(None))) else f"a {type(value).__name__}"
    raise CheckpointError(f"the checkpoint's {key} is {shown}, not {wanted}")
