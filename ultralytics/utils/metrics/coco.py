"""COCO's detection metrics: AP and AR at 101 recall points, three sizes and three limits on detections per image.

The definitions are those of the COCO evaluation page (cocodataset.org, "Detection Evaluation") and the numbers equal
pycocotools'. Everything is computed on flat arrays over the whole data set: the greedy matching takes one step per
*rank* of a detection within its image and class, for all images, classes, sizes and thresholds at once.

Shapes: D detections and N targets of the data set, P overlapping pairs of them, A size ranges (all, small, medium,
large), T IoU thresholds, nc classes. Boxes are xyxy in pixels of the original image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ultralytics.utils.metrics.iou import pairwise_iou
from ultralytics.utils.torch_tools.arrays import BoolArray, Float64Array, IntArray

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
AREA_RANGES = np.array([[0, 1e10], [0, 32**2], [32**2, 96**2], [96**2, 1e10]], dtype=np.float64)
MAX_DETS = (1, 10, 100)
STAT_NAMES = (
    "AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large",
    "AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large",
)  # fmt: skip


@dataclass(frozen=True)
class CocoImage:
    """Detections and targets of one image. `areas` (default: of the boxes) decide a target's size, `crowd` marks
    regions that may take any number of detections and count for nothing. Images are taken in the order of `image_id`,
    which decides between equal scores. `max_dets` of a class count: COCO's 100, more for a large image that holds many
    objects."""

    boxes: Float64Array  # (d, 4)
    scores: Float64Array  # (d,)
    classes: Float64Array  # (d,)
    target_boxes: Float64Array  # (g, 4)
    target_classes: Float64Array  # (g,)
    areas: Float64Array | None = None  # (g,)
    crowd: BoolArray | None = None  # (g,)
    image_id: int | str = 0
    max_dets: int = MAX_DETS[-1]


@dataclass(frozen=True)
class CocoResult:
    """`stats` are the 12 numbers of `STAT_NAMES` (-1 where nothing is defined), `ap` and `recall` the values by class,
    size, IoU threshold (and detection limit), `classes` the ids of their first axis."""

    stats: Float64Array  # (12,)
    classes: IntArray  # (nc,)
    ap: Float64Array  # (nc, A, T)
    recall: Float64Array  # (nc, A, T, 3)

    def as_dict(self) -> dict[str, float]:
        """Return the 12 numbers by name."""
        return dict(zip(STAT_NAMES, self.stats.tolist(), strict=True))


class Detections(NamedTuple):
    """Detections that count (the best `max_dets` of each image and class), sorted by image, class and falling score."""

    image: IntArray  # (D,) place of the image in the sorted list
    scores: Float64Array  # (D,)
    classes: IntArray  # (D,)
    rank: IntArray  # (D,) place within image and class
    outside: BoolArray  # (D, A) area is not in the range


class CocoTargets(NamedTuple):
    """All targets in the order of the images."""

    image: IntArray  # (N,) place of the image in the sorted list
    classes: IntArray  # (N,)
    crowd: BoolArray  # (N,)
    ignore: BoolArray  # (N, A) crowd, or area not in the range


class _Pairs(NamedTuple):
    """Detection and target of one image and class that overlap enough for the lowest threshold."""

    det: IntArray  # (P,)
    target: IntArray  # (P,)
    iou: Float64Array  # (P,)


def _outside(areas: Float64Array) -> BoolArray:
    """Return (n, A): the area is not in the size range (both ends belong to it)."""
    return (areas[:, None] < AREA_RANGES[:, 0]) | (areas[:, None] > AREA_RANGES[:, 1])


def _areas(boxes: Float64Array) -> Float64Array:
    """Return width times height of xyxy boxes."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def rank_in_class(scores: Float64Array, classes: IntArray) -> tuple[IntArray, IntArray]:
    """Return (order, rank): sorted by class and falling score, the place of each within its class."""
    order = np.lexsort((-scores, classes))
    ordered = classes[order]
    first = np.searchsorted(ordered, ordered, side="left")
    return order, np.arange(len(order)) - first


