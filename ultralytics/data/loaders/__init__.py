"""Inference sources: files, streams, URLs, arrays, opened by one function."""

from ultralytics.data.loaders.files import (
    LoadImagesAndVideos,
    LoadPilAndNumpy,
    LoadScreenshots,
    LoadStreams,
    LoadTensor,
    SourceTypes,
    autocast_list,
)

__all__ = [
    "LoadImagesAndVideos",
    "LoadPilAndNumpy",
    "LoadScreenshots",
    "LoadStreams",
    "LoadTensor",
    "SourceTypes",
    "autocast_list",
]
