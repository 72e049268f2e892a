"""The life of a network in one test: train, resume, validate, predict, save, load, export."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.engine.tiny import FAST_RUN, IMAGES, NAMES, TINY, draw, write_dataset
from ultralytics.models import RTDETR
from ultralytics.nn.autobackend import AutoBackend


def test_train_resume_validate_predict_and_export(tmp_path: Path) -> None:
    data, image = str(write_dataset(tmp_path / "set")), draw(*IMAGES[0])
    torch.manual_seed(0)
    model = RTDETR(TINY)
    place = {"project": str(tmp_path / "runs"), "name": "run"}
    model.train(data=data, **{**FAST_RUN, **place, "epochs": 1, "val": False})
    last = tmp_path / "runs" / "run" / "weights" / "last.pt"
    assert last.is_file() and (last.parents[1] / "results.csv").read_text().count("\n") == 2

    RTDETR(str(last)).train(resume=True, epochs=2)
    assert (last.parents[1] / "results.csv").read_text().count("\n") == 3

    trained = RTDETR(str(last))
    options = {"imgsz": 64, "batch": 2, "workers": 0, "device": "cpu", "plots": False, "amp": False}
    metrics = trained.val(data=data, **options, project=str(tmp_path / "runs"), name="val")
    assert 0 <= metrics.box.map <= 1 and trained.names == NAMES

    (result,) = trained.predict(image, imgsz=64, device="cpu", conf=0.0, amp=False)
    (again,) = RTDETR(str(trained.save(tmp_path / "copy.pt"))).predict(
        image, imgsz=64, device="cpu", conf=0.0, amp=False
    )
    assert result.boxes is not None and again.boxes is not None and len(result.boxes) == 30
    assert torch.equal(result.boxes.data, again.boxes.data)

    file = RTDETR(str(tmp_path / "copy.pt")).export(format="torchscript", imgsz=64)
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(
            AutoBackend(file)(images), AutoBackend(tmp_path / "copy.pt")(images)[0], rtol=0, atol=1e-4
        )
