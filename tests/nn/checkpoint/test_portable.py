"""Weights in other forms: safetensors in and out, the state dict for stock `ultralytics`, and what a file holds."""

from __future__ import annotations

import pytest
import torch

from tests.golden.fill import fill_
from tests.nn.networks import tiny
from ultralytics import RTDETR
from ultralytics.nn.build.builder import set_batch_norm
from ultralytics.nn.build.spec import load_model_yaml
from ultralytics.nn.checkpoint.describe import describe_file
from ultralytics.nn.checkpoint.format import pack_model, read_checkpoint, save_checkpoint
from ultralytics.nn.export.stock_state_dict import export_state_dict, loading_lines, upstream_state
from ultralytics.nn.tasks import RTDETRDetectionModel, load_checkpoint
from ultralytics.utils.errors import CheckpointError, ConfigError, NotFoundError

STOCK_ROWS = {
    "nc": 3,
    "scales": {"n": [1.0, 0.5, 64], "l": [1.0, 1.0, 64]},
    "scale": "l",
    "backbone": [
        [-1, 1, "Conv", [8, 3, 2]],
        [-1, 1, "Conv", [16, 3, 2]],
        [-1, 1, "Conv", [16, 3, 2]],
        [-1, 1, "Conv", [32, 3, 2]],
    ],
    "head": [[-1, 1, "Conv", [32, 3, 2]], [[2, 3, 4], 1, "RTDETRDecoder", ["nc", 32, 30, 4, 4, 2, 64]]],
}


@pytest.fixture
def model():
    model = RTDETRDetectionModel(STOCK_ROWS, verbose=False)
    fill_(model, "", 1.2)
    model.names = {0: "cat", 1: "dog", 2: "日本"}
    return model.eval()


# ------------------------------------------------------------------------------------------------------ safetensors
def test_safetensors_round_trip(model, tmp_path):
    pytest.importorskip("safetensors")
    set_batch_norm([model], eps=1e-5)
    path = save_checkpoint(tmp_path / "a.safetensors", {"model": pack_model(model), "train_args": {"imgsz": 96}})
    loaded, ckpt = load_checkpoint(path)
    assert loaded.names == model.names and loaded.args["imgsz"] == 96 and ckpt["optimizer"] is None
    assert loaded.model[0].bn.eps == 1e-5
    for (key, a), b in zip(model.state_dict().items(), loaded.state_dict().values(), strict=True):
        assert torch.equal(a, b), key
    assert RTDETR(path).names == model.names


def test_plain_safetensors_are_a_source(model, tmp_path):
    save_file = pytest.importorskip("safetensors.torch").save_file
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, tmp_path / "x.safetensors")
    assert read_checkpoint(tmp_path / "x.safetensors").keys() == {"state_dict"}
    fresh = RTDETRDetectionModel(STOCK_ROWS, verbose=False)
    assert fresh.load(tmp_path / "x.safetensors", verbose=False).fresh == []


def test_safetensors_without_a_model(tmp_path):
    pytest.importorskip("safetensors")
    with pytest.raises(CheckpointError, match="no model"):
        save_checkpoint(tmp_path / "a.safetensors", {})
    assert list(tmp_path.iterdir()) == []


# --------------------------------------------------------------------------------------------------------- state dict
def test_state_dict_for_stock_ultralytics(model, tmp_path):
    """Upstream's keys are ours; its epsilon is 1e-3, so the variances carry the difference."""
    set_batch_norm([model], eps=1e-5)
    weights, yaml = export_state_dict(model, tmp_path / "best")
    state = torch.load(weights, weights_only=True)
    assert list(state) == list(model.state_dict())
    spec = load_model_yaml(yaml)
    assert spec.nc == 3 and dict(spec.data)["scales"] == {"l": [1.0, 1.0, 64]}
    again = RTDETRDetectionModel(yaml, verbose=False)
    again.load_state_dict(state)
    again.eval()
    assert again.model[0].bn.eps == 1e-3
    x = torch.linspace(0, 1, 3 * 64 * 64).view(1, 3, 64, 64).sin()
    with torch.no_grad():
        torch.testing.assert_close(again(x)[1][1], model(x)[1][1], rtol=0, atol=1e-4)
    lines = loading_lines(model, weights, yaml)
    assert len(lines) == 3 and str(weights) in lines[1] and "'dog'" in lines[2]


def test_without_a_shift_the_tensors_are_the_same(model):
    assert all(
        torch.equal(a, b) for a, b in zip(upstream_state(model).values(), model.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("case", ["own block", "fused", "no detector"])
def test_what_cannot_be_exported(model, tmp_path, case):
    if case == "fused":
        model.fuse(verbose=False)
    elif case == "own block":
        rows = [*STOCK_ROWS["backbone"][:-1], [-1, 1, "SHSA", []], STOCK_ROWS["backbone"][-1]]
        head = [STOCK_ROWS["head"][0], [[3, 4, 5], 1, "RTDETRDecoder", ["nc", 32, 30, 4, 4, 2, 64]]]
        model = RTDETRDetectionModel({**STOCK_ROWS, "backbone": rows, "head": head}, verbose=False)
    else:
        model = torch.nn.Linear(1, 1)
    with pytest.raises(
        ConfigError, match={"own block": "no SHSA", "fused": "before fuse", "no detector": "Linear"}[case]
    ):
        export_state_dict(model, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_export_through_the_object(model, tmp_path):
    path = save_checkpoint(tmp_path / "best.pt", {"model": pack_model(model)})
    assert RTDETR(path).export(format="state_dict") == str(tmp_path / "best_state_dict.pt")
    with pytest.raises(ConfigError, match="format=abc"):
        RTDETR(path).export(format="abc")


# ------------------------------------------------------------------------------------------------------------ contents
def test_contents_of_a_file(tmp_path, monkeypatch):
    model = tiny(nc=3)
    model.names = {0: "cat", 1: "dog", 2: "日本"}
    modules = [{"name": "my.py", "sha256": "a" * 64, "blocks": ["Unheard"]}]
    path = save_checkpoint(
        tmp_path / "last.pt",
        {"epoch": 4, "ema": pack_model(model), "train_args": {"imgsz": 96, "lr0": 1e-3}, "modules": modules,
         "train_metrics": {"fitness": 0.5}},
    )  # fmt: skip
    monkeypatch.setattr(RTDETRDetectionModel, "__init__", None)  # the model must not be built
    text = "\n".join(describe_file(path))
    for word in (
        "format 1",
        "(EMA)",
        "cat, dog, 日本",
        "imgsz=96 lr0=0.001",
        "fitness 0.5",
        "my.py",
        "epoch 5",
        "AGPL",
    ):
        assert word in text, word
    assert f"{sum(p.numel() for p in model.parameters()):,} parameters" in text


def test_contents_of_plain_tensors_and_of_nothing(tmp_path):
    torch.save({"a": torch.ones(2, 3)}, tmp_path / "x.pt")
    assert "tensors only" in "\n".join(describe_file(tmp_path / "x.pt"))
    with pytest.raises(NotFoundError):
        describe_file(tmp_path / "none.pt")
