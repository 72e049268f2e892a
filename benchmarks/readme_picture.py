"""Draw the first picture of README.md: what a small network finds in demo images that it has not seen.

    python benchmarks/readme_picture.py --out docs/assets/detections.jpg

Draws 300 training and 24 validation images of the demo set, trains `rtdetr-tiny-l.yaml` on them from nothing for 24
epochs, and draws the objects found in the first validation images, whichever they are. With `--weights`
it only draws. Prints the mAP50 of all 24.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from common import HERE
from detection import demo_yaml

from ultralytics import RTDETR
from ultralytics.data.demo import generate_demo
from ultralytics.engine.results import Results

TILE = 440  # px, height of a tile
TRAINING = {
    "imgsz": 192,
    "epochs": 24,
    "batch": 8,
    "nbs": 8,
    "workers": 0,
    "cos_lr": True,
    "optimizer": "AdamW",
    "lr0": 0.0008,
    "lrf": 0.02,
    "warmup_epochs": 0.5,
    "mosaic": 0,
    "scale": 0.2,
    "translate": 0.1,
    "erasing": 0,
    "val": False,
    "plots": False,
}


def picture(model: RTDETR, images: list[Path], conf: float) -> np.ndarray:
    """Return the images with what is found in them, side by side."""
    tiles = []
    for image in images:
        pixels = cv2.imread(str(image))
        (found,) = model.predict(pixels, imgsz=TRAINING["imgsz"], conf=conf, verbose=False)
        factor = TILE / pixels.shape[0]
        large = cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        boxes = found.boxes.data * torch.tensor([factor] * 4 + [1.0, 1.0])
        shown = Results(large, path=str(image), names=found.names, boxes=boxes)
        tiles.append(shown.plot(line_width=2, font_size=16))
    return np.concatenate(tiles, axis=1)


def main() -> None:
    """Train unless weights are given, measure, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE.parent / "docs/assets/detections.jpg")
    parser.add_argument("--work", type=Path, default=Path("runs/readme"))
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--images", type=int, default=5)
    parser.add_argument("--conf", type=float, default=0.4)
    options = parser.parse_args()
    work = options.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    data = demo_yaml(generate_demo(work / "set", train=300, val=24, imgsz=320))
    weights = options.weights
    if weights is None:
        model = RTDETR(str(HERE / "rtdetr-tiny-l.yaml"))
        model.train(data=data, project=str(work), name="train", **TRAINING)
        weights = model.trainer.last
    model = RTDETR(str(weights))
    print(f"mAP50 {model.val(data=data, imgsz=TRAINING['imgsz'], workers=0, plots=False).box.map50:.3f}")
    images = sorted((work / "set/images/val").iterdir())[: options.images]
    cv2.imwrite(str(options.out), picture(model, images, options.conf), [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    main()
