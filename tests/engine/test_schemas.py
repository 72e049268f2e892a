"""`ultralytics.schema`: one function for the schemas of all kinds of files."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

import ultralytics
from ultralytics.cli import entrypoint
from ultralytics.engine.schemas import SCHEMAS
from ultralytics.utils.errors import ConfigError


@pytest.mark.parametrize("kind", SCHEMAS)
def test_each_kind_is_a_schema_and_is_written(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "schema.json"
    made = ultralytics.schema(kind, out=file)
    jsonschema.Draft202012Validator.check_schema(made)
    assert json.loads(file.read_text(encoding="utf-8")) == made and made["$schema"].endswith("2020-12/schema")


def test_another_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="kind='models' is not known; choose one of model, data, args"):
        ultralytics.schema("models")


def test_the_command_prints_or_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entrypoint(["schema", "kind=data"])
    assert json.loads(capsys.readouterr().out)["title"] == "Data YAML"
    blocks = tmp_path / "schema_blocks.py"
    blocks.write_text(
        "from torch import nn\nfrom ultralytics.nn import register\n\n\n"
        "@register\nclass SchemaGate(nn.Identity):\n    pass\n",
        encoding="utf-8",
    )
    entrypoint(["schema", f"out={tmp_path / 'm.json'}", f"modules={blocks}"])
    assert "SchemaGate" in json.loads((tmp_path / "m.json").read_text(encoding="utf-8"))["$defs"]["args"]
