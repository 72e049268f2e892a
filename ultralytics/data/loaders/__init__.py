"""Inference sources: files, streams, URLs, arrays, opened by one function."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from ultralytics.data.loaders.files import (
    LoadImagesAndVideos,
    LoadPilAndNumpy,
    LoadScreenshots,
    LoadStreams,
    LoadTensor,
    SourceTypes,
    autocast_list,
)
from ultralytics.utils.config.absent import absent

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

    def __getattr__(name: str) -> NoReturn:
        raise absent(__name__, name)
