"""Golden numbers of the published convolution blocks: outputs, gradients, keys with their order, merged weights.

One case records a gradient that this project does not stop: see `test_ends_of_a_snake_learn`.
"""

from __future__ import annotations

import pytest
import torch

from tests.golden import fill, runner
from tests.golden.blocks.cases import load_block_cases
from tests.golden.comparison import check
from ultralytics.nn.registry import REGISTRY

FROZEN = {"dysnake_k5"}  # holds the gradient of the official code, in which the ends of a snake do not learn
NEEDS = {"c2f_faster_ema": "EMA"}  # blocks of another package


CASES = {case["id"]: case for case in load_block_cases("b")}


@pytest.fixture(autouse=True)
def _reset_seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("name", [n for n in CASES if n not in FROZEN])
def test_golden(name: str) -> None:
    if name in NEEDS and NEEDS[name] not in REGISTRY:
        pytest.skip(f"{NEEDS[name]} is not registered")
    assert check(CASES[name]) == []


@pytest.mark.parametrize("name", sorted(FROZEN))
def test_golden_of_the_official_gradient(name: str) -> None:
    case = {**CASES[name], "class": "blocks:DySnakeConvFrozen"}
    assert check(case) == []


@pytest.mark.parametrize("name", sorted(FROZEN))
def test_ends_of_a_snake_learn(name: str) -> None:
    errors = check(CASES[name])
    assert errors, "the gradient of the ends is stopped again"
    assert all(error.startswith("grad/") for error in errors)


@pytest.mark.parametrize("name", ["rfaconv_s1", "c2f_faster", "unirep", "dbb_train"])
def test_children_are_registered_in_the_order_of_the_golden_keys(name: str) -> None:
    module = runner.build_module(CASES[name])
    assert list(module.state_dict()) == list(CASES[name]["state_dict"])


def test_a_wrong_number_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES["rfaconv"]
    monkeypatch.setattr(fill, "values", lambda key, shape, gain=1.0: 0.9 * _values(key, shape, gain))
    assert any(error.startswith("out0") for error in check(case))


_values = fill.values
