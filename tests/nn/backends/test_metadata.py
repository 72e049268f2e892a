"""What an exported file says of itself: a file from elsewhere may say anything."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from ultralytics.nn.backends.metadata import MAX_METADATA_CHARS, ExportMetadata
from ultralytics.utils.errors import CheckpointError

METADATA = ExportMetadata(
    "onnx", "detect", {0: "red", 1: 'it\'s "green"'}, 32, (64, 96), batch=2, dynamic=True, precision="fp16"
)


def test_round_trip():
    assert ExportMetadata.from_json(METADATA.to_json(), "x") == METADATA


def test_properties_of_other_tools_are_texts():
    shown = METADATA.common_properties()
    assert all(isinstance(v, str) for v in shown.values())
    assert shown["names"] == str(METADATA.names) and shown["imgsz"] == "[64, 96]" and shown["stride"] == "32"


@pytest.mark.parametrize(
    "text",
    [None, "", "{", "[]", "null", "[" * 200_000, '"' + "x" * MAX_METADATA_CHARS + '"', "{}"],
    ids=["none", "empty", "cut", "list", "null", "deep", "long", "no fields"],
)
def test_a_string_that_is_not_metadata(text: str | None):
    with pytest.raises(CheckpointError, match=r"m\.onnx") as caught:
        ExportMetadata.from_json(text, "m.onnx")
    assert len(str(caught.value).splitlines()) <= 3


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[(f.name, None) for f in dataclasses.fields(ExportMetadata)],
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
    data = {**json.loads(METADATA.to_json()), field: value}
    with pytest.raises(CheckpointError, match=f"'{field}'"):
        ExportMetadata.from_json(json.dumps(data), "m.onnx")


def test_fields_that_nobody_knows_are_left_out():
    data = {**json.loads(METADATA.to_json()), "more": "x"}
    assert ExportMetadata.from_json(json.dumps(data), "m.onnx") == METADATA
