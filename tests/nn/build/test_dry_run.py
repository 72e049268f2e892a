"""Blocks run without values: the shapes are those of a real run, and blocks that need values get some."""

from collections import namedtuple

import pytest
import torch
from torch import nn

from ultralytics.nn.build.dry_run import ProbeBlock, expected_channels, matching, shape_text, size_text
from ultralytics.nn.modules import AIFI, SHSA, C2f, Concat, Conv, RepC3

Pair = namedtuple("Pair", "a b")


class Thresholded(nn.Module):
    """Looks at the values of its input."""

    def __init__(self, channels, start=0.0):
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 1)
        self.first = torch.linspace(start, 1, 4).tolist()[0]

    def forward(self, x):
        return Pair(self.conv(x), [x[..., :2]]) if x.sum().item() == 0 else x


@pytest.mark.parametrize(
    ("cls", "args"),
    [(Conv, (8, 6, 3, 2)), (C2f, (8, 6, 2)), (RepC3, (8, 6, 1)), (AIFI, (8, 16, 2)), (SHSA, (8, 4, 4)), (nn.ReLU, ())],
)
def test_the_shape_is_that_of_a_real_run(cls, args):
    want = cls(*args).eval()(torch.rand(2, 8, 7, 10)).shape
    block = ProbeBlock(cls, args)
    got = block.run(torch.empty(2, 8, 7, 10, device="meta"))
    assert got.shape == want and got.is_meta and all(p.is_meta for p in block.module.parameters())


def test_a_list_of_maps():
    maps = [torch.empty(1, c, 5, 6, device="meta") for c in (3, 4)]
    assert ProbeBlock(Concat, (1,)).run(maps).shape == (1, 7, 5, 6)


def test_a_block_that_needs_values_sees_zeros():
    """Also in its constructor; what it gives is without values again, of the same kind."""
    got = ProbeBlock(Thresholded, (5,)).run(torch.empty(1, 3, 4, 6, device="meta"))
    assert type(got) is Pair and got.a.shape == (1, 5, 4, 6) and got.b[0].shape == (1, 3, 4, 2)
    assert got.a.is_meta and got.b[0].is_meta


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="channel"):
        ProbeBlock(nn.Conv2d, (3, 4, 1)).run(torch.empty(1, 5, 4, 4, device="meta"))
    with pytest.raises(ValueError, match="groups"):
        ProbeBlock(nn.Conv2d, (3, 4, 1, 1, 0, 1, 2))


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_empty_parameters():
    assert ProbeBlock(nn.Linear, (3, 4)).empty_parameter() == ""
    assert ProbeBlock(nn.Linear, (3, 0)).empty_parameter() == "weight has shape 0x3"


def test_words():
    assert expected_channels(nn.Sequential(nn.ReLU(), Conv(12, 3))) == 12
    assert expected_channels(nn.Linear(7, 2)) == 7 and expected_channels(nn.ReLU()) == 0
    a, b = torch.empty(1, 8, 20, 10), torch.empty(1, 4, 20, 10)
    assert (size_text(a), shape_text(a)) == ("20x10", "8x20x10")
    assert (size_text([a]), shape_text([a, b]), shape_text(None)) == ("?", "2 outputs", "NoneType")
    assert matching([a, b, None, [a]], 2, None, (20, 10)) == [0, 1]
    assert matching([a, b], 1, 2, (4,)) == [1]
