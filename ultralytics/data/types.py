"""The types of an image's data from label file to batch: labels, sample, batch.

Shapes: n objects of one image, P polygon points, B images of a batch, N objects of a batch.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor

from ultralytics.utils.instance import BoxFormat, Instances
from ultralytics.utils.torch_tools.arrays import Float32Array, Float64Array, Pixels


class EpochIndex(int):
    """The index of a sample that also knows the epoch which it is drawn for; elsewhere it is an integer."""

    epoch: int

    def __new__(cls, index: int, epoch: int = 0) -> EpochIndex:
        """Make the index of a sample in an epoch."""
        made = super().__new__(cls, index)
        made.epoch = epoch
        return made

    def __reduce__(self) -> tuple[type[EpochIndex], tuple[int, int]]:
        return EpochIndex, (int(self), self.epoch)

    @classmethod
    def of(cls, key: int | tuple[int, int], epoch: int = 0) -> EpochIndex:
        """Return what a key means: an index of `epoch`, an index with an epoch of its own, or (epoch, index)."""
        if isinstance(key, EpochIndex):
            return key
        return cls(key[1], key[0]) if isinstance(key, tuple) else cls(key, epoch)


class FollowsEpochs:
    """A data set whose random numbers depend on the epoch, also where the sampler gives plain indices."""

    @cached_property
    def _epoch(self) -> Tensor:
        return torch.zeros(1, dtype=torch.int64).share_memory_()  # worker processes that already run see it too

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of plain indices, which samplers other than `EpochSampler` give."""
        self._epoch.fill_(epoch)

    def at(self, key: int | tuple[int, int]) -> EpochIndex:
        """Return the index and the epoch that a key of this data set means."""
        return EpochIndex.of(key, int(self._epoch))


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
