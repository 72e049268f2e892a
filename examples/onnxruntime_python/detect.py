"""Detect objects with an ONNX file that `yolo export format=onnx` wrote: ONNX Runtime and OpenCV, without torch.

    pip install onnxruntime opencv-python
    python detect.py best.onnx photo.jpg --conf 0.25 --out drawn.jpg

Prints a line for each box: class x1 y1 x2 y2 score name, in pixels of the image. For detectors whose rows need no
suppression: RT-DETR, RT-DETRv2, D-FINE, DEIM and DEIMv2, not YOLO.
Shapes: h x w image, H x W network input, K rows.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime

METADATA = "rtdetr-shsa"  # key of the model's metadata
GREY = 114  # of the border of a letterbox


class Box(NamedTuple):
    """A detection, corners in pixels of the image."""

    cls: int
    x1: float
    y1: float
    x2: float
    y2: float
    score: float


class Detector:
    """An ONNX detector. Raises ValueError for a file whose output is not (B, K, 6)."""

    def __init__(self, path: str | Path, threads: int = 0) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads  # 0: as many as there are cores
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0]
        about = json.loads(self.session.get_modelmeta().custom_metadata_map[METADATA])
        self.names = {int(k): str(v) for k, v in about["names"].items()}
        self.size = (int(about["imgsz"][0]), int(about["imgsz"][1]))
        self.letterbox = bool(about["letterbox"])
        if len(self.session.get_outputs()[0].shape) != 3 or self.session.get_outputs()[0].shape[2] != 6:
            raise ValueError(f"{path}: the output is not (B, K, 6); export a detector of the DETR families")

    def prepare(
        self, image: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.float32], tuple[float, float], tuple[int, int]]:
        """Return the input (1, 3, H, W) of an image (h, w, 3) BGR, the gains (h, w) and the border (top, left)."""
        (h, w), (height, width) = image.shape[:2], self.size
        new_h, new_w = height, width
        if self.letterbox:
            gain = min(height / h, width / w)
            new_h, new_w = max(round(h * gain), 1), max(round(w * gain), 1)
        if (new_h, new_w) != (h, w):
            image = cv2.resize(image, (new_w, new_h), interpolation=cv2.INTER_LINEAR)
        top, left = round((height - new_h) / 2 - 0.1), round((width - new_w) / 2 - 0.1)
        framed = np.full((height, width, 3), GREY, np.uint8)
        framed[top : top + new_h, left : left + new_w] = image
        tensor = framed[..., ::-1].transpose(2, 0, 1)[None].astype(np.float32) / 255  # (1, 3, H, W), RGB
        return np.ascontiguousarray(tensor), (new_h / h, new_w / w), (top, left)

    def __call__(self, image: npt.NDArray[np.uint8], conf: float = 0.25) -> list[Box]:
        """Return the boxes of an image (h, w, 3) BGR above a confidence, best first."""
        tensor, (gain_h, gain_w), (top, left) = self.prepare(image)
        rows = self.session.run(None, {self.input.name: tensor})[0][0]  # (K, 6): cx, cy, w, h in 0..1, score, class
        rows = rows[(rows[:, 4] > conf) & np.isfinite(rows).all(1)].astype(np.float64)
        (h, w), (height, width) = image.shape[:2], self.size
        cx, cy, bw, bh, score, cls = rows.T
        x1, x2 = (((cx + side * bw / 2) * width - left) / gain_w for side in (-1, 1))
        y1, y2 = (((cy + side * bh / 2) * height - top) / gain_h for side in (-1, 1))
        corners = np.stack([x1.clip(0, w), y1.clip(0, h), x2.clip(0, w), y2.clip(0, h)], 1)
        return [Box(int(c), *map(float, xyxy), float(s)) for c, xyxy, s in zip(cls, corners, score, strict=True)]


def draw(image: npt.NDArray[np.uint8], boxes: list[Box], names: dict[int, str]) -> npt.NDArray[np.uint8]:
    """Return a copy of the image with the boxes, the best on top."""
    canvas = image.copy()
    for box in reversed(boxes):
        corner = (round(box.x1), round(box.y1))
        cv2.rectangle(canvas, corner, (round(box.x2), round(box.y2)), (40, 200, 40), 2)
        label = f"{names.get(box.cls, box.cls)} {box.score:.2f}"
        cv2.putText(canvas, label, (corner[0], max(corner[1] - 4, 12)), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 255), 1)
    return canvas


def main() -> None:
    """Run on one image."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="the .onnx file")
    parser.add_argument("image")
    parser.add_argument("--conf", type=float, default=0.25, help="lowest score of a box")
    parser.add_argument("--out", help="draw the boxes into this file")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--runs", type=int, default=0, help="time this many runs")
    args = parser.parse_args()
    detector = Detector(args.model, args.threads)
    image = cv2.imread(args.image, cv2.IMREAD_COLOR)
    if image is None:
        raise SystemExit(f"{args.image}: cannot be read as an image")
    image = np.asarray(image, np.uint8)
    boxes = detector(image, args.conf)
    for box in boxes:
        corners = " ".join(f"{v:.3f}" for v in box[1:5])
        print(f"{box.cls} {corners} {box.score:.5f} {detector.names.get(box.cls, box.cls)}")
    if args.out:
        cv2.imwrite(args.out, draw(image, boxes, detector.names))
    spent = []
    for _ in range(args.runs):
        start = time.perf_counter()
        detector(image, args.conf)
        spent.append((time.perf_counter() - start) * 1e3)
    if spent:
        print(f"median of {len(spent)} runs: {statistics.median(spent):.2f} ms")


if __name__ == "__main__":
    main()
