"""`pack`: what is in it, that it opens with the same predictions, and that nothing in it runs unasked."""

from __future__ import annotations

import json
import os
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from tests.engine.tiny import spread_network
from tests.nn.yamls import with_row
from ultralytics import RTDETR, YOLO
from ultralytics.cli import main as cli
from ultralytics.data.demo import draw_scene
from ultralytics.nn.autobackend import AutoBackend
from ultralytics.nn.checkpoint.format import pack_model, save_checkpoint
from ultralytics.nn.registry import REGISTRY
from ultralytics.utils.config.yaml_io import load_with_lines
from ultralytics.utils.errors import CheckpointError, ConfigError
from ultralytics.utils.user_modules import load_user_modules

BLOCKS = """\
import os
from torch import nn
from ultralytics.nn import register

os.environ["RAN_A_MODULE_OF_A_PACK"] = "yes"


@register
class PackedGate(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        return x + self.conv(x)
"""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    record = {
        "model": pack_model(spread_network()),
        "train_args": {"data": "cells.yaml", "epochs": 3, "imgsz": 64},
        "train_metrics": {"metrics/mAP50-95(B)": 0.125},
    }
    return save_checkpoint(tmp_path_factory.mktemp("weights") / "best.pt", record)


@pytest.fixture(scope="module")
def pack(weights: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(weights.parent)
        cli.entrypoint(["pack", "model=best.pt", "format=torchscript", "imgsz=64"])
    return weights.with_suffix(".zip")


def test_the_parts(pack: Path) -> None:
    assert sorted(os.listdir(pack.parent)) == ["best.pt", "best.zip"]
    with zipfile.ZipFile(pack) as z:
        parts = {name: z.read(name) for name in z.namelist()}
    assert set(parts) == {
        *("pack.json", "README.md", "LICENSE", "model.yaml", "args.yaml", "names.yaml", "metrics.json"),
        *("weights/best.pt", "exported/best.torchscript"),
    }
    assert load_with_lines(parts["names.yaml"].decode())[0] == {"names": {0: "red", 1: "green", 2: "blue"}}
    assert load_with_lines(parts["args.yaml"].decode())[0]["epochs"] == 3
    assert json.loads(parts["metrics.json"]) == {"metrics/mAP50-95(B)": 0.125}
    assert load_with_lines(parts["model.yaml"].decode())[0]["head"][-1][2] == "RTDETRDecoder"
    card = parts["README.md"].decode()
    assert "red, green, blue" in card and "0.125" in card and "exported/best.torchscript" in card
    assert b"AGPL-3.0" in parts["LICENSE"]


@pytest.mark.parametrize("front", [RTDETR, YOLO])
def test_it_predicts_as_the_weights_do(weights: Path, pack: Path, front: type[RTDETR]) -> None:
    image = draw_scene(np.random.default_rng(0), 96, 128)[0]
    want, got = (front(str(file)).predict(image, imgsz=64, conf=0.01, verbose=False)[0] for file in (weights, pack))
    assert len(want) and torch.equal(want.boxes.data, got.boxes.data) and got.names == want.names


def test_every_door_opens_it(pack: Path, tmp_path: Path) -> None:
    lines = "\n".join(RTDETR.contents(pack))
    assert "exported/best.torchscript" in lines and "0.125" in lines
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(AutoBackend(str(pack))(x)[0], AutoBackend(str(pack.with_suffix(".pt")))(x)[0])
    model = RTDETR(str(pack))
    assert RTDETR(str(pack)).load(str(pack)).names == model.names
    again = model.pack(tmp_path / "again.zip")
    assert RTDETR(str(again)).ckpt["train_args"]["data"] == "cells.yaml"


def test_the_name_must_be_that_of_a_zip(weights: Path) -> None:
    with pytest.raises(ConfigError, match=r"out=x\.zip"):
        RTDETR(str(weights)).pack("x.tar")


def test_arguments_of_an_export_without_a_form_are_reported(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    RTDETR(str(weights)).pack(tmp_path / "a.zip", imgsz=64)
    assert "imgsz of a pack without format= has no effect" in capsys.readouterr().out


def test_a_zip_that_is_not_a_pack_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as z:
        z.writestr("x.txt", "x")
    with pytest.raises(CheckpointError, match=r"a\.zip"):
        RTDETR(str(tmp_path / "a.zip"))


def test_modules_run_only_when_the_pack_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forget() -> None:
        REGISTRY._entries.pop("PackedGate", None)
        for name in [n for n in sys.modules if n.startswith("packed_blocks")]:
            del sys.modules[name]
        monkeypatch.delenv("RAN_A_MODULE_OF_A_PACK", raising=False)

    file = tmp_path / "packed_blocks.py"
    file.write_text(BLOCKS)
    network = yaml.safe_load(with_row(3, "[-1, 1, PackedGate, []]").replace("None", "null"))
    try:
        path = RTDETR(network, modules=file).pack(tmp_path / "a.zip")
        file.unlink()
        forget()
        with pytest.raises(CheckpointError, match=r"packed_blocks\.py\n.*was not run.*modules=.*a\.zip"):
            RTDETR(str(path))
        with pytest.raises(CheckpointError, match="was not run"):
            RTDETR(str(path), modules=None)
        assert "RAN_A_MODULE_OF_A_PACK" not in os.environ
        model = RTDETR(str(path), modules=path)
        assert os.environ["RAN_A_MODULE_OF_A_PACK"] == "yes" and model.user_files == [str(path)]
        again = model.pack(tmp_path / "b.zip")
        with zipfile.ZipFile(again) as z:
            assert z.read("modules/packed_blocks.py").decode() == BLOCKS
        assert sorted(os.listdir(tmp_path)) == ["a.zip", "b.zip"]
    finally:
        forget()


def test_a_pack_without_modules_has_nothing_to_run(pack: Path) -> None:
    with pytest.raises(ConfigError, match="no Python files"):
        load_user_modules(pack)
