"""Post-process: from the output of a head to boxes in the original image; shared by prediction and validation.

Shapes: B batch, K rows that the head returns, n selected rows of one image. A row is cx, cy, w, h in 0..1 of the
network input, score, class; rows come best score first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch
from torch import nn

from ultralytics.nn.families import Family, PostOptions
from ultralytics.nn.modules.query_head import QueryHead
from ultralytics.nn.modules.yolo.detect import Detect
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.log import LOGGER
from ultralytics.utils.ops import RatioPad, clip_boxes, constant_like, letterbox_geometry, xywh2xyxy, xyxy2xywhn


def output_rows(preds: torch.Tensor | Sequence[object]) -> torch.Tensor:
    """Return the rows (B, K, 6) in fp32 of a model's raw output, which may be followed by a tuple of raw outputs."""
    rows = preds if isinstance(preds, torch.Tensor) else cast("torch.Tensor", preds[0])
    return rows.float()


def select_rows(
    rows: torch.Tensor, conf: float, max_det: int, classes: Sequence[int] | None = None
) -> list[torch.Tensor]:
    """Keep per image the rows with a score above `conf` and, if given, of `classes`; at most `max_det` of them.

    `rows` (B, K, 6); returns B tensors (n, 6) in the order of the input. Rows that are not finite are dropped.
    """
    keep = (rows[..., 4] > conf) & rows.isfinite().all(-1)  # (B, K)
    if classes is not None:
        keep &= torch.isin(rows[..., 5].long(), torch.as_tensor(list(classes), device=rows.device, dtype=torch.long))
    return [row[k][:max_det] for row, k in zip(rows, keep, strict=True)]


def image_rows(family: Family | None, preds: Any, size: tuple[int, int], options: PostOptions) -> list[torch.Tensor]:
    """Return the rows (n, 6) of each image, on the CPU in fp32, from a head's output for an input (height, width).

    The family's post-process gives them; a head without one gives rows itself, which are only selected.
    """
    if family is None or family.postprocess is None:
        rows = output_rows(preds).cpu()  # one copy for the whole batch
        return select_rows(rows, options.conf, options.max_det, options.classes)
    return [rows.float().cpu() for rows in family.postprocess(preds, size, options)]


def stretch_geometry(original: Sequence[int], network: Sequence[int]) -> RatioPad:
    """Return the map from an image (h, w) stretched onto the network input (h, w)."""
    return (network[0] / original[0], network[1] / original[1]), (0.0, 0.0)


def placed_geometry(original: Sequence[int], network: Sequence[int], letterboxed: bool) -> RatioPad:
    """Return the map from an image (h, w) to the network input (h, w) that it is padded into, or stretched onto."""
    return letterbox_geometry(original, network) if letterboxed else stretch_geometry(original, network)


def to_original_xyxy(
    boxes: torch.Tensor, network: Sequence[int], original: Sequence[int], geometry: RatioPad
) -> torch.Tensor:
    """Map boxes (n, 4) cx cy w h in 0..1 of the network input (h, w) to xyxy pixels of the original image, clipped."""
    return clip_boxes(network_to_original(to_network_xyxy(boxes, network), geometry), original)


def to_network_xyxy(boxes: torch.Tensor, network: Sequence[int]) -> torch.Tensor:
    """Map boxes (n, 4) cx cy w h in 0..1 of the network input (h, w) to xyxy pixels of it."""
    return xywh2xyxy(boxes) * constant_like([network[1], network[0], network[1], network[0]], boxes)


def network_to_original(boxes: torch.Tensor, geometry: RatioPad) -> torch.Tensor:
    """Map boxes (n, 4) xyxy pixels of the network input to xyxy pixels of the original image; they may leave it."""
    (gain_h, gain_w), (left, top) = geometry
    pad = constant_like([left, top, left, top], boxes)
    gain = constant_like([gain_w, gain_h, gain_w, gain_h], boxes)
    return (boxes - pad) / gain


def to_network_xywhn(boxes: torch.Tensor, network: Sequence[int], geometry: RatioPad) -> torch.Tensor:
    """Map boxes (n, 4) xyxy pixels of the original image to cx cy w h in 0..1 of the network input (h, w)."""
    (gain_h, gain_w), (left, top) = geometry
    gain, pad = constant_like([gain_w, gain_h] * 2, boxes), constant_like([left, top] * 2, boxes)
    return xyxy2xywhn(boxes * gain + pad, w=network[1], h=network[0])


def check_class_filter(classes: Sequence[int] | int | None, nc: int) -> None:
    """Raise ConfigError when a class filter names no class that exists; ids beside those are only reported."""
    listed = [classes] if isinstance(classes, int) else classes
    if listed is None or any(0 <= c < nc for c in listed):
        return
    known = f"classes are 0 to {nc - 1}" if nc > 1 else "there is class 0 alone (as with single_cls)"
    raise ConfigError(f"classes={list(listed)}: {known}", "give one or more of them, or leave classes out")


def report_unknown_classes(classes: Sequence[int] | None, nc: int) -> None:
    """Log the ids of a class filter that are not classes of a model with `nc` of them; they have no effect."""
    unknown = [c for c in classes or () if not 0 <= c < nc]
    if unknown:
        LOGGER.warning(f"classes={list(classes or ())}: {unknown} have no effect, classes are 0 to {nc - 1}")


@contextmanager
def class_filter(model: object, classes: Sequence[int] | None, one_class: bool = False) -> Iterator[None]:
    """Restrict the top-k of the heads of `model` to `classes`, or to the best class of a query, until the block ends.

    Without either nothing happens, nor without a PyTorch head to reach (an exported file); `select_rows` still filters
    what comes out. Raises ConfigError where the model knows none of them.
    """
    if classes is None and not one_class:
        yield
        return
    heads = [m for m in model.modules() if isinstance(m, (QueryHead, Detect))] if isinstance(model, nn.Module) else []
    names = getattr(model, "names", None) or ()
    for nc in [head.nc for head in heads] or [len(names)] * bool(names):
        check_class_filter(classes, nc)
    with ExitStack() as restricted:
        for head in heads:
            known = None if classes is None else [c for c in classes if 0 <= c < head.nc]
            restricted.enter_context(head.restricted_to(known, one_class))
        yield
