"""Snakes against a slow loop over images, places and cells; the two repairs of the published code."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.golden.blocks.fill import fill_, tensor
from ultralytics.nn.modules import DSConv, DySnakeConv, DySnakeConvFrozen


def _moves(steps: list[float]) -> list[float]:
    """Offsets of the places from the steps of one cell: they add up from the centre, the ends keep their own."""
    k, centre = len(steps), len(steps) // 2
    moved = [0.0] * k
    for t in range(k):
        if t in (0, k - 1):
            moved[t] = steps[t]
        elif t > centre:
            moved[t] = sum(steps[centre + 1 : t + 1])
        elif t < centre:
            moved[t] = sum(steps[t:centre])
    return moved


def _read(image: Tensor, y: float, x: float) -> Tensor:
    """Read a map (C, H, W) between cells; 0 from outside, the last line up to one cell beyond it."""
    h, w = image.shape[1:]
    if not (0 <= y < h and 0 <= x < w):
        return torch.zeros(len(image), dtype=image.dtype)
    i, j = math.floor(y), math.floor(x)
    down, right = min(i + 1, h - 1), min(j + 1, w - 1)
    v, u = y - i, x - j
    top = image[:, i, j] * (1 - u) + image[:, i, right] * u
    return top * (1 - v) + (image[:, down, j] * (1 - u) + image[:, down, right] * u) * v


@pytest.mark.parametrize("morph", [0, 1])
@pytest.mark.parametrize("k", [3, 5, 7])
def test_against_a_loop(morph: int, k: int) -> None:
    block = fill_(DSConv(3, 4, morph, k)).double().eval()
    x = tensor("x", (2, 3, 5, 6)).double()
    with torch.no_grad():
        offset = block.bn(block.offset_conv(x)).tanh()[:, morph * k : (morph + 1) * k]
        weight = (block.dsc_conv_x if morph == 0 else block.dsc_conv_y).weight.flatten(2)  # (4, 3, k)
        bias = (block.dsc_conv_x if morph == 0 else block.dsc_conv_y).bias
        want = torch.empty(2, 4, 5, 6, dtype=torch.double)
        for b in range(2):
            for i in range(5):
                for j in range(6):
                    moved = _moves([float(v) for v in offset[b, :, i, j]])
                    total = bias.clone()
                    for t, move in enumerate(moved):
                        along = t - k // 2
                        place = (i + move, j + along) if morph == 0 else (i + along, j + move)
                        total = total + weight[:, :, t] @ _read(x[b], *place)
                    want[b, :, i, j] = total
        torch.testing.assert_close(block(x), block.act(block.gn(want)))


def test_offsets_learn_unless_frozen() -> None:
    x = tensor("x", (2, 8, 6, 5))
    for kind, learns in ((DySnakeConv, True), (DySnakeConvFrozen, False)):
        block = fill_(kind(8, 8, 3)).train()
        block(x).square().sum().backward()
        grad = block.conv_x.offset_conv.weight.grad
        assert (grad is not None and bool(grad.any())) is learns


def test_gradient_against_finite_differences() -> None:
    block = fill_(DSConv(2, 4, 0, 5)).double().eval()
    x = tensor("x", (2, 2, 4, 3)).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda t: block(t), (x,), eps=1e-7, atol=1e-4)


def test_a_map_of_one_line() -> None:
    for size in ((1, 6), (6, 1), (1, 1)):
        block = fill_(DySnakeConv(4, 4, 3)).eval()
        assert block(tensor("x", (1, 4, *size))).isfinite().all()
