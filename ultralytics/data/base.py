"""The data set base: which images, how one is loaded, and which transforms it goes through.

Samples are reproducible: `dataset[(epoch, index)]` depends on (seed, epoch, index) alone, so the number of workers, an
interruption or another order of loading change nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from ultralytics.data.augment import AugmentParams, Compose
from ultralytics.data.augment.pipeline import without_mixing
from ultralytics.data.image_cache import ImageCache, cache_mode
from ultralytics.data.images import imread, imread_reduced, reduction, resize
from ultralytics.data.labels.table import LabelTable
from ultralytics.data.types import FollowsEpochs, LabelDict, Sample
from ultralytics.data.utils import IMG_FORMATS, list_images, pick_fraction
from ultralytics.utils.errors import DatasetError, refuse_uncalled
from ultralytics.utils.instance import Instances
from ultralytics.utils.ops import resample_segments
from ultralytics.utils.torch_tools.arrays import Pixels

DATASET_NOT_CALLED: Mapping[str, str] = {
    "cache_labels": "get_labels",
    "update_labels_info": "get_image_and_label",
    "get_label_files": "get_labels",
    "verify_labels": "get_labels",
    "cache_images": "load_image",
    "cache_images_to_disk": "load_image",
    "build_text_transforms": "build_transforms",
}
"""Methods of the interface that a data set has no place for, and what to replace instead."""

Shape = tuple[int, int]
Loaded = tuple[Pixels, Shape, Shape]

SEGMENT_POINTS = 1000


class BaseDataset(FollowsEpochs, Dataset[dict[str, Any]]):
    """Images of a split with their labels.

    Args:
        img_path: folder, glob, text list, or several of them.
        imgsz: side of the network's input in pixels.
        cache: True or 'ram', 'disk', False.
        augment: random transforms, or only resizing.
        hyp: namespace or mapping with the augmentation arguments.
        prefix: what log lines start with.
        rect: batches of similar aspect with little border, in a fixed order; turns mosaic and other mixing off.
        batch_size: for `rect`.
        stride: side of `rect` batches is a multiple of it.
        pad: border of `rect` batches, in strides.
        single_cls: every object is of class 0.
        classes: keep only objects of these class ids.
        fraction: use a seeded random part of the images: a ratio up to 1, or a count above 1.
        channels: image channels, 3 colour or 1 grey.
        letterbox: keep the aspect and fill a border; false stretches to the square.
        seed: start of all random draws.
        reduced_decode: decode large JPEGs at 1/2, 1/4 or 1/8 of their size where at least `imgsz` is left.
    """

    def __init__(
        self,
        img_path: str | Sequence[str],
        imgsz: int = 640,
        cache: bool | str | None = False,
        augment: bool = True,
        hyp: object = None,
        prefix: str = "",
        rect: bool = False,
        batch_size: int = 16,
        stride: int = 32,
        pad: float = 0.5,
        single_cls: bool = False,
        classes: int | Sequence[int] | None = None,
        fraction: float = 1.0,
        channels: int = 3,
        *,
        letterbox: bool = True,
        seed: int = 0,
        reduced_decode: bool = False,
    ) -> None:
        super().__init__()
        refuse_uncalled(type(self), DATASET_NOT_CALLED)
        self.img_path, self.imgsz, self.augment, self.hyp, self.prefix = img_path, imgsz, augment, hyp, prefix
        self.rect, self.batch_size, self.stride, self.pad = rect, batch_size, stride, pad
        self.single_cls, self.fraction, self.channels = single_cls, fraction, channels
        self.letterbox, self.seed, self.reduced_decode = letterbox or rect, seed, reduced_decode
        self.im_files = self.get_img_files(img_path)
        self.labels = self.label_table(self.get_labels())
        self.update_labels(classes)
        self.batch_shapes: NDArray[np.int64] | None = None
        if rect:
            self.set_rectangle()
        self.im_files = self.labels.im_files
        tag = f"{imgsz}{'k' if self.letterbox else 's'}{channels}{'r' if reduced_decode else ''}"
        sizes = [channels * imgsz * imgsz] * len(self.im_files)
        self.images = ImageCache(cache_mode(cache), self.im_files, self._read, tag, self.labels.shapes, sizes)
        self.images.fill(f"{prefix}caching images")
        self.transforms = self.build_transforms(hyp)
        self._clean = self.build_transforms(without_mixing(hyp))
        crops = augment and not rect and AugmentParams.from_args(hyp).crops and self.images.mode is None
        self.full_size = crops and self._reads_by_itself()
        self._closed = torch.zeros(1, dtype=torch.uint8).share_memory_()  # seen by worker processes too
        self.set_epoch(0)

    # -- what a data set consists of --

    def get_img_files(self, img_path: str | Sequence[str]) -> list[str]:
        """Return the image files, sorted, or the chosen fraction of them; raise DatasetError when there are none."""
        files = list_images(img_path)
        if not files:
            kinds = " ".join(sorted(IMG_FORMATS))
            raise DatasetError(f"{self.prefix}{img_path}: no images found", f"looked for files ending in {kinds}")
        return pick_fraction(files, self.fraction, self.seed)

    def get_labels(self) -> Sequence[LabelDict]:
        """Return one label dict for each usable image: a list of dicts, or a `LabelTable`, which `labels` becomes."""
        raise NotImplementedError

    def label_table(self, labels: Sequence[LabelDict]) -> LabelTable:
        """Return the table of what `get_labels` gave."""
        return LabelTable.from_dicts(labels)

    def build_transforms(self, hyp: object = None) -> Compose:
        """Return the chain from a sample to tensors; asked again with the rates of mixing at 0, for the last epochs."""
        raise NotImplementedError

    def _reads_by_itself(self) -> bool:
        """Whether no subclass has replaced how a sample is read; what it gives is of the network's size."""
        cls = type(self)
        return cls.load_image is BaseDataset.load_image and cls.get_image_and_label is BaseDataset.get_image_and_label

    def update_labels(self, include_class: int | Sequence[int] | None) -> None:
        """Keep only objects of the given classes, and make all of them class 0 with `single_cls`, as a reader does."""
        if include_class is not None:
            self.labels = self.labels.only(include_class)
        if self.single_cls:
            self.labels = self.labels.of_one_class()

    def set_rectangle(self) -> None:
        """Sort by aspect and give each batch the smallest shape that holds its images."""
        aspect = self.labels.shapes[:, 0] / self.labels.shapes[:, 1]
        order = np.argsort(aspect, kind="stable")
        self.labels = self.labels.take(order)
        starts = np.arange(0, len(order), self.batch_size)
        low, high = np.minimum.reduceat(aspect[order], starts), np.maximum.reduceat(aspect[order], starts)
        shapes = np.ones((len(starts), 2))  # height, width as parts of imgsz
        shapes[high < 1, 0] = high[high < 1]
        shapes[low > 1, 1] = 1 / low[low > 1]
        self.batch_shapes = (np.ceil(shapes * self.imgsz / self.stride + self.pad) * self.stride).astype(np.int64)

    # -- one sample --

    def load_image(self, i: int, rect_mode: bool | None = None) -> Loaded:
        """Return image i resized, its original (h, w) and its present (h, w).

        `rect_mode` True brings the longer side to imgsz, False stretches to the square; None does what the data set
        was made with.
        """
        if rect_mode is None or rect_mode == self.letterbox:
            image = self.images[i]
        else:
            image = self._resize(self._decode(i), rect_mode)
        return image, self.labels.shape(i), image.shape[:2]

    def _decode(self, i: int) -> Pixels:
        image = imread(self.im_files[i], self.channels)
        if image is None:
            raise DatasetError(
                f"{self.im_files[i]}: image cannot be decoded", "repair it, or remove it from the data set"
            )
        if image.shape[2] != self.channels:
            text = f"{self.im_files[i]}: {image.shape[2]} channel(s), where channels={self.channels}"
            raise DatasetError(text, "convert the image, or correct 'channels:' in the data YAML")
        self.labels.set_shape(i, image.shape[:2])  # decoding knows best: the scan does not see every orientation mark
        return image

    def _whole(self, i: int) -> Loaded:
        image = self._decode(i)
        return image, self.labels.shape(i), image.shape[:2]

    def _read(self, i: int) -> Pixels:
        reduced = self._decode_reduced(i) if self.reduced_decode else None
        if reduced is None:
            return self._resize(self._decode(i), self.letterbox)
        return self._resize(reduced, self.letterbox, self.labels.shape(i))

    def _decode_reduced(self, i: int) -> Pixels | None:
        """Return the image at a half, a quarter or an eighth of its size; None where that is not what is wanted."""
        shape = self.labels.shape(i)
        width, height = self._target(shape, self.letterbox)
        factor = reduction(shape, (height, width))
        image = imread_reduced(self.im_files[i], factor, self.channels) if factor > 1 else None
        return image if image is not None and image.shape[:2] == (shape[0] // factor, shape[1] // factor) else None

    def _resize(self, image: Pixels, keep_aspect: bool, shape: Shape | None = None) -> Pixels:
        """Bring an image to the network's size; `shape` is that of the file where the image is a reduced one."""
        size = self._target(shape or image.shape[:2], keep_aspect)
        return image if image.shape[1::-1] == size else resize(image, size)

    def _target(self, shape: Shape, keep_aspect: bool) -> tuple[int, int]:
        """Return the (width, height) that an image of shape (h, w) gets."""
        if not keep_aspect:
            return self.imgsz, self.imgsz
        h, w = shape
        gain = self.imgsz / max(h, w)
        return min(math.ceil(w * gain), self.imgsz), min(math.ceil(h * gain), self.imgsz)

    def get_image_and_label(self, index: int) -> Sample:
        """Return a sample before its transforms.

        Its key `rng` is the generator of the epoch that the index knows, else of the one that `set_epoch` chose.
        """
        return self._sample(index, *self.load_image(index))

    def _sample(self, index: int, image: Pixels, original: Shape, present: Shape) -> Sample:
        at = self.at(index)
        index = int(at)
        label = self.labels[index]
        sample: Sample = {
            "im_file": label["im_file"],
            "index": index,
            "img": image,
            "cls": label["cls"].copy(),
            "instances": self._instances(label),
            "ori_shape": original,
            "resized_shape": present,
            "ratio_pad": (present[0] / original[0], present[1] / original[1]),
            "rng": self.rng(at.epoch, index),
        }
        if "truth" in label and not self.augment:
            sample["truth"] = label["truth"]
        if self.batch_shapes is not None:
            h, w = self.batch_shapes[index // self.batch_size].tolist()
            sample["rect_shape"] = (h, w)
        return sample

    def _instances(self, label: LabelDict) -> Instances:
        polygons = label["segments"] if self.augment else []
        if len(polygons):
            points = max(SEGMENT_POINTS, max(len(p) for p in polygons) + 1)
            polygons = resample_segments(polygons, n=points)
        return Instances(label["bboxes"].copy(), polygons, label["bbox_format"], label["normalized"])

    def rng(self, epoch: int, index: int) -> np.random.Generator:
        """Return the generator of one sample in one epoch."""
        return np.random.default_rng((self.seed, epoch, index))

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        """Return the tensors of a sample, by its index, an index that knows its epoch, or (epoch, index)."""
        index = self.at(key)
        if self.full_size and not self._closed.item():  # for transforms that cut out a part of the image on disk
            sample = self._sample(index, *self._whole(index))
        else:
            sample = self.get_image_and_label(index)
        sample["rng"] = self.rng(index.epoch, int(index))
        return self.chain_at(index.epoch)(sample)

    def chain_at(self, epoch: int) -> Compose:
        """Return the chain that samples of an epoch go through."""
        return self._clean if self._closed.item() else self.transforms

    def __len__(self) -> int:
        return len(self.labels)

    def close_mosaic(self, hyp: object = None) -> None:
        """Turn off what `AugmentParams.without_mixing` leaves out, in worker processes that already run as well.

        `hyp` is taken for upstream's signature; the rates of all other steps stay those that the data set was made
        with.
        """
        self._closed.fill_(1)
