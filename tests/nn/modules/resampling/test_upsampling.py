"""CARAFE, DySample, EUCB: slow references, a start as bilinear upsampling, mixed precision, odd sizes, refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests.golden.blocks.fill import fill_, tensor
from tests.nn.modules.block_checks import check_block, parameters_of, parameters_without_gradient, plan_of
from ultralytics.nn.modules.resampling.upsampling import CARAFE, EUCB, DySample
from ultralytics.utils.errors import ConfigError


@pytest.mark.parametrize("size", [(4, 6), (3, 5), (1, 2)])
def test_shapes_batch_and_folds(size: tuple[int, int]) -> None:
    double, triple = (tuple(s * n for n in size) for s in (2, 3))
    check_block(CARAFE(8, c_mid=16), (8, *size), (8, *double))
    check_block(CARAFE(8, 1, 3, 16, 3), (8, *size), (8, *triple))
    check_block(DySample(16), (16, *size), (16, *double))
    check_block(DySample(18, 3, "pl", 2), (18, *size), (18, *triple))
    check_block(EUCB(8, 5), (8, *size), (8, *double))


def test_carafe_by_loops() -> None:
    block, x = fill_(CARAFE(3, 3, 3, 8, 2)).eval(), tensor("x", (1, 3, 3, 4))
    with torch.no_grad():
        weights = F.pixel_shuffle(block.enc(block.comp(x)), 2).softmax(1)  # (1, 9, 6, 8)
        padded, got = F.pad(x, (1, 1, 1, 1)), block(x)
        for i in range(6):
            for j in range(8):
                around = padded[0, :, i // 2 : i // 2 + 3, j // 2 : j // 2 + 3].flatten(1)  # (3, 9)
                torch.testing.assert_close(got[0, :, i, j], around @ weights[0, :, i, j])


@pytest.mark.parametrize("dyscope", [False, True])
@pytest.mark.parametrize(("style", "scale"), [("lp", 2), ("pl", 2), ("lp", 3)])
def test_dysample_starts_as_bilinear(style: str, scale: int, dyscope: bool) -> None:
    block, x = DySample(36, scale, style, dyscope=dyscope), tensor("x", (2, 36, 5, 7))
    torch.nn.init.zeros_(block.offset.weight)
    want = F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)
    torch.testing.assert_close(block(x), want, rtol=1e-4, atol=1e-5)


def test_dysample_by_loops() -> None:
    """Each group samples at its own places: cell centre, offset, place in the cell; beyond the border the border."""
    block, x = fill_(DySample(4, 2, "lp", 2)).eval(), tensor("x", (1, 4, 3, 4))
    block.offset.bias.data *= 8  # far enough to cross borders
    with torch.no_grad():
        offset = (0.25 * block.offset(x)).view(2, 2, 4, 3, 4)  # x and y, groups, places, rows, columns
        got = block(x)
        for g in range(2):
            for i in range(6):
                for j in range(8):
                    sub = (i % 2) * 2 + j % 2
                    dx, dy = offset[:, g, sub, i // 2, j // 2]
                    column = (j // 2 + (j % 2 - 0.5) / 2 + float(dx), 4)
                    row = (i // 2 + (i % 2 - 0.5) / 2 + float(dy), 3)
                    want = _bilinear(x[0, 2 * g : 2 * g + 2], row, column)
                    torch.testing.assert_close(got[0, 2 * g : 2 * g + 2, i, j], want, rtol=1e-4, atol=1e-5)


def _bilinear(x: torch.Tensor, row: tuple[float, int], column: tuple[float, int]) -> torch.Tensor:
    """A value of a map (C, H, W) between its cells; (position, size) of each axis."""
    (y, height), (z, width) = ((min(max(p, 0.0), n - 1.0), n) for p, n in (row, column))
    y0, z0 = min(int(y), height - 1), min(int(z), width - 1)
    y1, z1 = min(y0 + 1, height - 1), min(z0 + 1, width - 1)
    top = x[:, y0, z0] * (1 - (z - z0)) + x[:, y0, z1] * (z - z0)
    low = x[:, y1, z0] * (1 - (z - z0)) + x[:, y1, z1] * (z - z0)
    return top * (1 - (y - y0)) + low * (y - y0)


def test_dysample_in_bfloat16() -> None:
    """Coordinates stay in float32: what differs is the rounding of the values, not the places."""
    block, x = DySample(8), tensor("x", (1, 8, 4, 90))
    torch.nn.init.zeros_(block.offset.weight)
    want, got = block(x), block.bfloat16()(x.bfloat16())
    assert got.dtype is torch.bfloat16
    torch.testing.assert_close(got.float(), want, rtol=0.02, atol=0.02)


def test_eucb_by_parts() -> None:
    block, x = fill_(EUCB(4)).eval(), tensor("x", (1, 4, 3, 2))
    with torch.no_grad():
        large = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        torch.testing.assert_close(block(x), block.pwc(block.up_dwc[1](large)))


@pytest.mark.parametrize("make", [lambda: CARAFE(8, c_mid=8), lambda: DySample(8, dyscope=True), lambda: EUCB(8)])
def test_a_gradient_reaches_every_parameter(make: Any) -> None:
    assert parameters_without_gradient(make(), (8, 4, 3)) == set()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DySample(6), "6 channels are not divisible by groups=4"),
        (lambda: DySample(8, 2, "lpl"), "'lp' or 'pl'"),
        (lambda: DySample(8, 3, "pl"), "divisible by 9"),
        (lambda: DySample(8, groups=0), "groups=0"),
        (lambda: CARAFE(8, k_up=4), "k_up=4 must be odd"),
    ],
)
def test_wrong_arguments_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_rows_and_recorded_counts() -> None:
    for name in ("DySample", "Dy_Sample"):
        plan = plan_of(name, [2, "lp"], 64, width=0.5)
        assert (plan.args, plan.out_channels) == ((64, 2, "lp"), 64)
    assert parameters_of("DySample", [2, "lp"], 256) == 8_224
    assert parameters_of("CARAFE", [], 256) == 74_312
