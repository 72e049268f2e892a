"""DEConv: its one kernel against differences of neighbouring cells, taken on the map."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from tests.golden.blocks.fill import fill_, tensor
from ultralytics.nn.modules import DEConv

RING = [(-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1)]  # clockwise


def test_kernel_is_the_sum_of_differences() -> None:
    block = fill_(DEConv(4)).double().eval()
    x = tensor("x", (2, 4, 6, 5)).double()
    padded = F.pad(x, (1, 1, 1, 1))

    def cell(dy: int, dx: int) -> torch.Tensor:
        return padded[:, :, 1 + dy : 7 + dy, 1 + dx : 6 + dx]

    def mix(weight: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        return torch.einsum("oi,bihw->bohw", weight, values)

    with torch.no_grad():
        held = [m.conv for m in (block.conv1_1, block.conv1_2, block.conv1_3, block.conv1_4)]
        want = F.conv2d(x, block.conv1_5.weight, padding=1)
        central, horizontal, vertical, angular = (c.weight for c in held)
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):  # every neighbour's difference from the centre
                want = want + mix(central[:, :, dy + 1, dx + 1], cell(dy, dx) - x)
        for t, d in enumerate((-1, 0, 1)):
            want = want + mix(horizontal[:, :, t], cell(d, -1) - cell(d, 1))
            want = want + mix(vertical[:, :, t], cell(-1, d) - cell(1, d))
        for place, (dy, dx) in enumerate(RING):  # a weight serves its own cell and, negative, the next one
            after = RING[(place + 1) % 8]
            want = want + mix(angular[:, :, dy + 1, dx + 1], cell(dy, dx) - cell(*after))
        biases = [c.bias for c in (*held, block.conv1_5)]
        want = want + torch.stack([b for b in biases if b is not None]).sum(0).view(-1, 1, 1)
        torch.testing.assert_close(block(x), F.silu(block.bn(want)))
