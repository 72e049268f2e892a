"""Weighted boxes fusion for the views of one image: its tiles, and the whole of it.

After Solovyev et al. 2021 (arXiv 1910.13302), section 3, with what tiles need beyond an ensemble of models: a box that
ends at an inner edge of its tile is cut there, so that edge says nothing about the object. Shapes: n boxes, k clusters.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]

MATCH_IOU = 0.55
"""Boxes of two views with a larger IoU are one object: the threshold of the paper."""


class ViewBoxes(NamedTuple):
    """The boxes of all views of an image: `boxes` (n, 4) xyxy in px of the image, `scores` (n,), `classes` (n,).

    `views` (n,) has the number of the view that each comes from; `cut` (n, 4) bool, whether its left, upper, right and
    lower side lies on an edge of the view beyond which the image continues.
    """

    boxes: Floats
    scores: Floats
    classes: Integers
    views: Integers
    cut: Flags


class Fused(NamedTuple):
    """What is left of the boxes of all views, best first: `boxes` (k, 4), `scores` (k,), `classes` (k,)."""

    boxes: Floats
    scores: Floats
    classes: Integers


def cut_sides(boxes: Floats, view: tuple[float, ...], inner: tuple[bool, ...], margin: float) -> Flags:
    """Return which sides (n, 4) of boxes xyxy lie within `margin` px of an edge of their view inside the image.

    `view` is the view's rectangle xyxy, `inner` says at which of its edges the image continues.
    """
    near = np.abs(boxes - np.asarray(view, np.float64)) <= margin  # (n, 4)
    return np.asarray(near & np.asarray(inner, bool))


def fuse_boxes(found: ViewBoxes, iou: float = MATCH_IOU) -> Fused:
    """Join the boxes of each class that show one object.

    Boxes are taken in the order of their score. A box joins the cluster of its class
    whose fused box it overlaps most, if by more than `iou`, and if the cluster has no box of the same view yet: the
    boxes of one view are different objects. Where a box is cut, both are compared as far as the view of the box
    reaches, and likewise for the cluster. A side of the fused box is the mean over the members that are not cut there,
    weighted by score; where all are cut, it is the outermost. The score of a cluster is its best: unlike the models
    of an ensemble, views that miss an object may just not show enough of it.
    """
    order = np.argsort(-found.scores, kind="stable")
    parts = [_fuse_class(found, order[found.classes[order] == c], iou) for c in np.unique(found.classes)]
    if not parts:
        return Fused(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))
    boxes, scores, classes = (np.concatenate(part) for part in zip(*parts, strict=True))
    best = np.argsort(-scores, kind="stable")
    return Fused(boxes[best], scores[best], classes[best])


class _Clusters:
    """The clusters of one class, at most `n` of them, in arrays that are filled from the start.

    A mesh of squares of `cell` px lists the clusters near a place, so that a box is compared with few of them.
    """

    def __init__(self, n: int, views: int, cell: float) -> None:
        self.k = 0
        self._cell = cell
        self._near: dict[tuple[int, int], set[int]] = {}
        self.boxes = np.zeros((n, 4))
        self.cut = np.ones((n, 4), bool)  # sides at which all members are cut
        self.scores = np.zeros(n)
        self._sums, self._weights = np.zeros((n, 4)), np.zeros((n, 4))
        self._seen = np.zeros((n, views), bool)

    def match(self, box: Floats, cut: Flags, view: int, iou: float) -> int | None:
        """Return the cluster that a box joins, None where it starts one."""
        near = np.array(sorted(set().union(*(self._near.get(cell, ()) for cell in self._cells(box)))), np.int64)
        near = near[~self._seen[near, view]]
        if not len(near):
            return None
        overlap = common_iou(box, cut, self.boxes[near], self.cut[near])  # (number near,)
        best = int(overlap.argmax())
        return int(near[best]) if overlap[best] > iou else None

    def add(self, i: int | None, box: Floats, score: float, cut: Flags, view: int) -> None:
        """Add a box to cluster `i`, or (None) start one with it."""
        if i is None:
            i, self.k = self.k, self.k + 1
            self.boxes[i] = box
        weight = score * ~cut
        self._weights[i] += weight
        self._sums[i] += weight * box
        self._seen[i, view] = True
        self.scores[i] = max(self.scores[i], score)
        outermost = np.concatenate([np.minimum(self.boxes[i, :2], box[:2]), np.maximum(self.boxes[i, 2:], box[2:])])
        self.cut[i] &= cut
        mean = self._sums[i] / np.where(self._weights[i] > 0, self._weights[i], 1.0)
        self.boxes[i] = np.where(self._weights[i] > 0, mean, outermost)
        for cell in self._cells(self.boxes[i]):
            self._near.setdefault(cell, set()).add(i)

    def _cells(self, box: Floats) -> Iterable[tuple[int, int]]:
        """Return the squares of the mesh that a box touches."""
        x1, y1, x2, y2 = (int(v // self._cell) for v in box)
        return product(range(x1, x2 + 1), range(y1, y2 + 1))


def _fuse_class(found: ViewBoxes, order: Integers, iou: float) -> Fused:
    """Return the clusters of the boxes `order`, all of one class, in no particular order."""
    sides = found.boxes[order, 2:] - found.boxes[order, :2]
    clusters = _Clusters(len(order), int(found.views.max()) + 1, max(2.0 * float(np.median(sides)), 16.0))
    for i in order:
        box, cut, view = found.boxes[i], found.cut[i], int(found.views[i])
        clusters.add(clusters.match(box, cut, view, iou), box, float(found.scores[i]), cut, view)
    k = clusters.k
    return Fused(clusters.boxes[:k], clusters.scores[:k], np.full(k, found.classes[order[0]]))


def common_iou(box: Floats, cut: Flags, others: Floats, others_cut: Flags) -> Any:
    """Return the IoU (k,) of a box (4,) with others (k, 4), each limited to where the other is not cut.

    `cut` (4,) and `others_cut` (k, 4) say at which sides the boxes are cut.
    """
    mine = _limited(box[None], others, others_cut)  # (k, 4)
    theirs = _limited(others, box[None], cut[None])  # (k, 4)
    low, high = np.maximum(mine[:, :2], theirs[:, :2]), np.minimum(mine[:, 2:], theirs[:, 2:])
    inter = np.maximum(high - low, 0.0).prod(1)
    union = _area(mine) + _area(theirs) - inter
    return inter / np.maximum(union, 1e-9)


def _limited(boxes: Floats, limits: Floats, where: Flags) -> Floats:
    """Return boxes that do not reach beyond those sides of `limits` that `where` names."""
    low = np.where(where[:, :2], np.maximum(boxes[:, :2], limits[:, :2]), boxes[:, :2])
    high = np.where(where[:, 2:], np.minimum(boxes[:, 2:], limits[:, 2:]), boxes[:, 2:])
    return np.concatenate([low, high], 1)


def _area(boxes: Floats) -> Floats:
    """Return the areas (k,) of boxes (k, 4); 0 where a side is negative."""
    return np.asarray(np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0).prod(1))
