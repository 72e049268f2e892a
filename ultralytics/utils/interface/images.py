"""Pictures read, written and shown, under the names of the interface. Arrays are (H, W[, C]), colour in BGR order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ultralytics.utils.errors import ConfigError, NotFoundError
from ultralytics.utils.files import atomic_write
from ultralytics.utils.log import LOGGER
from ultralytics.utils.plotting.window import show_image


def imread(filename: str | Path, flags: int = cv2.IMREAD_COLOR) -> npt.NDArray[np.uint8] | None:
    """Return a picture of any path, None where it cannot be read."""
    path = Path(filename)
    data = np.fromfile(path, np.uint8) if path.is_file() else np.zeros(0, np.uint8)
    image = cv2.imdecode(data, flags) if data.size else None
    return None if image is None else np.asarray(image, np.uint8)


def imwrite(filename: str | Path, img: npt.NDArray[np.uint8], params: Sequence[int] | None = None) -> bool:
    """Write a picture to any path, whole or not at all; whether that was possible."""
    path = Path(filename)
    try:
        done, data = cv2.imencode(path.suffix, img, list(params or ()))
    except cv2.error:
        return False
    if done:
        with atomic_write(path, "wb") as f:
            f.write(data.tobytes())
    return bool(done)


def compress_one_image(f: str | Path, f_new: str | Path | None = None, max_dim: int = 1920, quality: int = 50) -> None:
    """Shrink a picture so that its longer side has at most `max_dim` px, and write it as the kind that its name says.

    It replaces the picture unless `f_new` names another file; `quality` is that of JPEG and WebP, 1 to 100.

    Raises:
        NotFoundError: there is no picture that can be read.
        ConfigError: the result cannot be written as that kind.
    """
    image = imread(f)
    if image is None:
        raise NotFoundError(f"{f}: cannot be read as a picture")
    gain = max_dim / max(image.shape[:2])
    if gain < 1:
        height, width = (max(1, round(side * gain)) for side in image.shape[:2])
        image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    options = (cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_WEBP_QUALITY, quality)
    if not imwrite(f_new or f, image, options):
        raise ConfigError(f"{f_new or f}: cannot be written as a picture of this kind", "such as .jpg, .png, .webp")


def imshow(winname: str, mat: npt.NDArray[np.uint8]) -> None:
    """Show a picture in a window; without a screen a warning is logged."""
    try:
        show_image(winname, mat, wait_ms=1)
    except ConfigError as e:
        LOGGER.warning(str(e))
