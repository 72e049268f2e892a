"""Weights files of forks: module trees pickled whole, whose classes lie at paths that this package does not have."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.golden.fill import fill_
from ultralytics.nn.export.stock_state_dict import export_state_dict
from ultralytics.nn.modules import Blocks, ConvNormLayer
from ultralytics.nn.tasks import RTDETRDetectionModel, load_checkpoint
from ultralytics.utils.torch_utils import fuse_conv_and_bn

PATHS = {ConvNormLayer: "ultralytics.nn.extra_modules.block", Blocks: "ultralytics.nn.Addmodules.ResNet"}
EMBED = "model.6.denoising_class_embed.weight"
YAML: dict[str, Any] = {
    "nc": 3,
    "node_mode": "ConvNormLayer",
    "backbone": [
        [-1, 1, "node_mode", [8, 3, 2, None, False, "relu"]],
        [-1, 1, "nn.MaxPool2d", [3, 2, 1]],
        [-1, 1, "Blocks", [8, "BasicBlock", 1, 3, "relu"]],
        [-1, 1, "Blocks", [8, "BottleNeck", 2, 4, "relu"]],
    ],
    "head": [
        [-1, 1, "Conv", [16, 1, 1]],
        [2, 1, "Conv", [16, 1, 1]],
        [[5, 4], 1, "RTDETRDecoder", ["nc", 16, 10, 2, 2, 1, 32]],
    ],
}


@pytest.fixture
def fork_classes(monkeypatch: pytest.MonkeyPatch) -> dict[type, type]:
    """Classes of ours under paths of forks, which can be imported while a file is written."""
    made = {}
    for cls, path in PATHS.items():
        module = ModuleType(path)
        made[cls] = type(cls.__name__, (cls,), {"__module__": path})
        setattr(module, cls.__name__, made[cls])
        monkeypatch.setitem(sys.modules, path, module)
    return made


def network(seed: int = 0) -> RTDETRDetectionModel:
    torch.manual_seed(seed)
    model = RTDETRDetectionModel(copy.deepcopy(YAML), verbose=False)
    fill_(model, "", 1.2)
    model.names = {0: "cat", 1: "dog", 2: "cow"}
    return model.eval()


def image() -> Tensor:
    return torch.linspace(-1, 1, 3 * 64 * 96).view(1, 3, 64, 96).cos()


def write(path: Path, model: RTDETRDetectionModel, classes: dict[type, type], monkeypatch: pytest.MonkeyPatch) -> None:
    """Pickle a copy as a fork does: its classes, an embedding row more; afterwards its paths are gone."""
    theirs = copy.deepcopy(model)
    for module in theirs.modules():
        module.__class__ = classes.get(type(module), type(module))
    table = theirs.model[-1].denoising_class_embed
    table.weight = nn.Parameter(torch.cat((table.weight.detach(), torch.full((1, 16), 9.0))))
    torch.save({"model": theirs, "epoch": 1, "version": "8.0.201"}, path)
    for name in PATHS.values():
        monkeypatch.delitem(sys.modules, name)


@pytest.fixture(params=["plain", "folded"])
def file(
    request: pytest.FixtureRequest, tmp_path: Path, fork_classes: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Path, RTDETRDetectionModel, Tensor]]:
    """A file, the model in it, and the scores that it gives."""
    model = network()
    with torch.no_grad():
        want = model(image())[0]
    written = copy.deepcopy(model)
    for module in written.modules():
        if request.param == "folded" and isinstance(module, ConvNormLayer):
            module.conv = fuse_conv_and_bn(module.conv, module.norm)
            del module.norm
    write(tmp_path / "fork.pt", written, fork_classes, monkeypatch)
    yield tmp_path / "fork.pt", model, want


def test_the_model_is_built_from_its_rows(file: tuple[Path, RTDETRDetectionModel, Tensor]) -> None:
    path, model, want = file
    loaded, ckpt = load_checkpoint(path)
    assert not any(name in sys.modules for name in PATHS.values()) and ckpt["names_in_file"] == []
    assert type(loaded.model[0]) is ConvNormLayer and type(loaded.model[3]) is Blocks
    assert torch.equal(loaded.state_dict()[EMBED], model.state_dict()[EMBED])
    with torch.no_grad():
        torch.testing.assert_close(loaded(image())[0], want, rtol=1e-4, atol=1e-5)


def test_another_number_of_classes(file: tuple[Path, RTDETRDetectionModel, Tensor]) -> None:
    """Class rows move by name; the row more is not one of them."""
    path, model, _ = file
    target = RTDETRDetectionModel(copy.deepcopy(YAML), nc=5, verbose=False)
    target.names = dict(enumerate(("cow", "ant", "cat", "bee", "fly")))
    report = target.load(path, verbose=False)
    assert all("score_head" in key or "class_embed" in key for key in report.fresh)
    got, source = target.state_dict()[EMBED], model.state_dict()[EMBED]
    assert len(got) == 5 and torch.equal(got[0], source[2]) and torch.equal(got[2], source[0])


def test_files_for_a_fork_have_its_row_more(tmp_path: Path) -> None:
    model = network()
    weights, yaml = export_state_dict(model, tmp_path / "best")
    state = torch.load(weights, weights_only=True)
    assert torch.equal(state[EMBED], torch.cat((model.state_dict()[EMBED], torch.zeros(1, 16))))
    again = RTDETRDetectionModel(str(yaml), verbose=False)
    assert again.load({"state_dict": state}, verbose=False).fresh == []
