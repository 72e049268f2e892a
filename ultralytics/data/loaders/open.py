"""What a source is: the one place that determines it and opens the loader."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ultralytics.data.loaders.files import (
    InferenceSource,
    LoadImagesAndVideos,
    LoadPilAndNumpy,
    LoadScreenshots,
    LoadStreams,
    LoadTensor,
    in_memory,
    read_mixed,
)
from ultralytics.data.loaders.urls import content_type, is_address, is_web, names_image, names_video, refuse_video_site
from ultralytics.utils.errors import ConfigError


def load_inference_source(
    source: object, batch: int = 1, vid_stride: int = 1, buffer: bool = False, channels: int = 3
) -> InferenceSource:
    """Return the loader of an inference source.

    Files, folders, globs, list files and web addresses of images and videos give batches of `batch`; images in memory,
    a list that mixes them with the former (of images alone), and tensors form one batch; digits, other addresses (one,
    a list, or the lines of a `.streams` file) are live, `buffer` keeps all their frames; `screen` is the screen.
    `vid_stride` takes every n-th frame. A loader that was opened before is returned as it is.

    Raises:
        NotFoundError: a path does not exist, a camera, stream or address does not open.
        ConfigError: the source is of no known kind, or holds nothing, or is a tensor of other than `channels` channels.
        MissingPackageError: the screen is asked for without the package `mss`.
    """
    if isinstance(source, InferenceSource):
        return source
    if isinstance(source, torch.Tensor):
        return LoadTensor(source, channels=channels)
    if in_memory(source):
        return LoadPilAndNumpy(source, channels)
    if isinstance(source, (list, tuple)):
        return _open_list(source, batch, vid_stride, buffer, channels)
    if isinstance(source, (str, int, Path)):
        return _open_text(source, batch, vid_stride, buffer, channels)
    raise ConfigError(f"source of type {type(source).__name__} is of no known kind")


def check_source(source: object) -> tuple[Any, bool, bool, bool, bool, bool]:
    """Return a source and what it is: live, the screen, images in memory, a loader that is open, a tensor."""
    opened, tensor, memory = isinstance(source, InferenceSource), isinstance(source, torch.Tensor), in_memory(source)
    entries: Sequence[object] = source if isinstance(source, (list, tuple)) else [source]
    texts = [] if opened or tensor or memory else [str(entry).strip() for entry in entries]
    screen = any(_is_screen(text) for text in texts)
    live = any(text.lower().endswith(".streams") or is_live(text) for text in texts)
    return source, live and not screen, screen, memory, opened, tensor


def _is_screen(text: str) -> bool:
    return text.split(" ", 1)[0].lower() == "screen" and not Path(text).exists()


def _open_list(items: Sequence[object], batch: int, vid_stride: int, buffer: bool, channels: int) -> InferenceSource:
    """Files and addresses of files, live sources, or a mixture with images in memory."""
    texts = [str(s).strip() for s in items if isinstance(s, (str, int, Path))]
    live = [t for t in texts if is_live(t)]
    if live and len(live) < len(items):
        raise ConfigError(f"source: {live[0]} is live, other entries of the list are not", "give them apart")
    if len(texts) < len(items) or not items:
        return LoadPilAndNumpy(read_mixed(items), channels)
    if live:
        return LoadStreams(live, vid_stride, buffer, channels)
    return LoadImagesAndVideos(texts, batch, vid_stride, channels)


def _open_text(source: str | int | Path, batch: int, vid_stride: int, buffer: bool, channels: int) -> InferenceSource:
    """One path, address, number or keyword."""
    text = str(source).strip()
    if _is_screen(text):
        return LoadScreenshots(text, channels)
    if text.lower().endswith(".streams") or is_live(text):
        return LoadStreams(text, vid_stride, buffer, channels)
    return LoadImagesAndVideos(text if is_address(text) else source, batch, vid_stride, channels)


def is_live(text: str) -> bool:
    """Return whether a string is a camera number, or an address of neither an image nor a video file.

    Camera numbers have four digits at most. A web address without such a suffix is asked for its type: an image is not
    a stream.
    """
    if text.isdecimal() and len(text) < 5:
        return True
    if not is_address(text) or names_image(text) or names_video(text):
        return False
    refuse_video_site(text)
    return not (is_web(text) and content_type(text).startswith("image/"))
