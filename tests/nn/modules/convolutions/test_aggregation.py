"""HyperComputeModule against a loop over tokens and edges; MANet and RGCSPELAN against their steps."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tests.golden.blocks.fill import fill_, tensor
from ultralytics.nn.modules import RGCSPELAN, HyperComputeModule, MANet


@pytest.mark.parametrize("threshold", [0.5, 3.0, 100.0])
def test_hypergraph_against_a_loop(threshold: float) -> None:
    block = fill_(HyperComputeModule(6, 6, threshold)).double().eval()
    x = tensor("x", (2, 6, 3, 4)).double()
    with torch.no_grad():
        shared = torch.zeros_like(x)
        for b in range(2):
            tokens = [x[b, :, i, j] for i in range(3) for j in range(4)]
            near = [[m for m, t in enumerate(tokens) if (s - t).square().sum().sqrt() < threshold] for s in tokens]
            edges = [sum(block.hgconv.fc(tokens[m]) for m in members) / len(members) for members in near]
            for n, members in enumerate(near):
                shared[b, :, n // 4, n % 4] = sum(edges[m] for m in members) / len(members)
        torch.testing.assert_close(block(x), F.silu(block.bn(x + shared)))


def test_equal_tokens_far_from_the_origin_stay_finite() -> None:
    """Distances by a matrix product would leave edges without members."""
    block = HyperComputeModule(4, 4, 1e-6).eval()
    x = 1e3 + 1e-3 * tensor("x", (1, 4, 8, 8))
    assert block(x).isfinite().all()


def test_manet_joins_both_branches_and_every_step() -> None:
    block = fill_(MANet(8, 12, 2, True)).eval()
    x = tensor("x", (1, 8, 5, 4))
    with torch.no_grad():
        first = block.cv_first(x)
        a, b = first.split(6, 1)
        steps = [block.m[0](b), block.m[1](block.m[0](b))]
        joined = torch.cat((block.cv_block_1(first), block.cv_block_2(first), a, b, *steps), 1)
        torch.testing.assert_close(block(x), block.cv_final(joined))


def test_rgcspelan_replaces_the_narrowed_half() -> None:
    block = fill_(RGCSPELAN(8, 12, 2)).eval()
    x = tensor("x", (1, 8, 5, 4))
    with torch.no_grad():
        a, b = block.cv1(x).split(6, 1)
        narrow = block.cv3(b)
        step = block.m[0](narrow)
        torch.testing.assert_close(block(x), block.cv2(torch.cat((a, narrow, step, block.cv4(step)), 1)))
