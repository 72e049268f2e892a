"""Haar downsampling: an orthogonal transform, its bands by loops, odd sizes, refused empty maps, counts."""

from __future__ import annotations

import pytest
import torch

from tests.golden.blocks.fill import tensor
from tests.nn.modules.block_checks import check_block, parameters_of, parameters_without_gradient, plan_of
from ultralytics.nn.modules.resampling.wavelet import HWD, HaarTransform


@pytest.mark.parametrize("size", [(8, 6), (7, 5), (1, 1)])
def test_shapes_batch_and_folds(size: tuple[int, int]) -> None:
    check_block(HWD(8, 12), (8, *size), (12, -(-size[0] // 2), -(-size[1] // 2)))


def test_bands_of_each_cell() -> None:
    x = tensor("x", (2, 3, 4, 6))
    bands = HaarTransform()(x).unflatten(1, (4, 3))
    signs = [(1, 1, 1, 1), (1, 1, -1, -1), (1, -1, 1, -1), (1, -1, -1, 1)]
    for r in range(2):
        for c in range(3):
            cell = x[..., 2 * r : 2 * r + 2, 2 * c : 2 * c + 2].flatten(2)  # a b c d
            for band, sign in enumerate(signs):
                torch.testing.assert_close(bands[:, band, :, r, c], (cell * torch.tensor(sign)).sum(2) / 2)


@pytest.mark.parametrize("size", [(4, 6), (5, 3)])
def test_energy_is_kept(size: tuple[int, int]) -> None:
    x = tensor("x", (1, 2, *size))
    torch.testing.assert_close(HaarTransform()(x).square().sum(), x.square().sum())


def test_the_buffers_are_the_filters() -> None:
    """The separable filters of the state dict give the same bands."""
    wt, x = HaarTransform(), tensor("x", (1, 1, 4, 4))
    pairs = [(wt.h0_col, wt.h0_row), (wt.h1_col, wt.h0_row), (wt.h0_col, wt.h1_row), (wt.h1_col, wt.h1_row)]
    filters = torch.cat([col * row for col, row in pairs])
    torch.testing.assert_close(wt(x), torch.nn.functional.conv2d(x, filters, stride=2))
    assert list(wt.parameters()) == []


def test_gradient_rows_and_counts() -> None:
    assert parameters_without_gradient(HWD(8, 12), (8, 6, 4)) == set()
    assert parameters_of("HWD", [256], 256) == 262_656
    assert plan_of("HWD", [64], 16, width=0.5).args == (16, 32)
    with pytest.raises(IndexError):
        plan_of("HWD", [], 16)
