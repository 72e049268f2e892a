"""Joins by attention: slow references, maps that are not square, unused parts, refusals, counts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests.golden.blocks.fill import fill_, tensor
from tests.nn.modules.block_checks import check_block, inputs_of, parameters_of, parameters_without_gradient, plan_of
from ultralytics.nn.modules.fusion.attentive import CAFM, GLSA, SBA, CAFMFusion, CGAFusion, ChannelAttention_HSFPN
from ultralytics.utils.errors import ConfigError


@pytest.mark.parametrize("size", [(6, 5), (4, 9)])
def test_shapes_batch_and_folds(size: tuple[int, int]) -> None:
    pair = [(16, *size)] * 2
    check_block(CGAFusion(16), pair, (16, *size))
    check_block(CAFMFusion(16, 4), pair, (16, *size))
    check_block(SBA([12, 16], 16), [(12, 2 * size[0] + 1, 2 * size[1]), (16, *size)], (16, *size))
    check_block(GLSA(32, 16), (32, *size), (16, *size))
    check_block(ChannelAttention_HSFPN(16), (16, *size), (16, *size))
    check_block(ChannelAttention_HSFPN(16, flag=False), (16, *size), (16, 1, 1))


def test_content_guided_sum() -> None:
    block, x = fill_(CGAFusion(16)).eval(), inputs_of([(16, 6, 5)] * 2)
    with torch.no_grad():
        s = x[0] + x[1]
        places = torch.stack((s.mean(1), s.amax(1)), 1)
        sa, ca, pa = block.sa.sa, block.ca.ca, block.pa.pa2
        pattern = F.conv2d(F.pad(places, [3] * 4, "reflect"), sa.weight, sa.bias) + ca(s.mean((2, 3), keepdim=True))
        gates = []
        for c in range(16):  # one kernel over each channel of the two maps
            pair = F.pad(torch.stack((s[:, c], pattern[:, c]), 1), [3] * 4, "reflect")
            gates.append(F.conv2d(pair, pa.weight[c : c + 1], pa.bias[c : c + 1]))
        w = torch.cat(gates, 1).sigmoid().sigmoid()
        want = block.conv(s + w * x[0] + (1 - w) * x[1])
        torch.testing.assert_close(block(x), want, rtol=1e-4, atol=1e-5)


def test_channel_attention_by_heads() -> None:
    block = fill_(CAFM(8, 2)).eval()
    qkv = tensor("qkv", (1, 24, 3, 4))
    with torch.no_grad():
        heads = []
        for m in range(2):
            q, k, v = (qkv[0, 8 * i + 4 * m : 8 * i + 4 * m + 4].flatten(1) for i in range(3))
            q, k = q / q.norm(dim=1, keepdim=True), k / k.norm(dim=1, keepdim=True)
            heads.append((q @ k.T * block.temperature[m]).softmax(1) @ v)
        joined = torch.cat(heads).view(8, 3, 4)
        want = torch.einsum("oc,chw->ohw", block.project_out.weight[:, :, 0, 0, 0], joined)
        torch.testing.assert_close(block._attended(qkv)[0], want, rtol=1e-5, atol=1e-5)


def test_boundary_aggregation() -> None:
    block, x = fill_(SBA([8, 12], 12)).eval(), inputs_of([(8, 7, 10), (12, 4, 5)])

    def to(v: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        return F.interpolate(v, size=size, mode="bilinear", align_corners=False)

    with torch.no_grad():
        h, low = block.fc2(x[0]), block.fc1(x[1])
        gh, gl = torch.sigmoid(h), torch.sigmoid(low)
        h, low = block.d_in2(h), block.d_in1(low)
        low = low * (1 + gl) + (1 - gl) * to(gh * h, (4, 5))
        h = h * (1 + gh) + (1 - gh) * to(gl * low, (7, 10))
        torch.testing.assert_close(block(x), block.conv(torch.cat((to(h, (4, 5)), low), 1)))


def test_global_context_of_glsa() -> None:
    part, x = fill_(GLSA(16, 8)).eval().GlobelBlock, tensor("x", (1, 8, 3, 4))
    with torch.no_grad():
        weights = part.conv_mask(x).flatten().softmax(0)
        context = torch.einsum("cn,n->c", x[0].flatten(1), weights).view(1, 8, 1, 1)
        want = x * (1 + part.channel_mul_conv(context).sigmoid())
        torch.testing.assert_close(part(x), want)


def test_gate_of_hsfpn() -> None:
    block, x = fill_(ChannelAttention_HSFPN(8, 2)), tensor("x", (1, 8, 3, 4))
    down, up = block.conv1.weight[..., 0, 0], block.conv2.weight[..., 0, 0]
    parts = [F.relu(v @ down.T) @ up.T for v in (x.mean((2, 3)), x.amax((2, 3)))]
    torch.testing.assert_close(block(x), x * sum(parts).sigmoid()[..., None, None])


@pytest.mark.parametrize(
    ("make", "shapes", "unused"),
    [
        (lambda: CGAFusion(16), [(16, 6, 5)] * 2, set()),
        (lambda: CAFMFusion(16, 4), [(16, 6, 5)] * 2, set()),
        (lambda: SBA([12, 16], 16), [(12, 8, 6), (16, 4, 3)], set()),
        (lambda: GLSA(32, 16), (32, 6, 5), {"conv1_1_1", "local.ca", "local.sa"}),
        (lambda: ChannelAttention_HSFPN(16), (16, 6, 5), set()),
    ],
)
def test_only_the_unused_parts_get_no_gradient(make: Any, shapes: Any, unused: set[str]) -> None:
    missing = parameters_without_gradient(make(), shapes)
    parts = {n.split(".")[0] if n.startswith("conv1_1_1") else ".".join(n.split(".")[:2]) for n in missing}
    assert parts == unused


def test_rows_and_counts() -> None:
    assert plan_of("CGAFusion", [], [32, 16]).args == (16,)
    assert plan_of("CAFMFusion", [4], [16, 16]).args == (16, 4)
    assert plan_of("SBA", [], [12, 16]).args == ([12, 16], 16)
    assert plan_of("GLSA", [64], 32, width=0.5).args == (32, 32)
    assert plan_of("ChannelAttention_HSFPN", [4, False], 32).args == (32, 4, False)
    assert parameters_of("SBA", [], [256, 256]) == 689_152


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CGAFusion(4), "reduced by 8"),
        (lambda: CAFMFusion(12), "not divisible by 8 heads"),
        (lambda: GLSA(31, 16), "must be even"),
        (lambda: ChannelAttention_HSFPN(2), "reduced by 4"),
        (lambda: plan_of("CGAFusion", [], [16]), "the row has 1"),
        (lambda: plan_of("SBA", [], [16, 16, 16]), "the row has 3"),
    ],
)
def test_wrong_arguments_are_refused(make: Any, message: str) -> None:
    with pytest.raises((ConfigError, ValueError), match=message):
        make()
