"""The measured end of detector benchmarks, for `ultralytics` of either kind: this tree's or the stock one.

Which of the two it is depends on the interpreter alone, so only what both offer is used: the classes `RTDETR` and
`YOLO` with `predict`, `train` and `add_callback`, and the data-set class.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import serve
import torch

from ultralytics import RTDETR, YOLO

QUIET: dict[str, Any] = {"verbose": False, "device": "cpu"}


def predict(turns: serve.Turns, yaml: str, weights: str, source: str, **how: Any) -> None:
    """From an image file to `Results`; the value holds the number of boxes and the sum of their scores."""
    model = RTDETR(yaml)
    model.model.load_state_dict(torch.load(weights, weights_only=True))
    _predictions(turns, model, source, how)


def predict_yolo(turns: serve.Turns, file: str, source: str, **how: Any) -> None:
    """The same of a YOLO file, or of random weights of a YAML."""
    _predictions(turns, YOLO(file), source, how)


def _predictions(turns: serve.Turns, model: Any, source: str, how: dict[str, Any]) -> None:

    def work() -> str:
        (result,) = model.predict(source, save=False, **QUIET, **how)
        return f"{len(result.boxes)} ({float(result.boxes.conf.sum()):.3f})"

    turns.repeat(work)


def forward(turns: serve.Turns, yaml: str, imgsz: int, batch: int, **how: Any) -> None:
    """The network alone, fused and laid out as `predict` runs it, on random images."""
    model = RTDETR(yaml)
    model.predict(np.zeros((imgsz, imgsz, 3), np.uint8), imgsz=imgsz, save=False, **QUIET, **how)
    network = model.predictor.model
    x = torch.rand(batch, 3, imgsz, imgsz)

    def work() -> None:
        with torch.inference_mode():
            network(x)

    turns.repeat(work)


def step(turns: serve.Turns, yaml: str, data: str, **how: Any) -> None:
    """One training step after another: from reading the images to the updated average of the weights."""
    _steps(turns, RTDETR(yaml), data, how)


def step_yolo(turns: serve.Turns, yaml: str, data: str, **how: Any) -> None:
    """The same of a YOLO."""
    _steps(turns, YOLO(yaml), data, how)


def _steps(turns: serve.Turns, model: Any, data: str, how: dict[str, Any]) -> None:
    model.add_callback("on_train_batch_end", turns.tick)
    model.train(data=data, **_training(how), val=False)


def epoch(turns: serve.Turns, yaml: str, data: str, **how: Any) -> None:
    """One epoch after another, validation and saving included; the first one is not counted."""
    model = RTDETR(yaml)
    model.add_callback("on_fit_epoch_end", turns.tick)
    model.train(data=data, **_training(how))


def scan(turns: serve.Turns, folder: str, names: int) -> None:
    """Build the data set of a folder: the first time every image and label is read, later the cache."""
    from ultralytics.data.dataset import YOLODataset

    data = {"names": {i: f"class{i}" for i in range(names)}, "nc": names, "channels": 3, "path": folder}

    def work() -> int:
        return len(YOLODataset(img_path=str(Path(folder, "images")), data=data, imgsz=640, augment=False))

    turns.repeat(work)


def _training(how: dict[str, Any]) -> dict[str, Any]:
    fixed = {"plots": False, "exist_ok": True, "seed": 0, "project": str(Path.cwd() / "runs")}
    return {**fixed, "epochs": 1000, "patience": 0, "save": False, "name": f"t{time.time_ns()}"} | QUIET | how


if __name__ == "__main__":
    serve.main(
        {
            "predict": predict,
            "predict_yolo": predict_yolo,
            "forward": forward,
            "step": step,
            "step_yolo": step_yolo,
            "epoch": epoch,
            "scan": scan,
        }
    )
