"""Rows that build a backbone of torchvision."""

from __future__ import annotations

import logging
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

from ultralytics.nn.checkpoint.format import read_library_weights
from ultralytics.nn.modules.backbones import TorchVision, load_row_weights
from ultralytics.nn.modules.backbones.torchvision_rows import TorchVisionMaps
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils.errors import CheckpointError, ConfigError, ModelYAMLError, NotFoundError


class Runs:
    """Ends the process when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (3,)


def yaml_of(row: list[Any]) -> dict[str, Any]:
    head = [[-1, 1, "Conv", [16, 1, 1]], [[2, 3, 5], 1, "RTDETRDecoder", ["nc", 16, 10, 2, 2, 1, 32]]]
    return {"nc": 2, "backbone": [row], "head": head}


def test_maps_are_those_of_the_network() -> None:
    """Of ResNet-18 the outputs of the stem and of the four stages."""
    net = torchvision.models.resnet18().eval()
    row = TorchVisionMaps("resnet18").eval()
    row.m.load_state_dict(net.state_dict(), strict=False)
    x = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        got = row(x)
        want = [net.relu(net.bn1(net.conv1(x)))]
        y = net.maxpool(want[0])
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            y = stage(y)
            want.append(y)
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("swin_t", [192, 384, 768]),
        ("mobilenet_v3_small", [24, 48, 576]),
        ("densenet121", [512, 1024, 1024]),
        ("regnet_y_400mf", [104, 208, 440]),
    ],
)
def test_rows(name: str, channels: list[int]) -> None:
    count = 4 if name == "swin_t" else 5
    row = [-1, 1, "TorchVision", [name, False, list(range(count - 3, count))]]
    model = RTDETRDetectionModel(yaml_of(row), verbose=False).eval()
    with torch.no_grad():
        maps = model.model[0](torch.rand(1, 3, 64, 96))
        assert model(torch.rand(2, 3, 64, 96))[0].shape == (2, 10, 6)
    assert [m.shape[1] for m in maps] == channels
    assert [tuple(m.shape[2:]) for m in maps] == [(8, 12), (4, 6), (2, 3)]


def test_a_network_that_reads_numbers_is_built_on_the_meta_device() -> None:
    with torch.device("meta"):
        row = TorchVisionMaps("regnet_y_400mf", stages=[3, 4])
    assert {p.device.type for p in row.parameters()} == {"meta"}


def test_the_state_comes_back() -> None:
    source, target = (RTDETRDetectionModel(yaml_of([-1, 1, "TorchVision", ["resnet18"]]), verbose=False) for _ in "ab")
    assert not target.load(source, verbose=False).fresh


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["resnet19", False], "torchvision has no model 'resnet19'"),
        (["vit_b_16", False], "takes one image size alone|no maps of several sizes"),
        (["resnet18", False, [5]], r"stages=\[5\]"),
    ],
)
def test_wrong_rows(args: list[Any], message: str) -> None:
    with pytest.raises((ModelYAMLError, ConfigError, NotFoundError), match=message):
        RTDETRDetectionModel(yaml_of([-1, 1, "TorchVision", args]), verbose=False)


def test_weights_come_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    model = RTDETRDetectionModel(yaml_of([-1, 1, "TorchVision", ["resnet18", True]]), verbose=False)
    with pytest.raises(NotFoundError, match=rf"resnet18-\w+\.pth is not in {tmp_path}/checkpoints"):
        load_row_weights(model, read_library_weights)
    net = torchvision.models.resnet18()
    file = tmp_path / "checkpoints" / Path(torchvision.models.ResNet18_Weights.DEFAULT.url).name
    file.parent.mkdir()
    torch.save(net.state_dict(), file)
    assert load_row_weights(model, read_library_weights) == [file]
    assert torch.equal(model.state_dict()["model.0.m.layer2.0.conv1.weight"], net.layer2[0].conv1.weight)


def test_weights_are_read_as_data(tmp_path: Path) -> None:
    """An old-style file of tensors is read; one that would run code, or is cut short, is refused in one line."""
    row = TorchVisionMaps("resnet18", weights=str(tmp_path / "w.pth"))
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    assert row.load_weights(read_library_weights) == tmp_path / "w.pth"
    for content in (pickle.dumps(Runs()), (tmp_path / "w.pth").read_bytes()[:2000], pickle.dumps([1])):
        (tmp_path / "w.pth").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"w\.pth"):
            row.load_weights(read_library_weights)


def test_upstreams_form_downloads_nothing(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a download was started")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with caplog.at_level(logging.WARNING):
        TorchVision("resnet18", "DEFAULT")
    assert "weights=DEFAULT is not downloaded" in caplog.text
