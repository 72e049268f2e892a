"""RFAConv: each window of the input is weighted on its own."""

from __future__ import annotations

import torch

from tests.golden.blocks.fill import fill_, tensor
from ultralytics.nn.modules import RFAConv


def test_against_a_loop_over_windows() -> None:
    block = fill_(RFAConv(2, 3, 3, 2)).double().eval()
    x = tensor("x", (1, 2, 5, 7)).double()
    with torch.no_grad():
        spread = block.generate_feature(x)  # (1, 2*9, 3, 4)
        logits = block.get_weight(x)
        want = torch.zeros(1, 3, 3, 4, dtype=torch.double)
        for i in range(3):
            for j in range(4):
                for c in range(2):
                    part = slice(9 * c, 9 * c + 9)
                    values = spread[0, part, i, j] * logits[0, part, i, j].softmax(0)
                    want[0, :, i, j] += block.conv.conv.weight[:, c].flatten(1) @ values
        torch.testing.assert_close(block(x), block.conv.act(block.conv.bn(want)))


def test_weights_of_a_window_average_its_values() -> None:
    """With equal logits the block is its last convolution of the values divided by their number."""
    block = fill_(RFAConv(2, 3, 3)).eval()
    torch.nn.init.zeros_(block.get_weight[1].weight)
    x = tensor("x", (1, 2, 4, 4))
    with torch.no_grad():
        laid_out = torch.nn.functional.pixel_shuffle(block.generate_feature(x) / 9, 3)
        torch.testing.assert_close(block(x), block.conv(laid_out))
