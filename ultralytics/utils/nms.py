"""From scored boxes to detections: non-maximum suppression, and the rows of heads that need none.

Shapes: B batch, A anchors, nc classes, E further values of an anchor, K rows. Boxes in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torchvision
from torch import Tensor

from ultralytics.utils.errors import ConfigError
from ultralytics.utils.ops import xywh2xyxy

__all__ = ("nms_free_rows", "non_max_suppression")


class _Options(NamedTuple):
    """What a call asks of each image."""

    conf: float
    iou: float
    classes: Tensor | None
    agnostic: bool
    multi_label: bool
    max_det: int
    max_nms: int
    max_wh: float | None


def nms_free_rows(
    boxes: Tensor, scores: Tensor, max_det: int = 300, agnostic: bool = False, classes: Sequence[int] | None = None
) -> Tensor:
    """Return the best rows (B, K, 6) as x1, y1, x2, y2, score, class of boxes (B, A, 4) and scores (B, A, nc).

    K is `max_det`, or A if that is less. First the K anchors with the best class scores are picked, then the K best
    pairs of an anchor and a class, so that an anchor can give several rows; with `agnostic` each gives its best class.
    Scores of classes that are not in `classes` count as 0 before anything is picked.
    """
    k = min(max_det, boxes.shape[1])
    nc = scores.shape[-1]
    if classes is not None:
        wanted = torch.zeros(nc, dtype=torch.bool, device=scores.device)
        wanted[torch.as_tensor(list(classes), dtype=torch.long, device=scores.device)] = True
        scores = scores * wanted
    best, label = scores.max(-1)  # (B, A)
    value, anchor = best.topk(k, dim=1)  # (B, K)
    if agnostic:
        label = label.gather(1, anchor)
    else:
        pairs = scores.gather(1, anchor.unsqueeze(-1).expand(-1, -1, nc)).flatten(1)  # (B, K*nc)
        value, pair = pairs.topk(k, dim=1)
        anchor, label = anchor.gather(1, pair // nc), pair % nc
    picked = boxes.gather(1, anchor.unsqueeze(-1).expand(-1, -1, 4))
    return torch.cat((picked, value.unsqueeze(-1), label.unsqueeze(-1).to(picked.dtype)), -1)


def non_max_suppression(
    prediction: Any,
    conf_thres: float = 0.25,
    iou_thres: float = 0.45,
    classes: Sequence[int] | None = None,
    agnostic: bool = False,
    multi_label: bool = False,
    max_det: int = 300,
    nc: int = 0,
    max_time_img: float = 0.05,
    max_nms: int = 30000,
    max_wh: float | None = None,
    rotated: bool = False,
    end2end: bool = False,
    return_idxs: bool = False,
) -> list[Tensor] | tuple[list[Tensor], list[Tensor]]:
    """Return the detections of each image, (K, 6 + E) as x1, y1, x2, y2, confidence, class and what came beside them.

    Args:
        prediction: (B, 4 + nc + E, A) with boxes as centre and size, or with `end2end` rows (B, K, 6 + E); the first
            item of a list or tuple.
        conf_thres: Rows must score above it, 0..1.
        iou_thres: Rows that overlap a better one of their class by more are dropped, 0..1.
        classes: Only these classes.
        agnostic: Compare boxes of all classes.
        multi_label: An anchor may give a row for each class above the threshold.
        max_det: At most so many rows of an image.
        nc: Classes; 0: all channels behind the box.
        max_time_img: Accepted for compatibility; no image is left out for lack of time.
        max_nms: At most so many candidates of an image, the best ones.
        max_wh: Pixels by which the boxes of a class are moved against those of the class before, so that they do not
            meet; None: exactly as far as needed, so that no size of an image mixes classes.
        rotated: Not supported.
        end2end: The rows come from an NMS-free head. A last axis of 6 alone does not decide that.
        return_idxs: Also return the index of the anchor (or row) of each detection, int64.

    Raises ConfigError for a threshold outside 0..1, or `rotated`.
    """
    for name, value in (("conf_thres", conf_thres), ("iou_thres", iou_thres)):
        if not 0 <= value <= 1:
            raise ConfigError(f"{name}={value}: a threshold lies in 0..1")
    if rotated:
        raise ConfigError("rotated=True: there are no rotated boxes here; leave it out")
    prediction = prediction[0] if isinstance(prediction, (list, tuple)) else prediction
    wanted = None if classes is None else torch.as_tensor(list(classes), device=prediction.device)
    options = _Options(conf_thres, iou_thres, wanted, agnostic, multi_label, max_det, max_nms, max_wh)
    if end2end or _looks_like_rows(prediction, nc):
        found = [_filter_rows(rows, options) for rows in prediction]
    else:
        classes_in = nc or prediction.shape[1] - 4
        found = [_suppress(image.t(), classes_in, options) for image in prediction]  # (A, 4 + nc + E) each
    rows = [r for r, _ in found]
    return (rows, [i for _, i in found]) if return_idxs else rows


def _looks_like_rows(prediction: Tensor, nc: int) -> bool:
    """Whether (B, N, 6) are rows: raw predictions of exactly 6 anchors have that shape as well, but other columns."""
    if prediction.shape[-1] != 6 or prediction.shape[1] == 4 + nc:
        return False
    x1, y1, x2, y2, score, label = prediction.unbind(-1)
    boxes = (x2 >= x1) & (y2 >= y1)
    return bool((boxes & (score >= 0) & (score <= 1) & (label >= 0) & (label == label.round())).all())


def _filter_rows(rows: Tensor, options: _Options) -> tuple[Tensor, Tensor]:
    """Rows (K, 6 + E) of an image above the threshold and of the wanted classes, in their order, with their indices."""
    keep = rows[:, 4] > options.conf
    if options.classes is not None:
        keep &= torch.isin(rows[:, 5], options.classes.to(rows.dtype))
    index = keep.nonzero().squeeze(-1)[: options.max_det]
    return rows[index], index


def _suppress(anchors: Tensor, nc: int, options: _Options) -> tuple[Tensor, Tensor]:
    """Detections (K, 6 + E) of one image's anchors (A, 4 + nc + E), best first, with the indices of their anchors."""
    rows, index = _candidates(anchors, nc, options)
    if len(rows) > options.max_nms:
        best = rows[:, 4].argsort(descending=True, stable=True)[: options.max_nms]
        rows, index = rows[best], index[best]
    boxes = rows[:, :4].double()  # wide enough for float32 boxes of any class, moved apart
    if not options.agnostic and len(rows):
        span = boxes.max() - boxes.min() + 1 if options.max_wh is None else options.max_wh
        boxes = boxes + rows[:, 5:6].double() * span
    keep = torchvision.ops.nms(boxes, rows[:, 4].double(), options.iou)[: options.max_det]
    return rows[keep], index[keep]


def _candidates(anchors: Tensor, nc: int, options: _Options) -> tuple[Tensor, Tensor]:
    """Rows (K, 6 + E) above the threshold in corners, in the order of their anchors, and the anchors' indices."""
    scores = anchors[:, 4 : 4 + nc]
    if options.multi_label and nc > 1:
        index, label = (scores > options.conf).nonzero(as_tuple=True)
        confidence = scores[index, label]
    else:
        best, winner = scores.max(1)
        index = (best > options.conf).nonzero().squeeze(-1)
        confidence, label = best[index], winner[index]
    if options.classes is not None:
        wanted = torch.isin(label, options.classes)
        index, label, confidence = index[wanted], label[wanted], confidence[wanted]
    chosen = anchors[index]
    parts = (xywh2xyxy(chosen[:, :4]), confidence[:, None], label[:, None].to(chosen.dtype), chosen[:, 4 + nc :])
    return torch.cat(parts, 1), index
