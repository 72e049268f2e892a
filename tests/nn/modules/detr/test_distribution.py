"""Distributions of box edges: bins, decoding and encoding, their mean, and the quality that peaks show."""

from __future__ import annotations

import math

import pytest
import torch

from ultralytics.models.utils.distribution import bin_weights, decode_edges, encode_edges
from ultralytics.nn.modules.detr.distribution import Integral, LocationQuality

UP, SCALE = torch.tensor(0.5), torch.tensor(4.0)


@pytest.mark.parametrize("reg_max", [4, 16, 32])
def test_bins_are_odd_and_grow(reg_max: int) -> None:
    bins = bin_weights(reg_max, UP, SCALE)
    assert bins.shape == (reg_max + 1,)
    torch.testing.assert_close(bins, -bins.flip(0))
    assert bool((bins[1:] > bins[:-1]).all()) and float(bins[-1]) == 4.0
    steps = (bins[1:] - bins[:-1])[reg_max // 2 :]
    assert bool((steps[1:-1] > steps[:-2]).all())


@pytest.mark.parametrize("reg_max", [0, 2, 5, 33])
def test_bins_without_a_middle_are_refused(reg_max: int) -> None:
    with pytest.raises(ValueError, match=f"reg_max={reg_max}.*even"):
        bin_weights(reg_max, UP, SCALE)


def test_decoding_in_a_loop() -> None:
    torch.manual_seed(0)
    refs, distance = torch.rand(3, 4), torch.randn(3, 4)
    for (cx, cy, w, h), (left, top, right, bottom), box in zip(
        refs.tolist(), distance.tolist(), decode_edges(refs, distance, 4.0).tolist(), strict=True
    ):
        x1, x2 = cx - (2 + left) * w / 4, cx + (2 + right) * w / 4
        y1, y2 = cy - (2 + top) * h / 4, cy + (2 + bottom) * h / 4
        assert box == pytest.approx([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], abs=1e-6)


def test_a_target_within_reach_comes_back() -> None:
    torch.manual_seed(0)
    refs = torch.rand(50, 4) * 0.3 + 0.3
    boxes = refs * (1 + 0.1 * torch.randn(50, 4))
    bins = bin_weights(32, UP, SCALE)
    target = encode_edges(refs, boxes, bins, 4.0)
    left = target.bin.long()
    distance = target.left * bins[left] + target.right * bins[left + 1]
    torch.testing.assert_close(decode_edges(refs, distance, 4.0), boxes, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(target.left + target.right, torch.ones(50, 4))


def test_targets_out_of_reach_and_degenerate_ones_stay_in_the_bins() -> None:
    refs = torch.tensor([[0.5, 0.5, 0.01, 0.01], [0.5, 0.5, 0.9, 0.9], [0.5, 0.5, 0.0, 0.0]])
    boxes = torch.tensor([[0.5, 0.5, 1.0, 1.0], [0.5, 0.5, 0.0, 0.0], [0.5, 0.5, 0.2, 0.2]])
    target = encode_edges(refs, boxes, bin_weights(32, UP, SCALE), 4.0)
    assert all(bool(t.isfinite().all()) for t in target)
    assert target.bin[0].tolist() == pytest.approx([31.9] * 4) and target.right[0].tolist() == [1.0] * 4
    assert bool((target.bin.long() >= 0).all()) and bool((target.bin.long() < 32).all())


def test_no_boxes_give_no_targets() -> None:
    target = encode_edges(torch.zeros(0, 4), torch.zeros(0, 4), bin_weights(32, UP, SCALE), 4.0)
    assert [t.shape for t in target] == [(0, 4)] * 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_mean_of_the_bins(dtype: torch.dtype) -> None:
    corners = torch.zeros(2, 3, 4 * 33, dtype=dtype)
    corners[0, 0, 33 + 5] = 60000.0 if dtype == torch.float16 else 1e6  # all weight on bin 5 of the second edge
    bins = bin_weights(32, UP, SCALE)
    distance = Integral(32)(corners, bins)
    assert distance.dtype == torch.float32 and distance.shape == (2, 3, 4)
    assert float(distance[0, 0, 1]) == pytest.approx(float(bins[5])) and abs(float(distance[1, 0, 0])) < 1e-6


def test_quality_starts_without_effect_and_then_looks_at_peaks_alone() -> None:
    torch.manual_seed(0)
    layer = LocationQuality(k=2, hidden=8, layers=2, reg_max=4)
    scores, corners = torch.randn(1, 3, 5), torch.randn(1, 3, 4 * 5)
    torch.testing.assert_close(layer(scores, corners), scores)
    torch.nn.init.normal_(layer.reg_conf.layers[-1].get_parameter("weight"))
    moved = layer(scores, corners)
    order = torch.cat([torch.randperm(5) + 5 * edge for edge in range(4)])
    torch.testing.assert_close(layer(scores, corners[..., order]), moved)  # which bin is highest does not matter
    assert not math.isclose(float((moved - scores).abs().max()), 0.0)
