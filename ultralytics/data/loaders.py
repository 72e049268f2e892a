"""Inference sources: files, folders, videos, streams, arrays, tensors. Each yields (paths, images, infos) per batch.

Images are uint8 (H, W, 3) BGR; a tensor source yields its (B, 3, H, W) tensor. `infos` are the words that a log line
starts with.
"""

from __future__ import annotations

import csv
import glob
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
import torch
from PIL import Image

from ultralytics.data.images import Pixels, as_uint8, decode, imread, pil_to_bgr
from ultralytics.data.utils import IMG_FORMATS, VID_FORMATS, suffix_of
from ultralytics.utils.errors import ConfigError, NotFoundError
from ultralytics.utils.log import LOGGER

Item: TypeAlias = tuple[list[str], Any, list[str]]
SCHEMES = ("rtsp://", "rtmp://", "tcp://", "http://", "https://")


@dataclass(frozen=True)
class SourceTypes:
    """What kind a source is; at most one is true, none for files."""

    stream: bool = False
    screenshot: bool = False
    from_img: bool = False
    tensor: bool = False


class Source:
    """Base of the sources: batch size `bs`, `mode` of the present item, what kind it is, number of items if known."""

    source_type = SourceTypes()

    def __init__(self, batch: int = 1, channels: int = 3) -> None:
        if batch < 1:
            raise ConfigError(f"batch={batch} must be at least 1")
        self.bs, self.channels = batch, channels
        self.mode = "image"
        self.count, self.nf = 0, 0
        self.fps: float = 0.0
        self.frame, self.frames = 0, 0

    def items(self) -> Iterator[tuple[str, Any, str]]:
        """Yield (path, image, info) one by one."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[Item]:
        """Yield batches of up to `bs` items; a batch never mixes two videos, or a video and images."""
        batch: list[tuple[str, Any, str]] = []
        kind: tuple[str, str] | None = None
        for path, image, info in self.items():
            now = (self.mode, path if self.mode == "video" else "")
            if batch and now != kind:
                yield _joined(batch)
                batch = []
            kind = now
            batch.append((path, image, info))
            if len(batch) == self.bs:
                yield _joined(batch)
                batch = []
        if batch:
            yield _joined(batch)

    def __len__(self) -> int:
        """Return the number of batches, where each file counts as one image."""
        return -(-self.nf // self.bs)

    def close(self) -> None:
        """Release files and devices."""


def _joined(batch: Sequence[tuple[str, Any, str]]) -> Item:
    paths, images, infos = zip(*batch, strict=True)
    return list(paths), list(images), list(infos)


class LoadImagesAndVideos(Source):
    """Image and video files: a path, folder, glob, list, or a `.txt` or `.csv` file that lists sources.

    Unreadable files are left out with a warning. Raises NotFoundError when nothing is there, ConfigError when nothing
    of it is an image or a video.
    """

    def __init__(self, path: Any, batch: int = 1, vid_stride: int = 1, channels: int = 3) -> None:
        super().__init__(batch, channels)
        if vid_stride < 1:
            raise ConfigError(f"vid_stride={vid_stride} must be at least 1")
        files = expand_paths(path)
        images = [f for f in files if suffix_of(f) in IMG_FORMATS]
        videos = [f for f in files if suffix_of(f) in VID_FORMATS]
        self.files, self.vid_stride = images + videos, vid_stride
        self.nf = len(self.files)
        if not self.files:
            kinds = " ".join(sorted(IMG_FORMATS | VID_FORMATS))
            raise ConfigError(f"source={path}: no image and no video there", f"known suffixes: {kinds}")

    def items(self) -> Iterator[tuple[str, Any, str]]:
        """Yield the images, then the frames of the videos."""
        for number, file in enumerate(self.files, 1):
            self.count = number
            place = f"{self.count}/{self.nf}"
            if suffix_of(file) in VID_FORMATS:
                yield from self._frames(file, place)
                continue
            self.mode = "image"
            image = imread(file, self.channels)
            if image is None:
                LOGGER.warning(f"image {place} {file}: cannot be read, left out")
                continue
            yield file, as_bgr(image), f"image {place} {file}: "

    def _frames(self, file: str, place: str) -> Iterator[tuple[str, Any, str]]:
        """Yield every `vid_stride`-th frame of a video."""
        video = cv2.VideoCapture(file)
        self.mode, self.frame = "video", 0
        self.fps = float(video.get(cv2.CAP_PROP_FPS) or 0.0)
        total = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
        self.frames = max(total // self.vid_stride, 0)
        if not video.isOpened():
            LOGGER.warning(f"video {place} {file}: cannot be opened, left out")
        try:
            while video.grab():
                self.frame += 1
                if self.frame % self.vid_stride:
                    continue
                ok, image = video.retrieve()
                if ok:
                    info = f"video {place} (frame {self.frame // self.vid_stride}/{self.frames}) {file}: "
                    yield file, as_bgr(as_uint8(image)), info
        finally:
            video.release()


class LoadStreams(Source):
    """Live sources: webcam numbers and stream addresses; one batch holds one frame of each.

    Frames are read when asked for. With `buffer` false, frames that came meanwhile are dropped where the backend
    allows it, so that a slow network sees the newest.
    """

    source_type = SourceTypes(stream=True)

    def __init__(
        self, sources: str | Sequence[str], vid_stride: int = 1, buffer: bool = False, channels: int = 3
    ) -> None:
        self.sources = [sources] if isinstance(sources, str) else list(sources)
        super().__init__(max(len(self.sources), 1), channels)
        self.mode, self.vid_stride = "stream", max(vid_stride, 1)
        self.nf = len(self.sources)
        self.captures = [cv2.VideoCapture(int(s) if s.isdigit() else s) for s in self.sources]
        for source, capture in zip(self.sources, self.captures, strict=True):
            if not capture.isOpened():
                self.close()
                raise NotFoundError(f"source={source}: the camera or stream cannot be opened")
            if not buffer:
                capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        self.fps = float(self.captures[0].get(cv2.CAP_PROP_FPS) or 0.0) if self.captures else 0.0

    def __iter__(self) -> Iterator[Item]:
        """Yield one frame of each stream until one of them ends."""
        try:
            while True:
                frames = []
                for capture in self.captures:
                    for _ in range(self.vid_stride):
                        capture.grab()
                    ok, image = capture.retrieve()
                    if not ok:
                        return
                    frames.append(as_bgr(as_uint8(image)))
                self.frame += 1
                yield list(self.sources), frames, [f"{i}: " for i in range(len(frames))]
        finally:
            self.close()

    def close(self) -> None:
        """Release the cameras and streams."""
        for capture in self.captures:
            capture.release()


class LoadPilAndNumpy(Source):
    """Images in memory: Pillow images (EXIF applied), arrays (H, W, 3) BGR or grey, or the bytes of image files.

    They form one batch.
    """

    source_type = SourceTypes(from_img=True)

    def __init__(self, images: Any, channels: int = 3) -> None:
        self.images = list(images) if isinstance(images, (list, tuple)) else [images]
        if not self.images:
            raise ConfigError("source: an empty list holds no image")
        super().__init__(len(self.images), channels)
        self.nf = len(self.images)

    def items(self) -> Iterator[tuple[str, Any, str]]:
        """Yield the images; their names are their files' or `image0.jpg`, `image1.jpg`, ..."""
        for number, item in enumerate(self.images):
            self.count = number + 1
            name, image = to_bgr(item, number)
            yield name, image, f"image {self.count}/{self.nf} {name}: "


