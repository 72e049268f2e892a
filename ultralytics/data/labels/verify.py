"""One image, alone or with its label file, verified for callers of the interface: a tuple in, a tuple out; its size.

A whole split is scanned by `ultralytics.data.labels.parse.scan_images`, by the same rules.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import ExifTags, Image

from ultralytics.data.images import probe
from ultralytics.data.labels.parse import VerifiedImage, verify_pair
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.torch_tools.arrays import Float32Array

Verified: TypeAlias = tuple[
    str | None,
    Float32Array | None,
    tuple[int, int] | None,
    "list[Float32Array] | None",
    None,
    int,
    int,
    int,
    int,
    str,
]
"""Image, labels (n, 5) class cx cy w h, shape (h, w), polygons, keypoints; missing, found, empty, corrupt; message."""


def verify_image(args: tuple[tuple[str, int], str]) -> tuple[tuple[str, int], int, int, str]:
    """Verify an image of a class folder, given as ((file, class), prefix of messages).

    Returns (file, class), 1 if it can be used, 1 if not, and the message, which is empty where nothing is wrong.
    """
    (file, class_id), prefix = args
    try:
        probe(str(file))
    except ValueError as e:
        return (file, class_id), 0, 1, f"{prefix}{file}: ignoring corrupt image: {e}"
    return (file, class_id), 1, 0, ""


def verify_image_label(args: Sequence[Any]) -> Verified:
    """Verify an image with its label file.

    `args` are image, label file, prefix of messages, whether there are keypoints, classes, keypoints of an object,
    their numbers, and whether all classes count as one. An image that cannot be used gives None in the first five
    places.
    A row that cannot be used is left out and named in the message; the others of its file stay.

    Raises:
        ConfigError: keypoints are asked for.
    """
    im_file, label_file, prefix, keypoints, classes, *_ = args
    if keypoints:
        raise ConfigError("keypoints are not part of this package", "verify boxes and polygons: keypoint=False")
    single = bool(args[7]) if len(args) > 7 else False
    found = verify_pair(str(im_file), str(label_file), int(classes), single)
    missing, empty, corrupt = (int(found.state == state) for state in ("missing", "empty", "corrupt"))
    counts = (missing, int(not missing and not corrupt), empty, corrupt)
    message = "\n".join(f"{prefix}{issue}" for issue in found.rows.issues)
    if found.shape is None:
        return (None, None, None, None, None, *counts, message)
    return (found.im_file, _table(found), found.shape, found.rows.segments, None, *counts, message)


def exif_size(img: Image.Image) -> tuple[int, int]:
    """Return width and height of a Pillow image as it is shown, turned by its EXIF orientation."""
    by_pillow = img.format == "TIFF"  # has the size as it is shown
    turned = not by_pillow and int(img.getexif().get(ExifTags.Base.Orientation, 1)) >= 5
    return (img.height, img.width) if turned else (img.width, img.height)


def get_hash(paths: Sequence[str | Path]) -> str:
    """Return one hash of the names, sizes and times of files; of one that is not there its name alone counts."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(str(path).encode(errors="surrogateescape"))
        with suppress(OSError):
            status = os.stat(path)
            digest.update(f"{status.st_size} {status.st_mtime_ns}".encode())
    return digest.hexdigest()


def _table(found: VerifiedImage) -> Float32Array:
    """Labels (n, 5): class, cx, cy, w, h."""
    return np.concatenate([found.rows.cls, found.rows.bboxes], 1)
