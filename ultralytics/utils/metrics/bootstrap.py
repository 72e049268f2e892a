"""How far COCO's numbers would move on other images of the same kind: the bootstrap over images (Efron 1979).

A replicate draws as many images as there are, with replacement. Matching is per image, so it is done once; a replicate
only weighs each image by how often it was drawn, and precision and recall are sums of these weights. That gives exactly
what the metrics would be on the drawn list. Two models on the same images and seed see the same draws, so the
differences of their replicates are paired.

Shapes: R replicates, I images, n detections of one class, U those of them that ever match, A sizes, T thresholds,
nc classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ultralytics.utils.errors import ConfigError
from ultralytics.utils.metrics.coco import (
    AREA_RANGES,
    IOU_THRESHOLDS,
    MAX_DETS,
    RECALLS,
    STAT_NAMES,
    CocoImage,
    CocoTargets,
    by_id,
    collect,
    match,
    within,
)
from ultralytics.utils.torch_tools.arrays import BoolArray, Float64Array, IntArray

SAMPLES = 1000
LEVEL = 0.95
_CHUNK = 2_000_000  # numbers of an array with a row for each replicate; bounds the memory


class Interval(NamedTuple):
    """A number with the ends of its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Bootstrap:
    """Replicates of COCO's numbers; NaN where a replicate has no target to measure.

    `stats` (R, 12) in the order of `STAT_NAMES`, `class_ap` (R, nc) AP of the classes in `classes` (nc,).
    """

    stats: Float64Array
    class_ap: Float64Array
    classes: IntArray

    def interval(self, name: str, value: float, level: float = LEVEL) -> Interval:
        """Return the percentile interval of one of the 12 numbers around its value on all images."""
        return percentile_interval(self.stats[:, STAT_NAMES.index(name)], value, level)

    def class_interval(self, class_id: int, value: float, level: float = LEVEL) -> Interval:
        """Return the percentile interval of the AP of one class."""
        column = int(np.searchsorted(self.classes, class_id))
        return percentile_interval(self.class_ap[:, column], value, level)

    def difference(self, other: Bootstrap, name: str, value: float, level: float = LEVEL) -> Interval:
        """Return the interval of `self` minus `other`, replicate by replicate, around the difference `value`.

        Raises:
            ConfigError: the two have different draws.
        """
        if self.stats.shape != other.stats.shape:
            raise ConfigError(f"{len(self.stats)} and {len(other.stats)} replicates cannot be paired")
        column = STAT_NAMES.index(name)
        return percentile_interval(self.stats[:, column] - other.stats[:, column], value, level)


def percentile_interval(values: Float64Array, value: float, level: float = LEVEL) -> Interval:
    """Return `value` with the percentiles that leave (1 - level) / 2 of the defined `values` on each side.

    >>> percentile_interval(np.arange(5.0), 2.0, level=0.5)
    Interval(value=2.0, low=1.0, high=3.0)
    """
    defined = values[~np.isnan(values)]
    if not len(defined):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.percentile(defined, [50 * (1 - level), 50 * (1 + level)])
    return Interval(value, float(low), float(high))


def draw_weights(images: int, samples: int = SAMPLES, seed: int = 0) -> IntArray:
    """Return (R, I): how often each image is in each replicate."""
    return np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=samples).astype(np.int64)


