"""RT-DETR's own augmentations (arXiv 2304.08069, table A: colour distortion, expanding, cropping), from torchvision.

`torchvision.transforms.v2` draws the parameters from torch's generator; here that generator is forked and started from
the sample's own, so a sample stays a function of (seed, epoch, index). Crops and canvases are made by NumPy, which
copies less, and polygons move with the boxes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from ultralytics.data.augment.base import BaseTransform, chance, in_pixels
from ultralytics.data.images import resize
from ultralytics.data.types import Sample
from ultralytics.utils.errors import ConfigError

MIN_CROPPED_SIDE = 1.0  # pixels; smaller boxes are dropped after a crop


@contextmanager
def torch_seeded(rng: np.random.Generator) -> Iterator[None]:
    """Seed torch's CPU generator from `rng` inside the block; its state outside is as if nothing had been drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(rng.integers(2**63 - 1)))
        yield


def _checked(p: float) -> float:
    if not 0 <= p <= 1:
        raise ConfigError(f"probability {p} must lie between 0 and 1")
    return float(p)


class RandomPhotometricDistort(BaseTransform):
    """Change brightness, contrast, saturation, hue and the order of the channels, each with probability `p` (SSD)."""

    def __init__(self, p: float = 0.5) -> None:
        self.p = _checked(p)
        self._distort = v2.RandomPhotometricDistort(p=self.p)

    def __call__(self, labels: Sample) -> Sample:
        """Change the colours of a three-channel image; others stay as they are."""
        image = labels["img"]
        if image.shape[2] != 3 or not self.p:
            return labels
        rgb = torch.from_numpy(np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1)))  # (3, H, W)
        with torch_seeded(labels["rng"]):
            rgb = self._distort(rgb)
        labels["img"] = np.ascontiguousarray(rgb.numpy()[::-1].transpose(1, 2, 0))
        return labels


class RandomZoomOut(BaseTransform):
    """Put the image at a random place of a canvas of up to four times its sides, with probability `p` (as in SSD).

    `fill` is the grey level of the canvas. A canvas with a side above `limit` pixels is made smaller, image and all:
    it is shrunk to the network's size later anyway.
    """

    def __init__(self, p: float = 0.5, fill: int = 0, limit: int | None = None) -> None:
        self.p, self.fill, self.limit = _checked(p), fill, limit
        self._zoom = v2.RandomZoomOut(fill=fill, p=1.0)

    def __call__(self, labels: Sample) -> Sample:
        """Zoom out, or leave the sample."""
        if not chance(labels["rng"], self.p):
            return labels
        image, instances = labels["img"], in_pixels(labels)
        h, w = image.shape[:2]
        frame = tv_tensors.BoundingBoxes(torch.zeros(0, 4), format="XYXY", canvas_size=(h, w))
        with torch_seeded(labels["rng"]):
            left, top, right, bottom = self._zoom.make_params([frame])["padding"]
        gain = min(1.0, (self.limit or np.inf) / max(left + w + right, top + h + bottom))
        size = (max(round(w * gain), 1), max(round(h * gain), 1))
        x, y = round(left * gain), round(top * gain)
        shape = (max(round((top + h + bottom) * gain), y + size[1]), max(round((left + w + right) * gain), x + size[0]))
        canvas = np.full((*shape, image.shape[2]), self.fill, np.uint8)
        canvas[y : y + size[1], x : x + size[0]] = resize(image, size, cv2.INTER_AREA) if size != (w, h) else image
        instances.scale(size[0] / w, size[1] / h)
        instances.add_padding(x, y)
        labels["img"] = canvas
        return _moved(labels)


class RandomIoUCrop(BaseTransform):
    """Crop so that some object overlaps the crop by a random least IoU, with probability `p` (SSD's sampling).

    Objects whose centre is outside go, the others are cut off at the crop. Images without objects stay.
    """

    def __init__(self, p: float = 0.8) -> None:
        self.p = _checked(p)
        self._crop = v2.RandomIoUCrop()

    def __call__(self, labels: Sample) -> Sample:
        """Crop, or leave the sample."""
        if not chance(labels["rng"], self.p) or not len(labels["instances"]):
            return labels
        instances = in_pixels(labels)
        h, w = labels["img"].shape[:2]
        boxes = tv_tensors.BoundingBoxes(torch.from_numpy(instances.bboxes), format="XYXY", canvas_size=(h, w))
        with torch_seeded(labels["rng"]):
            params = self._crop.make_params([boxes])
        if not params:
            return labels
        top, left, height, width = (int(params[k]) for k in ("top", "left", "height", "width"))
        keep = np.asarray(params["is_within_crop_area"])
        instances, labels["cls"] = instances[keep], labels["cls"][keep]
        instances.add_padding(-left, -top)
        instances.clip(width, height)
        big = (instances.bboxes[:, 2:] - instances.bboxes[:, :2]).min(1, initial=np.inf) >= MIN_CROPPED_SIDE
        labels["instances"], labels["cls"] = instances[big], labels["cls"][big]
        labels["img"] = np.ascontiguousarray(labels["img"][top : top + height, left : left + width])
        return _moved(labels)


def _moved(labels: Sample) -> Sample:
    """Record the new size; the map back to the original image is dropped."""
    labels.pop("ratio_pad", None)
    labels["resized_shape"] = labels["img"].shape[:2]
    return labels
