"""GSConv and its cross-stage blocks: the shuffle by hand, folds, unused parts, refusals, counts."""

from __future__ import annotations

import pytest
import torch

from tests.golden.blocks.fill import fill_, tensor
from tests.nn.modules.block_checks import check_block, parameters_of, parameters_without_gradient, plan_of
from ultralytics.nn.modules.fusion.slim_neck import GSBottleneck, GSBottleneckC, GSConv, VoVGSCSP, VoVGSCSPC
from ultralytics.utils.errors import ConfigError


@pytest.mark.parametrize("size", [(6, 4), (5, 3), (1, 1)])
def test_shapes_batch_and_folds(size: tuple[int, int]) -> None:
    check_block(GSConv(8, 12, 3, 2), (8, *size), (12, *(-(-n // 2) for n in size)))
    check_block(GSBottleneck(8, 8), (8, *size), (8, *size))
    check_block(GSBottleneckC(8, 8), (8, *size), (8, *size))
    check_block(VoVGSCSP(8, 16, 2), (8, *size), (16, *size))
    check_block(VoVGSCSPC(8, 16), (8, *size), (16, *size))


def test_shuffle_by_channels() -> None:
    block, x = fill_(GSConv(4, 8)).eval(), tensor("x", (1, 4, 5, 3))
    with torch.no_grad():
        a = block.cv1(x)
        joined, got = torch.cat((a, block.cv2(a)), 1), block(x)
        for c, source in enumerate((0, 2, 4, 6, 1, 3, 5, 7)):
            torch.testing.assert_close(got[:, c], joined[:, source])


def test_act_has_no_effect() -> None:
    x = tensor("x", (1, 4, 5, 3))
    blocks = [fill_(GSConv(4, 8, act=act)).eval() for act in (True, False)]
    torch.testing.assert_close(blocks[0](x), blocks[1](x))


@pytest.mark.parametrize("block", [VoVGSCSP(8, 16, 2), VoVGSCSPC(8, 16)])
def test_only_the_unused_part_gets_no_gradient(block: VoVGSCSP) -> None:
    assert {n.split(".")[0] for n in parameters_without_gradient(block, (8, 6, 4))} == {"res"}


def test_rows_and_refusals() -> None:
    assert plan_of("GSConv", [64, 3, 2], 16, width=0.5).args == (16, 32, 3, 2)
    assert plan_of("VoVGSCSP", [64], 16, repeats=3, width=0.5).args == (16, 32, 3)
    assert parameters_of("VoVGSCSP", [256], 512, repeats=3) == 652_160
    assert parameters_of("GSConv", [256, 3, 2], 256) == 298_624
    with pytest.raises(ConfigError, match="c2=15 must be even"):
        GSConv(8, 15)
