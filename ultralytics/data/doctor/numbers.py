"""The numbers of a data set: counts, sizes against strides and queries, and an input size that fits its objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ultralytics.data.doctor.files import class_counts
from ultralytics.data.doctor.survey import Survey

STRIDES = (8, 16, 32)
ENOUGH = 2 * STRIDES[0]  # pixels that a box needs on its shorter side to be seen well
SMALL_PART = 0.05  # of the boxes that may stay below
IMGSZ_CHOICES = tuple(range(320, 1281, 64))
_PERCENTILES = (5, 25, 50, 75, 95)


def numbers(survey: Survey, names: Mapping[int, str], queries: int, imgsz: int) -> dict[str, Any]:
    """Return the statistics of a split as plain values.

    `side_px` are percentiles of the boxes' shorter side in pixels of an input of `imgsz`; `by_stride` is the part of
    the boxes whose shorter side lies below one cell of each stride; `width` and `height` are those of the images.
    """
    sides = short_sides(survey) * imgsz
    counts = np.array([len(d["cls"]) for d in survey.labels] or [0])
    shapes = np.array([d["shape"] for d in survey.labels] or [(0, 0)])
    return {
        "images": len(survey.im_files),
        "usable": len(survey.labels),
        "counts": dict(survey.scan.counts),
        "objects": int(counts.sum()),
        "objects_per_image": {"mean": round(float(counts.mean()), 3), "max": int(counts.max()), "queries": queries},
        "classes": {str(names[i]): n for i, n in enumerate(class_counts(survey, len(names)))},
        "side_px": _percentiles(sides),
        "by_stride": {str(s): round(float((sides < s).mean()), 4) if len(sides) else 0.0 for s in STRIDES},
        "width": _percentiles(shapes[:, 1]),
        "height": _percentiles(shapes[:, 0]),
    }


def _percentiles(values: NDArray[Any]) -> dict[str, float]:
    if not len(values):
        return {}
    return {f"p{p}": round(float(v), 2) for p, v in zip(_PERCENTILES, np.percentile(values, _PERCENTILES), strict=True)}


def short_sides(survey: Survey) -> NDArray[np.float32]:
    """Return the shorter side of every box as a part of the (stretched) image."""
    parts = [d["bboxes"][:, 2:].min(1) for d in survey.labels if len(d["bboxes"])]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def suggest_imgsz(surveys: Sequence[Survey]) -> tuple[int, str]:
    """Return an input size for the training objects, with the reason.

    The smallest size at which all but 5 % of the boxes span at least two cells of the finest stride (16 px) on their
    shorter side; not above what the images themselves hold, since enlarging adds no detail.
    """
    train = next((s for s in surveys if s.split == "train"), None)
    sides = short_sides(train) if train else np.zeros(0, np.float32)
    if train is None or not len(sides):
        return 640, "no boxes to go by"
    small = float(np.quantile(sides, SMALL_PART))
    need = ENOUGH / max(small, 1e-6)
    side = float(np.median([max(d["shape"]) for d in train.labels]))
    ceiling = next((s for s in IMGSZ_CHOICES if s >= side), IMGSZ_CHOICES[-1])
    size = min(next((s for s in IMGSZ_CHOICES if s >= need), IMGSZ_CHOICES[-1]), ceiling)
    part = float((sides * size >= ENOUGH).mean())
    return size, f"{part:.0%} of the boxes are {ENOUGH} px or more there; the images have {side:.0f} px (median)"
