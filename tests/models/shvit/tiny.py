"""A classifier that is built in a moment, and a set of images that it learns in a few steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

NAMES = {0: "blue", 1: "green", 2: "red"}
TINY: dict[str, Any] = {
    "task": "classify",
    "nc": 3,
    "backbone": [
        [-1, 1, "SHViTStem", [16]],
        [-1, 1, "SHViTStage", [32, 8, "i"]],
        [-1, 1, "SHViTStage", [48, 8, "s"]],
        [-1, 1, "SHViTStage", [64, 16, "s"]],
    ],
    "head": [[-1, 1, "SHViTHead", ["nc"]]],
}
FOLLOWER = {**TINY, "head": [[-1, 1, "SHViTHead", ["nc", True]]]}


def write_set(root: Path, train: int = 6, val: int = 2) -> Path:
    """Write noisy images whose colour is their class."""
    rng = np.random.default_rng(0)
    for split, each in (("train", train), ("val", val)):
        for c, name in NAMES.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(each):
                image = rng.integers(0, 90, (64, 70, 3), dtype=np.uint8)
                image[..., c] += 150  # BGR
                cv2.imwrite(str(folder / f"{i}.jpg"), image)
    return root


def options(images: Path, folder: Path, **changes: Any) -> dict[str, Any]:
    """Arguments of a run of a few seconds."""
    return {
        "data": str(images),
        "imgsz": 64,
        "epochs": 2,
        "batch": 6,
        "workers": 0,
        "device": "cpu",
        "plots": False,
        "project": str(folder),
        "name": "run",
        **changes,
    }
