"""AP of sliced validation: the val split pasted into 4000 x 3000 canvases, beside the images by themselves.

python benchmarks/slicing.py --data bccd/data.yaml --model best.pt --imgsz 320 --out results
python benchmarks/slicing.py --data bccd/data.yaml --minutes 15 --out results        # trains a YOLOv8n first

Images keep their size and do not overlap; they lie anywhere in the cells of a grid, whose rest is grey. Sliced, AP
takes 100 boxes of a class for each tile's area, instead of COCO's 100 an image. The memory is the largest resident
size after each batch of canvases.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from common import ROOT, Report, machine, peak_mb

sys.path.insert(0, str(ROOT))

from ultralytics import YOLO
from ultralytics.data.images import imread
from ultralytics.data.utils import check_det_dataset, img2label_paths, list_images
from ultralytics.utils import YAML

HEIGHT, WIDTH = 3000, 4000
GREY = 114


def places(rng: np.random.Generator, sizes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return left and top of images of (height, width) that do not overlap: each somewhere in its own cell."""
    columns = int(np.ceil(np.sqrt(len(sizes))))
    rows = -(-len(sizes) // columns)
    cell_w, cell_h = WIDTH // columns, HEIGHT // rows
    return [
        (
            i % columns * cell_w + int(rng.integers(0, cell_w - w + 1)),
            i // columns * cell_h + int(rng.integers(0, cell_h - h + 1)),
        )
        for i, (h, w) in enumerate(sizes)
    ]


def paste(data: str, folder: Path, per_canvas: int) -> Path:
    """Write the canvases of a val split, `per_canvas` images on each, and their labels; return the data YAML."""
    content = check_det_dataset(data)
    files = list_images(content["val"])
    rng = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for start in range(0, len(files), per_canvas):
        part = files[start : start + per_canvas]
        images = [image for image in map(imread, part) if image is not None]
        canvas, lines = np.full((HEIGHT, WIDTH, 3), GREY, np.uint8), []
        corners = places(rng, [image.shape[:2] for image in images])
        for image, label, (x, y) in zip(images, map(Path, img2label_paths(part)), corners, strict=True):
            h, w = image.shape[:2]
            canvas[y : y + h, x : x + w] = image
            for line in label.read_text(encoding="utf-8").splitlines() if label.exists() else []:
                c, cx, cy, bw, bh = (float(v) for v in line.split())
                box = (cx * w + x) / WIDTH, (cy * h + y) / HEIGHT, bw * w / WIDTH, bh * h / HEIGHT
                lines.append(f"{int(c)} " + " ".join(f"{v:.9g}" for v in box) + "\n")
        cv2.imwrite(str(folder / "images" / f"{start:04d}.png"), canvas, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        (folder / "labels" / f"{start:04d}.txt").write_text("".join(lines), encoding="utf-8")
    yaml = folder / "data.yaml"
    YAML.save(yaml, {"path": str(folder), "train": "images", "val": "images", "names": content["names"]})
    return yaml


def subset(data: str, folder: Path, n: int) -> str:
    """Return the YAML of a set whose val split is the first `n` images of that of `data`."""
    content = check_det_dataset(data)
    files = list_images(content["val"])[:n]
    (folder / "val.txt").write_text("".join(f"{Path(f).absolute()}\n" for f in files), encoding="utf-8")
    yaml = folder / "subset.yaml"
    YAML.save(yaml, {"train": str(folder / "val.txt"), "val": str(folder / "val.txt"), "names": content["names"]})
    return str(yaml)


def train(args: argparse.Namespace, folder: Path) -> str:
    """Train a small network for some minutes; return its weights."""
    model = YOLO("yolov8n.yaml")
    given: dict[str, Any] = {"imgsz": args.imgsz, "batch": 8, "workers": 0, "plots": False, "device": "cpu"}
    model.train(data=args.data, time=args.minutes / 60, project=str(folder), name="trained", **given)
    return str(model.ckpt_path)


def evaluate(report: Report, what: str, model: Any, data: str | Path, folder: Path, **more: Any) -> float:
    """Validate, and report AP and the time of an image."""
    start = time.perf_counter()
    metrics = model.val(data=str(data), workers=0, plots=False, project=str(folder), **more)
    spent, images = time.perf_counter() - start, len(metrics.stats)
    report.fact(f"AP, AP50 {what}", f"{metrics.box.map:.4f}, {metrics.box.map50:.4f}")
    report.fact(f"time of val {what}", f"{spent:.1f} s, {spent / images:.2f} s an image")
    return float(metrics.box.map)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, metavar="YAML", help="data set whose val split is pasted")
    parser.add_argument("--model", metavar="FILE", help="weights (default: a network is trained)")
    parser.add_argument("--minutes", type=float, default=15, help="how long to train without --model")
    parser.add_argument("--imgsz", type=int, default=320, help="input side, of a single image as of a tile")
    parser.add_argument("--slice", type=int, nargs="+", default=[640], help="side of a tile, or height and width, px")
    parser.add_argument("--overlap", type=float, default=0.2)
    parser.add_argument("--batch", type=int, default=4, help="canvases, and tiles, at a time")
    parser.add_argument("--images", type=int, help="images of the split, the first ones (default: all)")
    parser.add_argument("--per-canvas", type=int, default=24, help="images on each canvas, 36 of 640 x 480 px at most")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write slicing.json and slicing.md there")
    args = parser.parse_args()
    settings = {k: getattr(args, k) for k in ("imgsz", "slice", "overlap", "batch", "per_canvas")}
    report = Report("slicing", "Sliced validation", settings, machine())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = YOLO(args.model or train(args, args.out or folder))
        data = subset(args.data, folder, args.images) if args.images else args.data
        yaml = paste(data, folder / "canvases", args.per_canvas)
        how = {"imgsz": args.imgsz, "batch": args.batch, "device": "cpu", "amp": False}
        sliced = {"slice": args.slice, "overlap": args.overlap}
        single = evaluate(report, "of the images by themselves", model, data, folder, **how)
        evaluate(report, "of whole canvases, not sliced", model, yaml, folder, **how)
        peaks: list[float] = []
        model.add_callback("on_val_batch_end", lambda _: peaks.append(peak_mb()))
        found = evaluate(report, "of whole canvases, sliced", model, yaml, folder, **how, **sliced)
        report.fact("AP, sliced less single", round(found - single, 4), "within 0.01", abs(found - single) <= 0.01)
        grown = peaks[-1] - peaks[0]
        report.fact("growth of peak memory after the first batch", f"{grown:.0f} MB of {peaks[-1]:.0f} MB")
    report.write(args.out)


if __name__ == "__main__":
    main()
