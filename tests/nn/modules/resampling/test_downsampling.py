"""Downsampling blocks: phases, pooled halves and quadrants against slow references, odd sizes, refusals, counts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests.golden.blocks.fill import fill_, tensor
from tests.nn.modules.block_checks import check_block, parameters_of, parameters_without_gradient, plan_of
from ultralytics.nn.modules.resampling.downsampling import LAWDS, AConv, ADown, SPDConv, four_phases
from ultralytics.utils.errors import ConfigError

BLOCKS: dict[str, Any] = {
    "aconv": lambda: AConv(16, 24),
    "adown": lambda: ADown(16, 24),
    "spdconv": lambda: SPDConv(16, 24),
    "lawds": lambda: LAWDS(16, 8),
}


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("size", [(8, 6), (7, 10), (5, 3)])
def test_shapes_batch_and_folds(name: str, size: tuple[int, int]) -> None:
    less = 1 if name in {"aconv", "adown"} else 0  # the 2x2 average takes one row and column
    out = (16 if name == "lawds" else 24, *(-(-(n - less) // 2) for n in size))
    check_block(BLOCKS[name](), (16, *size), out)


@pytest.mark.parametrize("name", BLOCKS)
def test_a_gradient_reaches_every_parameter(name: str) -> None:
    assert parameters_without_gradient(BLOCKS[name](), (16, 8, 6)) == set()


def test_phases_of_an_odd_map() -> None:
    """Phase (i, j) holds the cells (2r + i, 2c + j); beyond the border lie zeros."""
    x = tensor("x", (1, 2, 3, 5))
    got = four_phases(x).unflatten(1, (4, 2))
    for phase, (i, j) in enumerate([(0, 0), (1, 0), (0, 1), (1, 1)]):
        for r in range(2):
            for c in range(3):
                row, column = 2 * r + i, 2 * c + j
                want = x[0, :, row, column] if row < 3 and column < 5 else torch.zeros(2)
                torch.testing.assert_close(got[0, phase, :, r, c], want)


def test_adown_halves() -> None:
    block, x = fill_(ADown(4, 6)).eval(), tensor("x", (1, 4, 6, 5))
    mean = (x[..., 1:, 1:] + x[..., 1:, :-1] + x[..., :-1, 1:] + x[..., :-1, :-1]) / 4
    with torch.no_grad():
        got = block(x)
        torch.testing.assert_close(got[:, :3], block.cv1(mean[:, :2]))
        padded = F.pad(mean[:, 2:], (1, 1, 1, 1), value=-torch.inf)
        largest = torch.stack([padded[..., i : i + 5 : 2, j : j + 4 : 2] for i in range(3) for j in range(3)]).amax(0)
        torch.testing.assert_close(got[:, 3:], block.cv2(largest))


def test_lawds_weighs_quadrants() -> None:
    block, x = fill_(LAWDS(8, 4)).eval(), tensor("x", (1, 8, 6, 4))
    with torch.no_grad():
        scores, candidates = block.attention(x), block.ds_conv(x)
        quadrants = [scores[..., 3 * i : 3 * i + 3, 2 * j : 2 * j + 2] for i in (0, 1) for j in (0, 1)]
        total = sum(q.exp() for q in quadrants)
        want = sum(q.exp() / total * candidates[:, 8 * i : 8 * i + 8] for i, q in enumerate(quadrants))
        torch.testing.assert_close(block(x), want)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ADown(15, 24), "15 in and 24 out must be even"),
        (lambda: ADown(16, 25), "25 out must be even"),
        (lambda: SPDConv(8, 8, 2), "dimension=2"),
        (lambda: LAWDS(20), "group=16"),
        (lambda: LAWDS(20, 0), "group=0"),
    ],
)
def test_wrong_arguments_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_recorded_parameter_counts() -> None:
    assert parameters_of("AConv", [256], 256) == 590_336
    assert parameters_of("ADown", [256], 256) == 164_352
    assert parameters_of("SPDConv", [256], 128) == 1_180_160


@pytest.mark.parametrize("name", ["AConv", "ADown", "SPDConv"])
def test_rows_are_scaled(name: str) -> None:
    plan = plan_of(name, [64], 16, width=0.5)
    assert (plan.args, plan.out_channels) == ((16, 32), 32)


def test_lawds_keeps_its_channels() -> None:
    plan = plan_of("LAWDS", [8], 16, width=0.5)
    assert (plan.args, plan.out_channels) == ((16, 8), 16)


@pytest.mark.parametrize("block", [AConv(8, 8), ADown(8, 8)])
def test_a_map_without_a_pair_of_cells_is_refused(block: torch.nn.Module) -> None:
    with pytest.raises(ConfigError, match="a map of 3x1 cells has no 2x2 to average"):
        block(torch.zeros(1, 8, 3, 1))
