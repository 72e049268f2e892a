"""WTConv2d: the transform is undone exactly, its filters are never trained, strides skip cells."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.golden.blocks.fill import fill_, tensor
from ultralytics.engine.training.optimizer import freeze_layers
from ultralytics.nn.modules import WTConv2d


@pytest.mark.parametrize("size", [(8, 6), (7, 5), (1, 9)])
def test_the_inverse_undoes_the_transform(size: tuple[int, int]) -> None:
    block = WTConv2d(3, 3, 3)
    nn.init.dirac_(block.wavelet_convs[0].weight, groups=12)
    nn.init.ones_(block.wavelet_scale[0].weight)
    nn.init.zeros_(block.base_scale.weight)
    x = tensor("x", (2, 3, *size))
    torch.testing.assert_close(block(x), x)


def test_bands_of_one_cell() -> None:
    """Mean, difference of rows, of columns and of both, of one 2x2 cell."""
    block = WTConv2d(1, 1)
    a, b, c, d = 1.0, 2.0, 4.0, 8.0
    bands = torch.nn.functional.conv2d(torch.tensor([[[[a, b], [c, d]]]]), block.wt_filter, stride=2).flatten()
    assert bands.tolist() == [(a + b + c + d) / 2, (a + b - c - d) / 2, (a - b + c - d) / 2, (a - b - c + d) / 2]


def test_filters_get_no_gradient_even_when_made_trainable() -> None:
    net = nn.Sequential(fill_(WTConv2d(4, 4, 3, 2)))
    freeze_layers(net, None)
    net(tensor("x", (1, 4, 6, 6))).square().sum().backward()
    block = net[0]
    assert isinstance(block, WTConv2d)
    assert all(p.grad is None for p in (block.wt_filter, block.iwt_filter, block.stride_filter))
    assert block.base_conv.weight.grad is not None


def test_a_stride_keeps_every_second_cell() -> None:
    plain, strided = fill_(WTConv2d(4, 4, 3)), fill_(WTConv2d(4, 4, 3, 2))
    x = tensor("x", (1, 4, 7, 6))
    torch.testing.assert_close(strided(x), plain(x)[..., ::2, ::2])
