"""Reading images: decoding to BGR, and a quick check of size and completeness that does not decode.

Shapes: H height, W width, C channels.
"""

from __future__ import annotations

import functools
import io
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ultralytics.utils.torch_tools.arrays import Pixels

PIL_FORMATS = ("JPEG", "MPO", "PNG", "BMP", "DIB", "TIFF", "WEBP", "GIF", "PPM", "JPEG2000", "AVIF", "HEIF")
"""Kinds that Pillow may decode. It chooses by content, and would run a PostScript file of any name."""
_MAX_PIXELS = 178_956_970  # as Pillow's bound, beyond which `probe` refuses an image
UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, RuntimeError, AttributeError, Image.DecompressionBombError)
"""What Pillow's decoders raise for files that are damaged or claim to be too large."""

MIN_SIDE = 10  # pixels; smaller images hold nothing to detect
_TAIL = 4096  # bytes searched for an end marker; cameras and editors append a few
_ORIENTATION = 0x0112  # EXIF tag
_ORIENTED = frozenset(("JPEG", "MPO", "PNG", "WEBP", "AVIF", "HEIF"))  # Pillow turns TIFF by itself
_JPEG_START = b"\xff\xd8"
_PFM_STARTS = (b"PF", b"Pf")  # portable float maps, colour and grey: OpenCV would cut their 0..1 down to integers
_OVERSHOOT = 511  # 8-bit values in a wider type may go beyond 255 by what was added to them; they are cut off
_MODE = {1: cv2.IMREAD_GRAYSCALE, 3: cv2.IMREAD_COLOR}
_REDUCED_MODE = {
    (1, 2): cv2.IMREAD_REDUCED_GRAYSCALE_2,
    (1, 4): cv2.IMREAD_REDUCED_GRAYSCALE_4,
    (1, 8): cv2.IMREAD_REDUCED_GRAYSCALE_8,
    (3, 2): cv2.IMREAD_REDUCED_COLOR_2,
    (3, 4): cv2.IMREAD_REDUCED_COLOR_4,
    (3, 8): cv2.IMREAD_REDUCED_COLOR_8,
}


def imread(path: str | Path, channels: int = 3) -> Pixels | None:
    """Read an image file as uint8 (H, W, C) in BGR order, EXIF orientation applied; None when it cannot be decoded.

    16-bit images keep their upper 8 bits. Works with any path that the system can open. `channels` 1 gives grey, 3
    gives colour, other counts the file's own channels.
    """
    return decode(_file_bytes(path), channels)


def imread_reduced(path: str | Path, factor: int, channels: int = 3) -> Pixels | None:
    """Read a JPEG at 1/`factor` (2, 4 or 8) of its size: uint8 (ceil(H/factor), ceil(W/factor), C), BGR, upright.

    Frequencies above that size are not decoded at all, which saves much of the time and does not alias. None for files
    of other kinds, for other numbers of channels than 1 and 3, and where `imread` would give None.
    """
    mode = _REDUCED_MODE.get((channels, factor))
    if mode is None or _file_bytes(path, len(_JPEG_START)).tobytes() != _JPEG_START:
        return None
    image = _imdecode(_file_bytes(path), mode)
    return None if image is None else as_uint8(image)


