"""One picture of a batch: its images in a grid, with boxes, class names and file names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from torch import Tensor

from ultralytics.utils.ops import xywhn2xyxy
from ultralytics.utils.plotting.annotator import Annotator, colors, write_image
from ultralytics.utils.torch_tools.arrays import Pixels

MAX_SIDE = 1920  # pixels of the whole picture
MIN_TILE = 320  # pixels of the longer side of an image in it: smaller ones are enlarged
SMALL_TILE, NAME_LETTERS = 480, 12  # in cells up to this side boxes are thin and class names are cut
BORDER = (255, 255, 255)

Values = Tensor | npt.NDArray[Any]


def _numpy(values: Values) -> npt.NDArray[Any]:
    """Return an array in host memory."""
    return values.detach().float().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def _to_bgr(image: npt.NDArray[Any], scale: float) -> Pixels:
    """Return an (h, w, 3) BGR uint8 image of a (C, H, W) RGB or grey one, resized by `scale`."""
    rgb = np.ascontiguousarray(image.transpose(1, 2, 0)).round().clip(0, 255).astype(np.uint8)
    bgr = cv2.cvtColor(rgb, cv2.COLOR_GRAY2BGR) if rgb.shape[2] == 1 else rgb[..., 2::-1]
    if scale != 1:
        size = (max(round(bgr.shape[1] * scale), 1), max(round(bgr.shape[0] * scale), 1))
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        bgr = cv2.resize(np.ascontiguousarray(bgr), size, interpolation=how)
    return np.asarray(bgr)


def _draw_cell(
    image: Pixels,
    boxes: npt.NDArray[Any],
    cls: npt.NDArray[Any],
    confs: npt.NDArray[Any] | None,
    names: Mapping[int, str],
    title: str,
) -> Pixels:
    """Return one image with its boxes (n, 4), normalised centre and size, and its title."""
    h, w = image.shape[:2]
    small = max(h, w) <= SMALL_TILE
    annotator = Annotator(image, line_width=1 if small else None)
    corners = xywhn2xyxy(boxes, w, h)
    for i in range(len(boxes) - 1, -1, -1):  # the best score is drawn last, on top
        c = int(cls[i])
        label = str(names.get(c, c))
        label = f"{label[: NAME_LETTERS - 1]}." if small and len(label) > NAME_LETTERS else label
        annotator.box_label(corners[i], label if confs is None else f"{label} {confs[i]:.2f}", colors(c, bgr=True))
    if title:
        annotator.text((2, 2), title)
    return annotator.result()


def plot_images(
    images: Values,
    batch_idx: Values,
    cls: Values,
    bboxes: Values,
    confs: Values | None = None,
    paths: Sequence[str | Path] | None = None,
    fname: str | Path = "images.jpg",
    names: Mapping[int, str] | None = None,
    max_subplots: int = 16,
) -> Path:
    """Draw up to `max_subplots` images of a batch with their boxes into the file `fname`; return its path.

    `images` (B, 3, H, W) RGB, bytes or 0 to 1; `batch_idx` (n,) image of each box; `cls` (n,) or (n, 1); `bboxes`
    (n, 4) centre and size in 0 to 1. With `confs` (n,) the boxes are predictions, best first, and show their scores.
    `paths` give each image its file name as a title.
    """
    data = _numpy(images[:max_subplots])
    if data.size and data.max() <= 1:
        data = data * 255
    count, _, h, w = data.shape if data.size else (1, 3, 32, 32)
    owner, classes = _numpy(batch_idx).reshape(-1).astype(int), _numpy(cls).reshape(-1).astype(int)
    boxes, scores = _numpy(bboxes).reshape(-1, 4), None if confs is None else _numpy(confs).reshape(-1)
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    scale = min(1.0, MAX_SIDE / (max(h * rows, w * columns)))
    scale = max(scale, MIN_TILE / max(h, w))
    cell_h, cell_w = max(round(h * scale), 1), max(round(w * scale), 1)
    canvas = np.full((rows * cell_h, columns * cell_w, 3), 255, dtype=np.uint8)
    for i in range(len(data)):
        of_image = owner == i
        title = Path(paths[i]).name[:40] if paths is not None and i < len(paths) else ""
        own = None if scores is None else scores[of_image]
        cell = _draw_cell(_to_bgr(data[i], scale), boxes[of_image], classes[of_image], own, names or {}, title)
        y, x = (i // columns) * cell_h, (i % columns) * cell_w
        canvas[y : y + cell_h, x : x + cell_w] = cell
        cv2.rectangle(canvas, (x, y), (x + cell_w - 1, y + cell_h - 1), BORDER, 2)
    write_image(fname, canvas, jpeg_quality=92)
    return Path(fname)


def box_shapes(boxes: npt.NDArray[Any], cls: npt.NDArray[Any], size: int = 800, limit: int = 1000) -> Pixels:
    """Return a white (size, size, 3) RGB picture of up to `limit` normalised boxes (n, 4), all about one centre."""
    canvas = np.full((size, size, 3), 255, dtype=np.uint8)
    half = (boxes[:limit, 2:] * size / 2).round().astype(int)
    for (x, y), c in zip(half.tolist(), cls[:limit].tolist(), strict=True):
        middle = size // 2
        cv2.rectangle(canvas, (middle - x, middle - y), (middle + x, middle + y), colors(c), 1)
    return canvas
