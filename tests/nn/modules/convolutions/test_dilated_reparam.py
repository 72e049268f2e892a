"""Dilated re-parameterisation: one kernel in float64 for every size, response norm against its formula."""

from __future__ import annotations

import pytest
import torch

from tests.golden.blocks.fill import fill_, tensor
from ultralytics.nn.modules import DilatedReparamBlock, UniRepLKNetBlock
from ultralytics.nn.modules.convolutions.dilated_reparam import GlobalResponseNorm


@pytest.mark.parametrize("k", [5, 7, 9, 11, 13, 15, 17])
def test_one_kernel_in_float64(k: int) -> None:
    block = fill_(DilatedReparamBlock(4, k)).double().eval()
    x = tensor("x", (1, 4, 19, 18)).double()
    with torch.no_grad():
        want = block(x)
        block.fuse()
        torch.testing.assert_close(block(x), want)
    assert set(block.state_dict()) == {"lk_origin.weight", "lk_origin.bias"}
    assert set(DilatedReparamBlock(4, k, deploy=True).state_dict()) == set(block.state_dict())


def test_response_norm_by_channel() -> None:
    norm = fill_(GlobalResponseNorm(3))
    x = tensor("x", (2, 4, 5, 3))
    y = norm(x)
    for b in range(2):
        lengths = [float(x[b, :, :, c].square().sum().sqrt()) for c in range(3)]
        for c in range(3):
            relative = lengths[c] / (sum(lengths) / 3 + 1e-6)
            want = (norm.gamma[0, 0, 0, c] * relative + 1) * x[b, :, :, c] + norm.beta[0, 0, 0, c]
            torch.testing.assert_close(y[b, :, :, c], want)


def test_response_norm_is_finite_in_float16() -> None:
    norm = GlobalResponseNorm(2).half()
    x = torch.full((1, 40, 40, 2), 60.0, dtype=torch.float16)
    assert norm(x).isfinite().all()


def test_a_new_block_is_near_the_identity() -> None:
    x = tensor("x", (1, 8, 9, 9))
    block = UniRepLKNetBlock(8, 7).eval()
    assert (block(x) - x).abs().max() < 1e-4