class LoadTensor(Source):
    """A tensor (B, 3, H, W) or (3, H, W), RGB in 0..1, sides a multiple of 32; taken as it is, without resizing."""

    source_type = SourceTypes(tensor=True)

    def __init__(self, tensor: torch.Tensor, stride: int = 32) -> None:
        if tensor.ndim == 3:
            tensor = tensor[None]
        if tensor.ndim != 4 or tensor.shape[2] % stride or tensor.shape[3] % stride or not tensor.numel():
            raise ConfigError(
                f"source: a tensor of shape {tuple(tensor.shape)} must be (B, C, H, W), H and W multiples of {stride}"
            )
        super().__init__(len(tensor))
        self.nf = len(tensor)
        if float(tensor.max()) > 1.0 + torch.finfo(torch.float16).eps:
            LOGGER.warning(f"source: tensor values reach {float(tensor.max()):g}, taken as 0..255 and divided by 255")
            tensor = tensor.float() / 255.0
        self.tensor = tensor

    def __iter__(self) -> Iterator[Item]:
        """Yield the tensor as one batch."""
        self.count = self.nf
        names = [f"image{i}.jpg" for i in range(self.nf)]
        yield names, self.tensor, [f"image {i + 1}/{self.nf} {n}: " for i, n in enumerate(names)]


