"""What an exported file says of itself: a file from elsewhere may say anything."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from ultralytics.nn.backends.metadata import MAX_TEXT, Facts
from ultralytics.utils.errors import CheckpointError

FACTS = Facts("onnx", "detect", {0: "red", 1: 'it\'s "green"'}, 32, (64, 96), batch=2, dynamic=True, precision="fp16")


def test_round_trip():
    assert Facts.from_text(FACTS.to_text(), "x") == FACTS


def test_properties_of_other_tools_are_texts():
    shown = FACTS.common_properties()
    assert all(isinstance(v, str) for v in shown.values())
    assert shown["names"] == str(FACTS.names) and shown["imgsz"] == "[64, 96]" and shown["stride"] == "32"


@pytest.mark.parametrize(
    "text",
    [None, "", "{", "[]", "null", "[" * 200_000, '"' + "x" * MAX_TEXT + '"', "{}"],
    ids=["none", "empty", "cut", "list", "null", "deep", "long", "no fields"],
)
def test_a_text_that_is_no_facts(text: str | None):
    with pytest.raises(CheckpointError, match=r"m\.onnx") as caught:
        Facts.from_text(text, "m.onnx")
    assert len(str(caught.value).splitlines()) <= 3


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[(f.name, None) for f in dataclasses.fields(Facts)],
        ("names", {"a": "b"}),
        ("names", {"0": 1}),
        ("names", ["red"]),
        ("stride", True),
        ("stride", 0),
        ("imgsz", [64]),
        ("imgsz", [64, 1 << 20]),
        ("imgsz", "64"),
        ("batch", -1),
        ("dynamic", 1),
        ("precision", "fp8"),
        ("task", "x" * 2000),
    ],
)
def test_a_field_of_a_wrong_kind_is_named(field: str, value: Any):
    data = {**json.loads(FACTS.to_text()), field: value}
    with pytest.raises(CheckpointError, match=f"'{field}'"):
        Facts.from_text(json.dumps(data), "m.onnx")


def test_fields_that_nobody_knows_are_left_out():
    data = {**json.loads(FACTS.to_text()), "more": "x"}
    assert Facts.from_text(json.dumps(data), "m.onnx") == FACTS
