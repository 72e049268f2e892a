"""Genuine Ultralytics files: module trees pickled whole, made here from our classes, which have the same paths."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from tests.golden.fill import fill_, tensor
from tests.nn.networks import tiny
from ultralytics.cfg import get_cfg
from ultralytics.engine.training.state import resume_args
from ultralytics.nn.checkpoint.format import read_checkpoint
from ultralytics.nn.checkpoint.ultralytics_pickle import suspicious
from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.tasks import DetectionModel, load_checkpoint, unpack_model
from ultralytics.utils.errors import CheckpointError
from ultralytics.utils.torch_utils import fuse_conv_and_bn

SHARED = Path(__file__).resolve().parents[4] / "shared"
needs_shared = pytest.mark.skipif(not (SHARED / "golden").is_dir(), reason="the genuine files are not here")


def make(path, **change):
    """A file of upstream's structure; returns the model in it."""
    model = tiny(nc=3)
    fill_(model, "", 1.2)
    model.names = {0: "cat", 1: "dog", 2: "日本"}
    model.args = SimpleNamespace(imgsz=96, lr0=0.001)
    for module in model.modules():
        module.save_for_later = {1, 2}
    data = {
        "epoch": 3,
        "best_fitness": np.float64(0.5),
        "model": copy.deepcopy(model).half().eval(),
        "ema": None,
        "optimizer": None,
        "train_args": {"imgsz": 96, "data": "a.yaml", "path": Path("x/y")},
        "train_metrics": {"fitness": np.float64(0.25)},
        "train_results": {"epoch": [1, 2]},
        "date": "2026-01-01",
        "version": "8.4.190",
        "license": "AGPL-3.0",
        "git": {"root": None},
    }
    torch.save({**data, **change}, path)
    return model


def images():
    return torch.linspace(-1, 1, 2 * 3 * 64 * 96).view(2, 3, 64, 96).cos()


def test_everything_is_taken(tmp_path):
    model = make(tmp_path / "best.pt")
    loaded, ckpt = load_checkpoint(tmp_path / "best.pt")
    assert (loaded.names, loaded.nc, loaded.training) == (model.names, 3, False)
    assert loaded.args["imgsz"] == 96 and loaded.args["data"] == "a.yaml" and loaded.args["path"] == "x/y"
    assert ckpt["epoch"] == 3 and ckpt["source"] == "ultralytics" and ckpt["version"] == "8.4.190"
    assert ckpt["train_metrics"] == {"fitness": 0.25} and ckpt["train_results"] == {"epoch": [1, 2]}
    for (key, a), b in zip(model.state_dict().items(), loaded.state_dict().values(), strict=True):
        assert torch.equal(a.half().float() if a.is_floating_point() else a, b), key


def test_a_number_of_classes_in_the_head_row(tmp_path):
    """The class count of the module counts, not the `nc` that its YAML began with."""
    model = make(tmp_path / "a.pt")
    yaml = copy.deepcopy(model.yaml)
    yaml["nc"], yaml["head"][-1][3][0] = 80, 3
    model.yaml = yaml
    torch.save({"model": model}, tmp_path / "b.pt")
    assert load_checkpoint(tmp_path / "b.pt")[0].nc == 3


def test_epsilon_of_the_file_counts(tmp_path):
    model = tiny(nc=3)
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.eps = 1e-5
    torch.save({"model": model}, tmp_path / "x.pt")
    assert load_checkpoint(tmp_path / "x.pt")[0].model[0].bn.eps == 1e-5


def test_ema_is_preferred_and_a_bare_module_is_read(tmp_path):
    make(tmp_path / "x.pt", ema=tiny(nc=2))
    assert load_checkpoint(tmp_path / "x.pt")[0].nc == 2
    torch.save(tiny(nc=5), tmp_path / "m.pt")
    assert load_checkpoint(tmp_path / "m.pt")[0].nc == 5


def test_folded_layers_are_unfolded(tmp_path):
    """As upstream's fuse() does before save(): each Conv has a bias instead of a batch norm; the head stays."""
    model = tiny(nc=3)
    fill_(model, "", 1.2)
    model.eval()
    with torch.no_grad():
        want = model(images())[0]
    for m in model.modules():
        if isinstance(m, Conv):
            m.conv = fuse_conv_and_bn(m.conv, m.bn)
            del m.bn
    torch.save({"model": model}, tmp_path / "fused.pt")
    loaded, _ = load_checkpoint(tmp_path / "fused.pt")
    assert isinstance(loaded.model[0].bn, nn.BatchNorm2d)
    with torch.no_grad():
        got = loaded(images())[0]
    torch.testing.assert_close(got[..., 4], want[..., 4], rtol=1e-4, atol=1e-5)


def test_another_network_is_a_source_only(tmp_path):
    make(tmp_path / "x.pt")
    record = {**read_checkpoint(tmp_path / "x.pt")["model"], "class": "SegmentationModel"}
    assert tiny(1, nc=3).load({"model": record}, verbose=False).fresh == []
    with pytest.raises(CheckpointError, match="source for load"):
        unpack_model(record)


def test_such_a_file_cannot_be_resumed(tmp_path):
    make(tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match="not the state of a run"):
        resume_args(get_cfg(overrides={"resume": str(tmp_path / "last.pt")}))


@pytest.mark.parametrize(
    "change", [{"yaml": None}, {"yaml": 5}, {"names": 7}, {"nc": "x"}, {"stride": "x"}, {"args": 3}]
)
def test_wrong_attributes(tmp_path, change):
    model = tiny(nc=3)
    model.__dict__.update(change)
    torch.save({"model": model}, tmp_path / "x.pt")
    try:
        loaded, _ = load_checkpoint(tmp_path / "x.pt")
    except CheckpointError as e:
        assert len(str(e).splitlines()) <= 3
    else:
        assert loaded.nc == 3


def test_suspicious_names():
    assert suspicious(frozenset()) == []
    fine = {"torch.nn.modules.conv.Conv2d", "builtins.set", "collections.OrderedDict", "ultralytics.nn.tasks.X"}
    assert suspicious(frozenset(fine | {"os.system", "builtins.eval"})) == ["builtins.eval", "os.system"]


@needs_shared
@pytest.mark.parametrize("name", ["upstream_tiny_rtdetr.pt", "upstream_tiny_rtdetr_resume.pt"])
def test_genuine_file_gives_the_recorded_outputs(name):
    model, _ = load_checkpoint(SHARED / "golden" / name)
    want = np.load(SHARED / "golden" / "upstream_tiny_rtdetr.npz")
    with torch.no_grad():
        y, raw = model(tensor("ckpt/img", (2, 3, 96, 64), "image"))
    for key, got in zip(("y", "dec_bboxes", "dec_scores", "enc_bboxes", "enc_scores"), (y, *raw[:4]), strict=True):
        np.testing.assert_allclose(got.numpy(), want[key], rtol=0, atol=1e-5, err_msg=key)


@pytest.mark.skipif(not (SHARED / "weights" / "yolov8n_genuine.pt").is_file(), reason="the file is not here")
def test_genuine_yolo_loads_and_is_a_source():
    path = SHARED / "weights" / "yolov8n_genuine.pt"
    record = read_checkpoint(path)["model"]
    assert len(record["state_dict"]) == 355 and record["nc"] == 6
    model = load_checkpoint(path)[0]
    assert isinstance(model, DetectionModel) and model.family.name == "yolo" and model.nc == 6
    assert tiny(nc=6).load(path, verbose=False).dropped
