"""Recorded numbers of ResNet-D stages, resampling and fusion blocks: outputs, gradients, state-dict keys, folds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.golden import comparison
from tests.golden.blocks.cases import load_block_cases
from ultralytics.nn.registry import REGISTRY

CASES = load_block_cases("a")


@pytest.fixture(autouse=True)
def _reset_seed() -> None:
    torch.manual_seed(0)


NEEDS = {"blocks_dcnv2": "DCNv2", "blocks_faster_cglu": "Faster_Block_CGLU"}
"""Blocks of other modules that stand for a branch of these cases."""


@pytest.mark.parametrize("case", CASES, ids=lambda c: c["id"])
def test_recorded_numbers(case: dict[str, Any]) -> None:
    other = NEEDS.get(case["id"])
    if other is not None and other not in REGISTRY:
        pytest.skip(f"the block '{other}' is not registered")
    assert comparison.check(case) == []


def test_a_wrong_number_is_seen() -> None:
    """The comparison fails where an output is off by more than its tolerance."""
    case = next(c for c in CASES if c["id"] == "add3")
    wrong = {"add3/out0": np.zeros([2, 8, 4, 4], dtype=np.float32)}
    assert comparison.check_module(case, wrong)
