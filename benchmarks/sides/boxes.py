"""What one side says of a YOLO file: its AP on a split and its boxes on some images; used under either `ultralytics`.

`boxes.py PART '{"json": "arguments"}'` writes one JSON text to the file that the argument `out` names. Only what both
packages offer is used.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ultralytics import YOLO

PREDICT: dict[str, Any] = {"device": "cpu", "verbose": False, "amp": False}
QUIET: dict[str, Any] = {**PREDICT, "plots": False, "workers": 0}


def train(out: str, yaml: str, data: str, imgsz: int, epochs: int) -> None:
    """Train from scratch without mixing of images; `out` is the file that the last weights are copied to."""
    model = YOLO(yaml)
    how: dict[str, Any] = {"optimizer": "AdamW", "lr0": 1e-3, "batch": 4, "nbs": 4, "mosaic": 0.0, "val": False}
    folder = Path(out).parent / Path(out).stem
    model.train(data=data, imgsz=imgsz, epochs=epochs, project=str(folder), name="run", exist_ok=True, **how, **QUIET)
    last = next(folder.rglob("last.pt"))
    Path(out).write_bytes(last.read_bytes())


def examine(out: str, weights: str, data: str, imgsz: int, images: list[str], conf: float, recompute: bool) -> None:
    """AP on the val split in rectangles and in squares, and the boxes of the images.

    `recompute` adds the AP as the interface defines it, for a package that reports another one.
    """
    found: dict[str, Any] = {"val": {}, "boxes": []}
    how: dict[str, Any] = {"data": data, "imgsz": imgsz, "batch": 8, "project": str(Path(out).with_suffix("")), **QUIET}
    for rect in (True, False):
        report = YOLO(weights).val(rect=rect, name=f"val{rect:d}", **how)
        row = {"map": float(report.box.map), "map50": float(report.box.map50)}
        if recompute:
            row |= interface_ap(report)
        found["val"]["rect" if rect else "square"] = row
    model = YOLO(weights)
    for image in images:
        (result,) = model.predict(image, imgsz=imgsz, conf=conf, iou=0.7, save=False, **PREDICT)
        found["boxes"].append(result.boxes.data.cpu().tolist())
    Path(out).write_text(json.dumps(found), encoding="utf-8")


def interface_ap(report: Any) -> dict[str, float]:
    """AP of a report by the interface's formula (trapezoids under the curve, 0.995 at most)."""
    from ultralytics.utils.metrics import ap_per_class

    names = ("tp", "conf", "pred_cls", "target_cls")
    tp, conf, pred_cls, target_cls = (np.concatenate([stat[name] for stat in report.stats]) for name in names)
    ap = ap_per_class(tp, conf, pred_cls, target_cls)[5]
    return {"interface_map": float(ap.mean()), "interface_map50": float(ap[:, 0].mean())}


if __name__ == "__main__":
    {"train": train, "examine": examine}[sys.argv[1]](**json.loads(sys.argv[2]))