def reduction(shape: tuple[int, int], least: tuple[int, int]) -> int:
    """Return 8, 4, 2 or 1: the largest that divides both sides and leaves at least `least`, both (height, width)."""
    fits = (f for f in (8, 4, 2) if all(side % f == 0 and side // f >= r for side, r in zip(shape, least, strict=True)))
    return next(fits, 1)


def decode(data: NDArray[np.uint8], channels: int = 3) -> Pixels | None:
    """Decode the bytes of an image file; see `imread`."""
    if data.size == 0:
        return None
    if _claims_too_much(data):
        return None
    decoders = [_decode_with_opencv, _decode_with_pil]
    if data[4:8].tobytes() == b"ftyp":  # AVIF and HEIC: OpenCV, where it reads them at all, ignores their orientation
        decoders.reverse()
    for decoder in decoders:
        image = decoder(data, channels)
        if image is not None:
            return as_uint8(image)
    return None


def _claims_too_much(data: NDArray[np.uint8]) -> bool:
    """Return whether the header of a file states more pixels than are decoded; a file of 100 KB may claim 5 GB."""
    try:
        with open_photograph(io.BytesIO(data.tobytes())) as image:
            return image.size[0] * image.size[1] > _MAX_PIXELS
    except Image.DecompressionBombError:
        return True
    except UNREADABLE:
        return False


def open_photograph(file: io.BytesIO | io.BufferedReader) -> Image.Image:
    """Open an image with Pillow by the decoders of photographs alone."""
    return Image.open(file, formats=[kind for kind in PIL_FORMATS if kind in _registered()])


@functools.cache
def _registered() -> frozenset[str]:
    """Return the kinds that this Pillow has a decoder for."""
    Image.init()
    return frozenset(Image.OPEN)


def _file_bytes(path: str | Path, count: int = -1) -> NDArray[np.uint8]:
    """Return the bytes of a file, or the first `count`; none where it cannot be read."""
    try:
        return np.fromfile(path, np.uint8, count)
    except OSError:
        return np.empty(0, np.uint8)


def _decode_with_opencv(data: NDArray[np.uint8], channels: int) -> NDArray[Any] | None:
    mode = _MODE.get(channels)
    if mode is not None:
        image = None if data[:2].tobytes() in _PFM_STARTS else _imdecode(data, mode)
        return image if image is not None else _floats(data, channels)
    image = _imdecode(data, cv2.IMREAD_UNCHANGED)
    return None if image is None else _turned(image, _orientation(data))  # that mode ignores it


def _floats(data: NDArray[np.uint8], channels: int) -> NDArray[Any] | None:
    """Decode an image of floating-point numbers, which OpenCV reads only as it is."""
    image = _imdecode(data, cv2.IMREAD_UNCHANGED)
    if image is None or image.dtype.kind != "f":
        return None
    image = np.asarray(image, np.float32)
    if image.ndim == 2:
        return image if channels == 1 else cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    image = image[..., :3]
    return cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) if channels == 1 else image


def _orientation(data: NDArray[np.uint8]) -> int:
    """Return the EXIF orientation that the bytes of an image file have, 1 for none or where OpenCV sees to it."""
    try:
        with open_photograph(io.BytesIO(data.tobytes())) as image:
            return int(image.getexif().get(_ORIENTATION, 1)) if image.format in _ORIENTED else 1
    except UNREADABLE:
        return 1


def _turned(image: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn an array (H, W) or (H, W, C) as `upright` does an image."""
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    if orientation in {3, 4, 7, 8}:
        image = image[::-1]
    if orientation in {2, 3, 6, 7}:
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


def _imdecode(data: NDArray[np.uint8], mode: int) -> NDArray[Any] | None:
    try:
        return cv2.imdecode(data, mode)
    except cv2.error:
        return None


def _decode_with_pil(data: NDArray[np.uint8], channels: int) -> NDArray[Any] | None:
    """Decode what OpenCV cannot, when Pillow knows it."""
    try:
        with open_photograph(io.BytesIO(data.tobytes())) as image:
            return pil_to_bgr(image, channels)
    except UNREADABLE:
        return None


def pil_to_bgr(image: Image.Image, channels: int = 3) -> Pixels:
    """Convert a Pillow image to uint8 (H, W, C) BGR, EXIF orientation applied; with `channels` 4 an alpha stays."""
    image = upright(image)
    if image.mode in {"F", "I"} or image.mode.startswith("I;16"):  # Pillow cuts these off at 255
        grey = as_uint8(np.asarray(image))  # (H, W, 1)
        return grey if channels == 1 else np.repeat(grey, 3, axis=2)
    if channels == 1:
        return np.asarray(image.convert("L"))[..., None]  # (H, W, 1)
    if channels not in _MODE and ("A" in image.getbands() or "transparency" in image.info):
        return np.ascontiguousarray(np.asarray(image.convert("RGBA"))[..., [2, 1, 0, 3]])
    return np.ascontiguousarray(np.asarray(image.convert("RGB"))[..., ::-1])


def upright(image: Image.Image) -> Image.Image:
    """Turn an image as its EXIF orientation says."""
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    turn = turns.get(image.getexif().get(_ORIENTATION, 1))
    return image if turn is None else image.transpose(turn)


def as_uint8(image: NDArray[Any]) -> Pixels:
    """Bring a decoded array to uint8 with a channel axis: 16-bit keeps its upper byte, 0..1 floats are stretched.

    Other types are taken as 8 bits while they hardly reach beyond 255, then as 16 bits; larger values are scaled down.
    """
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    elif image.dtype != np.uint8:
        values = np.nan_to_num(image.astype(np.float32))
        top = float(values.max()) if values.size else 0.0
        image = np.clip(values * _gain(top, image.dtype.kind in "fb"), 0, 255).astype(np.uint8)
    return with_channels(image)


def _gain(top: float, stretch: bool) -> float:
    """Return the factor that brings values up to `top` into 0..255."""
    if stretch and top <= 1:
        return 255.0
    if top <= _OVERSHOOT:
        return 1.0
    return 1 / 256 if top <= np.iinfo(np.uint16).max else 255.0 / top


def resize(image: Pixels, size: tuple[int, int], interpolation: int = cv2.INTER_LINEAR) -> Pixels:
    """Resize to `size` (width, height), keeping the channel axis that OpenCV drops from grey images."""
    return with_channels(cv2.resize(image, size, interpolation=interpolation))


def with_channels(image: NDArray[Any]) -> Pixels:
    """Return uint8 (H, W, C) of what OpenCV returned, (H, W) when grey."""
    return np.asarray(image[..., None] if image.ndim == 2 else image, np.uint8)


class TemporaryReadError(ValueError):
    """A file that the system did not hand out or that did not fit into memory; a second attempt may read it."""


def is_transient(error: Exception) -> bool:
    """Return whether an error comes from the system (permissions, disk, memory) rather than from the file's content."""
    lasting = (FileNotFoundError, IsADirectoryError, NotADirectoryError)  # seen by size and time when they change
    return isinstance(error, MemoryError) or (
        isinstance(error, OSError) and error.errno is not None and not isinstance(error, lasting)
    )


def probe(path: str | Path) -> tuple[int, int]:
    """Return (height, width) after EXIF orientation, without decoding; raise ValueError with the reason if unusable.

    JPEG and WebP files are checked for completeness by their end, PNG files by their checksums; where that fails, and
    for other formats, by decoding. The error is `TemporaryReadError` where the system is at fault.
    """
    try:
        size = os.path.getsize(path)
        if size == 0:
            raise ValueError("empty file (0 bytes)")
        with open(path, "rb") as file, open_photograph(file) as image:
            turned = _is_turned(image)
            _check_complete(image, file, size)
            height, width = image.size if turned else image.size[::-1]
    except UnidentifiedImageError:
        raise ValueError("not an image, or of a kind that cannot be read here") from None
    except Image.DecompressionBombError:
        raise ValueError("too many pixels") from None
    except (OSError, SyntaxError, EOFError, MemoryError) as error:
        kind = TemporaryReadError if is_transient(error) else ValueError
        raise kind(str(error) or "cannot be read") from None
    except (RuntimeError, AttributeError) as error:  # plugins of Pillow, for damaged files
        raise ValueError(f"cannot be decoded ({error})") from None
    if min(width, height) < MIN_SIDE:
        raise ValueError(f"{width}x{height} px, smaller than {MIN_SIDE} px")
    return height, width


def _is_turned(image: Image.Image) -> bool:
    """Return whether the EXIF orientation swaps the sides, for the formats in which decoding honours it."""
    if image.format == "PNG" and "exif" not in image.info:  # asking Pillow would decode the whole image
        return False
    return image.format in _ORIENTED and image.getexif().get(_ORIENTATION, 1) >= 5


def _check_complete(image: Image.Image, file: io.BufferedReader, size: int) -> None:
    """Raise OSError when the end of the image is missing."""
    kind = image.format
    if kind in {"JPEG", "MPO"}:
        complete = b"\xff\xd9" in _tail(file, size)
    elif kind == "PNG":
        image.verify()  # checksums of all chunks; raises
        complete = True
    elif kind == "WEBP":
        file.seek(4)
        complete = size >= int.from_bytes(file.read(4), "little") + 8
    else:
        complete = False
    if not complete:
        image.load()  # raises where the data end too early; a long trailer behind the image is fine


def _tail(file: io.BufferedReader, size: int) -> bytes:
    file.seek(max(0, size - _TAIL))
    return file.read()
