"""Context guided blocks: shapes, folds of the joined batch norm, residual, epsilon, refusals, counts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.golden.blocks.fill import fill_, tensor
from tests.nn.modules.block_checks import check_block, parameters_of, plan_of
from ultralytics.nn.modules.resampling.context_guided import (
    C2f_ContextGuided,
    ContextGuidedBlock,
    ContextGuidedBlock_Down,
)
from ultralytics.utils.errors import ConfigError


@pytest.mark.parametrize("size", [(8, 6), (7, 5), (1, 1)])
def test_shapes_batch_and_folds(size: tuple[int, int]) -> None:
    check_block(ContextGuidedBlock(16, 16), (16, *size), (16, *size))
    check_block(ContextGuidedBlock(8, 16, 3, 4), (8, *size), (16, *size))
    check_block(ContextGuidedBlock_Down(16), (16, *size), (32, *(-(-n // 2) for n in size)))
    check_block(C2f_ContextGuided(16, 32, 2), (16, *size), (32, *size))


def test_folding_leaves_no_norm() -> None:
    for block in (ContextGuidedBlock(16, 16), ContextGuidedBlock_Down(16)):
        block.eval().fuse()
        block.fuse()  # a second time changes nothing
        joined = block.bn_act[0] if isinstance(block, ContextGuidedBlock) else block.bn
        assert isinstance(joined, nn.Identity)
        assert not block.F_loc.weight.requires_grad


def test_residual_only_where_channels_agree() -> None:
    block, x = fill_(ContextGuidedBlock(16, 16)).eval(), tensor("x", (1, 16, 4, 5))
    plain = fill_(ContextGuidedBlock(16, 16, shortcut=False)).eval()
    with torch.no_grad():
        torch.testing.assert_close(block(x) - x, plain(x), rtol=1e-5, atol=1e-5)
    assert not ContextGuidedBlock(8, 16).add


def test_own_epsilon_refusals_and_rows() -> None:
    assert ContextGuidedBlock_Down(16).bn.eps == 1e-3
    with pytest.raises(ConfigError, match="c2=17 must be even"):
        ContextGuidedBlock(16, 17)
    with pytest.raises(ConfigError, match="reduced by 16"):
        ContextGuidedBlock_Down(4)
    plan = plan_of("ContextGuidedBlock_Down", [2, 8], 16, width=0.25)
    assert (plan.args, plan.out_channels) == ((16, 2, 8), 32)
    assert plan_of("C2f_ContextGuided", [64, True], 16, repeats=3, width=0.5).args == (16, 32, 3, True)
    assert parameters_of("ContextGuidedBlock_Down", [], 128) == 441_616
    assert parameters_of("C2f_ContextGuided", [256], 256) == 176_904
