"""Images to try an exported file on, prepared by the predictor of the model's own family.

Legend: B images, C channels, H, W the network's input.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ultralytics.data.demo import draw_scene
from ultralytics.data.images import imread
from ultralytics.data.paths import list_images
from ultralytics.nn.autobackend import AutoBackend
from ultralytics.utils.errors import DatasetError

DRAWN = 4  # pictures drawn when there is no data set
SEED = 2401


class Samples:
    """Turns pictures into the network's input as prediction does.

    Args:
        predictor: Predictor class of the family.
        backend: A loaded model; it is not run.
        options: Arguments that change the preparation, such as `letterbox`.
    """

    def __init__(self, predictor: type[Any], backend: AutoBackend, options: dict[str, Any]) -> None:
        self.predictor = predictor(overrides={"device": "cpu", "verbose": False, **options})
        self.predictor.setup_model(backend)

    def tensor(self, images: Sequence[Any], size: tuple[int, int]) -> Tensor:
        """Return (B, C, H, W) for pictures (h, w, 3) BGR."""
        self.predictor.imgsz = size
        prepared: Tensor = self.predictor.preprocess(list(images))
        return prepared.float()

    def batches(self, paths: Sequence[str], size: tuple[int, int], batch: int) -> Iterator[Tensor]:
        """Yield the pictures of files in batches of exactly `batch`; a last one that is smaller is left out."""
        for start in range(0, len(paths) - batch + 1, batch):
            yield self.tensor([read(path) for path in paths[start : start + batch]], size)


def drawn_images(count: int = DRAWN, side: int = 480) -> list[Any]:
    """Return drawn pictures (h, w, 3) BGR, the same ones at each call."""
    return [draw_scene(np.random.default_rng((SEED, i)), side, side * 4 // 3)[0] for i in range(count)]


def split_images(source: str | Sequence[str], count: int) -> list[str]:
    """Return up to `count` image files of a split, evenly spread over it; DatasetError when there are none."""
    files = list_images(source)
    if not files:
        raise DatasetError(f"{source}: no images found")
    picked = np.linspace(0, len(files) - 1, min(count, len(files))).round().astype(int)
    return [files[i] for i in picked]


def read(path: str) -> Any:
    """Return a picture (h, w, 3) BGR; DatasetError when it cannot be read."""
    image = imread(path)
    if image is None:
        raise DatasetError(f"{path}: cannot be read as an image")
    return image


def smaller(size: tuple[int, int], stride: int) -> tuple[int, int]:
    """Return another size (h, w): half as high where that is possible, one stride narrower."""
    h, w = size
    return max(h // 2 // stride * stride, stride), max(w - stride, stride)


def repeated(images: Tensor, count: int) -> Tensor:
    """Return `count` images, those of (B, C, H, W) again and again."""
    return images[torch.arange(count) % len(images)]
