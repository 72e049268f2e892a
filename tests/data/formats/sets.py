"""One drawn data set in YOLO form, and the same in others."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.data.sets import write_set
from ultralytics.utils.config.yaml_io import YAML

CLASSES = {0: "red cell", 1: "Zelle ü", 2: "<&>"}


def yolo_set(root: Path, n: int = 5, polygons: bool = False) -> Path:
    """Write `n` training and 2 validation images, some without objects; return the data YAML."""
    rng = np.random.default_rng(3)
    for split, count in (("train", n), ("val", 2)):
        rows = {}
        for i in range(count):
            lines = [row(rng, polygons) for _ in range(i % 4)]
            rows[f"sub{i % 2}/bild ü {split} {i}"] = "".join(lines)
            for kind in ("images", "labels"):
                (root / kind / split / f"sub{i % 2}").mkdir(parents=True, exist_ok=True)
        write_set(root, rows, split, 48 if split == "train" else 50, 64)
    YAML.save(root / "data.yaml", {"train": "images/train", "val": "images/val", "names": CLASSES})
    return root / "data.yaml"


def row(rng: np.random.Generator, polygon: bool) -> str:
    """Return one label row, a box or a polygon of five points."""
    c, x, y = rng.integers(3), *rng.uniform(0.3, 0.6, 2)
    w, h = rng.uniform(0.1, 0.5, 2)
    if not polygon:
        return f"{c} {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n"
    points = np.array([[-1, -1], [1, -1], [1, 1], [0, 0.5], [-1, 1]]) * (w / 2, h / 2) + (x, y)
    return f"{c} {' '.join(f'{v:.6f}' for v in points.ravel())}\n"
