"""Peak memory of activations against sums by hand, and attention that holds its N x N map."""

import pytest
import torch
from torch import nn

from tests.engine.tiny import tiny_network
from ultralytics.nn.modules import SHSA
from ultralytics.nn.profile.activation_memory import MAX_TOKENS, estimate_memory, estimate_training


class Net(nn.Module):
    """Layers in a row."""

    def __init__(self, *layers):
        super().__init__()
        self.model = nn.Sequential(*layers)
        for i, layer in enumerate(layers):
            layer.i = i

    def forward(self, x):
        return self.model(x)


class PlainAttention(nn.Module):
    """softmax(x x^T) x, written out."""

    def forward(self, x):
        t = x.flatten(2).transpose(1, 2)  # (B, N, C)
        return ((t @ t.transpose(1, 2)).softmax(-1) @ t).transpose(1, 2).reshape(x.shape)


class NeedsANumber(nn.Module):
    """Reads a number from a tensor, and makes as many elements as it says."""

    def forward(self, x):
        return x[:, : max(int((x > 0).sum()), 1)]


class NeedsValues(nn.Module):
    """Leaves the tensors of torch for an array."""

    def forward(self, x):
        return x * float(x.detach().numpy().sum())


MAP = 4 * 64 * 64  # bytes of one channel of a 64 px image


@pytest.mark.parametrize(
    ("layers", "channels"),
    [
        ([nn.Identity()], 3),  # the image
        ([nn.Conv2d(3, 5, 1)], 3 + 5),
        ([nn.Conv2d(3, 5, 1), nn.ReLU()], 3 + 5 + 5),  # the caller still holds the image
        ([nn.Conv2d(3, 5, 1), nn.ReLU(inplace=True)], 3 + 5),
        ([nn.Conv2d(3, 5, 1), nn.Conv2d(5, 2, 1), nn.Conv2d(2, 2, 1)], 3 + 5 + 2),  # what is used up is free again
        ([nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 1)], 3 + 2 + 2),
        ([NeedsANumber()], 3 + 3 / 4 + 1e-9),  # a comparison is one byte an element
    ],
)
def test_peak(layers, channels):
    got = estimate_memory(Net(*layers), 64)
    assert abs(got.peak - channels * MAP) <= 64 and got.wide == {}


def test_the_model_stays_as_it_was():
    net = Net(nn.Conv2d(3, 4, 1)).train()
    before = net.model[0].weight.clone()
    estimate_memory(net, (32, 64))
    assert net.training and torch.equal(net.model[0].weight, before)
    assert not net.model[0]._forward_pre_hooks


@pytest.mark.parametrize(
    ("block", "side", "wide"),
    [
        (PlainAttention(), 64, {}),  # 4,096 tokens: not more
        (PlainAttention(), 80, {1: 6400}),
        (SHSA(8, residual=True), 80, {}),  # the fused path
    ],
)
def test_wide_attention_is_flagged(block, side, wide):
    assert MAX_TOKENS == 4096
    got = estimate_memory(Net(nn.Conv2d(3, 8, 1), block), side)
    assert got.wide == wide
    assert (got.peak > 4 * 6400**2) is bool(wide)


@pytest.mark.parametrize(
    ("layers", "image"),
    [
        ([nn.Conv2d(3, 5, 1, bias=False)], 3 + 5),
        # a sigmoid keeps its output, not its input, whose gradient is made
        ([nn.Conv2d(3, 5, 1, bias=False), nn.Sigmoid()], 3 + 5 + 5),
        # the map between two convolutions is kept, and gets a gradient beside the output
        ([nn.Conv2d(3, 5, 1, bias=False), nn.Conv2d(5, 5, 1, bias=False)], 3 + 5 + 5 + 5),
    ],
)
def test_a_training_step(layers, image):
    net = Net(*layers)
    before = net.model[0].weight.clone()
    got = estimate_training(net, 64)
    weights = sum(4 * p.numel() for p in net.parameters())
    assert got.weights == weights and 0 <= got.fixed <= weights + 64
    assert got.image == pytest.approx(image * MAP, abs=64)
    assert got.peak(8) == pytest.approx(4 * weights + got.fixed + 8 * got.image)
    assert got.batch(got.peak(8)) == 8 and got.batch(0) == 0
    assert net.model[0].weight.grad is None and torch.equal(net.model[0].weight, before)


def test_half_precision_takes_less():
    net = Net(nn.Conv2d(3, 16, 1), *(nn.Conv2d(16, 16, 1) for _ in range(8)))
    full, half = estimate_training(net, 64), estimate_training(net, 64, amp=torch.bfloat16)
    assert 0.5 * full.image < half.image < 0.7 * full.image  # the output is float32 in both


def test_a_network_with_deformable_attention_has_an_estimate():
    got = estimate_training(tiny_network(), 64)
    assert got is not None and got.image > 100 * 2**10


def test_a_training_step_that_needs_numbers_has_no_estimate():
    assert estimate_training(Net(nn.Conv2d(3, 3, 1), NeedsValues()), 64) is None
