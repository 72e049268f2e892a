"""Erasing a patch of the image, so that no single part of an object decides."""

from __future__ import annotations

import numpy as np

from ultralytics.data.augment.base import BaseTransform, chance, in_pixels
from ultralytics.data.types import Sample
from ultralytics.utils.errors import ConfigError

HIDDEN = 0.7  # part of a box from which on its object counts as gone


class RandomErasing(BaseTransform):
    """Fill a rectangle with noise, with probability `p` (Zhong et al., AAAI 2020).

    The rectangle has `area` (least, most) of the image and an aspect between `aspect` and its inverse. Objects whose
    box is hidden by 70 % or more are dropped.
    """

    def __init__(self, p: float = 0.0, area: tuple[float, float] = (0.02, 0.15), aspect: float = 0.3) -> None:
        if not 0 <= p <= 1 or not 0 < area[0] <= area[1] < 1 or not 0 < aspect <= 1:
            raise ConfigError(f"erasing p={p}, area={area}, aspect={aspect}: need parts between 0 and 1")
        self.p, self.area, self.aspect = float(p), area, aspect

    def __call__(self, labels: Sample) -> Sample:
        """Erase a patch, or leave the sample."""
        rng = labels["rng"]
        if not chance(rng, self.p):
            return labels
        h, w = labels["img"].shape[:2]
        size, shape = rng.uniform(*self.area) * h * w, np.exp(rng.uniform(-1, 1) * np.log(self.aspect))
        height = int(np.clip(np.sqrt(size * shape), 1, h))
        width = int(np.clip(np.sqrt(size / shape), 1, w))
        y, x = int(rng.integers(h - height + 1)), int(rng.integers(w - width + 1))
        image = labels["img"].copy()
        image[y : y + height, x : x + width] = rng.integers(0, 256, (height, width, image.shape[2]), np.uint8)
        labels["img"] = image
        instances = in_pixels(labels)
        low = np.maximum(instances.bboxes[:, :2], (x, y))
        high = np.minimum(instances.bboxes[:, 2:], (x + width, y + height))
        keep = np.clip(high - low, 0, None).prod(1) < HIDDEN * np.maximum(instances.bbox_areas, 1e-6)
        labels["instances"], labels["cls"] = instances[keep], labels["cls"][keep]
        return labels
