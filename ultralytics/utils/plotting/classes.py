"""Pictures of a classifier: a batch in a grid with its classes, and how many images each class has."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from torch import Tensor

from ultralytics.utils.plotting.annotator import Annotator, colors, write_image
from ultralytics.utils.plotting.figure import literal, new_figure, save_figure
from ultralytics.utils.torch_tools.arrays import Pixels

MIN_CELL = 160  # pixels: smaller images are enlarged, so that their text can be read
MAX_SHEET_SIDE = 1920
RIGHT, WRONG, UNMARKED = (80, 175, 50), (40, 40, 220), (255, 255, 255)  # BGR


def plot_class_images(
    images: Tensor | npt.NDArray[np.uint8],
    texts: Sequence[str],
    fname: str | Path,
    right: Sequence[bool] | None = None,
    max_subplots: int = 16,
) -> Path:
    """Draw up to `max_subplots` images (B, 3, H, W), RGB bytes, each with its text, into `fname`; return its path.

    `right` says for each image whether its text is a correct answer: the frames are then green and red.
    """
    data = images[:max_subplots]
    pixels = data.cpu().numpy() if isinstance(data, Tensor) else data
    columns = max(math.ceil(math.sqrt(len(pixels))), 1)
    side = min(max(MIN_CELL, int(pixels.shape[-1])), MAX_SHEET_SIDE // columns)
    canvas = np.full((math.ceil(len(pixels) / columns) * side, columns * side, 3), 255, dtype=np.uint8)
    for i, image in enumerate(pixels):
        frame = UNMARKED if right is None else RIGHT if right[i] else WRONG
        y, x = (i // columns) * side, (i % columns) * side
        canvas[y : y + side, x : x + side] = _cell(image, str(texts[i]), side, frame)
    write_image(fname, canvas, jpeg_quality=92)
    return Path(fname)


def _cell(image: npt.NDArray[np.uint8], text: str, side: int, frame: tuple[int, int, int]) -> Pixels:
    bgr = np.ascontiguousarray(image.transpose(1, 2, 0)[..., ::-1])  # (H, W, 3)
    shrink = max(bgr.shape[:2]) > side
    fitted = cv2.resize(bgr, (side, side), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR)
    annotator = Annotator(np.asarray(fitted, np.uint8))
    annotator.text((4, 4), text)
    cell = annotator.result()
    cv2.rectangle(cell, (0, 0), (side - 1, side - 1), frame, 3)
    return cell


def plot_class_counts(counts: Sequence[int], names: Mapping[int, str], save_dir: str | Path = "") -> Path:
    """Draw the number of images of each class as `labels.jpg` in `save_dir`; return its path."""
    figure, (bars,) = new_figure(max(5.0, min(0.25 * len(counts) + 3, 20.0)), 4.5)
    drawn = bars.bar(
        np.arange(len(counts)), counts, color=[tuple(v / 255 for v in colors(i)) for i in range(len(counts))]
    )
    bars.set_ylabel("training images")
    if len(counts) <= 30:
        bars.bar_label(drawn, fontsize=8)
        bars.set_xticks(np.arange(len(counts)), [literal(names.get(i, i)) for i in range(len(counts))], rotation=45)
    else:
        bars.set_xlabel("class")
    out = Path(save_dir) / "labels.jpg"
    save_figure(figure, out, dpi=150)
    return out
