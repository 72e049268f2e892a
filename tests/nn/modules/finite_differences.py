"""Directional finite differences of a block behind a batch norm, for one image."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn


def assert_gradient(block: nn.Module, training: bool, channels: int = 32, side: int = 7, step: float = 1e-7) -> None:
    """Hold the gradient of a random sum of outputs against central differences along three random directions."""
    torch.manual_seed(4)
    norm = nn.BatchNorm2d(channels)
    nn.init.uniform_(norm.weight, 0.5, 2)
    net = nn.Sequential(norm, block).double().train(training)
    fresh = copy.deepcopy(net)
    x = torch.randn(1, channels, side, side, dtype=torch.float64).requires_grad_()
    y = net(x)
    weight = torch.randn_like(y)
    (grad,) = torch.autograd.grad((y * weight).sum(), x)

    def value(at: Tensor) -> float:
        with torch.no_grad():  # of a copy: batch statistics and counters of a norm move in training
            return float((copy.deepcopy(fresh)(at) * weight).sum())

    for _ in range(3):
        direction = torch.randn_like(x)
        difference = (value(x + step * direction) - value(x - step * direction)) / (2 * step)
        assert float((grad * direction).sum()) == pytest.approx(difference, rel=1e-4, abs=1e-4)
