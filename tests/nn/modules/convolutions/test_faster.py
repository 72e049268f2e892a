"""Partial convolution and stochastic depth of the FasterNet block."""

from __future__ import annotations

import torch

from tests.golden.blocks.fill import fill_, tensor
from ultralytics.nn.modules import Faster_Block, Partial_conv3


def test_the_rest_of_the_channels_passes_by() -> None:
    block = fill_(Partial_conv3(10, 4, "slicing"))
    x = tensor("x", (2, 10, 5, 4))
    y = block(x)
    torch.testing.assert_close(y[:, 2:], x[:, 2:])
    torch.testing.assert_close(y[:, :2], torch.nn.functional.conv2d(x[:, :2], block.partial_conv3.weight, padding=1))


def test_the_branch_is_dropped_for_whole_images_in_training_only() -> None:
    torch.manual_seed(0)
    block = fill_(Faster_Block(8, 8, drop_path=0.5)).train()
    x = tensor("x", (64, 8, 3, 3))
    with torch.no_grad():
        changed = (block(x) != x).flatten(1).any(1)
    assert 15 < int(changed.sum()) < 49
    block.eval()
    with torch.no_grad():
        assert (block(x) != x).flatten(1).any(1).all()
