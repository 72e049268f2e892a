"""What keeps the AP down: six kinds of errors and what each costs (Bolya et al., "TIDE", ECCV 2020, sections 2.1-2.3).

Detections and targets are matched as COCO does at IoU 0.5. A false positive is, by its largest overlaps with
targets of the image: a localisation error (own class, IoU 0.1 to 0.5), else a classification error (another class,
at least 0.5), else a duplicate (own class, at least 0.5, the target has a better detection), else background (below
0.1 with all), else both (another class, 0.1 to 0.5). An unmatched target is missed when no localisation or
classification error points at it. The cost of a kind is the rise of AP50 when an oracle corrects that kind alone: a
wrong class or box is made right, unless the target is found already; the other false positives are left out; missed
targets are not counted.

Shapes: D detections and N targets of the data set, d and n of an image, nc classes. Boxes are xyxy in pixels of the
original image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ultralytics.utils.metrics.coco import (
    AREA_RANGES,
    CocoImage,
    by_id,
    precision_at_recalls,
    rank_in_class,
)
from ultralytics.utils.metrics.iou import pairwise_iou
from ultralytics.utils.torch_tools.arrays import BoolArray, Float64Array, IntArray

IOU_FOREGROUND, IOU_BACKGROUND = 0.5, 0.1
TRUE_POSITIVE, CLS, LOC, BOTH, DUPE, BKG = range(6)
ERROR_KINDS = ("classification", "localisation", "both", "duplicate", "background", "missed")
"""Names of the kinds; those of false positives have the numbers 1 to 5."""
MISSED = 6
SIZES = ("small", "medium", "large")


class Found(NamedTuple):
    """All detections that count: `kind` 0 for a right one, `target` the place among all targets that it is about (-1:
    none), `size` 0 to 2 that of this target, of a background error its own."""

    image: IntArray  # (D,)
    scores: Float64Array  # (D,)
    classes: IntArray  # (D,)
    kind: IntArray  # (D,)
    target: IntArray  # (D,)
    size: IntArray  # (D,)
    boxes: Float64Array  # (D, 4)


class Wanted(NamedTuple):
    """All targets without crowds; `finder` is the place of the matching detection (-1: none)."""

    image: IntArray  # (N,)
    classes: IntArray  # (N,)
    size: IntArray  # (N,)
    finder: IntArray  # (N,)
    missed: BoolArray  # (N,)


class Points(NamedTuple):
    """What AP is computed from: scores, classes and hits of detections, and the classes of the targets that count."""

    scores: Float64Array
    classes: IntArray
    hits: BoolArray
    targets: IntArray


class _SortedClass(NamedTuple):
    """A class: hits and images of its detections, the best score first; images of lost targets; number of targets."""

    hits: BoolArray
    image: IntArray
    lost: IntArray
    positives: int


_INT, _BOOL = np.zeros(0, np.int64), np.zeros(0, bool)
_NO_FOUND = Found(_INT, np.zeros(0), _INT, _INT, _INT, _INT, np.zeros((0, 4)))
_NO_WANTED = Wanted(_INT, _INT, _INT, _INT, _BOOL)


@dataclass(frozen=True)
class ErrorAnalysis:
    """Kinds of all errors. `ap` (nc,) is AP50 of the classes in `classes` (nc,)."""

    found: Found
    wanted: Wanted
    classes: IntArray
    ap: Float64Array

    def count(self, kind: int) -> int:
        """Number of errors of a kind, 1 to 6."""
        return int(self.wanted.missed.sum()) if kind == MISSED else int((self.found.kind == kind).sum())

    def cost(self, kind: int) -> Float64Array:
        """Rise of AP50 (nc,) of each class when the errors of a kind, 1 to 6, are corrected alone.

        NaN where nothing of a class is left to measure.
        """
        return class_aps(corrected(self.found, self.wanted, kind), self.classes) - self.ap

    def mean_cost(self, kind: int) -> float:
        """Rise of the mean AP50."""
        return self._rise(corrected(self.found, self.wanted, kind))

    def false_positives(self) -> float:
        """Rise of the mean AP50 without any false positive."""
        right = self.found.kind == TRUE_POSITIVE
        return self._rise(_points(self.found, self.wanted, right))

    def false_negatives(self) -> float:
        """Rise of the mean AP50 when targets that are not found are not counted."""
        points = _points(self.found, self.wanted, np.ones(len(self.found.scores), bool))
        return self._rise(points._replace(targets=self.wanted.classes[self.wanted.finder >= 0]))

    def _rise(self, points: Points) -> float:
        """Rise of the mean over the classes that have something to measure."""
        after = class_aps(points, self.classes)
        after = after[~np.isnan(after)]
        return float(after.mean() - self.ap.mean()) if len(after) else 0.0

    def of_size(self, size: int) -> ErrorAnalysis:
        """Return the analysis of targets of one size (0 small, 1 medium, 2 large) and the errors about them."""
        keep, wanted = self.found.size == size, self.wanted.size == size
        place = np.cumsum(wanted) - 1  # of a kept target among the kept ones
        finder = np.where(self.wanted.finder >= 0, np.cumsum(keep)[self.wanted.finder] - 1, -1)
        found = Found(*(column[keep] for column in self.found))
        found = found._replace(target=np.where(found.target >= 0, place[found.target], -1))
        targets = self.wanted._replace(finder=finder)
        return _analysis(found, Wanted(*(column[wanted] for column in targets)))

    def image_losses(self, most: int = 500) -> dict[int, float]:
        """Return by place of an image how much its errors lower the mean AP50, the largest loss first.

        That is the rise when its false positives are left out and its unmatched targets found with the best score.
        At most the `most` images with the largest number of errors are looked at.
        """
        missing = self.wanted.finder < 0
        wrong = np.bincount(self.found.image[self.found.kind != TRUE_POSITIVE], minlength=1)
        lost = np.bincount(self.wanted.image[missing], minlength=1)
        errors = np.zeros(max(len(wrong), len(lost)), np.int64)
        errors[: len(wrong)] += np.minimum(wrong, 1)
        errors[: len(lost)] += lost * 1000
        order = [int(i) for i in np.argsort(-errors, kind="stable") if errors[i]][:most]
        sorted_by_class = {int(c): self._sorted_class(int(c)) for c in self.classes}
        losses = {i: self._loss_of(i, sorted_by_class) for i in order}
        return dict(sorted(losses.items(), key=lambda pair: -pair[1]))

    def _sorted_class(self, c: int) -> _SortedClass:
        """The detections of a class, the best score first, and the images of its targets that are not found."""
        members = np.flatnonzero(self.found.classes == c)
        members = members[np.argsort(-self.found.scores[members], kind="stable")]
        own = self.wanted.classes == c
        lost = self.wanted.image[own & (self.wanted.finder < 0)]
        hits = self.found.kind[members] == TRUE_POSITIVE
        return _SortedClass(hits, self.found.image[members], lost, int(own.sum()))

    def _loss_of(self, image: int, sorted_by_class: Mapping[int, _SortedClass]) -> float:
        """Rise of the mean AP50 when one image has no error; only its classes are computed again."""
        rise = 0.0
        for before, part in zip(self.ap, sorted_by_class.values(), strict=True):
            wrong, lost = (part.image == image) & ~part.hits, int((part.lost == image).sum())
            if lost or wrong.any():
                hits = np.concatenate([np.ones(lost, bool), part.hits[~wrong]])
                rise += _ap_of(hits, part.positives) - float(before)
        return rise / max(len(self.classes), 1)


def analyse_errors(images: Sequence[CocoImage]) -> ErrorAnalysis:
    """Return the kind of every error of the detections.

    >>> box = np.array([[0.0, 0.0, 50.0, 50.0]])
    >>> image = CocoImage(box + [0, 0, 90, 0], np.array([0.9]), np.zeros(1), box, np.zeros(1))
    >>> [analyse_errors([image]).count(kind) for kind in range(1, 7)]
    [0, 1, 0, 0, 0, 0]
    """
    found, wanted = [_NO_FOUND], [_NO_WANTED]
    dets = targets = 0
    for place, image in enumerate(by_id(images)):
        part, truth = _analyse_image(image, place)
        found.append(part._replace(target=np.where(part.target >= 0, part.target + targets, -1)))
        wanted.append(truth._replace(finder=np.where(truth.finder >= 0, truth.finder + dets, -1)))
        dets, targets = dets + len(part.scores), targets + len(truth.classes)
    columns = [np.concatenate(parts) for parts in zip(*found, strict=True)]
    return _analysis(Found(*columns), Wanted(*[np.concatenate(parts) for parts in zip(*wanted, strict=True)]))


def _analysis(found: Found, wanted: Wanted) -> ErrorAnalysis:
    classes = np.unique(wanted.classes)
    points = _points(found, wanted, np.ones(len(found.scores), bool))
    return ErrorAnalysis(found, wanted, classes, class_aps(points, classes))


def _analyse_image(image: CocoImage, place: int) -> tuple[Found, Wanted]:
    """Match one image and classify its false positives; places are those within the image."""
    boxes, scores, classes = _best(image)
    crowd = np.zeros(len(image.target_classes), bool) if image.crowd is None else np.asarray(image.crowd, bool)
    every = np.asarray(image.target_boxes, np.float64).reshape(-1, 4)
    truth, target_classes = every[~crowd], np.asarray(image.target_classes).astype(np.int64)
    iou = pairwise_iou(boxes, truth)  # (d, n)
    own = classes[:, None] == target_classes[~crowd]
    finder = _match(iou, own)
    kind, target = _kinds(iou, own, finder)
    in_crowd = _in_crowd(boxes, classes, every[crowd], target_classes[crowd]) & (kind != TRUE_POSITIVE)
    areas = (every[:, 2:] - every[:, :2]).prod(1) if image.areas is None else np.asarray(image.areas, np.float64)
    sizes, own_size = _size_of(areas[~crowd]), _size_of((boxes[:, 2:] - boxes[:, :2]).prod(1))
    size = np.where(target >= 0, sizes[target] if len(sizes) else 0, own_size)
    pointed = np.isin(np.arange(len(truth)), target[np.isin(kind, (CLS, LOC)) & ~in_crowd])
    place_of = np.cumsum(~in_crowd) - 1
    columns = (np.full(len(scores), place), scores, classes, kind, target, size, boxes)
    found = Found(*(column[~in_crowd] for column in columns))
    moved = np.where(finder >= 0, place_of[finder] if len(scores) else -1, -1)
    missed = (finder < 0) & ~pointed
    return found, Wanted(np.full(len(truth), place), target_classes[~crowd], sizes, moved, missed)


def _best(image: CocoImage) -> tuple[Float64Array, Float64Array, IntArray]:
    """The detections that count (the best 100) of each class, the best score first."""
    scores = np.asarray(image.scores, np.float64)
    classes = np.asarray(image.classes).astype(np.int64)
    by_class, rank = rank_in_class(scores, classes)
    kept = np.zeros(len(scores), bool)
    kept[by_class[rank < image.max_dets]] = True
    order = np.argsort(-scores, kind="stable")
    order = order[kept[order]]
    return np.asarray(image.boxes, np.float64).reshape(-1, 4)[order], scores[order], classes[order]


def _match(iou: Float64Array, own: BoolArray) -> IntArray:
    """Return the detection (-1: none) of each target (n,): in falling score each takes the free one it covers best."""
    finder = np.full(iou.shape[1], -1, np.int64)
    for i in np.flatnonzero((own & (iou >= IOU_FOREGROUND)).any(1)) if iou.size else ():
        free = np.where(own[i] & (finder < 0), iou[i], -1.0)
        best = int(free.argmax())
        if free[best] >= IOU_FOREGROUND:
            finder[best] = i
    return finder


def _kinds(iou: Float64Array, own: BoolArray, finder: IntArray) -> tuple[IntArray, IntArray]:
    """Return kind and target (-1: none) of each detection (d,)."""
    count = len(iou)
    kind, target = np.full(count, BKG, np.int64), np.full(count, -1, np.int64)
    if iou.shape[1]:
        same, other = np.where(own, iou, -1.0), np.where(own, -1.0, iou)
        high_same, high_other = same.max(1), other.max(1)
        rules = (
            (BOTH, (high_other >= IOU_BACKGROUND) & (high_other < IOU_FOREGROUND), other),
            (DUPE, high_same >= IOU_FOREGROUND, same),
            (CLS, high_other >= IOU_FOREGROUND, other),
            (LOC, (high_same >= IOU_BACKGROUND) & (high_same < IOU_FOREGROUND), same),
        )
        for number, holds, overlap in rules:  # a later rule wins
            kind[holds], target[holds] = number, overlap[holds].argmax(1)
    matched = finder >= 0
    kind[finder[matched]], target[finder[matched]] = TRUE_POSITIVE, np.flatnonzero(matched)
    return kind, target


def _in_crowd(boxes: Float64Array, classes: IntArray, crowds: Float64Array, crowd_classes: IntArray) -> BoolArray:
    """Whether at least half of a detection lies in a crowd of its class: it then counts for nothing."""
    covered = pairwise_iou(boxes, crowds, np.ones(len(crowds), bool))
    inside = (covered >= IOU_FOREGROUND) & (classes[:, None] == crowd_classes)
    return np.asarray(inside.any(1), bool)


def _size_of(areas: Float64Array) -> IntArray:
    """Return 0 small, 1 medium, 2 large."""
    return np.searchsorted(AREA_RANGES[1:3, 1], areas, side="left").astype(np.int64)


def _points(found: Found, wanted: Wanted, keep: BoolArray) -> Points:
    return Points(found.scores[keep], found.classes[keep], found.kind[keep] == TRUE_POSITIVE, wanted.classes)


def corrected(found: Found, wanted: Wanted, kind: int) -> Points:
    """Return what AP is computed from when the errors of one kind are corrected.

    A target that is not found is found by the best of the classification and localisation errors about it; the others
    of these two kinds are left out when their kind is corrected.
    """
    if kind == MISSED:
        points = _points(found, wanted, np.ones(len(found.scores), bool))
        return points._replace(targets=wanted.classes[~wanted.missed])
    wrong = found.kind == kind
    if kind not in (CLS, LOC):
        return _points(found, wanted, ~wrong)
    stays = ~wrong | (wrong & _corrects(found, wanted))
    classes, hits = found.classes.copy(), found.kind == TRUE_POSITIVE
    classes[wrong], hits[wrong] = wanted.classes[found.target[wrong]], True
    return Points(found.scores[stays], classes[stays], hits[stays], wanted.classes)


def _corrects(found: Found, wanted: Wanted) -> BoolArray:
    """Whether a detection (D,) is the best one with a wrong class or box about a target that is not found."""
    rivals = np.flatnonzero(np.isin(found.kind, (CLS, LOC)))
    rivals = rivals[wanted.finder[found.target[rivals]] < 0]
    order = rivals[np.argsort(-found.scores[rivals], kind="stable")]
    _, first = np.unique(found.target[order], return_index=True)
    out = np.zeros(len(found.scores), bool)
    out[order[first]] = True
    return out


def class_aps(points: Points, classes: IntArray) -> Float64Array:
    """Return the mean precision at 101 recalls (nc,) of each class; NaN without targets and detections."""
    order = np.argsort(-points.scores, kind="stable")
    hits, of = points.hits[order], points.classes[order]
    return np.array([_ap_of(hits[of == c], int((points.targets == c).sum())) for c in classes], np.float64)


def _ap_of(hits: BoolArray, positives: int) -> float:
    """Mean precision at 101 recalls of detections (n,) in falling score; NaN without targets and detections."""
    if not positives:
        return 0.0 if len(hits) else float("nan")
    if not len(hits):
        return 0.0
    return float(precision_at_recalls(hits[:, None], ~hits[:, None], positives).mean())
