"""Parity inputs: images on which an exported file is compared with its model, prepared by the predictor of its family.

Shapes: B batch, C channels, H x W network input, h x w image.
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
from ultralytics.utils.torch_tools.arrays import Pixels

DRAWN = 4  # images drawn when there is no data set
SEED = 2401


class ParityInputs:
    """Turns images into network input as prediction does.

    Args:
        predictor: Predictor class of the family.
        backend: A loaded model; it is not run.
        options: Arguments that change the preparation, such as `letterbox`.
    """

    def __init__(self, predictor: type[Any], backend: AutoBackend, options: dict[str, Any]) -> None:
        self.predictor = predictor(overrides={"device": "cpu", "verbose": False, **options})
        self.predictor.setup_model(backend)

    def tensor(self, images: Sequence[Pixels], size: tuple[int, int]) -> Tensor:
        """Return (B, C, H, W) for images (h, w, 3) BGR."""
        self.predictor.imgsz = size
        prepared: Tensor = self.predictor.preprocess(list(images))
        return prepared.float()

    def batches(self, paths: Sequence[str], size: tuple[int, int], batch: int) -> Iterator[Tensor]:
        """Yield the images of files in batches of exactly `batch`; a smaller last batch is left out."""
        for start in range(0, len(paths) - batch + 1, batch):
            yield self.tensor([read_image(path) for path in paths[start : start + batch]], size)


def drawn_images(count: int = DRAWN, side: int = 480) -> list[Pixels]:
    """Return drawn images (h, w, 3) BGR, the same at each call."""
    return [draw_scene(np.random.default_rng((SEED, i)), side, side * 4 // 3)[0] for i in range(count)]


def split_images(source: str | Sequence[str], count: int) -> list[str]:
    """Return up to `count` image files of a split, evenly spread over it; DatasetError when there are none."""
    files = list_images(source)
    if not files:
        raise DatasetError(f"{source}: no images found")
    picked = np.linspace(0, len(files) - 1, min(count, len(files))).round().astype(int)
    return [files[i] for i in picked]


def read_image(path: str) -> Pixels:
    """Return an image (h, w, 3) BGR; DatasetError when it cannot be read."""
    image = imread(path)
    if image is None:
        raise DatasetError(f"{path}: cannot be read as an image")
    return image


def smaller_size(size: tuple[int, int], stride: int) -> tuple[int, int]:
    """Return a size (h, w) of half the height where possible, one stride narrower."""
    h, w = size
    return max(h // 2 // stride * stride, stride), max(w - stride, stride)


def cycle_images(images: Tensor, count: int) -> Tensor:
    """Return `count` images, those of (B, C, H, W) in turn."""
    return images[torch.arange(count) % len(images)]
