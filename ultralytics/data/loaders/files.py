"""Inference sources: files, folders, videos, streams, the screen, arrays, tensors.

Each yields (paths, images, infos) per batch. Images are uint8 (H, W, 3) BGR; a tensor source yields its (B, 3, H, W)
tensor. `infos` are the beginnings of log lines.
"""

from __future__ import annotations

import csv
import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
import torch
from PIL import Image

from ultralytics.data.images import as_uint8, decode, imread, pil_to_bgr
from ultralytics.data.loaders.streams import Reader, make_reader
from ultralytics.data.loaders.urls import fetch, fetch_video, file_name, is_web, names_video
from ultralytics.data.paths import list_text
from ultralytics.data.utils import IMG_FORMATS, VID_FORMATS, suffix_of
from ultralytics.utils.checks import check_file, require
from ultralytics.utils.errors import ConfigError, NotFoundError
from ultralytics.utils.files import user_path
from ultralytics.utils.log import LOGGER
from ultralytics.utils.torch_tools.arrays import Pixels

MAX_LISTS = 8  # lists in lists
Item: TypeAlias = tuple[list[str], Any, list[str]]


@dataclass(frozen=True)
class SourceTypes:
    """What kind a source is; at most one is true, none for files."""

    stream: bool = False
    screenshot: bool = False
    from_img: bool = False
    tensor: bool = False


class InferenceSource:
    """Base of the sources: batch size `bs`, `mode` of the current item, what kind it is, number of items if known."""

    source_type = SourceTypes()
    can_run_ahead = False  # whether batches may be read before they are asked for

    def __init__(self, batch: int = 1, channels: int = 3) -> None:
        if batch < 1:
            raise ConfigError(f"batch={batch} must be at least 1")
        self.bs, self.channels = batch, channels
        self.mode = "image"
        self.count, self.nf = 0, 0
        self.fps: float = 0.0
        self.frame, self.frames = 0, 0
        self.rates: dict[str, float] = {}  # frames a second of each video that was opened
        self.lengths: dict[str, int] = {}  # frames of it that are taken, as far as the file states

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


