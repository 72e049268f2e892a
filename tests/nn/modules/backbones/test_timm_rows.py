"""Rows that build a backbone of timm."""

from __future__ import annotations

import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from ultralytics.nn.build.builder import plan_model
from ultralytics.nn.build.names import find_entry
from ultralytics.nn.build.spec import load_model_yaml
from ultralytics.nn.checkpoint.format import read_library_weights
from ultralytics.nn.modules.backbones import Timm, load_row_weights, timm_rows
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils.errors import ImageSizeError, ModelYAMLError, NotFoundError

timm = pytest.importorskip("timm")
SMALL = "mobilenetv3_small_050"


def yaml_of(row: list[Any]) -> dict[str, Any]:
    head = [[-1, 1, "Conv", [16, 1, 1]], [[2, 3, 5], 1, "RTDETRDecoder", ["nc", 16, 10, 2, 2, 1, 32]]]
    return {"nc": 2, "backbone": [row], "head": head}


@pytest.mark.parametrize("name", [SMALL, "convnext_atto", "fasternet_t0", "efficientvit_b0", "shvit_s1"])
def test_maps_are_timms(name: str) -> None:
    """Parameters, tensor names and maps are those of timm's own network of features."""
    ours = Timm(name).eval()
    theirs = timm.create_model(name, features_only=True).eval()
    assert list(ours.state_dict()) == list(theirs.state_dict())[: len(ours.state_dict())]
    theirs.load_state_dict(ours.state_dict())
    x = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        for got, want in zip(ours(x), theirs(x), strict=True):
            assert torch.equal(got, want)


def test_channels_last_maps_are_turned() -> None:
    """Swin gives (B, H, W, C), and takes other sizes than that of its training."""
    maps = Timm("swin_tiny_patch4_window7_224", stages=[0, 1]).eval()(torch.rand(1, 3, 64, 96))
    assert [tuple(m.shape) for m in maps] == [(1, 96, 16, 24), (1, 192, 8, 12)]


def test_children_are_shared_with_the_network() -> None:
    """A child that is exchanged is used, in a copy too."""
    row = deepcopy(Timm(SMALL)).eval()
    x = torch.rand(1, 3, 64, 64)
    before = row(x)
    row.conv_stem = torch.nn.Conv2d(3, 16, 3, 2, 1, bias=False)
    after = row(x)
    assert not torch.equal(before[0], after[0])


@pytest.mark.parametrize(
    ("row", "slots"),
    [
        ([-1, 1, "Timm", [SMALL, False, [2, 3, 4]]], [2, 3, 5]),
        ([-1, 1, "Timm", [SMALL, "stages=[2, 3, 4]"]], [2, 3, 5]),
        ([-1, 1, SMALL, [False]], [2, 3, 5]),
        ([-1, 1, SMALL, []], [2, 3, 5]),
    ],
)
def test_rows(row: list[Any], slots: list[int]) -> None:
    model = RTDETRDetectionModel(yaml_of(row), verbose=False).eval()
    assert model.save == slots
    assert next(iter(model.state_dict())).startswith("model.0.conv_stem")
    with torch.no_grad():
        assert model(torch.rand(2, 3, 64, 96))[0].shape == (2, 10, 6)


def test_images_of_one_channel() -> None:
    model = RTDETRDetectionModel(yaml_of([-1, 1, "Timm", [SMALL]]), ch=1, verbose=False).eval()
    with torch.no_grad():
        assert model(torch.rand(1, 1, 64, 64))[0].shape == (1, 10, 6)


def test_parameters_as_in_forks() -> None:
    """Counted in a fork, whose denoising embedding has 256 numbers more."""
    model = RTDETRDetectionModel("rtdetr-timm-mobilenetv3_small.yaml", verbose=False)
    assert sum(p.numel() for p in model.parameters()) == 9_848_016 - 256
    assert model.save == [2, 3, 7, 8, 12, 13, 16, 19, 22]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["no_such_net"], "has no model 'no_such_net'"),
        ([SMALL, False, [7]], r"stages=\[7\].*maps 0 to 4"),
        ([SMALL, 1], "true or false"),
    ],
)
def test_wrong_rows(args: list[Any], message: str) -> None:
    with pytest.raises((ModelYAMLError, NotFoundError), match=message):
        RTDETRDetectionModel(yaml_of([-1, 1, "Timm", args]), verbose=False)


def test_without_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm_rows, "has_timm", lambda: False)
    with pytest.raises(ModelYAMLError, match=r"(?s)not installed.*pip install rtdetr-shsa\[timm\]"):
        RTDETRDetectionModel(yaml_of([-1, 1, "Timm", [SMALL]]), verbose=False)
    with pytest.raises(ModelYAMLError, match="unknown module"):
        find_entry(SMALL)


# ---------------------------------------------------------------------------------------------------------- weights
def test_weights_come_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole classifier's file, as published, fills the row; without a file the message names it."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    model = RTDETRDetectionModel(yaml_of([-1, 1, "Timm", [SMALL, True]]), verbose=False)
    with pytest.raises(NotFoundError, match=rf"{SMALL}\.\w+\.safetensors is not in {tmp_path}/checkpoints"):
        load_row_weights(model, read_library_weights)
    whole = timm.create_model(SMALL)
    name = timm.get_pretrained_cfg(SMALL)
    file = tmp_path / "checkpoints" / f"{SMALL}.{name.tag}.pth"
    file.parent.mkdir()
    torch.save(whole.state_dict(), file)
    assert load_row_weights(model, read_library_weights) == [file]
    assert torch.equal(model.model[0].state_dict()["conv_stem.weight"], whole.conv_stem.weight)
    assert torch.equal(model.model[0].state_dict()["blocks.2.0.conv_pw.weight"], whole.blocks[2][0].conv_pw.weight)


def test_a_given_file_wins(tmp_path: Path) -> None:
    row = RTDETRDetectionModel(yaml_of([-1, 1, SMALL, [True, str(tmp_path / "mine.pth")]]), verbose=False)
    with pytest.raises(NotFoundError, match=r"mine\.pth is not in"):
        load_row_weights(row, read_library_weights)


def test_rows_without_pretrained_weights_read_nothing() -> None:
    assert (
        load_row_weights(RTDETRDetectionModel(yaml_of([-1, 1, SMALL, [False]]), verbose=False), read_library_weights)
        == []
    )


def test_timm_is_imported_when_a_row_asks() -> None:
    code = "import sys, ultralytics.nn.tasks; sys.exit('timm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow  # maxvit is planned twice
def test_an_image_size_that_windows_do_not_fill() -> None:
    """The model is planned at a size that its backbone takes; another one is refused with one that fits."""
    row = [-1, 1, "Timm", ["maxvit_rmlp_pico_rw_256", False, [1, 2, 3, 4]]]
    assert plan_model(load_model_yaml(yaml_of(row)))[0].probe == 768
    with torch.device("meta"):
        maps = Timm("maxvit_rmlp_pico_rw_256", stages=[1]).eval()
        with pytest.raises(ImageSizeError, match=r"does not take images of 36x64 px.*\n.*multiples of 32 px.*imgsz=64"):
            maps(torch.zeros(1, 3, 36, 64))
