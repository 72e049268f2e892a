"""The rows that an evaluation compares with, kept in step with labels that a custom data set changes.

Shapes: n objects of one image.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ultralytics.data.labels.table import LabelTable, Ragged
from ultralytics.data.types import LabelDict
from ultralytics.utils.instance import Instances
from ultralytics.utils.torch_tools.arrays import Float64Array


def snapshot(table: LabelTable) -> LabelTable:
    """Return a table whose classes and boxes stay what they are when the caller writes into those of `table`."""
    cls, bboxes = (Ragged(rows.values.copy(), rows.counts) for rows in (table.cls, table.bboxes))
    return replace(table, cls=cls, bboxes=bboxes)


def follow_labels(table: LabelTable, scan: LabelTable) -> LabelTable:
    """Return `table` with the `truth` of the scan only for images whose classes and boxes are still those of the scan.

    The others are compared with their labels: areas and crowds in the file belong to other objects.
    """
    if table.truth is None:
        return table
    index = {file: i for i, file in enumerate(scan.im_files)}
    rows = [
        table.truth[i] if _is_same(table, i, scan, index.get(file, -1)) else truth_of(table[i])
        for i, file in enumerate(table.im_files)
    ]
    return replace(table, truth=Ragged.from_parts(rows, table.truth.values[:0]))


def _is_same(table: LabelTable, i: int, scan: LabelTable, j: int) -> bool:
    return j >= 0 and np.array_equal(table.cls[i], scan.cls[j]) and np.array_equal(table.bboxes[i], scan.bboxes[j])


def truth_of(label: LabelDict) -> Float64Array:
    """Return the labels of an image as rows of `TRUTH_COLUMNS` (n, 8): no crowds, areas of the boxes."""
    h, w = label["shape"]
    boxes = Instances(label["bboxes"], [], label["bbox_format"], label["normalized"])
    boxes.convert_bbox("xyxy")
    boxes.denormalize(w, h)
    n, corners = len(boxes), boxes.bboxes.astype(np.float64)
    area = (corners[:, 2:] - corners[:, :2]).prod(1, keepdims=True)
    rest = np.stack([np.zeros(n), np.arange(n)], 1)
    return np.concatenate([label["cls"].astype(np.float64), corners, area, rest], 1)
