"""What `yolo blocks` states about exports, measured: for the blocks that need care, and for all."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from ultralytics.nn.profile.block_facts import EXPORT_FORMS, all_block_facts, block_facts

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "block_exports.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmarks_block_exports", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["ACmix", "MLCA", "DCNv2", "CSPOmniKernel", "LocalWindowAttention", "iRMB", "SHSA"])
def test_stated_exports(script: ModuleType, name: str) -> None:
    described = block_facts(name)
    assert {form for form in EXPORT_FORMS if not script.failure(described, form)} == set(described.exports)


@pytest.mark.slow
def test_stated_exports_of_all(script: ModuleType) -> None:
    wrong = []
    for described in all_block_facts():
        if described.args is not None and not described.file:
            found = {form for form in EXPORT_FORMS if not script.failure(described, form)}
            wrong += [described.name] if found != set(described.exports) else []
    assert not wrong