def collect(images: Sequence[CocoImage]) -> tuple[Detections, CocoTargets, _Pairs]:
    """Flatten the images: keep the detections that count, and list the pairs that overlap."""
    dets: list[tuple[IntArray, Float64Array, IntArray, IntArray, BoolArray]] = []
    targets: list[tuple[IntArray, IntArray, BoolArray, BoolArray]] = []
    pairs: list[tuple[IntArray, IntArray, Float64Array]] = []
    n_det = n_target = 0
    for place, image in enumerate(images):
        classes = np.asarray(image.classes).astype(np.int64)
        order, rank = rank_in_class(np.asarray(image.scores, dtype=np.float64), classes)
        order, rank = order[rank < image.max_dets], rank[rank < image.max_dets]
        boxes = np.asarray(image.boxes, dtype=np.float64).reshape(-1, 4)[order]
        scores, classes = np.asarray(image.scores, dtype=np.float64)[order], classes[order]
        gt = np.asarray(image.target_boxes, dtype=np.float64).reshape(-1, 4)
        gt_classes = np.asarray(image.target_classes).astype(np.int64)
        crowd = np.zeros(len(gt), dtype=bool) if image.crowd is None else np.asarray(image.crowd, dtype=bool)
        areas = _areas(gt) if image.areas is None else np.asarray(image.areas, dtype=np.float64)
        iou = pairwise_iou(boxes, gt, crowd) * (classes[:, None] == gt_classes)
        # Pairs slightly below the lowest threshold are included: the exact test follows.
        i, j = np.nonzero(iou >= IOU_THRESHOLDS[0] - 1e-9)
        dets.append((np.full(len(scores), place), scores, classes, rank, _outside(_areas(boxes))))
        targets.append((np.full(len(gt), place), gt_classes, crowd, crowd[:, None] | _outside(areas)))
        pairs.append((i + n_det, j + n_target, iou[i, j]))
        n_det, n_target = n_det + len(scores), n_target + len(gt)
    return Detections(*_concat(dets)), CocoTargets(*_concat(targets)), _Pairs(*_concat(pairs))


def _concat(rows: Sequence[tuple[npt.NDArray[Any], ...]]) -> list[npt.NDArray[Any]]:
    """Concatenate tuples of arrays column by column."""
    return [np.concatenate(column) for column in zip(*rows, strict=True)]


def match(dets: Detections, targets: CocoTargets, pairs: _Pairs) -> tuple[BoolArray, BoolArray]:
    """Match greedily and return (matched, ignored), both (D, A, T).

    Within an image and class detections choose in falling score. A detection takes the free target of highest IoU, one
    that counts before one that is ignored, the last of equals; crowds are always free. It is itself ignored when its
    target is, or when it has none and its area is outside the range.
    """
    shape = (len(dets.scores), len(AREA_RANGES), len(IOU_THRESHOLDS))
    matched = np.zeros(shape, dtype=bool)
    ignored = np.broadcast_to(dets.outside[..., None], shape).copy()
    taken = np.zeros((len(targets.classes), *shape[1:]), dtype=bool)
    limits = np.minimum(IOU_THRESHOLDS, 1 - 1e-10)
    by_rank = np.lexsort((pairs.target, pairs.det, dets.rank[pairs.det]))
    det, target, iou = pairs.det[by_rank], pairs.target[by_rank], pairs.iou[by_rank]
    bounds = np.flatnonzero(np.diff(dets.rank[det], prepend=-1, append=-1))
    for low, high in pairwise(bounds.tolist()):  # one rank: at most one detection per image and class
        d, g, overlap = det[low:high], target[low:high], iou[low:high, None, None]
        possible = (overlap >= limits) & (~taken[g] | targets.crowd[g, None, None])  # (p, A, T)
        # Overlaps are at most 1, so 2 more for a target that counts puts it before any that is ignored.
        worth = np.where(possible, overlap + 2 * ~targets.ignore[g][..., None], -1.0)
        starts = np.flatnonzero(np.diff(d, prepend=-1))
        best = np.maximum.reduceat(worth, starts)  # (dets, A, T)
        position = np.arange(len(d))[:, None, None]
        repeats = np.diff(starts, append=len(d))
        winner = np.maximum.reduceat(np.where(worth == best.repeat(repeats, 0), position, -1), starts)
        k, a, t = np.nonzero(best > 0)
        chosen = g[winner[k, a, t]]
        taken[chosen, a, t] = True
        matched[d[starts][k], a, t] = True
        ignored[d[starts][k], a, t] = targets.ignore[chosen, a]
    return matched, ignored


