"""Which weights count as finite, and what is said of others."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ultralytics.nn.cpu.finite import check_finite


def network() -> nn.Sequential:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 0, bias=False), nn.Linear(4, 2))
    net.register_buffer("mask", torch.full((3, 3), -math.inf).triu(1))
    return net


def test_a_sound_network_gives_no_warning(capsys: pytest.CaptureFixture[str]) -> None:
    for net in (network(), network().half(), network().to("meta"), nn.Sequential()):
        assert check_finite(net)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["0.weight", "0.bias", "3.weight"])
def test_one_wrong_number_is_named(
    name: str, value: float, dtype: torch.dtype, capsys: pytest.CaptureFixture[str]
) -> None:
    net = network().to(dtype, memory_format=torch.channels_last)
    for wrong in (name, "3.bias"):
        with torch.no_grad():
            net.get_parameter(wrong)[-1].fill_(value)
    assert not check_finite(net, "best.pt")
    said = capsys.readouterr().out
    assert said.count("not finite") == 1 and f"best.pt: {name} " in said


def test_of_buffers_nan_counts(capsys: pytest.CaptureFixture[str]) -> None:
    net = network()
    net[1].running_var[2] = math.nan
    assert not check_finite(net)
    assert "the network: 1.running_var " in capsys.readouterr().out
