"""Mixing two images: blended (MixUp), a window of one in the other (CutMix), cut-out objects (CopyPaste).

Shapes: N, M objects of the two images.
"""

from __future__ import annotations

import cv2
import numpy as np

from ultralytics.data.augment.base import MixTransform, SampleSource, Transform, in_pixels
from ultralytics.data.augment.geometric import MIN_AREA, MIN_AREA_POLYGON
from ultralytics.data.images import resize, with_channels
from ultralytics.data.types import Sample
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.instance import Instances
from ultralytics.utils.torch_tools.arrays import Float32Array, Pixels


class MixUp(MixTransform):
    """Blend a sample with another, r ~ Beta(32, 32), and keep the objects of both (Zhang et al. 2018)."""

    def mix(self, labels: Sample) -> Sample:
        """Return the blend."""
        rng = labels["rng"]
        other = self.partners(rng, 1)[0]
        r = float(rng.beta(32.0, 32.0))
        image = _same_size(other["img"], labels["img"].shape[:2])
        labels["img"] = with_channels(cv2.addWeighted(labels["img"], r, image, 1 - r, 0))
        labels["instances"] = Instances.concatenate([in_pixels(labels), _scaled(other, labels["img"].shape[:2])])
        labels["cls"] = np.concatenate([labels["cls"], other["cls"]])
        return labels


class CutMix(MixTransform):
    """Put a window of another sample into this one where it covers no object (after Yun et al. 2019).

    The window's sides are sqrt(1 - r) of the image's, r ~ Beta(1, 1); the first of `tries` places that touches no box
    is taken, none means no change. Objects with a tenth of their area in the window come along, cut off at its rim.
    """

    def __init__(
        self, dataset: SampleSource, pre_transform: Transform | None = None, p: float = 0.0, tries: int = 3
    ) -> None:
        super().__init__(dataset, pre_transform, p)
        self.tries = tries

    def mix(self, labels: Sample) -> Sample:
        """Return the sample with a window of another."""
        rng = labels["rng"]
        other = self.partners(rng, 1)[0]
        h, w = labels["img"].shape[:2]
        instances = in_pixels(labels)
        windows = [_window(rng, w, h) for _ in range(self.tries)]
        free = [v for v in windows if v[2] > v[0] and v[3] > v[1] and not (_overlap(instances.bboxes, v) > 0).any()]
        if not free:
            return labels
        x1, y1, x2, y2 = free[0]
        added = _scaled(other, (h, w))
        inside = _overlap(added.bboxes, free[0]) / np.maximum(added.bbox_areas, 1e-6)
        keep = inside >= (MIN_AREA_POLYGON if added.has_segments else MIN_AREA)
        added = added[keep]
        added.add_padding(-x1, -y1)
        added.clip(x2 - x1, y2 - y1)
        added.add_padding(x1, y1)
        image = labels["img"].copy()
        image[y1:y2, x1:x2] = _same_size(other["img"], (h, w))[y1:y2, x1:x2]
        labels["img"] = image
        labels["instances"] = Instances.concatenate([instances, added])
        labels["cls"] = np.concatenate([labels["cls"], other["cls"][keep]])
        return labels