def precision_at_recalls(tp: BoolArray, fp: BoolArray, positives: int) -> Float64Array:
    """Return the interpolated precision (T, 101) of detections (n, T) in falling score."""
    hits, misses = tp.cumsum(0), fp.cumsum(0)
    recall = hits / positives  # (n, T)
    precision = hits / np.maximum(hits + misses, 1)  # nothing counted yet (all ignored): 0
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    out = np.zeros((tp.shape[1], len(RECALLS)))
    for t in range(tp.shape[1]):
        at = np.searchsorted(recall[:, t], RECALLS, side="left")
        reached = at < len(recall)
        out[t, reached] = envelope[at[reached], t]
    return out


def within(rank: IntArray, m: int) -> BoolArray:
    """Return which ranks belong to the limit `MAX_DETS[m]`; all that count to the last one."""
    return np.full(len(rank), True) if m == len(MAX_DETS) - 1 else rank < MAX_DETS[m]


def _accumulate(
    dets: Detections, targets: CocoTargets, matched: BoolArray, ignored: BoolArray
) -> tuple[IntArray, Float64Array, Float64Array]:
    """Return (classes, AP (nc, A, T), recall (nc, A, T, limits)); -1 where a class has no target of that size."""
    classes = np.unique(np.concatenate([targets.classes, dets.classes]))
    ap = np.full((len(classes), len(AREA_RANGES), len(IOU_THRESHOLDS)), -1.0)
    recall = np.full((*ap.shape, len(MAX_DETS)), -1.0)
    order = np.argsort(-dets.scores, kind="stable")
    for k, c in enumerate(classes):
        members = order[dets.classes[order] == c]
        positives = (~targets.ignore[targets.classes == c]).sum(0)  # (A,)
        for a in np.flatnonzero(positives):
            counts = ~ignored[members, a]  # (n, T)
            tp, fp = matched[members, a] & counts, ~matched[members, a] & counts
            ap[k, a] = precision_at_recalls(tp, fp, int(positives[a])).mean(1)
            for m in range(len(MAX_DETS)):
                recall[k, a, :, m] = tp[within(dets.rank[members], m)].sum(0) / positives[a]
    return classes, ap, recall


def _mean_defined(values: Float64Array) -> float:
    """Return the mean of the values that are defined, -1 if none is."""
    defined = values[values > -1]
    return float(defined.mean()) if len(defined) else -1.0


def _summary(ap: Float64Array, recall: Float64Array) -> Float64Array:
    """Return the 12 numbers in the order of `STAT_NAMES`."""
    precisions = [ap[:, 0], ap[:, 0, :1], ap[:, 0, 5:6], ap[:, 1], ap[:, 2], ap[:, 3]]
    recalls = [recall[:, 0, :, 0], recall[:, 0, :, 1], *(recall[:, a, :, 2] for a in range(len(AREA_RANGES)))]
    return np.array([_mean_defined(v) for v in (*precisions, *recalls)])


def coco_ap(images: Sequence[CocoImage]) -> CocoResult:
    """Return COCO's 12 numbers, and AP and recall by class, of detections against targets.

    >>> box = np.array([[0.0, 0.0, 50.0, 50.0]])
    >>> image = CocoImage(box, np.array([0.9]), np.zeros(1), box, np.zeros(1))
    >>> {k: round(v, 3) for k, v in coco_ap([image]).as_dict().items() if k in ("AP", "AP_small", "AP_medium")}
    {'AP': 1.0, 'AP_small': -1.0, 'AP_medium': 1.0}
    """
    if not images:
        shape = (0, len(AREA_RANGES), len(IOU_THRESHOLDS))
        return CocoResult(np.full(12, -1.0), np.zeros(0, np.int64), np.zeros(shape), np.zeros((*shape, len(MAX_DETS))))
    dets, targets, pairs = collect(by_id(images))
    classes, ap, recall = _accumulate(dets, targets, *match(dets, targets, pairs))
    return CocoResult(_summary(ap, recall), classes, ap, recall)


def by_id(images: Sequence[CocoImage]) -> list[CocoImage]:
    """Return the images in the order of their ids; ids of mixed types keep the order that is given."""
    if len({type(image.image_id) for image in images}) > 1:
        return list(images)
    return sorted(images, key=lambda image: image.image_id)
