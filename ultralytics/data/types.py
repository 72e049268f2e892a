"""The types of an image's data from label file to batch: labels, sample, batch.

Shapes: n objects of one image, P polygon points, B images of a batch, N objects of a batch.
"""

from __future__ import annotations

from typing import Any, TypedDict

import numpy as np
from torch import Tensor

from ultralytics.utils.instance import BoxFormat, Instances
from ultralytics.utils.torch_tools.arrays import Float32Array, Float64Array, Pixels


class _RequiredLabels(TypedDict):
    im_file: str
    shape: tuple[int, int]
    cls: Float32Array
    bboxes: Float32Array
    segments: list[Float32Array]
    keypoints: None
    normalized: bool
    bbox_format: BoxFormat


class LabelDict(_RequiredLabels, total=False):
    """The labels of one image, as data sets, metrics and plots read them.

    `shape` is (height, width) in pixels; `cls` float32 (n, 1); `bboxes` float32 (n, 4) cx cy w h as fractions of the
    image; `segments` n polygons (P, 2), or none. `truth` float64 (m, 8) is what an evaluation compares with, see
    `data.labels.parse.TRUTH_COLUMNS`.
    """

    truth: Float64Array


class Sample(TypedDict, total=False):
    """One image with its objects, as the transforms take and return it.

    `img` is uint8 (H, W, C) in BGR order; `cls` float32 (n, 1); `instances` n objects; shapes are (height, width).
    `ratio_pad` is (gain_h, gain_w), after letterboxing ((gain_h, gain_w), (left, top)). `truth` is that of `LabelDict`;
    no transform changes it.
    """

    im_file: str
    index: int
    img: Pixels
    cls: Float32Array
    instances: Instances
    ori_shape: tuple[int, int]
    resized_shape: tuple[int, int]
    ratio_pad: Any
    rect_shape: tuple[int, int]
    truth: Float64Array
    mosaic: bool
    rng: np.random.Generator


class _RequiredBatch(TypedDict):
    img: Tensor
    cls: Tensor
    bboxes: Tensor
    batch_idx: Tensor
    im_file: tuple[str, ...]
    ori_shape: tuple[tuple[int, int], ...]
    resized_shape: tuple[tuple[int, int], ...]
    ratio_pad: tuple[Any, ...]


class Batch(_RequiredBatch, total=False):
    """A batch of B images with N objects in all.

    `img` uint8 (B, 3, H, W) RGB; `cls` float32 (N, 1); `bboxes` float32 (N, 4) cx cy w h as fractions of the image;
    `batch_idx` float32 (N,), the image of each object. The tuples have one entry for each image; shapes are (h, w).
    Without augmentation, data in COCO's format bring `truth` too: that of `LabelDict` for each image.
    """

    truth: tuple[Float64Array, ...]
