"""What `reduced_decode` saves where photographs are far larger than `imgsz`, and what it changes in AP.

python benchmarks/reduced_decode.py                                       # time
python benchmarks/reduced_decode.py --model best.pt --data data.yaml      # and AP, on the val split enlarged four times
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from common import ROOT, Report, arguments, machine, take_turns, timed

sys.path.insert(0, str(ROOT))

from ultralytics import RTDETR
from ultralytics.data import YOLODataset
from ultralytics.data.images import imread
from ultralytics.data.utils import check_det_dataset, img2label_paths, list_images
from ultralytics.utils import YAML

GRAIN = 4.0  # grey levels of noise, as a camera's sensor has them
ENLARGED = 4


def draw(folder: Path, count: int, side: int) -> float:
    """Photographs of soft shapes with grain, 4:3, quality 92; their mean size in MB."""
    rng = np.random.default_rng(0)
    height, width = side * 3 // 4, side
    for i in range(count):
        soft = cv2.resize(
            rng.uniform(0, 255, (24, 32, 3)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
        )
        grain = rng.normal(0, GRAIN, (height, width, 1)).astype(np.float32)
        write(folder, f"{i}.jpg", np.clip(soft + grain, 0, 255).astype(np.uint8), "0 0.5 0.5 0.2 0.2\n", 92)
    return sum(f.stat().st_size for f in folder.rglob("*.jpg")) / count / 1e6


def write(folder: Path, name: str, image: Any, label: str, quality: int) -> None:
    """One JPEG with its label file."""
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / "images" / name), image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    (folder / "labels" / name).with_suffix(".txt").write_text(label, encoding="utf-8")


def reading(folder: Path, imgsz: int, reduced: bool) -> Callable[[], None]:
    """Read and resize all images of a folder, one after another."""
    data = {"names": {0: "thing"}, "nc": 1, "channels": 3, "path": folder}
    images = str(folder / "images")
    found = YOLODataset(images, imgsz=imgsz, augment=False, letterbox=False, data=data, reduced_decode=reduced)

    def run() -> None:
        for i in range(len(found)):
            found.load_image(i)

    return run


def enlarge(data: str, folder: Path) -> Path:
    """A data set of the val split with images four times as wide and high; returns its YAML."""
    content = check_det_dataset(data)
    files = list_images(content["val"])
    for file, label in zip(files, map(Path, img2label_paths(files)), strict=True):
        image = imread(file)
        assert image is not None, file
        size = (image.shape[1] * ENLARGED, image.shape[0] * ENLARGED)
        large = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
        text = label.read_text(encoding="utf-8") if label.exists() else ""
        write(folder, Path(file).with_suffix(".jpg").name, large, text, 95)
    yaml = folder / "data.yaml"
    YAML.save(yaml, {"path": str(folder), "train": "images", "val": "images", "names": content["names"]})
    return yaml


def accuracy(report: Report, model: str, data: str, folder: Path) -> None:
    """AP of both ways on the enlarged split."""
    yaml, ap = enlarge(data, folder), {}
    for reduced in (False, True):
        how: dict[str, Any] = {
            "data": str(yaml),
            "reduced_decode": reduced,
            "plots": False,
            "workers": 0,
            "device": "cpu",
        }
        ap[reduced] = float(RTDETR(model).val(**how, project=str(folder / "runs")).box.map)
    report.fact("mAP50-95, whole / reduced", f"{ap[False]:.4f} / {ap[True]:.4f}")


def main() -> None:
    """Measure and report."""
    args = arguments(__doc__ or "", "model", "data", rounds=(2, 7))
    if args.threads:
        torch.set_num_threads(args.threads)
        cv2.setNumThreads(args.threads)
    count, side = (2, 1600) if args.quick else (8, 4000)
    settings = {"images": count, "long side": side}
    report = Report("reduced_decode", "Decoding at reduced size", settings, machine(args.threads))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        report.fact("size of a file, MB", round(draw(folder, count, side), 2))
        for imgsz in (320, 640, 1280):
            sides = {"ours": timed(reading(folder, imgsz, True)), "whole": timed(reading(folder, imgsz, False))}
            report.compare(f"reading {count} images at {imgsz} px", take_turns(sides, args.rounds))
    if args.model and args.data:
        with tempfile.TemporaryDirectory() as name:
            accuracy(report, args.model, args.data, Path(name))
    report.write(args.out)


if __name__ == "__main__":
    main()
