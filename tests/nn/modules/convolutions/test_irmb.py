"""iRMB's windows by strided sampling against a loop."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests.golden.blocks.fill import fill_, tensor
from tests.nn.modules.block_checks import check_block
from ultralytics.nn.modules import iRMB
from ultralytics.utils.errors import ConfigError


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


@pytest.mark.parametrize(
    ("given", "out"),
    [
        ({"act": False}, (9, 7)),
        ({"exp_ratio": 2.0, "se": 0.25}, (9, 7)),
        ({"stride": 2, "dilation": 2}, (5, 4)),
        ({"v_proj": False, "dim_head": 8, "dw_ks": 5, "window_size": 4}, (9, 7)),
    ],
)
def test_arguments_of_the_published_block(given: dict[str, Any], out: tuple[int, int]) -> None:
    check_block(iRMB(32, 32, **given), (32, 9, 7), (32, *out))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"stride": 0}, "stride=0; it must be at least 1"),
        ({"dim_head": 12}, "32 channels.*multiples of 12"),
        ({"v_proj": False, "exp_ratio": 2.0}, "v_proj=False keeps 32 channels"),
    ],
)
def test_arguments_that_do_not_fit(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        iRMB(32, 32, **given)
