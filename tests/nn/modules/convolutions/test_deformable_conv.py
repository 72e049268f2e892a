"""DCNv2 against plain convolutions and a loop over places."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests.golden.blocks.fill import fill_, tensor
from ultralytics.nn.modules import DCNv2
from ultralytics.nn.modules.convolutions import deformable_conv
from ultralytics.utils.torch_tools import reproducible


def test_starts_as_half_of_a_plain_convolution() -> None:
    block = DCNv2(6, 8, 3, 2, act=False).eval()
    x = tensor("x", (2, 6, 9, 7))
    plain = F.conv2d(x, block.weight / 2, stride=2, padding=1)
    torch.testing.assert_close(block(x), block.bn(plain), rtol=1e-4, atol=1e-5)


def test_whole_offsets_shift_the_map() -> None:
    """Every place one row down and two columns left: a plain convolution of the shifted map, away from the border."""
    block = fill_(DCNv2(4, 5, 3, act=False)).eval()
    layer = block.conv_offset_mask
    torch.nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    with torch.no_grad():
        layer.bias.copy_(torch.tensor([1.0, -2.0] * 9 + [30.0] * 9))  # (row, column) of each place; masks of 1
        x = tensor("x", (1, 4, 10, 10))
        shifted = x.roll((-1, 2), (2, 3))
        want = block.bn(F.conv2d(shifted, block.weight, block.bias, padding=1))
        torch.testing.assert_close(block(x)[..., 3:7, 3:7], want[..., 3:7, 3:7], rtol=1e-4, atol=1e-4)


def test_deformable_groups_move_apart() -> None:
    block = fill_(DCNv2(4, 5, 3, deformable_groups=2, act=False)).eval()
    layer = block.conv_offset_mask
    torch.nn.init.zeros_(layer.weight)
    assert layer.bias is not None and layer.out_channels == 54
    with torch.no_grad():
        layer.bias.copy_(torch.tensor([0.0, 0.0] * 9 + [1.0, 0.0] * 9 + [30.0] * 18))
        x = tensor("x", (1, 4, 8, 8))
        moved = torch.cat((x[:, :2], x[:, 2:].roll(-1, 2)), 1)
        want = block.bn(F.conv2d(moved, block.weight, block.bias, padding=1))
        torch.testing.assert_close(block(x)[..., 2:6, 2:6], want[..., 2:6, 2:6], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "arguments", [(6, 8), (6, 8, 3, 2, None, 2, 1, True, 3), (6, 8, 3, 1, None, 1, 2), (6, 8, 5, 2, 0)]
)
def test_samples_of_an_export_are_the_operator(arguments: tuple[Any, ...]) -> None:
    block = fill_(DCNv2(*arguments)).eval()
    torch.nn.init.normal_(block.conv_offset_mask.weight, std=0.2, generator=torch.Generator().manual_seed(0))
    x = tensor("x", (2, 6, 13, 9))
    moves = block.conv_offset_mask(x)
    places = moves.shape[1] // 3
    offset, mask = moves.split([2 * places, places], 1)
    got = block._convolve_samples(x, offset, mask.sigmoid())
    torch.testing.assert_close(got, block._convolve(x), rtol=1e-4, atol=1e-5)


def test_the_gradient_of_one_order_is_the_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    block = fill_(DCNv2(6, 8, 3, 2, deformable_groups=3)).train()
    torch.nn.init.normal_(block.conv_offset_mask.weight, std=0.2, generator=torch.Generator().manual_seed(0))
    found = []
    for in_order in (False, True):
        for module in (deformable_conv, reproducible):
            monkeypatch.setattr(module, "needs_one_order", lambda x, value=in_order: value)
        x = tensor("x", (2, 6, 9, 7)).requires_grad_()
        y = block(x)
        found.append([y.detach(), *torch.autograd.grad(y.square().sum(), [x, *block.parameters()])])
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-4)
