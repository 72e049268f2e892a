"""Small data sets on disk for the data tests."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
from PIL import Image

from ultralytics.data.labels.parse import Scan, scan_images, verify_pair
from ultralytics.data.labels.table import ParsedLabels
from ultralytics.data.types import LabelDict

NAMES = {0: "a", 1: "b", 2: "c"}


def picture(h: int = 48, w: int = 64, seed: int = 0) -> np.ndarray:
    """Return a noise image (h, w, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), np.uint8)


def late_exif(path: Path) -> None:
    """Put an EXIF mark that turns a PNG behind its pixels, where a scan that does not decode cannot see it."""
    exif, raw = Image.Exif(), path.read_bytes()
    exif[0x0112] = 6
    body = exif.tobytes()[6:]
    chunk = struct.pack(">I", len(body)) + b"eXIf" + body + struct.pack(">I", zlib.crc32(b"eXIf" + body))
    end = raw.rindex(b"IEND") - 4
    path.write_bytes(raw[:end] + chunk + raw[end:])


def write_set(root: Path, rows: dict[str, str | None], split: str = "train", h: int = 48, w: int = 64) -> Path:
    """Write one PNG for each name, with a label file unless its text is None; return the image folder."""
    images, labels = root / "images" / split, root / "labels" / split
    images.mkdir(parents=True, exist_ok=True)
    labels.mkdir(parents=True, exist_ok=True)
    for i, (name, text) in enumerate(rows.items()):
        cv2.imwrite(str(images / f"{name}.png"), picture(h, w, i))
        if text is not None:
            (labels / f"{name}.txt").write_text(text, encoding="utf-8")
    return images


def scan_labels(im_files: Sequence[str], label_files: Sequence[str], nc: int) -> Scan:
    """Scan images with label files in YOLO's form."""
    files = dict(zip(im_files, label_files, strict=True))
    return scan_images(im_files, lambda im_file: verify_pair(im_file, files[im_file], nc))


def make_set(root: Path, n: int = 6, split: str = "train", h: int = 48, w: int = 64) -> Path:
    """Write `n` images with one to three random boxes each; return the image folder."""
    rng = np.random.default_rng(7)
    rows = {}
    for i in range(n):
        boxes = [(rng.integers(3), *rng.uniform(0.3, 0.7, 2), *rng.uniform(0.2, 0.5, 2)) for _ in range(i % 3 + 1)]
        rows[f"im{i}"] = "".join(f"{c} {x:.6f} {y:.6f} {bw:.6f} {bh:.6f}\n" for c, x, y, bw, bh in boxes)
    return write_set(root, rows, split, h, w)


def data_dict(root: Path) -> dict[str, Any]:
    """Return what `check_det_dataset` would."""
    return {"names": NAMES, "nc": len(NAMES), "channels": 3, "path": root}


def hyp(**changes: Any) -> SimpleNamespace:
    """Return augmentation arguments: everything off but what is given."""
    names = "hsv_h hsv_s hsv_v degrees translate scale shear perspective flipud fliplr bgr mosaic"
    off = dict.fromkeys(names.split(), 0.0)
    off |= {"mixup": 0.0, "cutmix": 0.0, "copy_paste": 0.0}
    return SimpleNamespace(**{**off, **changes})


def label_dict(image: ParsedLabels) -> LabelDict:
    """Return the labels of an image as a custom data set gives them: a dict that can be changed."""
    label: LabelDict = {
        "im_file": image.im_file,
        "shape": image.shape,
        "cls": image.cls,
        "bboxes": image.bboxes,
        "segments": list(image.segments),
        "keypoints": None,
        "normalized": True,
        "bbox_format": "xywh",
    }
    if image.truth is not None:
        label["truth"] = image.truth
    return label
