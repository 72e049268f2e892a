"""torchinfo: the summary of a network."""

from __future__ import annotations

import pytest

from ultralytics import RTDETR

torchinfo = pytest.importorskip("torchinfo")


def test_summary(weights: str) -> None:
    network = RTDETR(weights).model
    model_stats = torchinfo.summary(network, input_size=(1, 3, 96, 96), verbose=0)
    assert model_stats.total_params == sum(p.numel() for p in network.parameters())
    assert "RTDETRDecoder" in str(model_stats)
