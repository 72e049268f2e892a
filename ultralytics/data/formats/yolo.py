"""YOLO text labels: one file for each image, found by its path; the rows are parsed in `data.labels`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from ultralytics.data.formats.base import LabelReader, Split
from ultralytics.data.labels.parse import VerifiedImage, verify_pair
from ultralytics.data.paths import img2label_paths
from ultralytics.utils.torch_tools.arrays import Float32Array


class YoloReader(LabelReader):
    """Text files beside the images, or in the `labels` folder beside their `images` folder."""

    format = "yolo"

    def __init__(self, split: Split) -> None:
        super().__init__(split)
        self.label_files = img2label_paths(split.im_files)
        self._label_of = dict(zip(split.im_files, self.label_files, strict=True))

    def verify(self, im_file: str) -> VerifiedImage:
        """Check one image and its text file."""
        return verify_pair(im_file, self._label_of[im_file], len(self.split.names), self.split.single_cls)


def yolo_rows(cls: NDArray[Any], boxes: NDArray[Any], polygons: Sequence[Float32Array | None] | None = None) -> str:
    """Return the text of a label file from classes (n, 1), boxes xywh (n, 4) and the polygons that there are.

    Nine digits bring back the very float32 values.

    >>> import numpy as np
    >>> yolo_rows(np.array([[2]]), np.array([[0.5, 0.5, 0.25, 0.125]]))
    '2 0.5 0.5 0.25 0.125\\n'
    """
    lines = []
    outlines = [None] * len(boxes) if polygons is None else polygons
    for c, box, polygon in zip(cls.ravel().tolist(), boxes, outlines, strict=True):
        values = box if polygon is None else polygon.ravel()
        lines.append(" ".join([str(int(c)), *(f"{v:.9g}" for v in values.tolist())]))
    return "".join(f"{line}\n" for line in lines)
