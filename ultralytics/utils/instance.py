"""Boxes and polygons of one image, as values that the augmentations move.

Shapes: N objects, P polygon points. All arrays are float32. Pixel coordinates have their origin at the image's
upper left corner; normalised ones are divided by the image's width and height.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ultralytics.utils.errors import ConfigError
from ultralytics.utils.ops import ltwh2xywh, ltwh2xyxy, xywh2ltwh, xywh2xyxy, xyxy2ltwh, xyxy2xywh
from ultralytics.utils.torch_tools.arrays import BoolArray, Float32Array

BoxFormat = Literal["xyxy", "xywh", "ltwh"]
_Index = int | slice | npt.NDArray[np.bool_] | npt.NDArray[np.integer] | Sequence[int] | Sequence[bool]

BOX_FORMATS: tuple[BoxFormat, ...] = ("xyxy", "xywh", "ltwh")
_CONVERT: dict[tuple[str, str], Any] = {
    ("xyxy", "xywh"): xyxy2xywh,
    ("xyxy", "ltwh"): xyxy2ltwh,
    ("xywh", "xyxy"): xywh2xyxy,
    ("xywh", "ltwh"): xywh2ltwh,
    ("ltwh", "xyxy"): ltwh2xyxy,
    ("ltwh", "xywh"): ltwh2xywh,
}


class Bboxes:
    """An (N, 4) box array that knows its format: corners, centre and size, or upper left corner and size.

    >>> b = Bboxes([[0, 0, 10, 20]])
    >>> b.convert("xywh"); b.bboxes.tolist()
    [[5.0, 10.0, 10.0, 20.0]]
    """

    def __init__(self, bboxes: npt.ArrayLike, format: BoxFormat = "xyxy") -> None:
        """Take boxes of shape (N, 4) or (4,) in `format`; raise ConfigError on another shape or format."""
        if format not in BOX_FORMATS:
            raise ConfigError(f"box format '{format}' is unknown; use one of {', '.join(BOX_FORMATS)}")
        array = np.asarray(bboxes, dtype=np.float32)
        array = array.reshape(-1, 4) if array.size == 0 or array.ndim == 1 else array  # (N, 4)
        if array.ndim != 2 or array.shape[1] != 4:
            raise ConfigError(f"boxes must have shape (N, 4), not {tuple(np.shape(bboxes))}")
        self.bboxes: Float32Array = array
        self.format: BoxFormat = format

    def convert(self, format: BoxFormat) -> None:
        """Change the format in place."""
        if format not in BOX_FORMATS:
            raise ConfigError(f"box format '{format}' is unknown; use one of {', '.join(BOX_FORMATS)}")
        if format != self.format:
            self.bboxes = _CONVERT[self.format, format](self.bboxes).astype(np.float32)
            self.format = format

    def areas(self) -> Float32Array:
        """Return the N box areas."""
        if self.format == "xyxy":
            return (self.bboxes[:, 2] - self.bboxes[:, 0]) * (self.bboxes[:, 3] - self.bboxes[:, 1])
        return self.bboxes[:, 2] * self.bboxes[:, 3]

    def mul(self, scale: float | Sequence[float]) -> None:
        """Multiply the four columns by one factor or by four, in place."""
        self.bboxes = self.bboxes * np.broadcast_to(np.asarray(scale, dtype=np.float32), (4,))

    def add(self, offset: float | Sequence[float]) -> None:
        """Add one offset or four to the columns, in place."""
        self.bboxes = self.bboxes + np.broadcast_to(np.asarray(offset, dtype=np.float32), (4,))

    def __len__(self) -> int:
        return len(self.bboxes)

    def __getitem__(self, index: _Index) -> Bboxes:
        return Bboxes(self.bboxes[index], self.format)

    @classmethod
    def concatenate(cls, boxes_list: Sequence[Bboxes], axis: int = 0) -> Bboxes:
        """Join boxes; the first one's format holds for all."""
        if not boxes_list:
            return cls(np.zeros((0, 4), np.float32))
        first = boxes_list[0].format
        for boxes in boxes_list[1:]:
            boxes.convert(first)
        return cls(np.concatenate([b.bboxes for b in boxes_list], axis=axis), first)


