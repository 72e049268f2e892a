"""What the trainer takes for a trial on the training images themselves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ultralytics.models.rtdetr.train import RTDETRTrainer

ONE, TWO = {"train": "a.json", "val": "a.json"}, {"train": "a.json", "val": "b.json"}


@pytest.mark.parametrize(
    ("val", "more", "images", "want"),
    [
        ("other", {}, ("xy", "xy"), False),
        ("folder", {}, ("xy", "xy"), True),
        ("folder", {}, ("x", "xy"), True),  # a fraction of it
        ("folder", {"format": "coco", "annotations": ONE}, ("xy", "xy"), True),
        ("folder", {"format": "coco", "annotations": TWO}, ("xy", "xy"), True),
        ("folder", {"format": "coco", "annotations": TWO}, ("xy", "z"), False),
        ("folder", {"format": "coco", "annotations": TWO}, ("xy", "yz"), False),
        ("folder", {"format": "yolo", "annotations": "unused.json"}, ("xy", "xy"), True),
    ],
)
def test_trials(val: str, more: dict[str, Any], images: tuple[str, str], want: bool) -> None:
    trainer: Any = RTDETRTrainer.__new__(RTDETRTrainer)
    trainer.args = SimpleNamespace(split="val")
    trainer.data = {"train": "folder", "val": val, **more}
    trainer.train_loader, trainer.test_loader = (
        SimpleNamespace(dataset=SimpleNamespace(labels=[{"im_file": f} for f in files])) for files in images
    )
    assert trainer._is_trial() is want
