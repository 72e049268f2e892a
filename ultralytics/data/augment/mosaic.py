"""Mosaic: several images side by side on one canvas, so that a batch holds more objects at more scales."""

from __future__ import annotations

import numpy as np

from ultralytics.data.augment.base import MixTransform, SampleSource, in_pixels
from ultralytics.data.augment.geometric import MIN_AREA
from ultralytics.data.types import Sample
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.instance import Instances
from ultralytics.utils.torch_tools.arrays import Pixels

FILL = 114


class Mosaic(MixTransform):
    """Join a sample with 3 or 8 others on a canvas of twice `imgsz`.

    With n = 4 the images meet at a random point of the canvas's middle half. With n = 9 they lie in a 3 x 3 grid, of
    which the canvas shows the middle. Objects are cut off at the canvas; those with less than a tenth of their area
    left are dropped, because they cannot be recognised.
    """

    def __init__(self, dataset: SampleSource, imgsz: int = 640, p: float = 1.0, n: int = 4) -> None:
        if n not in {4, 9}:
            raise ConfigError(f"mosaic of n={n} images: n must be 4 or 9")
        super().__init__(dataset, None, p)
        self.imgsz, self.n = imgsz, n

    def mix(self, labels: Sample) -> Sample:
        """Return the joined sample; its image has sides of 2 x imgsz."""
        rng = labels["rng"]
        samples = [labels, *self.partners(rng, self.n - 1)]
        corners = self._corners_4(rng, samples) if self.n == 4 else self._corners_9(samples)
        size = 2 * self.imgsz
        canvas: Pixels = np.full((size, size, labels["img"].shape[2]), FILL, np.uint8)
        parts = []
        for sample, (x, y) in zip(samples, corners, strict=True):
            _paste(canvas, sample["img"], x, y)
            instances = in_pixels(sample)
            instances.add_padding(x, y)
            parts.append(instances)
        instances = Instances.concatenate(parts)
        cls = np.concatenate([s["cls"] for s in samples])
        area = instances.bbox_areas
        instances.clip(size, size)
        keep = instances.bbox_areas > np.maximum(area * MIN_AREA, 0)
        labels["img"], labels["resized_shape"], labels["mosaic"] = canvas, (size, size), True
        labels["cls"], labels["instances"] = cls[keep], instances[keep]
        return labels

    def _corners_4(self, rng: np.random.Generator, samples: list[Sample]) -> list[tuple[int, int]]:
        """Return each image's upper left corner: around a common point, upper left first, row by row."""
        xc, yc = (int(v) for v in rng.uniform(self.imgsz / 2, self.imgsz * 3 / 2, 2))
        corners = []
        for i, sample in enumerate(samples):
            h, w = sample["img"].shape[:2]
            corners.append((xc - w if i % 2 == 0 else xc, yc - h if i < 2 else yc))
        return corners

    def _corners_9(self, samples: list[Sample]) -> list[tuple[int, int]]:
        """Return each image's upper left corner: the first in the middle, the others round it, touching their cell."""
        s = self.imgsz
        cells = [(0, 0), (0, -1), (1, -1), (1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1)]  # column, row
        corners = []
        for (column, row), sample in zip(cells, samples, strict=True):
            h, w = sample["img"].shape[:2]
            x = s // 2 + (-w if column < 0 else column * s)
            y = s // 2 + (-h if row < 0 else row * s)
            corners.append((x, y))
        return corners


def _paste(canvas: Pixels, image: Pixels, x: int, y: int) -> None:
    """Copy an image to (x, y) of the canvas; what falls outside is cut off."""
    (ch, cw), (h, w) = canvas.shape[:2], image.shape[:2]
    x1, y1, x2, y2 = max(x, 0), max(y, 0), min(x + w, cw), min(y + h, ch)
    if x2 > x1 and y2 > y1:
        canvas[y1:y2, x1:x2] = image[y1 - y : y2 - y, x1 - x : x2 - x]
