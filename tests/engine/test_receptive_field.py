"""Effective receptive field, against networks whose field is known."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from tests.engine.tiny import TINY
from ultralytics import RTDETR
from ultralytics.cli.main import entrypoint
from ultralytics.engine.receptive_field import ReceptiveField, measure_fields, read_images
from ultralytics.utils import YAML
from ultralytics.utils.errors import ConfigError


class Chain(nn.Module):
    """Convolutions of ones, one after another, as a network of layers."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.model = nn.Sequential(*layers)
        for layer in self.model:
            layer.type = type(layer).__name__

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.model(x)
        return out


def ones(k: int, stride: int = 1) -> nn.Conv2d:
    layer = nn.Conv2d(1, 1, k, stride, k // 2, bias=False)
    nn.init.ones_(layer.weight)
    return layer


def test_the_field_of_chained_convolutions_is_their_kernels_folded() -> None:
    network = Chain(ones(3), ones(3), ones(5)).train()
    (first, last) = measure_fields(network, [torch.rand(1, 1, 15, 15)] * 2, [0, 2], torch.device("cpu"))
    row = np.convolve(np.convolve(np.ones(3), np.ones(3)), np.ones(5))  # 9 taps
    expected = np.pad(np.outer(row, row), 3)
    assert np.allclose(last.values, expected / expected.sum()) and last.images == 2 and last.name == "Conv2d"
    assert (first.side(0.99), last.side(0.99), last.side(1.0)) == (3, 9, 9)
    assert network.training and not network.model[0]._forward_hooks


def test_a_map_of_even_size_has_a_centred_field() -> None:
    (field,) = measure_fields(Chain(ones(3, 2)), [torch.rand(1, 1, 16, 16)], [0], torch.device("cpu"))
    assert np.allclose(field.values.sum(), 1) and field.values[5:11, 5:11].sum() == pytest.approx(1)


def test_sides_of_squares() -> None:
    field = ReceptiveField(0, "x", np.full((9, 9), 1 / 81), 1)
    assert [field.side(r) for r in (1 / 81, 9 / 81, 0.5, 1.0)] == [1, 3, 7, 9]


def test_the_command_writes_table_arrays_and_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    YAML.save(tmp_path / "tiny.yaml", TINY)
    for i in range(2):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.random.default_rng(i).integers(0, 255, (40, 60, 3), np.uint8))
    tokens = ["erf", f"model={tmp_path}/tiny.yaml", f"source={tmp_path}", "imgsz=64", f"save_dir={tmp_path}/out"]
    entrypoint([*tokens, "device=cpu", "fmt=svg"])
    out = capsys.readouterr().out
    assert "2 Conv" in out and "6 AIFI" in out and "Side and area" in out
    assert {p.name for p in (tmp_path / "out").iterdir()} >= {"erf.csv", "erf.json", "erf.npz", "erf.png", "erf.svg"}
    with np.load(tmp_path / "out" / "erf.npz") as arrays:
        assert arrays["layer2"].shape == (64, 64) and arrays["layer2"].sum() == pytest.approx(1, abs=1e-3)
    with pytest.raises(SystemExit):
        entrypoint([*tokens, "layer=99"])
    assert "layer=99: there are the layers 0 to 6" in capsys.readouterr().err


def test_what_has_no_feature_map_is_refused(tmp_path: Path) -> None:
    network = RTDETR(TINY).model
    images = [torch.rand(1, 3, 64, 64)]
    with pytest.raises(ConfigError, match="not a feature map"):
        measure_fields(network, images, [7], torch.device("cpu"))
    with pytest.raises(ConfigError):
        read_images(str(tmp_path), 64)
