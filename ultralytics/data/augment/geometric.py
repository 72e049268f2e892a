"""Changes of geometry: affine and perspective warps, and mirroring. Boxes and polygons follow the pixels.

Shapes: N objects, P polygon points.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ultralytics.data.augment.base import BaseTransform, chance, in_pixels
from ultralytics.data.images import with_channels
from ultralytics.data.types import Sample
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.instance import Instances
from ultralytics.utils.torch_tools.arrays import Float32Array, Pixels

MIN_WARPED_SIDE = 2.0  # pixels; smaller boxes are dropped after a warp
MIN_AREA = 0.10  # part of a box's area that must stay in the frame
MIN_AREA_POLYGON = 0.01
MAX_ASPECT = 100.0
_HALF = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])


class RandomPerspective(BaseTransform):
    """Rotate, scale, shear, shift and tilt an image at random, about its centre, into a frame of `size`.

    Args:
        degrees: rotation in +-degrees.
        translate: shift in +-parts of the frame.
        scale: gain 1 +- scale, or an explicit (min, max).
        shear: shear in +-degrees on both axes.
        perspective: strength of the tilt, +-.
        size: frame (width, height) in pixels; None keeps the image's own size.
        pre_transform: applied first when the image is not of the frame's size yet.
    """

    def __init__(
        self,
        degrees: float = 0.0,
        translate: float = 0.1,
        scale: float | tuple[float, float] = 0.5,
        shear: float = 0.0,
        perspective: float = 0.0,
        size: tuple[int, int] | None = None,
        pre_transform: Callable[[Sample], Sample] | None = None,
    ) -> None:
        self.degrees, self.translate, self.shear, self.perspective = degrees, translate, shear, perspective
        self.scale = (scale[0], scale[1]) if isinstance(scale, (tuple, list)) else (1 - scale, 1 + scale)
        self.size, self.pre_transform = size, pre_transform

    def __call__(self, labels: Sample) -> Sample:
        """Warp a sample; objects that nearly leave the frame are dropped."""
        if self.pre_transform is not None and not labels.pop("mosaic", False):
            labels = self.pre_transform(labels)
        labels.pop("ratio_pad", None)  # it no longer describes the image
        image, instances = labels["img"], in_pixels(labels)
        h, w = image.shape[:2]
        size = self.size or (w, h)
        matrix, gain = self.matrix(labels["rng"], (w, h), size)
        labels["img"] = self._warp(image, matrix, size)
        moved = self.move(instances, matrix, size)
        before = instances.copy()
        before.scale(gain, gain, bbox_only=True)
        keep = box_candidates(before.bboxes, moved.bboxes, MIN_AREA_POLYGON if instances.has_segments else MIN_AREA)
        labels["instances"], labels["cls"] = moved[keep], labels["cls"][keep]
        labels["resized_shape"] = labels["img"].shape[:2]
        return labels

    def matrix(
        self, rng: np.random.Generator, source: tuple[int, int], target: tuple[int, int]
    ) -> tuple[Float32Array, float]:
        """Draw a 3 x 3 matrix from pixels of the `source` (w, h) to the `target` (w, h), and the gain in it."""
        centre = np.eye(3)
        centre[0, 2], centre[1, 2] = -source[0] / 2, -source[1] / 2
        tilt = np.eye(3)
        tilt[2, :2] = rng.uniform(-self.perspective, self.perspective, 2)
        angle, gain = rng.uniform(-self.degrees, self.degrees), rng.uniform(*self.scale)
        turn = np.eye(3)
        turn[:2] = cv2.getRotationMatrix2D(angle=angle, center=(0, 0), scale=gain)
        skew = np.eye(3)
        skew[0, 1], skew[1, 0] = np.tan(np.radians(rng.uniform(-self.shear, self.shear, 2)))
        shift = np.eye(3)
        shift[:2, 2] = rng.uniform(0.5 - self.translate, 0.5 + self.translate, 2) * target
        return (shift @ skew @ turn @ tilt @ centre).astype(np.float32), float(gain)

    def _warp(self, image: Pixels, matrix: Float32Array, size: tuple[int, int]) -> Pixels:
        if (image.shape[1], image.shape[0]) == size and np.array_equal(matrix, np.eye(3)):
            return image
        matrix = _HALF @ matrix @ np.linalg.inv(_HALF)  # OpenCV counts from pixel centres, boxes from pixel edges
        border = (114,) * min(image.shape[2], 4)
        if self.perspective:
            warped = cv2.warpPerspective(image, matrix, dsize=size, borderValue=border)
        else:
            warped = cv2.warpAffine(image, matrix[:2], dsize=size, borderValue=border)
        return with_channels(warped)

    @staticmethod
    def move(instances: Instances, matrix: Float32Array, size: tuple[int, int]) -> Instances:
        """Return the warped objects, cut off at the frame: frames of the moved polygons, or of the moved corners."""
        if not len(instances):
            return instances
        if instances.has_segments:
            segments = warp_points(instances.segments, matrix)  # (N, P, 2)
            boxes = _frames_inside(segments, size)
            return Instances(boxes, np.clip(segments, 0, np.asarray(size, np.float32)), "xyxy", normalized=False)
        corners = instances.bboxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)  # (N, 4, 2)
        moved = warp_points(corners, matrix)
        boxes = np.concatenate([moved.min(1), moved.max(1)], axis=1)  # (N, 4)
        return Instances(np.clip(boxes, 0, np.tile(np.asarray(size, np.float32), 2)), None, "xyxy", normalized=False)


def warp_points(points: Float32Array, matrix: Float32Array) -> Float32Array:
    """Apply a 3 x 3 matrix to points (..., 2)."""
    out = points @ matrix[:, :2].T + matrix[:, 2]  # (..., 3)
    return (out[..., :2] / out[..., 2:]).astype(np.float32)


def _frames_inside(segments: Float32Array, size: tuple[int, int]) -> Float32Array:
    """Return the frame (N, 4) of each polygon's part inside the image; zeros when no part is inside."""
    w, h = size
    boxes = np.zeros((len(segments), 4), np.float32)
    for row, polygon in zip(boxes, segments, strict=True):
        inside = clip_polygon(polygon, w, h)
        if len(inside):
            row[:] = (*inside.min(0), *inside.max(0))
    return boxes


