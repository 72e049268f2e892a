"""Diverse branches: one kernel equals four branches in float64, forms of construction, the padding of BNAndPad."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tests.golden.blocks.fill import fill_, tensor
from ultralytics.nn.modules import DiverseBranchBlock
from ultralytics.nn.modules.convolutions.diverse_branch import BNAndPad


@pytest.mark.parametrize(
    "block",
    [
        DiverseBranchBlock(6, 8, 3),
        DiverseBranchBlock(6, 8, 5, 2, groups=2),
        DiverseBranchBlock(8, 8, 3, groups=8),
        DiverseBranchBlock(6, 8, 3, internal_channels_1x1_3x3=10, act=False),
    ],
    ids=["plain", "groups", "depthwise", "wide"],
)
def test_one_kernel_in_float64(block: DiverseBranchBlock) -> None:
    block = fill_(block).double().eval()
    x = tensor("x", (2, 8 if block.g == 8 else 6, 7, 6)).double()
    with torch.no_grad():
        want = block(x)
        block.fuse()
        torch.testing.assert_close(block(x), want)
    assert set(block.state_dict()) == {"dbb_reparam.weight", "dbb_reparam.bias"}
    assert not any(p.requires_grad for p in block.parameters())


def test_deploy_is_the_folded_form() -> None:
    folded = DiverseBranchBlock(6, 8, 3).eval().fuse()
    assert set(DiverseBranchBlock(6, 8, 3, deploy=True).state_dict()) == set(folded.state_dict())


def test_single_init_starts_with_the_first_branch() -> None:
    block = DiverseBranchBlock(6, 8, 3, single_init=True, act=False).eval()
    x = tensor("x", (1, 6, 5, 5))
    torch.testing.assert_close(block(x), block.dbb_origin(x))


@pytest.mark.parametrize("training", [True, False])
def test_padding_is_what_a_zero_becomes(training: bool) -> None:
    block = fill_(BNAndPad(2, 3)).train(training)
    x = tensor("x", (2, 3, 4, 5))
    y = block(x)
    bn = block.bn
    assert bn.running_mean is not None and bn.running_var is not None
    zero = bn.bias - bn.running_mean * bn.weight / (bn.running_var + bn.eps).sqrt()
    mean, var = (x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)) if training else (bn.running_mean, bn.running_var)
    inside = F.batch_norm(x, mean, var, bn.weight, bn.bias)
    torch.testing.assert_close(y[:, :, 2:-2, 2:-2], inside, rtol=1e-4, atol=1e-5)
    for border in (y[:, :, :2], y[:, :, -2:], y[..., :2], y[..., -2:]):
        torch.testing.assert_close(border, zero.view(1, -1, 1, 1).expand_as(border))
