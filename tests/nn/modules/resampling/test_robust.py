"""Robust feature downsampling: shapes on odd maps, folds, gradients, refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests.golden.blocks.fill import fill_, tensor
from tests.nn.modules.block_checks import check_block, parameters_without_gradient, plan_of
from ultralytics.nn.modules.resampling.robust import DRFD, SRFD
from ultralytics.utils.errors import ConfigError


@pytest.mark.parametrize("size", [(16, 12), (15, 9), (7, 10)])
def test_shapes_batch_and_folds(size: tuple[int, int]) -> None:
    half = tuple(-(-n // 2) for n in size)
    check_block(DRFD(8, 16), (8, *size), (16, *half))
    check_block(SRFD(3, 16), (3, *size), (16, *(-(-n // 2) for n in half)))


@pytest.mark.parametrize(("make", "shape"), [(lambda: DRFD(8, 16), (8, 8, 6)), (lambda: SRFD(3, 16), (3, 16, 12))])
def test_a_gradient_reaches_every_kernel(make: Any, shape: tuple[int, int, int]) -> None:
    """Biases directly before a batch norm have none by design."""
    assert {n for n in parameters_without_gradient(make(), shape) if n.endswith("weight")} == set()


def test_three_ways_to_halve() -> None:
    block, x = fill_(DRFD(4, 8)).eval(), tensor("x", (1, 4, 4, 6))
    with torch.no_grad():
        wide = block.conv(x)
        largest = torch.stack([wide[..., i::2, j::2] for i in (0, 1) for j in (0, 1)]).amax(0)
        parts = [
            block.cut_c.batch_norm(block.cut_c.conv_fusion(_phases(x))),
            block.batch_norm_x(F.gelu(block.conv_x(wide))),
            block.batch_norm_m(largest),
        ]
        kernel = block.fusion.weight[..., 0, 0]
        want = torch.einsum("oc,bchw->bohw", kernel, torch.cat(parts, 1)) + block.fusion.bias.view(-1, 1, 1)
        torch.testing.assert_close(block(x), want, rtol=1e-5, atol=1e-5)


def _phases(x: torch.Tensor) -> torch.Tensor:
    return torch.cat((x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]), 1)


def test_channels_are_a_multiple_of_the_groups() -> None:
    with pytest.raises(ConfigError, match="DRFD: 20 output channels are not a multiple of 8"):
        DRFD(8, 20)
    with pytest.raises(ConfigError, match="SRFD: 18 output channels are not a multiple of 4"):
        SRFD(3, 18)
    assert plan_of("DRFD", [64], 16, width=0.5).args == (16, 32)
    assert plan_of("SRFD", [64], 3, width=0.5).args == (3, 32)
