"""Fitting an image into the network's input: with its aspect kept and a border, or stretched."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from ultralytics.data.augment.base import BaseTransform
from ultralytics.data.images import resize
from ultralytics.data.types import Sample
from ultralytics.utils.ops import border_before, letterbox_gains
from ultralytics.utils.torch_tools.arrays import Pixels


class LetterBox(BaseTransform):
    """Resize an image to `new_shape` (height, width), keeping its aspect and filling the border.

    Args:
        new_shape: the target; an integer means a square.
        auto: pad only to the next multiple of `stride` instead of the full target.
        scale_fill: stretch to the target, no border.
        scaleup: allow enlarging.
        center: put the image in the middle, else at the upper left.
        stride: multiple for `auto`, pixels.
        padding_value: grey level of the border.
        interpolation: an OpenCV interpolation flag.
    """

    def __init__(
        self,
        new_shape: int | tuple[int, int] = (640, 640),
        auto: bool = False,
        scale_fill: bool = False,
        scaleup: bool = True,
        center: bool = True,
        stride: int = 32,
        padding_value: int = 114,
        interpolation: int = cv2.INTER_LINEAR,
    ) -> None:
        self.new_shape = (new_shape, new_shape) if isinstance(new_shape, int) else (new_shape[0], new_shape[1])
        self.auto, self.scale_fill, self.scaleup, self.center = auto, scale_fill, scaleup, center
        self.stride, self.padding_value, self.interpolation = stride, padding_value, interpolation

    def __call__(self, labels: Sample | None = None, image: Pixels | None = None) -> Any:
        """Fit an image alone (returns the image), or a sample with its objects (returns the sample)."""
        if labels is None:
            if image is None:
                raise ValueError("LetterBox needs labels or an image")
            return self._fit(image, self.new_shape)[0]
        source = labels["img"] if image is None else image
        target = labels.pop("rect_shape", self.new_shape)
        labels["img"], ratio, offset = self._fit(source, target)
        labels["resized_shape"] = labels["img"].shape[:2]
        self._move(labels, source.shape[:2], ratio, offset)
        return labels

    def _fit(self, image: Pixels, target: tuple[int, int]) -> tuple[Pixels, tuple[float, float], tuple[int, int]]:
        """Return the fitted image, (gain_h, gain_w), and the border (left, top)."""
        (h, w), (th, tw) = image.shape[:2], target
        ratio = letterbox_gains((h, w), target, self.scaleup)
        new_h, new_w = round(h * ratio[0]), round(w * ratio[1])
        pad_h, pad_w = float(th - new_h), float(tw - new_w)
        if self.auto:
            pad_h, pad_w = pad_h % self.stride, pad_w % self.stride
        elif self.scale_fill:
            new_h, new_w, pad_h, pad_w, ratio = th, tw, 0.0, 0.0, (th / h, tw / w)
        if (h, w) != (new_h, new_w):
            image = resize(image, (new_w, new_h), self.interpolation)
        top, left = (border_before(pad) if self.center else 0 for pad in (pad_h, pad_w))
        bottom, right = round(pad_h) - top, round(pad_w) - left
        if top or bottom or left or right:
            framed = np.full((new_h + top + bottom, new_w + left + right, image.shape[2]), self.padding_value, np.uint8)
            framed[top : top + new_h, left : left + new_w] = image
            image = framed
        return image, ratio, (left, top)

    @staticmethod
    def _move(labels: Sample, shape: tuple[int, int], ratio: tuple[float, float], offset: tuple[int, int]) -> None:
        """Bring the objects to the fitted image, and extend `ratio_pad`."""
        before = labels.get("ratio_pad")
        if before is not None:
            gain_h, gain_w = before[0] if isinstance(before[0], tuple) else before
            labels["ratio_pad"] = ((gain_h * ratio[0], gain_w * ratio[1]), offset)
        instances = labels.get("instances")
        if instances is not None:
            instances.convert_bbox("xyxy")
            instances.denormalize(shape[1], shape[0])
            instances.scale(ratio[1], ratio[0])
            instances.add_padding(*offset)
