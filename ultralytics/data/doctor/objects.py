"""Findings about boxes that are well formed but suspicious.

Shapes: n objects of one image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ultralytics.data.doctor.finding import Finding, FindingRule, finding
from ultralytics.data.doctor.quick_checks import check_labels, count_repeated
from ultralytics.data.doctor.survey import Survey
from ultralytics.data.types import LabelDict
from ultralytics.utils.metrics.iou import pairwise_iou
from ultralytics.utils.ops import xywh2xyxy

COVERING = 0.98  # of both sides of the image
THIN = 40.0  # ratio of the sides in pixels
OVERLAP = 0.9  # IoU of two boxes of one class that may be one object
_PAIRWISE = 1000  # objects of an image up to which all pairs are compared

_Boxes = NDArray[np.float32]

_RULES: Mapping[str, FindingRule] = {
    "covering": FindingRule(
        "warning", "box(es) that cover the whole image", "right for close-ups only; else redraw them"
    ),
    "thin": FindingRule(
        "warning", f"box(es) more than {THIN:g} times as long as wide", "redraw them, or split the object"
    ),
    "overlap": FindingRule("warning", "box(es) that nearly equal another of their class", "keep one of them"),
}


def check_objects(survey: Survey, queries: int, imgsz: int) -> list[Finding]:
    """Return findings about the boxes of a split that could be read."""
    findings = check_labels(survey.labels, survey.split, queries, imgsz)
    checks: Mapping[str, Callable[[LabelDict], int]] = {
        "covering": lambda d: int((d["bboxes"][:, 2:] >= COVERING).all(1).sum()),
        "thin": _thin,
        "overlap": lambda d: (
            count_overlapping(d["bboxes"], d["cls"]) - count_repeated(np.concatenate([d["bboxes"], d["cls"]], 1))
        ),
    }
    for code, count in checks.items():
        counted = [(d["im_file"], count(d)) for d in survey.labels if len(d["bboxes"])]
        places = [f"{file}: {n} box(es)" for file, n in counted if n > 0]
        if places:
            findings.append(finding(code, _RULES[code], places, survey.split, sum(n for _, n in counted if n > 0)))
    return findings


def _thin(label: LabelDict) -> int:
    h, w = label["shape"]
    sides = label["bboxes"][:, 2:] * (w, h)
    return int((sides.max(1) > THIN * np.maximum(sides.min(1), 1.0)).sum())


def count_overlapping(boxes: _Boxes, cls: NDArray[Any]) -> int:
    """Return how many of n boxes xywh (n, 4) overlap an earlier one of their class (n, 1) almost wholly."""
    n = len(boxes)
    if not 1 < n <= _PAIRWISE:
        return 0
    corners = np.asarray(xywh2xyxy(boxes.astype(np.float64)), np.float64)
    same = (pairwise_iou(corners, corners) > OVERLAP) & (cls == cls.T)
    return int(np.triu(same, 1).any(0).sum())
