"""The schema of data YAMLs."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from tests.contract.source import ROOT
from tests.json_schemas import validator_of
from ultralytics.data.data_schema import data_schema

FILES = [ROOT.parent / "data.yaml", *sorted((ROOT / "cfg" / "datasets").glob("*.yaml"))]
GOOD = {"train": "images/train", "val": ["a", "b"], "names": {"0": "cell", "1": 2}, "format": "YOLO", "kpt_shape": [1]}


@pytest.fixture(scope="module")
def validator() -> Any:
    return validator_of(data_schema())


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_our_files_are_valid(validator: Any, file: Any) -> None:
    document = json.loads(json.dumps(yaml.safe_load(file.read_text(encoding="utf-8"))))
    assert not list(validator.iter_errors(document))


@pytest.mark.parametrize(
    ("change", "at"),
    [
        ({}, None),
        ({"names": None}, "/names"),
        ({"names": ...}, ""),
        ({"names": ..., "nc": 3}, None),
        ({"names": ..., "annotations": "a.json"}, None),
        ({"names": {"a": "cell"}}, "/names"),
        ({"names": []}, "/names"),
        ({"names": ["a", ["b"]]}, "/names/1"),
        ({"nc": -3}, "/nc"),
        ({"nc": "three"}, "/nc"),
        ({"train": ...}, ""),
        ({"val": ...}, ""),
        ({"val": ..., "validation": "images/val"}, None),
        ({"train": 5}, "/train"),
        ({"val": ["a", 5]}, "/val/1"),
        ({"format": "tfrecord"}, "/format"),
        ({"channels": 0}, "/channels"),
        ({"download": {"sha256": "0"}}, "/download"),
    ],
)
def test_a_mistake_is_found_at_its_place(validator: Any, change: dict[str, Any], at: str | None) -> None:
    document = {key: value for key, value in {**GOOD, **change}.items() if value is not ...}
    found = {"".join(f"/{p}" for p in e.absolute_path) for e in validator.iter_errors(document)}
    assert found == (set() if at is None else {at})
