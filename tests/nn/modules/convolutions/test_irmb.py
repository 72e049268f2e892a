"""iRMB's windows by strided sampling against a loop."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tests.golden.blocks.fill import fill_, tensor
from ultralytics.nn.modules import iRMB


@pytest.mark.parametrize("size", [(9, 8), (3, 2), (7, 14)])
def test_against_a_loop_over_windows(size: tuple[int, int]) -> None:
    block = fill_(iRMB(32, 32, window_size=4)).double().eval()
    x = tensor("x", (2, 32, *size)).double()
    h, w = size
    with torch.no_grad():
        normed = block.norm(x)
        pad = (0, -w % 4, 0, -h % 4)
        qk, v = F.pad(block.qk(normed), pad), F.pad(block.v(normed), pad)
        rows, columns = qk.shape[2] // 4, qk.shape[3] // 4
        attended = torch.zeros_like(v)
        for b in range(2):
            for i in range(rows):
                for j in range(columns):
                    for head in range(2):
                        part = slice(16 * head, 16 * head + 16)
                        window = (slice(i, None, rows), slice(j, None, columns))
                        q, k = (
                            qk[b, :32][part][(slice(None), *window)].flatten(1),
                            qk[b, 32:][part][(slice(None), *window)].flatten(1),
                        )
                        weights = (q.T @ k / 4).softmax(1)  # (16, 16)
                        values = v[b, part][(slice(None), *window)].flatten(1)
                        attended[(b, part, *window)] = (values @ weights.T).view(16, 4, 4)
        y = attended[:, :, :h, :w]
        want = x + block.proj(y + block.conv_local(y))
        torch.testing.assert_close(block(x), want)