class CopyPaste(MixTransform):
    """Paste cut-out objects, for labels with polygons only (Ghiasi et al. 2021).

    `p` is the part of the candidates that is pasted. Mode "flip" takes the image's own objects, mirrored; "mixup" takes
    another image's. Candidates are objects of which an existing box covers less than 0.3, and which cover less than
    0.3 of each existing box: what they hide keeps its label.
    """

    MAX_COVER = 0.3

    def __init__(
        self, dataset: SampleSource, pre_transform: Transform | None = None, p: float = 0.5, mode: str = "flip"
    ) -> None:
        if mode not in {"flip", "mixup"}:
            raise ConfigError(f"copy_paste_mode='{mode}' must be 'flip' or 'mixup'")
        super().__init__(dataset, pre_transform, p)
        self.mode = mode

    def __call__(self, labels: Sample) -> Sample:
        """Paste objects; nothing happens without polygons."""
        if self.p <= 0 or (self.mode == "flip" and not labels["instances"].has_segments):
            return labels
        return self.mix(labels)

    def mix(self, labels: Sample) -> Sample:
        """Return the sample with pasted objects."""
        instances = in_pixels(labels)
        h, w = labels["img"].shape[:2]
        source, added, cls = self._donor(labels, instances)
        if not added.has_segments:
            return labels
        cover = _coverage(added.bboxes, instances.bboxes)  # (M,)
        candidates = np.flatnonzero(cover < self.MAX_COVER)
        chosen = candidates[np.argsort(cover[candidates], kind="stable")][: round(self.p * len(candidates))]
        if not len(chosen):
            return labels
        mask = np.zeros((h, w), np.uint8)
        for polygon in added.segments[chosen]:
            cv2.fillPoly(mask, [np.round(polygon).astype(np.int32)], 1)
        labels["img"] = np.where(mask[..., None] > 0, source, labels["img"])
        labels["instances"] = Instances.concatenate([instances, added[chosen]])
        labels["cls"] = np.concatenate([labels["cls"], cls[chosen]])
        return labels

    def _donor(self, labels: Sample, instances: Instances) -> tuple[Pixels, Instances, Float32Array]:
        """Return image, objects in pixels and classes to paste from."""
        h, w = labels["img"].shape[:2]
        if self.mode == "flip":
            mirrored = instances.copy()
            mirrored.fliplr(w)
            return labels["img"][:, ::-1], mirrored, labels["cls"]
        other = self.partners(labels["rng"], 1)[0]
        return _same_size(other["img"], (h, w)), _scaled(other, (h, w)), other["cls"]


def _same_size(image: Pixels, shape: tuple[int, int]) -> Pixels:
    """Stretch an image to (h, w) if it has another size."""
    if image.shape[:2] == shape:
        return image
    return resize(image, (shape[1], shape[0]))


def _scaled(sample: Sample, shape: tuple[int, int]) -> Instances:
    """Return a sample's objects in pixels of an image of `shape` (h, w)."""
    instances = in_pixels(sample)
    h, w = sample["img"].shape[:2]
    if (h, w) != shape:
        instances.scale(shape[1] / w, shape[0] / h)
    return instances


def _window(rng: np.random.Generator, w: int, h: int) -> tuple[int, int, int, int]:
    """Draw a window x1, y1, x2, y2 inside a w x h image."""
    side = float(np.sqrt(1 - rng.beta(1.0, 1.0)))
    cx, cy = rng.uniform(0, w), rng.uniform(0, h)
    x1, x2 = np.clip([cx - side * w / 2, cx + side * w / 2], 0, w).astype(int)
    y1, y2 = np.clip([cy - side * h / 2, cy + side * h / 2], 0, h).astype(int)
    return int(x1), int(y1), int(x2), int(y2)


def _overlap(boxes: Float32Array, window: tuple[int, int, int, int]) -> Float32Array:
    """Return the area (N,) that each xyxy box shares with a window."""
    low = np.maximum(boxes[:, :2], window[:2])
    high = np.minimum(boxes[:, 2:], window[2:])
    return np.clip(high - low, 0, None).prod(1).astype(np.float32)


def _coverage(boxes: Float32Array, others: Float32Array) -> Float32Array:
    """Return for each of M xyxy boxes the largest part that it shares with one of N others, of either box, (M,)."""
    if not len(others):
        return np.zeros(len(boxes), np.float32)
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])  # (M, N, 2)
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    areas = [np.clip(b[:, 2:] - b[:, :2], 0, None).prod(1) for b in (boxes, others)]
    smaller = np.maximum(np.minimum(areas[0][:, None], areas[1]), 1e-6)  # (M, N)
    return (np.clip(high - low, 0, None).prod(2) / smaller).max(1).astype(np.float32)
