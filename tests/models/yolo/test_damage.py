"""A folder with one of each kind of damage: a YOLO trains and validates on the rest, and changes no file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.damage import DAMAGES, damaged_set, state
from tests.engine.tiny import FAST_RUN
from tests.models.yolo.networks import V8, V26
from ultralytics import YOLO
from ultralytics.utils.errors import DatasetError

STOP = {"class", "percent", "pixels", "leak"}
"""Codes of findings that stop a run before its first step, whatever `strict` is."""


def usable_set(root: Path) -> list[str]:
    """Write the damages that do not stop a run, an image of more objects than an RT-DETR has queries among them."""
    places = damaged_set(root, False)
    kept = [d for d in DAMAGES if d.name in places]
    for damage in kept:
        if damage.code in STOP:
            for path in list(places[damage.name].parent.glob(f"{damage.name}.*")):
                path.unlink()
            (root / "labels" / damage.split / f"{damage.name}.txt").unlink(missing_ok=True)
    return [d.name for d in kept if d.code not in STOP and d.split == "train" and d.fate == "gone"]


@pytest.mark.parametrize(
    ("network", "options"),
    [
        (V8, {"rect": True, "mosaic": 0.0}),  # batches of the aspect ratios that the labels of a scan give
        (V26, {"mosaic": 0.5, "mixup": 0.5, "cutmix": 0.3}),
    ],
    ids=["rectangles", "mixed"],
)
def test_training_and_validation_continue_with_the_rest(
    tmp_path: Path, network: dict[str, Any], options: dict[str, Any]
) -> None:
    root = tmp_path / "set"
    gone = [name for name in usable_set(root) if name != "no_image"]
    before = state(root)
    model = YOLO({**network, "nc": 2})
    run = {**FAST_RUN, **options, "epochs": 1, "name": "run", "batch": 8}
    model.train(data=str(root / "data.yaml"), project=str(tmp_path), letterbox=None, **run)
    folder = model.trainer.save_dir
    listed = (folder / "data_report.txt").read_text(encoding="utf-8")
    assert gone and not [name for name in gone if name not in listed]
    row = (folder / "results.csv").read_text().splitlines()[-1].split(",")
    assert np.isfinite([float(cell) for cell in row]).all()
    metrics = model.val(data=str(root / "data.yaml"), imgsz=64, workers=0, plots=False, project=str(tmp_path))
    assert np.isfinite(metrics.box.map) and metrics.nt_per_class.sum() > 0
    after = {k: v for k, v in state(root).items() if not k.endswith(".cache")}
    assert before.keys() <= after.keys()
    assert not [k for k in after if after[k] != before.get(k) and not Path(k).is_dir()]


def test_an_image_that_is_damaged_after_the_scan_ends_the_run_with_its_name(tmp_path: Path) -> None:
    root = tmp_path / "set"
    usable_set(root)
    model = YOLO({**V8, "nc": 2})
    image = root / "images" / "train" / "good0.png"
    model.add_callback("on_train_start", lambda trainer: image.write_bytes(image.read_bytes()[:50]))
    run = {**FAST_RUN, "epochs": 1, "name": "run", "batch": 8}
    with pytest.raises(DatasetError, match=r"good0\.png") as e:
        model.train(data=str(root / "data.yaml"), project=str(tmp_path), letterbox=None, **run)
    assert len(str(e.value).splitlines()) <= 2