class Instances:
    """The objects of one image: boxes, and polygons where the labels have them.

    Segments have shape (N, P, 2) with one P for all objects, or (N, 0, 2) without polygons. All methods that move
    objects work in place and keep boxes and segments together.
    """

    def __init__(
        self,
        bboxes: npt.ArrayLike,
        segments: Float32Array | Sequence[Float32Array] | None = None,
        bbox_format: BoxFormat = "xywh",
        normalized: bool = True,
    ) -> None:
        """Take boxes (N, 4) in `bbox_format` and optional segments (N, P, 2), both normalised or both in pixels."""
        self._bboxes = Bboxes(bboxes, bbox_format)
        if segments is None or len(segments) == 0:
            segments = np.zeros((len(self._bboxes), 0, 2), np.float32)
        self.segments: Float32Array = np.asarray(segments, dtype=np.float32)
        self.normalized = normalized
        if len(self.segments) != len(self._bboxes):
            raise ConfigError(f"{len(self._bboxes)} boxes but {len(self.segments)} segments: give one for each")

    @property
    def bboxes(self) -> Float32Array:
        """The boxes, (N, 4), in the present format."""
        return self._bboxes.bboxes

    @property
    def format(self) -> BoxFormat:
        """The present box format."""
        return self._bboxes.format

    @property
    def bbox_areas(self) -> Float32Array:
        """The N box areas, in the present unit."""
        return self._bboxes.areas()

    @property
    def has_segments(self) -> bool:
        """Whether the objects have polygons."""
        return self.segments.shape[1] > 0

    def convert_bbox(self, format: BoxFormat) -> None:
        """Change the box format."""
        self._bboxes.convert(format)

    def scale(self, scale_w: float, scale_h: float, bbox_only: bool = False) -> None:
        """Multiply x by `scale_w` and y by `scale_h`."""
        self._bboxes.mul((scale_w, scale_h, scale_w, scale_h))
        if not bbox_only:
            self.segments = self.segments * np.asarray((scale_w, scale_h), np.float32)

    def denormalize(self, w: float, h: float) -> None:
        """Go from 0..1 to pixels of a `w` x `h` image; no effect on pixels."""
        if self.normalized:
            self.scale(w, h)
            self.normalized = False

    def normalize(self, w: float, h: float) -> None:
        """Go from pixels of a `w` x `h` image to 0..1; no effect on normalised values."""
        if not self.normalized:
            self.scale(1 / w, 1 / h)
            self.normalized = True

    def add_padding(self, padw: float, padh: float) -> None:
        """Shift all objects by (`padw`, `padh`) pixels."""
        if self.normalized:
            raise ConfigError("padding is in pixels: call denormalize() first")
        corners = self.format == "xyxy"
        self._bboxes.add((padw, padh, padw, padh) if corners else (padw, padh, 0.0, 0.0))
        self.segments = self.segments + np.asarray((padw, padh), np.float32)

    def flipud(self, h: float) -> None:
        """Mirror upside down in an image of height `h` (1 when normalised)."""
        self._flip(1, float(h))

    def fliplr(self, w: float) -> None:
        """Mirror left to right in an image of width `w` (1 when normalised)."""
        self._flip(0, float(w))

    def _flip(self, axis: int, size: float) -> None:
        boxes = self.bboxes.copy()
        if self.format == "xyxy":
            boxes[:, axis], boxes[:, axis + 2] = size - self.bboxes[:, axis + 2], size - self.bboxes[:, axis]
        elif self.format == "xywh":
            boxes[:, axis] = size - boxes[:, axis]
        else:
            boxes[:, axis] = size - boxes[:, axis] - boxes[:, axis + 2]
        segments = self.segments.copy()
        segments[..., axis] = size - segments[..., axis]
        self.update(boxes, segments)

    def clip(self, w: float, h: float) -> None:
        """Cut boxes and polygon points off at the frame of a `w` x `h` image."""
        before = self.format
        self.convert_bbox("xyxy")
        frame = np.asarray((w, h), np.float32)
        self._bboxes.bboxes = np.clip(self.bboxes, 0, np.tile(frame, 2))
        self.segments = np.clip(self.segments, 0, frame)
        self.convert_bbox(before)

    def remove_zero_area_boxes(self) -> BoolArray:
        """Drop boxes without area; return the (N,) mask of those that stayed."""
        good = self.bbox_areas > 0
        if not good.all():
            self.update(self.bboxes[good], self.segments[good])
        return good

    def update(self, bboxes: Float32Array, segments: Float32Array | None = None) -> None:
        """Replace the boxes (same format) and, if given, the segments."""
        self._bboxes = Bboxes(bboxes, self.format)
        if segments is not None:
            self.segments = segments

    def __len__(self) -> int:
        return len(self._bboxes)

    def __getitem__(self, index: _Index) -> Instances:
        """Return the objects that a slice, mask or index array picks; an integer gives one object."""
        if isinstance(index, (int, np.integer)):
            index = [int(index)]
        return Instances(self.bboxes[index], self.segments[index], self.format, self.normalized)

    def copy(self) -> Instances:
        """Return an independent copy."""
        return Instances(self.bboxes.copy(), self.segments.copy(), self.format, self.normalized)

    @classmethod
    def concatenate(cls, instances_list: Sequence[Instances], axis: int = 0) -> Instances:
        """Join the objects of several images; format and unit must agree.

        Where only some have polygons, the polygons of all are given up: a box alone does not determine an outline.
        """
        if not instances_list:
            return cls(np.zeros((0, 4), np.float32))
        first = instances_list[0]
        if any(i.format != first.format or i.normalized != first.normalized for i in instances_list):
            raise ConfigError("cannot join instances of different box formats or units: convert them first")
        filled = [i.segments for i in instances_list if len(i)]
        widths = {s.shape[1] for s in filled}
        segments = None
        if filled and 0 not in widths:
            segments = np.concatenate([_widen(s, max(widths)) for s in filled], axis=axis)
        return cls(np.concatenate([i.bboxes for i in instances_list], axis), segments, first.format, first.normalized)


def _widen(segments: Float32Array, points: int) -> Float32Array:
    """Repeat the last point of (N, P, 2) polygons until each has `points` of them."""
    missing = points - segments.shape[1]
    return np.concatenate([segments, np.repeat(segments[:, -1:], missing, axis=1)], axis=1) if missing else segments
