"""Samples whose pixels show where the objects are, so that moved boxes can be compared with moved pixels."""

from __future__ import annotations

import numpy as np

from ultralytics.data.augment.base import Sample
from ultralytics.utils.instance import Instances

SIDE = 160


class Scenes:
    """A stand-in for a data set: filled rectangles on black; channel 0 says which object, channel 1 is 255 in all."""

    def __init__(self, n: int = 8, h: int = SIDE, w: int = SIDE, polygons: bool = False) -> None:
        self.n, self.h, self.w, self.polygons = n, h, w, polygons

    def __len__(self) -> int:
        return self.n

    def boxes(self, index: int) -> np.ndarray:
        """Return two disjoint boxes (2, 4), one in the left and one in the right half, on whole pixels."""
        rng = np.random.default_rng((99, index))
        half = self.w // 2
        rows = []
        for left in (0, half):
            w, h = rng.integers(24, half - 8), rng.integers(24, self.h - 8)
            x, y = left + rng.integers(2, half - w - 2), rng.integers(2, self.h - h - 2)
            rows.append((x, y, x + w, y + h))
        return np.array(rows, np.float32)

    def get_image_and_label(self, index: int, rng: np.random.Generator | None = None) -> Sample:
        """Return the sample; object k of image i has the class and channel value 2 * i + k + 1."""
        boxes = self.boxes(index)
        image = np.zeros((self.h, self.w, 3), np.uint8)
        values = 2 * index + np.arange(len(boxes)) + 1
        for value, (x1, y1, x2, y2) in zip(values, boxes.astype(int), strict=True):
            image[y1:y2, x1:x2] = (value, 255, 0)
        corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2) if self.polygons else None
        return {
            "im_file": f"{index}.jpg",
            "index": index,
            "img": image,
            "cls": values[:, None].astype(np.float32),
            "instances": Instances(boxes, corners, "xyxy", normalized=False),
            "ori_shape": (self.h, self.w),
            "resized_shape": (self.h, self.w),
            "ratio_pad": (1.0, 1.0),
            "rng": np.random.default_rng((1, index)) if rng is None else rng,
        }


def frames(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the frame (N, 4) of the unblended pixels of each object; NaN where there are fewer than 4."""
    rows = []
    for value in values:
        ys, xs = np.nonzero((image[..., 0] == int(value)) & (image[..., 1] == 255))
        rows.append((xs.min(), ys.min(), xs.max() + 1, ys.max() + 1) if len(xs) > 3 else (np.nan,) * 4)
    return np.array(rows, np.float64).reshape(-1, 4)


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the IoU of paired xyxy boxes."""
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])
    inter = np.clip(high - low, 0, None).prod(1)
    return inter / ((a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - inter)
