"""YOLOv9's aggregation block: parts by hand, folds, row form, refusals, counts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.golden.blocks.fill import fill_, tensor
from tests.nn.modules.block_checks import check_block, parameters_of, parameters_without_gradient, plan_of
from ultralytics.nn.modules.fusion.elan import RepConvN, RepNBottleneck, RepNCSP, RepNCSPELAN4


@pytest.mark.parametrize("size", [(6, 4), (5, 3), (1, 1)])
def test_shapes_batch_and_folds(size: tuple[int, int]) -> None:
    check_block(RepConvN(8, 12), (8, *size), (12, *size))
    check_block(RepNBottleneck(8, 8), (8, *size), (8, *size))
    check_block(RepNCSP(8, 12, 2), (8, *size), (12, *size))
    check_block(RepNCSPELAN4(16, 20, 16, 8, 2), (16, *size), (20, *size))


def test_a_fold_is_one_convolution() -> None:
    block = RepConvN(4, 6).eval().fuse()
    assert {k: tuple(v.shape) for k, v in block.state_dict().items()} == {
        "conv.weight": (6, 4, 3, 3),
        "conv.bias": (6,),
    }
    assert not any(isinstance(m, nn.BatchNorm2d) for m in block.modules())


def test_four_maps_are_joined() -> None:
    block, x = fill_(RepNCSPELAN4(8, 6, 8, 4)).eval(), tensor("x", (1, 8, 5, 4))
    with torch.no_grad():
        a, b = block.cv1(x).split(4, 1)
        u = block.cv2[1](block.cv2[0](b))
        v = block.cv3[1](block.cv3[0](u))
        torch.testing.assert_close(block(x), block.cv4(torch.cat((a, b, u, v), 1)))
        member = block.cv2[0].m[0]
        y = tensor("y", (1, 2, 5, 4))
        torch.testing.assert_close(member(y), y + member.cv2(member.cv1(y)))


def test_a_gradient_reaches_every_parameter() -> None:
    assert parameters_without_gradient(RepNCSPELAN4(8, 6, 8, 4), (8, 5, 4)) == set()


def test_rows() -> None:
    plan = plan_of("RepNCSPELAN4", [256, 128, 64, 2], 64, repeats=3, width=0.5)
    assert (plan.args, plan.out_channels, plan.repeats_inside) == ((64, 128, 128, 64, 2), 128, False)
    fork = plan_of("RepNCSPELAN4", [256, 128, 64, 2], 64, width=0.5, above=("ConvNormLayer", "nn.MaxPool2d"))
    assert (fork.args, fork.out_channels) == ((64, 128, 64, 32, 2), 128)
    assert parameters_of("RepNCSPELAN4", [256, 256, 128, 1], 512) == 781_568
    with pytest.raises(ValueError, match="write its count as the fourth number"):
        plan_of("RepNCSPELAN4", [256, 128, 64], 64)
    assert plan_of("RepNCSP", [64], 32, repeats=2).args == (32, 64, 2)
