"""torchinfo: the summary of a network. Its total is not compared: it counts parameters of some nested modules again."""

from __future__ import annotations

import pytest

from ultralytics import RTDETR

torchinfo = pytest.importorskip("torchinfo")


def test_summary(weights: str) -> None:
    network = RTDETR(weights).model
    model_stats = torchinfo.summary(network, input_size=(1, 3, 96, 96), verbose=0)
    shown = str(model_stats)
    assert all(type(layer).__name__ in shown for layer in network.model)
    assert model_stats.total_params >= sum(p.numel() for p in network.parameters())
    assert model_stats.total_mult_adds > 0
