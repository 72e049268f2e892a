"""The schema of files of arguments agrees with what the table checks."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.contract.source import ROOT
from tests.json_schemas import validator_of
from ultralytics.cfg.arguments_schema import arguments_schema
from ultralytics.cfg.schema import EXTRA_KEYS, KEYS, Key
from ultralytics.utils.errors import UserError

ROWS = {**EXTRA_KEYS, **KEYS}
FILES = [ROOT / "cfg" / "default.yaml", *sorted((ROOT / "cfg" / "recipes").glob("*.yaml"))]
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 4, 0.5, 1.5, -0.5, 1e9, {}, [], [1], [1, 2], [0.5, 0.5], [640, 480], [-1, 2]),
    *([1, 2, 3], ["a"], [0, 1, "x"], "a", "", "ram", "FP16", "bf16", "int8", "0,1", "detect", "giou", "Inner_CIoU"),
    *("inner-inner-giou", "focaler-inner_siou", "inner-nwd", "focaler_wiou3"),
)


def accepts(key: Key, value: object) -> bool:
    try:
        key.check(value)
    except UserError:
        return False
    return True


@pytest.fixture(scope="module")
def validator() -> Any:
    return validator_of(arguments_schema())


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_our_files_are_valid(validator: Any, file: Any) -> None:
    assert not list(validator.iter_errors(yaml.safe_load(file.read_text(encoding="utf-8"))))


@pytest.mark.parametrize("name", sorted(set(ROWS) - {"scale"}))
def test_it_takes_what_the_table_takes(validator: Any, name: str) -> None:
    wrong = [v for v in VALUES if validator.is_valid({name: v}) != accepts(ROWS[name], v)]
    assert not wrong


@pytest.mark.parametrize(
    ("values", "at"),
    [
        ({"epochs": "many"}, "/epochs"),
        ({"epochs": 0}, "/epochs"),
        ({"epochs": 3, "momentum": 1.5}, "/momentum"),
        ({"optimiser": "AdamW"}, "/optimiser"),
        ({"imgsz": [640, "a"]}, "/imgsz/1"),
        ({"loss": "bce"}, "/loss"),
        ({"scale": "n", "half": True, "epochs": 1}, ""),
    ],
)
def test_a_mistake_is_found_at_its_place(validator: Any, values: dict[str, Any], at: str) -> None:
    errors = validator.iter_errors(values)
    assert {"".join(f"/{p}" for p in e.absolute_path) for e in errors} == ({at} if at else set())
