"""Augmentations, under upstream's names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ultralytics.data.augment.base import BaseTransform, Compose, MixTransform
from ultralytics.data.augment.erase import RandomErasing
from ultralytics.data.augment.format import Format
from ultralytics.data.augment.geometric import RandomFlip, RandomPerspective
from ultralytics.data.augment.letterbox import LetterBox
from ultralytics.data.augment.mix import CopyPaste, CutMix, MixUp
from ultralytics.data.augment.mosaic import Mosaic
from ultralytics.data.augment.official import RandomIoUCrop, RandomPhotometricDistort, RandomZoomOut
from ultralytics.data.augment.photometric import RandomHSV
from ultralytics.data.augment.pipeline import AugmentParams, train_transforms, v8_transforms, val_transforms
from ultralytics.data.types import Sample
from ultralytics.utils.config.absent import absent_names

__all__ = [
    "AugmentParams",
    "BaseTransform",
    "Compose",
    "CopyPaste",
    "CutMix",
    "Format",
    "LetterBox",
    "MixTransform",
    "MixUp",
    "Mosaic",
    "RandomErasing",
    "RandomFlip",
    "RandomHSV",
    "RandomIoUCrop",
    "RandomPerspective",
    "RandomPhotometricDistort",
    "RandomZoomOut",
    "Sample",
    "train_transforms",
    "v8_transforms",
    "val_transforms",
]


if not TYPE_CHECKING:  # a type checker shall see what is missing
    __getattr__ = absent_names(__name__)