# ---- what a source is -------------------------------------------------------------------------------------------


def expand_paths(source: Any) -> list[str]:
    """Return the files that a path, folder (not recursive), glob (recursive), list file or list of these names.

    Raises:
        NotFoundError: a path does not exist.
    """
    if isinstance(source, (list, tuple)):
        return [f for s in source for f in expand_paths(s)]
    text = str(source)
    path = Path(text).expanduser()
    if path.is_dir():
        return sorted(str(f) for f in path.iterdir() if f.is_file())
    if path.is_file():
        return _listed(path) if suffix_of(text) in {"txt", "csv"} else [str(path)]
    if glob.has_magic(text):
        return sorted(glob.glob(text, recursive=True))
    raise NotFoundError(f"source={text}: no such file or folder (working directory {os.getcwd()})")


def _listed(path: Path) -> list[str]:
    """Return the sources that a list file names, one a line or cell; relative ones are also tried beside the list."""
    text = path.read_text(encoding="utf-8-sig")
    cells = [cell.strip() for row in csv.reader(text.splitlines()) for cell in row]
    if path.suffix.lower() == ".txt":
        cells = [line.strip() for line in text.splitlines()]
    cells = [c for c in cells if c]
    if cells and cells[0].lower() == "source":
        cells = cells[1:]
    beside = [str(path.parent / c) if not os.path.isabs(c) and not os.path.exists(c) else c for c in cells]
    return [f for c in beside for f in expand_paths(c)]


def to_bgr(item: Any, number: int = 0) -> tuple[str, Pixels]:
    """Return name and uint8 (H, W, 3) BGR of a Pillow image, an array, or the bytes of an image file."""
    name = f"image{number}.jpg"
    if isinstance(item, (bytes, bytearray)):
        image = decode(np.frombuffer(item, np.uint8))
        if image is None:
            raise ConfigError(f"source: item {number}: {len(item)} bytes that are no image")
        return name, as_bgr(image)
    if isinstance(item, Image.Image):
        file = getattr(item, "filename", "") or name
        return str(file), pil_to_bgr(item)
    if isinstance(item, np.ndarray):
        return name, as_bgr(as_uint8(item))
    raise ConfigError(f"source: item {number} is a {type(item).__name__}, no image, array or bytes")


def as_bgr(image: Pixels) -> Pixels:
    """Bring uint8 (H, W, C) to three channels: grey is repeated, a fourth channel is dropped."""
    if image.ndim != 3 or image.shape[2] not in {1, 2, 3, 4} or 0 in image.shape:
        raise ConfigError(f"source: an array of shape {image.shape} is no image; need (H, W), (H, W, 1), 3 or 4")
    if image.shape[2] < 3:
        return np.repeat(image[..., :1], 3, axis=2)
    return np.ascontiguousarray(image[..., :3])


def is_stream(source: str) -> bool:
    """Return whether a text names a camera or a live stream: digits, or an address without an image or video suffix."""
    return source.isdigit() or source.lower().startswith(SCHEMES)


def in_memory(source: Any) -> bool:
    """Return whether a source, or each entry of a list, is an image in memory."""
    items = source if isinstance(source, (list, tuple)) else [source]
    kinds: tuple[type, ...] = (np.ndarray, Image.Image, bytes, bytearray)
    return bool(items) and all(isinstance(i, kinds) for i in items)


def read_mixed(items: Sequence[Any]) -> list[Any]:
    """Return a list of paths and images in memory as images only, paths read as Pillow images so that names stay."""
    loaded: list[Any] = []
    for item in items:
        if isinstance(item, (str, Path)):
            if not Path(item).is_file():
                raise NotFoundError(f"source={item}: no such file")
            image = Image.open(io.BytesIO(Path(item).read_bytes()))
            image.filename = str(item)
            item = image
        loaded.append(item)
    return loaded