class LoadImagesAndVideos(InferenceSource):
    """Image and video files: a path, folder, glob, web address, list, or a `.txt` or `.csv` file that lists sources.

    Unreadable files are left out with a warning. Raises NotFoundError when nothing is there, ConfigError when nothing
    of it is an image or a video.
    """

    def __init__(self, path: object, batch: int = 1, vid_stride: int = 1, channels: int = 3) -> None:
        super().__init__(batch, channels)
        if vid_stride < 1:
            raise ConfigError(f"vid_stride={vid_stride} must be at least 1")
        files = expand_paths(path)
        images = [f for f in files if suffix_of(f) in IMG_FORMATS or is_web(f)]
        videos = [f for f in files if suffix_of(f) in VID_FORMATS and not is_web(f)]
        self.files, self.vid_stride = images + videos, vid_stride
        self.nf = len(self.files)
        self.can_run_ahead = self.nf > batch or bool(videos)
        if not self.files:
            kinds = " ".join(sorted(IMG_FORMATS | VID_FORMATS))
            raise ConfigError(f"source={path}: no image and no video there", f"known suffixes: {kinds}")

    def items(self) -> Iterator[tuple[str, Any, str]]:
        """Yield the images, then the frames of the videos."""
        for number, file in enumerate(self.files, 1):
            self.count = number
            position = f"{self.count}/{self.nf}"
            if suffix_of(file) in VID_FORMATS and not is_web(file):
                yield from self._frames(file, position)
                continue
            self.mode = "image"
            image = Stored(file).read(self.channels)
            if image is None:
                LOGGER.warning(f"image {position} {file}: cannot be read, left out")
                continue
            yield Stored(file).name, image, f"image {position} {file}: "

    def _frames(self, file: str, position: str) -> Iterator[tuple[str, Any, str]]:
        """Yield every `vid_stride`-th frame of a video."""
        video = cv2.VideoCapture(file)
        self.mode, self.frame = "video", 0
        self.fps = float(video.get(cv2.CAP_PROP_FPS) or 0.0)
        total = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
        self.frames = max(total // self.vid_stride, 0)
        self.rates[file], self.lengths[file] = self.fps, self.frames
        if not video.isOpened():
            LOGGER.warning(f"video {position} {file}: cannot be opened, left out")
        try:
            while video.grab():
                self.frame += 1
                if self.frame % self.vid_stride:
                    continue
                ok, image = video.retrieve()
                if ok:
                    info = f"video {position} (frame {self.frame // self.vid_stride}/{self.frames}) {file}: "
                    yield file, as_bgr(as_uint8(image)), info
        finally:
            video.release()


class LoadStreams(InferenceSource):
    """Live sources: webcam numbers and addresses, or the lines of a `.streams` file; a batch has one frame of each.

    With `buffer` false, frames that came while the network was busy are dropped, so that it sees the newest; with it,
    and for files, every frame is seen.
    """

    source_type = SourceTypes(stream=True)

    def __init__(
        self, sources: str | Sequence[str], vid_stride: int = 1, buffer: bool = False, channels: int = 3
    ) -> None:
        self.sources = listed_streams(sources) if isinstance(sources, str) else list(sources)
        super().__init__(max(len(self.sources), 1), channels)
        self.mode, self.vid_stride = "stream", max(vid_stride, 1)
        self.nf = len(self.sources)
        self.readers: list[Reader] = []
        try:
            for source in self.sources:
                self.readers.append(make_reader(source, self.vid_stride, every_frame=buffer))
        except NotFoundError:
            self.close()
            raise
        self.fps = self.readers[0].fps if self.readers else 0.0

    def __iter__(self) -> Iterator[Item]:
        """Yield one frame of each stream until one of them ends."""
        try:
            while True:
                seen = [reader.next() for reader in self.readers]
                frames = [as_bgr(frame) for frame in seen if frame is not None]
                if not frames or len(frames) < len(seen):
                    return
                self.frame += 1
                yield list(self.sources), frames, [f"{i}: " for i in range(len(frames))]
        finally:
            self.close()

    def close(self) -> None:
        """Release the cameras and streams."""
        for reader in self.readers:
            reader.close()
        self.readers = []


class LoadScreenshots(InferenceSource):
    """Screenshots, one after the other until the caller stops: `screen [number] [left top width height]`.

    Number 0, the default, is the whole desktop, 1 the first monitor; the region is in pixels of that monitor. Needs the
    package `mss`.

    Raises:
        ConfigError: there is no such monitor, or the source is not written like that.
        MissingPackageError: `mss` is not installed.
    """

    source_type = SourceTypes(screenshot=True)

    def __init__(self, source: str, channels: int = 3) -> None:
        super().__init__(1, channels)
        numbers = source.split()[1:]
        if len(numbers) not in {0, 1, 4, 5} or not all(n.lstrip("-").isdigit() for n in numbers):
            raise ConfigError(f"source={source!r}: write screen, screen 1, or screen 1 left top width height")
        values = [int(n) for n in numbers]
        number = values.pop(0) if len(values) in {1, 5} else 0
        self._grabber: Any = require("mss", "source=screen").mss()
        self.area = self._area(source, number, values)
        self.mode, self.nf = "stream", 1

    def _area(self, source: str, number: int, region: list[int]) -> dict[str, int]:
        """Return left, top, width and height on the desktop."""
        monitors = self._grabber.monitors
        if not 0 <= number < len(monitors):
            raise ConfigError(f"source={source!r}: there are screens 0 (all) to {len(monitors) - 1}")
        screen = {k: int(monitors[number][k]) for k in ("left", "top", "width", "height")}
        if not region:
            return screen
        left, top, width, height = region
        if width < 1 or height < 1:
            raise ConfigError(f"source={source!r}: width and height must be at least 1")
        return {"left": screen["left"] + left, "top": screen["top"] + top, "width": width, "height": height}

    def items(self) -> Iterator[tuple[str, Any, str]]:
        """Yield what is on the screen now, again and again."""
        region = ",".join(str(v) for v in self.area.values())
        while True:
            self.frame += 1
            yield "screen", as_bgr(np.asarray(self._grabber.grab(self.area), np.uint8)), f"screen {region}: "

    def close(self) -> None:
        """Release the screen."""
        self._grabber.close()


class LoadPilAndNumpy(InferenceSource):
    """Images in memory: Pillow images (EXIF applied), arrays (H, W, 3) BGR or grey, bytes of image files.

    They form one batch. `Stored` images may stand among them; unreadable ones of these are left out with a warning.
    """

    source_type = SourceTypes(from_img=True)

    def __init__(self, im0: object, channels: int = 3) -> None:
        self.images = list(im0) if isinstance(im0, (list, tuple)) else [im0]
        if not self.images:
            raise ConfigError("source: an empty list holds no image")
        super().__init__(len(self.images), channels)
        self.nf = len(self.images)

    @property
    def im0(self) -> list[Pixels]:
        """The images in memory, (H, W, 3) BGR each."""
        return [to_bgr(item)[1] for item in self.images if not isinstance(item, Stored)]

    @property
    def paths(self) -> list[str]:
        """Their names, as the results have them."""
        return [i.name if isinstance(i, Stored) else to_bgr(i, number)[0] for number, i in enumerate(self.images)]

    def items(self) -> Iterator[tuple[str, Any, str]]:
        """Yield the images; their names are their files' or `image0.jpg`, `image1.jpg`, ..."""
        for number, item in enumerate(self.images):
            self.count = number + 1
            position = f"image {self.count}/{self.nf}"
            if not isinstance(item, Stored):
                name, image = to_bgr(item, number)
                yield name, image, f"{position} {name}: "
                continue
            read = item.read(self.channels)
            if read is not None:
                yield item.name, read, f"{position} {item.name}: "
                continue
            if item.is_video:
                raise ConfigError(f"source={item.place}: a video beside images in memory", "give it apart from them")
            LOGGER.warning(f"{position} {item.place}: cannot be read, left out")


class LoadTensor(InferenceSource):
    """A tensor (B, C, H, W) or (C, H, W), RGB or grey in 0..1, sides a multiple of 32; taken as it is, not resized."""

    source_type = SourceTypes(tensor=True)

    def __init__(self, im0: torch.Tensor, stride: int = 32, channels: int = 3) -> None:
        tensor = im0
        if tensor.ndim == 3:
            tensor = tensor[None]
        if tensor.ndim != 4 or tensor.shape[2] % stride or tensor.shape[3] % stride or not tensor.numel():
            raise ConfigError(
                f"source: a tensor of shape {tuple(tensor.shape)} must be (B, C, H, W), H and W multiples of {stride}"
            )
        count = tensor.shape[1]
        if count != channels:
            raise ConfigError(
                f"source: a tensor of shape {tuple(tensor.shape)} has C={count}, the network takes C={channels}",
                f"give (B, {channels}, H, W); an array or a file may have any number of channels from 1 to 4",
            )
        super().__init__(len(tensor), channels)
        self.nf = len(tensor)
        if float(tensor.max()) > 1.0 + torch.finfo(torch.float16).eps:
            LOGGER.warning(f"source: tensor values reach {float(tensor.max()):g}, taken as 0..255 and divided by 255")
            tensor = tensor.float() / 255.0
        self.tensor = tensor

    @property
    def im0(self) -> torch.Tensor:
        """The tensor (B, C, H, W) in 0..1."""
        return self.tensor

    @property
    def paths(self) -> list[str]:
        """Names of its images, as the results have them."""
        return [f"image{i}.jpg" for i in range(self.nf)]

    def __iter__(self) -> Iterator[Item]:
        """Yield the tensor as one batch."""
        self.count = self.nf
        names = self.paths
        yield names, self.tensor, [f"image {i + 1}/{self.nf} {n}: " for i, n in enumerate(names)]


def listed_streams(text: str) -> list[str]:
    """Return the sources that the lines of a `.streams` file name; of any other text itself."""
    if not text.lower().endswith(".streams"):
        return [text]
    return [line.strip() for line in list_text(check_file(text)).splitlines() if line.strip()]


# ---- what a source is -------------------------------------------------------------------------------------------


def expand_paths(source: object, depth: int = 0) -> list[str]:
    """Return the files that a path, folder (not recursive), glob (recursive), list file or list of these names.

    A web address stays one if it is of an image; a video is fetched.

    Raises:
        NotFoundError: a path does not exist.
        DatasetError: a list is not UTF-8 text.
    """
    if isinstance(source, (list, tuple)):
        return [f for s in source for f in expand_paths(s, depth)]
    text = str(source)
    if is_web(text):
        return [str(fetch_video(text)) if names_video(text) else text]
    path = user_path(text)
    if path.is_dir():
        return sorted(str(f) for f in path.iterdir() if f.is_file())
    if path.is_file():
        return _listed(path, depth + 1) if suffix_of(text) in {"txt", "csv"} else [str(path)]
    if glob.has_magic(text):
        return sorted(glob.glob(text, recursive=True))
    raise NotFoundError(f"source={text}: no such file or folder (working directory {os.getcwd()})")


def _listed(path: Path, depth: int) -> list[str]:
    """Return the sources that a list file names, one a line or cell; relative ones are also tried beside the list."""
    if depth > MAX_LISTS:
        raise ConfigError(f"source={path}: lists name further lists more than {MAX_LISTS} deep; does one name itself?")
    lines = list_text(path).splitlines()
    try:
        cells = [cell.strip() for row in csv.reader(lines) for cell in row]
    except csv.Error as e:
        raise ConfigError(f"source={path}: not a list of comma-separated sources ({e})") from None
    if path.suffix.lower() == ".txt":
        cells = [line.strip() for line in lines]
    cells = [c for c in cells if c]
    if cells and cells[0].lower() == "source":
        cells = cells[1:]
    return [f for c in cells for f in expand_paths(_beside(path, c), depth)]


def _beside(path: Path, cell: str) -> str:
    """Return an entry of a list file; what is neither an address nor found from here is searched beside the list."""
    here = is_web(cell) or os.path.isabs(cell) or os.path.exists(cell)
    return cell if here else str(path.parent / cell)


@dataclass(frozen=True)
class Stored:
    """An image file, or the web address of one, that is read when its turn comes."""

    place: str

    @property
    def name(self) -> str:
        """The path; of an address the last part."""
        return file_name(self.place) if is_web(self.place) else self.place

    @property
    def is_video(self) -> bool:
        """Whether it ends like a video."""
        return names_video(self.place) or (not is_web(self.place) and suffix_of(self.place) in VID_FORMATS)

    def read(self, channels: int) -> Pixels | None:
        """Return uint8 (H, W, 3) BGR, decoded with that many channels; None when it is not a readable image."""
        web = is_web(self.place)
        image = decode(np.frombuffer(fetch(self.place), np.uint8), channels) if web else imread(self.place, channels)
        return None if image is None else as_bgr(image)


def to_bgr(item: object, number: int = 0) -> tuple[str, Pixels]:
    """Return name and uint8 (H, W, 3) BGR of a Pillow image, an array, or the bytes of an image file."""
    name = f"image{number}.jpg"
    if isinstance(item, (bytes, bytearray)):
        image = decode(np.frombuffer(item, np.uint8))
        if image is None:
            raise ConfigError(f"source: item {number} ({name}): {len(item)} bytes that are not an image")
        return name, as_bgr(image)
    if isinstance(item, Image.Image):
        file = getattr(item, "filename", "") or name
        return str(file), pil_to_bgr(item)
    if isinstance(item, np.ndarray):
        if item.dtype.kind not in "biuf":
            raise ConfigError(f"source: item {number} is an array of {item.dtype}, not of numbers")
        return name, as_bgr(as_uint8(item))
    raise ConfigError(f"source: item {number} is a {type(item).__name__}, not an image, array or bytes")


def autocast_list(source: Sequence[object]) -> list[Image.Image | Pixels]:
    """Return images that are files or in memory as Pillow images, and arrays as they are."""
    return [i if isinstance(i, (np.ndarray, Image.Image)) else Image.fromarray(_read(i)[..., ::-1]) for i in source]


def _read(file: object) -> Pixels:
    image = imread(str(file))
    if image is None:
        raise NotFoundError(f"{file}: cannot be read as an image")
    return image


def as_bgr(image: Pixels) -> Pixels:
    """Bring uint8 (H, W, C) to three channels: grey is repeated, a fourth channel is dropped."""
    if image.ndim != 3 or image.shape[2] not in {1, 2, 3, 4} or 0 in image.shape:
        raise ConfigError(f"source: an array of shape {image.shape} is not an image; need (H, W), (H, W, 1), 3 or 4")
    if image.shape[2] < 3:
        return np.repeat(image[..., :1], 3, axis=2)
    return np.ascontiguousarray(image[..., :3])


def in_memory(source: object) -> bool:
    """Return whether a source, or each entry of a list, is an image in memory."""
    items = source if isinstance(source, (list, tuple)) else [source]
    kinds: tuple[type, ...] = (np.ndarray, Image.Image, bytes, bytearray)
    return bool(items) and all(isinstance(i, kinds) for i in items)


def read_mixed(items: Sequence[object]) -> list[object]:
    """Return a list of paths, web addresses and images in memory as single images.

    Images in memory stay; the others are `Stored`. A folder, glob or list file means the images and videos of it.

    Raises:
        NotFoundError: a path does not exist.
        ConfigError: a folder, glob or list file holds no image.
    """
    return [image for item in items for image in (_stored(item) if isinstance(item, (str, Path)) else [item])]


def _stored(item: str | Path) -> list[Stored]:
    """Return what one path or web address stands for; a file that is not a list is taken whatever its suffix."""
    text = str(item).strip()
    path = user_path(text)
    if is_web(text) or (path.is_file() and suffix_of(text) not in {"txt", "csv"}):
        return [Stored(text if is_web(text) else str(path))]
    files = [f for f in expand_paths(text) if is_web(f) or suffix_of(f) in IMG_FORMATS | VID_FORMATS]
    if not files:
        raise ConfigError(f"source={text}: no image there", f"known suffixes: {' '.join(sorted(IMG_FORMATS))}")
    return [Stored(f) for f in files]
