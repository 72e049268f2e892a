"""A family of one file is built, trained, validated, run, saved, loaded and exported, with no edit in the package."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.engine.tiny import write_dataset
from tests.models.toy_family import TOY, ToyHead
from ultralytics import RTDETR
from ultralytics.nn.families import Family, FamilyTable, family_of, family_of_head
from ultralytics.nn.tasks import DetectionModel, RTDETRDetectionModel, load_checkpoint
from ultralytics.utils.errors import ConfigError

YAML = {
    "nc": 1,
    "backbone": [[-1, 1, "Conv", [16, 3, 4]], [-1, 1, "Conv", [32, 3, 4]], [-1, 1, "Conv", [32, 3, 2]]],
    "head": [[[1, 2], 1, "ToyHead", []]],
}


def test_the_head_decides_the_family() -> None:
    model = RTDETR(YAML)
    assert type(model.model) is DetectionModel and model.family_name == "toy" and family_of(model.model) is TOY
    assert model.task_map["detect"]["model"] is DetectionModel
    assert type(RTDETR("rtdetr-resnet18.yaml").model) is RTDETRDetectionModel


def test_a_toy_family_does_everything(tmp_path: Path) -> None:
    model = RTDETR(YAML)
    data = write_dataset(tmp_path / "data")
    metrics = model.train(
        data=data, epochs=3, imgsz=64, batch=4, workers=0, project=str(tmp_path), name="toy", plots=False, amp=False,
        single_cls=True,
    )  # fmt: skip
    assert "metrics/mAP50-95(B)" in dict(getattr(metrics, "results_dict", metrics))
    header = (tmp_path / "toy" / "results.csv").read_text().splitlines()[0]
    assert "train/box_loss" in header and "train/obj_loss" in header
    best = tmp_path / "toy" / "weights" / "best.pt"
    again = RTDETR(str(best))
    assert again.family_name == "toy" and isinstance(again.model.model[-1], ToyHead)
    image = next(Path(data).parent.rglob("*.png"), None) or next(Path(data).parent.rglob("*.jpg"))
    (result,) = again.predict(str(image), imgsz=64, conf=0.0, verbose=False)
    assert 0 < len(result.boxes) <= 100
    report = again.val(data=data, imgsz=64, batch=4, workers=0, plots=False, single_cls=True, project=str(tmp_path))
    assert 0 <= report.box.map <= 1
    file = again.export(format="torchscript", imgsz=64)
    (exported,) = RTDETR(file).predict(str(image), imgsz=64, conf=0.0, verbose=False)
    torch.testing.assert_close(
        exported.boxes.conf, result.boxes.conf, atol=1e-2, rtol=0
    )  # the network predicts in bf16
    copied = RTDETR(YAML).load(str(best))
    saved = again.model.state_dict()
    assert all(torch.equal(value, saved[key]) for key, value in copied.model.state_dict().items())


def test_saved_and_loaded_without_training(tmp_path: Path) -> None:
    path = RTDETR(YAML).save(tmp_path / "toy.pt")
    model, record = load_checkpoint(path)
    assert type(model) is DetectionModel and record["model"]["class"] == "DetectionModel"


def test_a_head_without_family_is_named() -> None:
    with pytest.raises(ConfigError, match="Linear: no detector family has this head"):
        family_of_head(nn.Linear)
    assert family_of_head(nn.Linear, "rtdetr").name == "rtdetr"
    with pytest.raises(ConfigError, match=r"no detector family 'yolo99'\nfamilies: .*rtdetr"):
        family_of_head(nn.Linear, "yolo99")


def test_a_family_without_criterion_is_refused_at_the_first_loss() -> None:
    class Silent(ToyHead):
        """A head whose family gives no loss."""

    network = DetectionModel(YAML, verbose=False)
    table = FamilyTable()
    silent = table.add(Family(name="silent", head=Silent, network=DetectionModel))
    assert table.of_head(Silent) is silent and table.of_head(nn.Conv2d) is None
    assert network.family is TOY


def test_a_name_and_a_head_have_one_family() -> None:
    table = FamilyTable()
    first = table.add(Family(name="a", head=ToyHead, network=DetectionModel))
    table.add(first)
    with pytest.raises(ValueError, match="a name and a head have one family"):
        table.add(Family(name="b", head=ToyHead, network=DetectionModel))
    with pytest.raises(ValueError, match="a name and a head have one family"):
        table.add(Family(name="a", head=nn.Linear, network=DetectionModel))


def test_trained_parts_have_gradients_and_an_empty_batch_trains() -> None:
    network = DetectionModel(YAML, verbose=False).train()
    images = torch.rand(2, 3, 64, 64)
    for count in (3, 0):
        batch = {
            "img": images,
            "cls": torch.zeros(count),
            "bboxes": torch.rand(count, 4),
            "batch_idx": torch.arange(count) % 2,
        }
        network.zero_grad()
        total, parts = network.loss(batch)
        total.backward()
        assert total.isfinite() and parts.shape == (2,)
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
