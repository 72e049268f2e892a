"""Gather steps and the focusing neck: slow references, odd sizes, refusals, rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests.golden.blocks.fill import fill_
from tests.nn.modules.block_checks import check_block, inputs_of, parameters_without_gradient, plan_of
from ultralytics.nn.modules.fusion.gather import ContextGuideFusionModule, FocusFeature, SimFusion_3in, SimFusion_4in
from ultralytics.utils.errors import ConfigError

SIZES = [((16, 12), (8, 6), (4, 3)), ((13, 9), (7, 5), (4, 3))]


@pytest.mark.parametrize("sizes", SIZES)
def test_three_levels(sizes: tuple[tuple[int, int], ...]) -> None:
    shapes = [(c, *s) for c, s in zip((8, 16, 24), sizes, strict=True)]
    check_block(SimFusion_3in([8, 16, 24], 16), shapes, (16, *sizes[1]))
    assert parameters_without_gradient(SimFusion_3in([8, 16, 24], 16), shapes) == set()
    plan = plan_of("SimFusion_3in", [32], [8, 16, 24], width=0.5)
    assert (plan.args, plan.out_channels) == (([8, 16, 24], 16), 16)


@pytest.mark.parametrize("sizes", SIZES)
def test_four_levels(sizes: tuple[tuple[int, int], ...]) -> None:
    shapes = [(2, 20, 24), *((c, *s) for c, s in zip((3, 4, 5), sizes, strict=True))]
    check_block(SimFusion_4in(), shapes, (14, *sizes[1]))
    x = inputs_of(shapes)
    got = SimFusion_4in()(x)
    torch.testing.assert_close(got[:, :2], F.adaptive_avg_pool2d(x[0], sizes[1]))
    torch.testing.assert_close(got[:, 5:9], x[2])
    assert plan_of("SimFusion_4in", [], [2, 3, 4, 5]).out_channels == 14


def test_context_guide() -> None:
    shapes = [(12, 5, 3), (16, 5, 3)]
    check_block(ContextGuideFusionModule([12, 16]), shapes, (32, 5, 3))
    assert parameters_without_gradient(ContextGuideFusionModule([12, 16]), shapes) == set()
    block, x = fill_(ContextGuideFusionModule([16, 16])).eval(), inputs_of([(16, 5, 3)] * 2)
    a, b = x
    gate = block.se.fc(torch.cat((a, b), 1).mean((2, 3)))[..., None, None]
    first, second = a + b * (b * gate[:, 16:]), b + a * (a * gate[:, :16])
    torch.testing.assert_close(block(x), torch.cat((first, second), 1), rtol=1e-5, atol=1e-5)
    assert plan_of("ContextGuideFusionModule", [], [12, 16]).out_channels == 32


@pytest.mark.parametrize("sizes", SIZES)
def test_focus(sizes: tuple[tuple[int, int], ...]) -> None:
    fine, middle, coarse = sizes
    shapes = [(24, *coarse), (16, *middle), (8, *fine)]
    if fine[0] % 2:  # ADown gives ceil((n - 1) / 2)
        shapes[2] = (8, 14, 10)
    check_block(FocusFeature([24, 16, 8], (3, 5)), shapes, (24, *middle))
    assert parameters_without_gradient(FocusFeature([24, 16, 8], (3, 5)), shapes) == set()
    plan = plan_of("FocusFeature", [[3, 5], 0.25], [24, 16, 8])
    assert (plan.args, plan.out_channels) == (([24, 16, 8], [3, 5], 0.25), 12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FocusFeature([8, 8, 8], (4,)), "must be odd"),
        (lambda: plan_of("FocusFeature", [], [8, 8]), "the row has 2"),
        (lambda: plan_of("SimFusion_3in", [16], [8, 8]), "the row has 2"),
        (lambda: ContextGuideFusionModule([4, 4]), "reduced by 16"),
    ],
)
def test_wrong_arguments_are_refused(make: Any, message: str) -> None:
    with pytest.raises((ConfigError, ValueError), match=message):
        make()
