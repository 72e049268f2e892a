"""A tiny D-FINE network is trained, validated, run, saved, loaded and exported through the family seam."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.tiny import FAST_RUN, draw, write_dataset
from tests.models.dfine.networks import DFINE
from ultralytics import RTDETR
from ultralytics.nn.dfine import DFINEDetectionModel


def test_one_epoch_and_everything_after_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_dataset(tmp_path / "data")
    model = RTDETR(DFINE)
    assert type(model.model) is DFINEDetectionModel and model.family_name == "dfine"
    model.train(**{**FAST_RUN, "data": str(data), "epochs": 1, "project": str(tmp_path), "name": "run"})
    header = (tmp_path / "run" / "results.csv").read_text().splitlines()[0]
    assert all(f"{split}/{name}" in header for split in ("train", "val") for name in ("giou_loss", "cls_loss"))
    assert model.trainer.args.letterbox is False
    again = RTDETR(model.save(tmp_path / "saved.pt"))
    assert again.family_name == "dfine"
    saved = model.model.state_dict()
    assert all(torch.equal(value, saved[key]) for key, value in again.model.state_dict().items())
    report = again.val(data=str(data), imgsz=64, batch=2, workers=0, plots=False, device="cpu", project=str(tmp_path))
    assert 0 <= report.box.map <= 1
    capsys.readouterr()
    image = draw((64, 128), [[1, 0.2, 0.5, 0.2, 0.6]])
    same: dict[str, Any] = {"imgsz": 64, "conf": 0.0, "device": "cpu", "amp": False}
    (want,) = again.predict(image, iou=0.5, **same)
    assert len(want.boxes) == 30 and "iou=0.5 has no effect" in capsys.readouterr().out
    opened = RTDETR(again.export(format="torchscript", imgsz=64))
    assert opened.family_name == "dfine"
    (got,) = opened.predict(image, **same)
    torch.testing.assert_close(got.boxes.conf, want.boxes.conf, atol=1e-5, rtol=0)


def test_the_matching_follows_the_epoch_of_the_run() -> None:
    network = DFINEDetectionModel(DFINE, verbose=False).train()
    seen: list[int] = []
    network.start_epoch(7, 12)
    plan = network.criterion.matchers
    network.criterion.matchers = type("Plan", (), {"at": lambda self, epoch: seen.append(epoch) or plan.at(epoch)})()
    batch = {
        "img": torch.rand(1, 3, 64, 64),
        "cls": torch.tensor([1.0]),
        "bboxes": torch.tensor([[0.5, 0.5, 0.4, 0.4]]),
        "batch_idx": torch.tensor([0]),
    }
    network.loss(batch)
    assert set(seen) == {7}
    network.loss(batch, epoch=3)
    assert set(seen) == {3, 7}
