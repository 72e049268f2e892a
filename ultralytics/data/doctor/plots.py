"""The pictures of the report, as bytes of PNG and JPEG files: charts of the numbers, and images with their boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ultralytics.data.doctor.numbers import STRIDES, short_sides
from ultralytics.data.doctor.survey import Survey
from ultralytics.data.images import imread, resize
from ultralytics.utils.ops import xywhn2xyxy
from ultralytics.utils.plotting.annotator import Annotator, colors
from ultralytics.utils.plotting.figure import figure_bytes, literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

THUMB = 320  # pixels of the longer side
_MAX_BARS = 40


def charts(surveys: Sequence[Survey], names: Mapping[int, str], queries: int, imgsz: int) -> list[tuple[str, bytes]]:
    """Return (title, PNG) of: objects by class, box sizes against strides, objects per image against queries."""
    return [
        ("Objects by class", _classes(surveys, names)),
        (f"Shorter side of the boxes in px at imgsz={imgsz}, with the strides", _sides(surveys, imgsz)),
        (f"Objects per image, with the {queries} queries", _crowds(surveys, queries)),
        ("Sizes of the images in px", _shapes(surveys)),
    ]


def _axes(width: float = 6.0) -> tuple[Figure, Axes]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 3.2))
    FigureCanvasAgg(figure)
    figure.subplots_adjust(left=0.13, right=0.97, top=0.95, bottom=0.24)
    return figure, figure.subplots()


def _png(figure: Figure) -> bytes:
    return figure_bytes(figure, "png", 90)


def _classes(surveys: Sequence[Survey], names: Mapping[int, str]) -> bytes:
    figure, axes = _axes()
    shown = list(names)[:_MAX_BARS]
    width = 0.8 / max(len(surveys), 1)
    for k, survey in enumerate(surveys):
        ids = np.concatenate([d["cls"].ravel() for d in survey.labels] or [np.zeros(0, np.float32)]).astype(int)
        counts = np.bincount(ids, minlength=len(names))[: len(shown)]
        axes.bar(np.arange(len(shown)) + k * width, counts, width, label=survey.split)
    axes.set_xticks(np.arange(len(shown)), [literal(str(names[i])[:14]) for i in shown], rotation=60, ha="right")
    axes.set_ylabel("objects")
    axes.legend()
    return _png(figure)


def _sides(surveys: Sequence[Survey], imgsz: int) -> bytes:
    figure, axes = _axes()
    bins = np.geomspace(1, imgsz, 40).tolist()
    for survey in surveys:
        axes.hist(np.clip(short_sides(survey) * imgsz, 1, imgsz), bins, alpha=0.6, label=survey.split)
    for stride in STRIDES:
        axes.axvline(stride, color="black", linewidth=0.8, linestyle="--")
        axes.text(stride, 1.0, f" {stride}", transform=axes.get_xaxis_transform(), va="top", fontsize=8)
    axes.set_xscale("log")
    axes.set_ylabel("boxes")
    axes.legend()
    return _png(figure)


def _crowds(surveys: Sequence[Survey], queries: int) -> bytes:
    figure, axes = _axes()
    counts = {s.split: [len(d["cls"]) for d in s.labels] for s in surveys}
    top = max([1, *(c for values in counts.values() for c in values)])
    for split, values in counts.items():
        axes.hist(values, np.arange(-0.5, top + 1.5, max(1, top // 40)).tolist(), alpha=0.6, label=split)
    if top > queries / 2:
        axes.axvline(queries, color="red", linewidth=0.8, linestyle="--")
    axes.set_yscale("symlog")
    axes.set_ylabel("images")
    axes.legend()
    return _png(figure)


def _shapes(surveys: Sequence[Survey]) -> bytes:
    figure, axes = _axes()
    for survey in surveys:
        shapes = np.array([d["shape"] for d in survey.labels] or np.zeros((0, 2)))
        axes.scatter(shapes[:, 1], shapes[:, 0], s=8, alpha=0.5, label=survey.split)
    axes.set_xlabel("width")
    axes.set_ylabel("height")
    axes.legend()
    return _png(figure)


def thumbnail(path: str, label: Mapping[str, Any] | None, names: Mapping[int, str]) -> bytes | None:
    """Return an image with its boxes as a small JPEG, None when it cannot be decoded."""
    image = imread(path)
    if image is None:
        return None
    h, w = image.shape[:2]
    gain = THUMB / max(h, w)
    small = resize(image, (max(round(w * gain), 1), max(round(h * gain), 1)), cv2.INTER_AREA)
    if label is not None and len(label["cls"]):
        small = _with_boxes(small, label, names)
    return cv2.imencode(".jpg", small, (cv2.IMWRITE_JPEG_QUALITY, 80))[1].tobytes()


def _with_boxes(image: NDArray[np.uint8], label: Mapping[str, Any], names: Mapping[int, str]) -> NDArray[np.uint8]:
    annotator = Annotator(np.ascontiguousarray(image), line_width=1)
    boxes = xywhn2xyxy(label["bboxes"], image.shape[1], image.shape[0])
    for c, box in zip(label["cls"].ravel().astype(int).tolist(), boxes, strict=True):
        text = str(names.get(c, c)) if len(boxes) <= 10 else ""
        annotator.box_label(box, text, colors(c, bgr=True))
    return annotator.result()
