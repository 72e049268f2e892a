"""Sums, products, picks and weighted joins: slow references, sizes that differ, zero weights, refusals, rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests.golden.blocks.fill import fill_, tensor
from tests.nn.modules.block_checks import check_block, inputs_of, parameters_without_gradient, plan_of
from ultralytics.nn.build.builder import parse_model
from ultralytics.nn.modules.fusion.joins import SDI, Add, Bi_FPN, Fusion, GetIndexOutput, Multiply, Zoom_cat, resized
from ultralytics.utils.errors import ConfigError, ModelYAMLError

SAME = [(8, 5, 3), (8, 5, 3), (8, 5, 3)]


def test_sum_and_product_leave_their_inputs() -> None:
    x = inputs_of(SAME)
    kept = [v.clone() for v in x]
    torch.testing.assert_close(Add()(x), x[0] + x[1] + x[2])
    torch.testing.assert_close(Multiply()(x), x[0] * x[1] * x[2])
    torch.testing.assert_close(Add()(x[:1]), x[0])
    assert all(torch.equal(a, b) for a, b in zip(x, kept, strict=True))
    assert plan_of("Add", [], [4, 4]).out_channels == plan_of("Multiply", [], [8, 4]).out_channels == 4


def test_pick_of_a_list() -> None:
    x = inputs_of([(3, 4, 4), (5, 2, 2)])
    assert torch.equal(GetIndexOutput(1)(x), x[1])
    assert plan_of("GetIndexOutput", [1], 8).out_channels == -1  # found by the dry run
    with pytest.raises(ConfigError, match="one map"):
        GetIndexOutput(0)(x[0])


def test_pick_and_sum_in_a_model() -> None:
    rows: list[list[Any]] = [
        [-1, 1, "Conv", [16, 3, 2]],
        [-1, 1, "CBLinear", [[8, 24]]],
        [1, 1, "GetIndexOutput", [1]],
        [0, 1, "Conv", [24, 1]],
    ]
    cfg = {"nc": 4, "backbone": rows, "head": [[[2, 3], 1, "Add", []], [[2, 4], 1, "Fusion", ["concat"]]]}
    layers, save = parse_model(cfg, verbose=False)
    assert layers[3].conv.in_channels == 16 and save == [0, 1, 2, 3, 4]
    cfg["head"] = [[[0, 3], 1, "Add", []]]
    with pytest.raises(ModelYAMLError, match="Add"):
        parse_model(cfg, verbose=False)


@pytest.mark.parametrize("sizes", [((8, 6), (4, 3), (2, 2)), ((7, 9), (4, 5), (2, 3))])
def test_zoom_cat(sizes: tuple[tuple[int, int], ...]) -> None:
    shapes = [(c, *s) for c, s in zip((2, 3, 4), sizes, strict=True)]
    check_block(Zoom_cat(), shapes, (9, *sizes[1]))
    x = inputs_of(shapes)
    fine = F.adaptive_avg_pool2d(x[0], sizes[1]) + F.adaptive_max_pool2d(x[0], sizes[1])
    want = torch.cat((fine, x[1], F.interpolate(x[2], sizes[1], mode="nearest")), 1)
    torch.testing.assert_close(Zoom_cat()(x), want)
    assert plan_of("Zoom_cat", [], [2, 3, 4]).out_channels == 9


def test_resized_by_sides() -> None:
    x = tensor("x", (1, 2, 8, 4))
    assert resized(x, (8, 4)) is x
    torch.testing.assert_close(resized(x, (4, 2)), F.avg_pool2d(x, 2))
    up = F.interpolate(x, size=(15, 7), mode="bilinear", align_corners=True)
    torch.testing.assert_close(resized(x, (15, 7)), up)
    mixed = F.interpolate(F.avg_pool2d(x, (2, 1)), size=(4, 7), mode="bilinear", align_corners=True)
    torch.testing.assert_close(resized(x, (4, 7)), mixed)


@pytest.mark.parametrize("block", [lambda c: SDI(c), lambda c: Fusion(c, "SDI")])
def test_sdi_of_maps_that_are_not_square(block: Any) -> None:
    shapes = [(8, 6, 10), (6, 12, 20), (4, 3, 5), (8, 12, 5)]
    check_block(block([8, 6, 4, 8]), shapes, (8, 6, 10))
    assert parameters_without_gradient(block([8, 6, 4, 8]), shapes) == set()


@pytest.mark.parametrize("mode", ["weight", "adaptive", "bifpn", "concat"])
def test_fusion_modes(mode: str) -> None:
    check_block(Fusion([8, 8, 8], mode), SAME, (24 if mode == "concat" else 8, 5, 3))
    block, x = fill_(Fusion([8, 8, 8], mode)).eval(), inputs_of(SAME)
    kept = [v.clone() for v in x]
    with torch.no_grad():
        got = block(x)
        if mode == "concat":
            want = torch.cat(x, 1)
        elif mode == "bifpn":
            w = block.fusion_weight.relu() / block.fusion_weight.relu().sum()
            want = torch.einsum("n,nbchw->bchw", w, torch.stack(x))
        else:
            y = torch.stack([c(v) for c, v in zip(block.fusion_conv, x, strict=True)])
            gates = torch.ones(2, 3, 5, 3)
            if mode == "adaptive":
                gates = block.fusion_adaptive(torch.cat(list(y), 1)).softmax(1)
            want = torch.einsum("bnhw,nbchw->bchw", gates, y)
    torch.testing.assert_close(got, want)
    assert all(torch.equal(a, b) for a, b in zip(x, kept, strict=True))


def test_weights_without_a_positive_one_stay_finite() -> None:
    block = Fusion([8, 8], "bifpn")
    torch.nn.init.constant_(block.fusion_weight, -1.0)
    out = block(inputs_of(SAME[:2]))
    out.sum().backward()
    assert torch.equal(out, torch.zeros_like(out))
    assert block.fusion_weight.grad is not None and block.fusion_weight.grad.isfinite().all()


def test_bi_fpn() -> None:
    block, x = fill_(Bi_FPN(3)), inputs_of(SAME)
    w = block.weight
    want = sum(w[i] * x[i] for i in range(3)) / ((w * w.sigmoid()).sum() + 1e-4)
    torch.testing.assert_close(block(x), want)
    assert plan_of("Bi_FPN", [], [8, 8]).args == plan_of("Bi_FPN", [2], [8, 8]).args == (2,)
    with pytest.raises(ValueError, match="says 3 inputs, but it has 2"):
        plan_of("Bi_FPN", [3], [8, 8])


@pytest.mark.parametrize(
    ("channels", "mode", "message"),
    [([8, 8], "bifnp", "weight, adaptive, concat, bifpn, SDI"), ([8, 6], "bifpn", r"\[8, 6\] must be equal")],
)
def test_wrong_fusions_are_refused(channels: list[int], mode: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Fusion(channels, mode)


def test_rows_of_fusion() -> None:
    assert plan_of("Fusion", ["concat"], [8, 6]).out_channels == 14
    assert plan_of("Fusion", ["bifpn"], [8, 8]) == plan_of("Fusion", ["bifpn"], [8, 8], width=0.5)
    assert plan_of("SDI", [], [8, 6]).args == ([8, 6],)