def bootstrap_coco(
    images: Sequence[CocoImage], samples: int = SAMPLES, seed: int = 0, weights: IntArray | None = None
) -> Bootstrap:
    """Return `samples` replicates of COCO's numbers on resampled images; `weights` (R, I) replace the random draws.

    Raises:
        ConfigError: there is no image, or no replicate is asked for.
    """
    if not images or samples < 1:
        raise ConfigError(f"a bootstrap needs images and samples, got {len(images)} and {samples}")
    weights = draw_weights(len(images), samples, seed) if weights is None else weights
    dets, targets, pairs = collect(by_id(images))
    matched, ignored = match(dets, targets, pairs)
    classes = np.unique(np.concatenate([targets.classes, dets.classes]))
    shape = (len(weights), len(classes), len(AREA_RANGES), len(IOU_THRESHOLDS))
    ap, recall = np.full(shape, np.nan), np.full((*shape, len(MAX_DETS)), np.nan)
    order = np.argsort(-dets.scores, kind="stable")
    for k, c in enumerate(classes):
        members = order[dets.classes[order] == c]
        detections = _Class(
            dets.image[members], dets.rank[members], dets.outside[members], matched[members], ignored[members]
        )
        positives = _positives_by_image(targets, int(c), len(images))
        step = max(1, _CHUNK // max(1, len(members), 10 * int(detections.ever.sum())))
        for low in range(0, len(weights), step):
            part = slice(low, low + step)
            ap[part, k], recall[part, k] = _replicates(detections, weights[part].astype(np.float64), positives)
    return Bootstrap(_summaries(ap, recall), ap[:, :, 0].mean(-1), classes)


class _Class:
    """Detections of one class in falling score."""

    def __init__(
        self, image: IntArray, rank: IntArray, outside: BoolArray, matched: BoolArray, ignored: BoolArray
    ) -> None:
        self.image, self.outside = image, outside
        self.ever = matched.any((1, 2))  # (n,)
        matching = np.flatnonzero(self.ever)
        counts = ~ignored[matching]
        self.rank, self.tp, self.counts = (
            rank[matching],
            matched[matching] & counts,
            counts,
        )  # (U,), (U, A, T), (U, A, T)


def _positives_by_image(targets: CocoTargets, c: int, images: int) -> Float64Array:
    """Return (I, A): targets of class `c` that count, by image and size."""
    members = targets.classes == c
    out = np.zeros((images, len(AREA_RANGES)))
    np.add.at(out, targets.image[members], ~targets.ignore[members])
    return out


def _replicates(
    detections: _Class, weights: Float64Array, positives: Float64Array
) -> tuple[Float64Array, Float64Array]:
    """Return AP (R, A, T) and recall (R, A, T, limits) of one class for the image weights (R, I)."""
    total = weights @ positives  # (R, A)
    drawn = weights[:, detections.image]  # (R, n)
    hits = drawn[:, detections.ever]  # (R, U)
    shape = (len(weights), len(AREA_RANGES), len(IOU_THRESHOLDS))
    ap, recall = np.zeros(shape), np.zeros((*shape, len(MAX_DETS)))
    for a in range(len(AREA_RANGES)):
        # What never matches is a false positive at every threshold, unless its own area is outside the range.
        plain = drawn * (~detections.ever & ~detections.outside[:, a])
        before = plain.cumsum(1)[:, detections.ever]  # (R, U)
        for t in range(len(IOU_THRESHOLDS)):
            tp = hits * detections.tp[:, a, t]
            seen = (hits * detections.counts[:, a, t]).cumsum(1) + before
            ap[:, a, t] = _average_precision(tp.cumsum(1), seen, total[:, a])
            for m in range(len(MAX_DETS)):
                recall[:, a, t, m] = tp[:, within(detections.rank, m)].sum(1) / np.maximum(total[:, a], 1)
    undefined = total == 0
    ap[undefined], recall[undefined] = np.nan, np.nan
    return ap, recall


def _average_precision(hits: Float64Array, seen: Float64Array, total: Float64Array) -> Float64Array:
    """Return (R,) the mean precision at 101 recalls, from cumulated hits and counts (R, U) and targets (R,).

    The precision at a recall is the highest from there on, so that only positions with a match count.
    """
    if not hits.shape[1]:
        return np.zeros(len(hits))
    precision = hits / np.maximum(seen, 1)
    envelope = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
    reached = np.searchsorted(RECALLS, hits / np.maximum(total, 1)[:, None], side="right")  # recall points up to here
    points = np.diff(reached, axis=1, prepend=0)
    return np.einsum("ru,ru->r", envelope, points) / len(RECALLS)


def _summaries(ap: Float64Array, recall: Float64Array) -> Float64Array:
    """Return (R, 12) from AP (R, nc, A, T) and recall (R, nc, A, T, limits), means over what is defined."""
    precisions = [ap[:, :, 0], ap[:, :, 0, :1], ap[:, :, 0, 5:6], ap[:, :, 1], ap[:, :, 2], ap[:, :, 3]]
    recalls = [recall[:, :, 0, :, 0], recall[:, :, 0, :, 1], *(recall[:, :, a, :, 2] for a in range(len(AREA_RANGES)))]
    out = np.full((len(ap), len(STAT_NAMES)), np.nan)
    for i, values in enumerate((*precisions, *recalls)):
        flat = values.reshape(len(values), -1)
        defined = ~np.isnan(flat)
        count = defined.sum(1)
        total = np.where(defined, flat, 0).sum(1)
        np.divide(total, count, out=out[:, i], where=count > 0)
    return out
