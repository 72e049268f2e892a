"""Inference sources: files, streams, URLs, arrays, opened by one function."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ultralytics.data.loaders.files import (
    LoadImagesAndVideos,
    LoadPilAndNumpy,
    LoadScreenshots,
    LoadStreams,
    LoadTensor,
    SourceTypes,
    autocast_list,
)
from ultralytics.utils.config.absent import absent_names

__all__ = [
    "LoadImagesAndVideos",
    "LoadPilAndNumpy",
    "LoadScreenshots",
    "LoadStreams",
    "LoadTensor",
    "SourceTypes",
    "autocast_list",
]


if not TYPE_CHECKING:  # a type checker shall see what is missing
    __getattr__ = absent_names(__name__)
