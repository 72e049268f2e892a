"""What the doctor examines: the files of a split, their contents as digests and fingerprints, and their labels.

Shapes: N images.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ultralytics.data.doctor.quick_checks import digest
from ultralytics.data.formats import LabelReader, open_reader
from ultralytics.data.images import UNREADABLE, as_uint8, imread, open_photograph
from ultralytics.data.labels.parse import Scan
from ultralytics.data.paths import list_images
from ultralytics.data.types import LabelDict
from ultralytics.utils.errors import UserError
from ultralytics.utils.log import ProgressBar

HASH_SIDE = 16  # a fingerprint has HASH_SIDE ** 2 bits
FLAT = 2.0  # grey levels of spread (standard deviation) below which an image shows nothing
_SMALL = 512  # pixels of the longer side from which a reduced decoding suffices
_THREADS = min(8, os.cpu_count() or 1)
_ORIENTATION = 0x0112  # EXIF tag
_KINDS = {"jpg": "JPEG", "jpeg": "JPEG", "mpo": "MPO", "tif": "TIFF", "tiff": "TIFF", "jp2": "JPEG2000", "dng": "TIFF"}


@dataclass(frozen=True)
class ImageProperties:
    """One image file: digest of its bytes, fingerprint (or None), its spread of grey, its true kind, EXIF turn.

    `decoded` is False where the file opens as an image, and its pixels cannot be read.
    """

    path: str
    digest: str
    fingerprint: NDArray[np.bool_] | None = None
    spread: float = 0.0
    kind: str = ""
    turned: bool = False
    decoded: bool = True

    @property
    def misnamed(self) -> bool:
        """Whether the file's suffix names another kind than its content."""
        suffix = os.path.splitext(self.path)[1][1:].lower()
        return bool(self.kind) and self.kind not in {_KINDS.get(suffix, suffix.upper()), "MPO"}


@dataclass
class Survey:
    """One split: its images with their properties, the scan of its labels, or the error that stopped it."""

    split: str
    source: str | Sequence[str]
    im_files: list[str] = field(default_factory=list)
    images: list[ImageProperties] = field(default_factory=list)
    scan: Scan = field(default_factory=lambda: Scan([], [], {}))
    reader: LabelReader | None = None
    error: str = ""

    @property
    def listed(self) -> list[ImageProperties]:
        """The properties of all images but those that no annotation file names."""
        unlisted = {issue.file for issue in self.scan.issues if issue.kind == "unlisted"}
        return [image for image in self.images if image.path not in unlisted]

    @property
    def labels(self) -> Sequence[LabelDict]:
        """The label dicts of the usable images."""
        return self.scan.labels


def survey(data: Mapping[str, Any], split: str) -> Survey:
    """Examine all files of a split of a `check_det_dataset` dict; nothing on disk is changed, no cache is used."""
    result = Survey(split, data[split])
    try:
        result.im_files = list_images(result.source)
        if not result.im_files:
            result.error = f"{result.source}: no images found"
            return result
        result.reader = open_reader(data, result.source, result.im_files, split=split)
        result.scan = result.reader.scan(f"{split}: reading labels")
        result.im_files = [f for f in result.im_files if not result.reader.is_foreign(f)]
    except UserError as error:
        result.error = str(error).replace("\n", "; ")
    result.images = _in_threads(inspect_image, result.im_files, f"{split}: reading images")
    return result


def _in_threads(function: Callable[[str], ImageProperties], files: Iterable[str], desc: str) -> list[ImageProperties]:
    files = list(files)
    bar: ProgressBar[None] = ProgressBar(total=len(files), desc=desc)
    results = []
    with ThreadPoolExecutor(_THREADS) as pool, bar:
        for image in pool.map(function, files):
            results.append(image)
            bar.update()
    return results


def inspect_image(path: str) -> ImageProperties:
    """Return the properties of an image file; one that cannot be read has at most a digest."""
    stamp = digest(path) if os.path.isfile(path) else ""
    try:
        with open(path, "rb") as file, open_photograph(file) as image:
            kind, size = image.format or "", image.size
            turned = image.format in {"JPEG", "MPO"} and image.getexif().get(_ORIENTATION, 1) != 1
    except UNREADABLE:
        return ImageProperties(path, stamp)
    grey = _grey(path, max(size))
    if grey is None:
        return ImageProperties(path, stamp, kind=kind, turned=turned, decoded=False)
    spread = float(grey.std())
    return ImageProperties(path, stamp, fingerprint(grey) if spread >= FLAT else None, spread, kind, turned)


def _grey(path: str, side: int) -> NDArray[np.uint8] | None:
    """Return a small grey version of an image, None when it cannot be decoded."""
    try:
        flag = cv2.IMREAD_REDUCED_GRAYSCALE_4 if side >= _SMALL else cv2.IMREAD_GRAYSCALE
        reduced = cv2.imdecode(np.fromfile(path, np.uint8), flag)
    except (OSError, cv2.error):
        reduced = None
    if reduced is None:
        image = imread(path, 1)
        return None if image is None else image[..., 0]
    return as_uint8(reduced)[..., 0]


def fingerprint(grey: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return HASH_SIDE ** 2 bits that survive another size or compression: is each cell brighter than its left one?

    The difference hash of N. Krawetz (hackerfactor.com, "Kind of Like That", 2013), on a finer grid.
    """
    cells = cv2.resize(grey, (HASH_SIDE + 1, HASH_SIDE), interpolation=cv2.INTER_AREA).astype(np.int16)
    return (cells[:, 1:] > cells[:, :-1]).ravel()  # (HASH_SIDE ** 2,)


def folders_of(source: str | Sequence[str]) -> list[Path]:
    """Return the folders among a split's sources."""
    sources = [source] if isinstance(source, (str, Path)) else list(source)
    return [Path(s) for s in sources if Path(s).is_dir()]