def clip_polygon(polygon: Float32Array, w: float, h: float) -> Float32Array:
    """Cut a polygon (P, 2) off at the frame (Sutherland and Hodgman 1974): one half plane after another."""
    for axis, bound, sign in ((0, 0.0, 1), (0, w, -1), (1, 0.0, 1), (1, h, -1)):
        if not len(polygon):
            break
        inner = (polygon[:, axis] - bound) * sign  # >= 0 inside
        if (inner >= 0).all():
            continue
        after, inner_after = np.roll(polygon, -1, axis=0), np.roll(inner, -1)
        crosses = (inner >= 0) != (inner_after >= 0)
        part = np.where(crosses, inner / np.where(crosses, inner - inner_after, 1), 0)[:, None]
        both = np.stack([polygon, polygon + part * (after - polygon)], axis=1)  # (P, 2, 2)
        polygon = both[np.stack([inner >= 0, crosses], axis=1)].astype(np.float32)
    return polygon


def box_candidates(before: Float32Array, after: Float32Array, min_area: float = MIN_AREA) -> NDArray[np.bool_]:
    """Return which of N xyxy boxes stay: sides above 2 px, enough of the scaled area left, not a sliver."""
    w0, h0 = before[:, 2] - before[:, 0], before[:, 3] - before[:, 1]
    w1, h1 = after[:, 2] - after[:, 0], after[:, 3] - after[:, 1]
    eps = 1e-16
    aspect = np.maximum(w1 / (h1 + eps), h1 / (w1 + eps))
    return (
        (w1 > MIN_WARPED_SIDE) & (h1 > MIN_WARPED_SIDE) & (w1 * h1 / (w0 * h0 + eps) > min_area) & (aspect < MAX_ASPECT)
    )


class RandomFlip(BaseTransform):
    """Mirror image and objects with probability `p`: `direction` "horizontal" (left to right) or "vertical".

    `flip_idx`, the order of mirrored keypoints, has no effect: there are none.
    """

    def __init__(self, p: float = 0.5, direction: str = "horizontal", flip_idx: Sequence[int] | None = None) -> None:
        if direction not in {"horizontal", "vertical"}:
            raise ConfigError(f"direction='{direction}' must be 'horizontal' or 'vertical'")
        if not 0 <= p <= 1:
            raise ConfigError(f"flip probability {p} must lie between 0 and 1")
        self.p, self.direction = float(p), direction

    def __call__(self, labels: Sample) -> Sample:
        """Mirror the sample, or leave it."""
        if not chance(labels["rng"], self.p):
            return labels
        image, instances = labels["img"], labels["instances"]
        h, w = (1, 1) if instances.normalized else image.shape[:2]
        if self.direction == "vertical":
            labels["img"] = image[::-1]
            instances.flipud(h)
        else:
            labels["img"] = image[:, ::-1]
            instances.fliplr(w)
        labels["img"] = np.ascontiguousarray(labels["img"])
        return labels
