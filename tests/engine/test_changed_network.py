"""What is done to a network holds in the next prediction, and a network that cannot be read back is refused."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from tests.engine.tiny import IMAGES, TINY, draw, write_dataset
from ultralytics import RTDETR
from ultralytics.engine.results import Results
from ultralytics.models.rtdetr import RTDETRTrainer
from ultralytics.nn.tasks import RTDETRDetectionModel, check_rebuilds
from ultralytics.utils.errors import CheckpointError

IMAGE = draw(*IMAGES[0])
FAST: dict[str, Any] = {"imgsz": 64, "device": "cpu", "verbose": False}


@pytest.fixture
def model() -> RTDETR:
    torch.manual_seed(0)
    return RTDETR(TINY)


def modules_of(model: RTDETR) -> list[nn.Module]:
    layer = model.model.model[0]
    return [layer, layer.conv, layer.bn]


@pytest.mark.parametrize("amp", [False, "bf16"])
@pytest.mark.parametrize("part", range(3))
def test_a_hook_set_after_a_first_prediction_is_called_until_it_is_removed(
    model: RTDETR, part: int, amp: bool | str
) -> None:
    calls: list[int] = []
    fast = {**FAST, "amp": amp}
    model.predict(IMAGE, **fast)
    handle = modules_of(model)[part].register_forward_hook(lambda *_: calls.append(1))
    model.predict(IMAGE, **fast)
    assert len(calls) == 1
    handle.remove()
    model.predict(IMAGE, **fast)
    assert len(calls) == 1


@pytest.mark.parametrize("layer", [0, -1])
def test_a_forward_that_is_set_on_a_module_runs(model: RTDETR, layer: int) -> None:
    """After a first prediction, in each precision: neither folding nor the layers for a CPU replace it."""
    model.predict(IMAGE, **FAST)
    module = model.model.eval().model[layer]  # what wraps a method of the network's own runs in its mode
    calls: list[int] = []
    plain = module.forward

    def counted(*inputs: Any, **others: Any) -> Any:
        calls.append(1)
        return plain(*inputs, **others)

    module.forward = counted
    for amp in (True, False):
        model.predict(IMAGE, **FAST, amp=amp)
    assert len(calls) == 2
    del module.forward
    model.predict(IMAGE, **FAST)
    assert len(calls) == 2


def test_names_may_be_a_list(model: RTDETR, tmp_path: Path) -> None:
    """Scripts set `model.model.names = [...]`: results, checkpoints and validation take it as ids from 0."""
    model.model.names = ["red", "green", "blue"]
    (found,) = model.predict(IMAGE, conf=0.0, **FAST)
    want = {0: "red", 1: "green", 2: "blue"}
    assert found.names == model.names == RTDETR(str(model.save(tmp_path / "a.pt"))).names == want
    kept = model.predictor
    model.predict(IMAGE, **FAST)
    assert model.predictor is kept
    assert Results(IMAGE, "a.png", ["red"], None).names == {0: "red"}


def test_attributes_of_the_head_hold_after_a_first_prediction(model: RTDETR) -> None:
    assert len(model.predict(IMAGE, conf=0.0, **FAST)[0]) == 30
    kept = model.predictor
    model.predict(IMAGE, conf=0.0, **FAST)
    assert model.predictor is kept
    model.model.model[-1].num_queries = 10
    assert len(model.predict(IMAGE, conf=0.0, **FAST)[0]) == 10


def test_a_pruned_network_predicts_validates_and_exports(model: RTDETR, tmp_path: Path) -> None:
    for module in model.model.modules():
        if isinstance(module, nn.Conv2d):
            prune.l1_unstructured(module, "weight", amount=0.5)
    found = model.predict(IMAGE, conf=0.0, amp=False, **FAST)[0].boxes.conf
    model.val(data=str(write_dataset(tmp_path)), workers=0, plots=False, save_dir=str(tmp_path / "v"), **FAST)
    assert model.info(imgsz=64)
    with pytest.raises(CheckpointError, match=r"weight.*\n.*prune\.remove"):
        model.save(tmp_path / "pruned.pt")
    for module in model.model.modules():
        if isinstance(module, nn.Conv2d):
            prune.remove(module, "weight")
    again = RTDETR(model.save(tmp_path / "removed.pt")).predict(IMAGE, conf=0.0, amp=False, **FAST)[0].boxes.conf
    torch.testing.assert_close(again, found, rtol=1e-3, atol=1e-5)


def test_a_network_with_what_cannot_be_copied_is_built_again(model: RTDETR) -> None:
    found = model.predict(IMAGE, conf=0.0, **FAST)[0].boxes.data
    model.model.lock = threading.Lock()
    assert torch.equal(model.predict(IMAGE, conf=0.0, **FAST)[0].boxes.data, found)


class Extended(RTDETRDetectionModel):
    """A network with a layer that no row of its YAML builds."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.extra = nn.Linear(2, 2)


class Renamed(RTDETRDetectionModel):
    """A network with a loss of its own, for example."""


class ExtendedTrainer(RTDETRTrainer):
    network: type[RTDETRDetectionModel] = Extended

    def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> nn.Module:
        return self.network(cfg, nc=self.data["nc"], verbose=False)


class RenamedTrainer(ExtendedTrainer):
    network = Renamed


def trained(model: RTDETR, trainer: type[RTDETRTrainer], folder: Path) -> None:
    arguments = {"epochs": 1, "batch": 2, "workers": 0, "plots": False, "val": False, "save_dir": str(folder / "run")}
    model.train(trainer=trainer, data=str(write_dataset(folder)), **arguments, **FAST)


def test_a_subclass_of_the_network_is_read_back_as_its_nearest_class(model: RTDETR, tmp_path: Path) -> None:
    trained(model, RenamedTrainer, tmp_path)
    assert type(RTDETR(tmp_path / "run" / "weights" / "last.pt").model) is RTDETRDetectionModel


def test_a_subclass_with_tensors_of_its_own_is_refused_before_the_first_step(model: RTDETR, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"2 of \d+ tensors .*extra\.bias is \(2,\), the YAML gives none"):
        trained(model, ExtendedTrainer, tmp_path)
    assert not (tmp_path / "run" / "weights").exists()


def test_what_is_not_a_network_of_the_package_is_refused() -> None:
    with pytest.raises(CheckpointError, match="a Linear cannot be read back"):
        check_rebuilds(nn.Linear(1, 1))


def test_a_fused_network_is_read_back(model: RTDETR) -> None:
    check_rebuilds(model.fuse().model)
