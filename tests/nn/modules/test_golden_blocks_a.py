"""Recorded numbers of ResNet-D stages, resampling and fusion blocks: outputs, gradients, state-dict keys, folds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.golden import comparison, runner
from tests.golden.blocks import fill
from ultralytics.nn import modules
from ultralytics.nn.registry import REGISTRY

FOLDER = Path(fill.__file__).parent
CASES: list[dict[str, Any]] = json.loads((FOLDER / "cases_a.json").read_text(encoding="utf-8"))["cases"]


@pytest.fixture(autouse=True)
def _blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Case names lead to this package, and computed tables are left as built."""
    monkeypatch.setitem(runner.MAP, "blocks", modules.__name__)
    monkeypatch.setattr(runner, "fill", fill)
    torch.manual_seed(0)


def errors_of(case: dict[str, Any]) -> list[str]:
    with np.load(FOLDER / case["file"]) as stored:
        arrays = {k: stored[k] for k in stored.files if k.startswith(case["id"] + "/")}
    return comparison.check_module(case, arrays)


NEEDS = {"blocks_dcnv2": "DCNv2", "blocks_faster_cglu": "Faster_Block_CGLU"}
"""Blocks of other modules that stand for a branch of these cases."""


@pytest.mark.parametrize("case", CASES, ids=lambda c: c["id"])
def test_recorded_numbers(case: dict[str, Any]) -> None:
    other = NEEDS.get(case["id"])
    if other is not None and other not in REGISTRY:
        pytest.skip(f"the block '{other}' is not registered")
    assert errors_of(case) == []


def test_a_wrong_number_is_seen() -> None:
    """The comparison fails where an output is off by more than its tolerance."""
    case = next(c for c in CASES if c["id"] == "add3")
    wrong = {"add3/out0": np.zeros([2, 8, 4, 4], dtype=np.float32)}
    assert comparison.check_module(case, wrong)
