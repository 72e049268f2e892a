"""Whether an exported file gives what the PyTorch model gives: the gate behind every export.

Rows of both are paired one to one: same class, boxes that overlap. Legend: K rows of an image, N pairs; a row is cx,
cy, w, h in 0..1, score, class. Differences of boxes are the largest of their four sides, in px of the network's input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ultralytics.utils.metrics import box_iou
from ultralytics.utils.ops import xywh2xyxy

Floats = npt.NDArray[np.float64]

LEVELS = (0.25, 0.001)
"""Scores above which rows are looked at: what a user sees, and what AP is made of."""


@dataclass(frozen=True)
class Tolerance:
    """How far a file may be from its model.

    Attributes:
        box: Largest difference of a paired box, px; None sets no bound.
        score: Largest difference of a paired score.
        lost: Largest share of rows without a partner, above each of `LEVELS`.
        metric: Largest difference of an AP or accuracy.
    """

    box: float | None
    score: float | None
    lost: tuple[float, float]
    metric: float


TOLERANCES: Mapping[str, Tolerance] = {
    "fp32": Tolerance(box=0.05, score=1e-3, lost=(0.0, 0.05), metric=5e-4),
    "fp16": Tolerance(box=None, score=None, lost=(0.05, 0.20), metric=0.01),
    "int8": Tolerance(box=None, score=None, lost=(0.30, 1.0), metric=0.05),
}
"""By precision. In fp32 rows of low score may still be lost: among places of equal score, which flat parts of an image
have, each runtime selects its own. A lower precision moves boxes and scores by an amount that no bound fits for all
models: it is printed, and what is bounded are rows that come or go, and AP."""


@dataclass
class Comparison:
    """Differences collected over images.

    Attributes:
        boxes, scores: Differences of all pairs whose model row is above the level, by level.
        wanted, given: Rows above the level, of the model and of the file.
        lost: Rows above the level that have no partner, of either.
        metrics: By name, the number of the model and of the file.
    """

    images: int = 0
    boxes: dict[float, list[float]] = field(default_factory=lambda: {level: [] for level in LEVELS})
    scores: dict[float, list[float]] = field(default_factory=lambda: {level: [] for level in LEVELS})
    wanted: dict[float, int] = field(default_factory=lambda: dict.fromkeys(LEVELS, 0))
    given: dict[float, int] = field(default_factory=lambda: dict.fromkeys(LEVELS, 0))
    lost: dict[float, int] = field(default_factory=lambda: dict.fromkeys(LEVELS, 0))
    metrics: dict[str, tuple[float, float]] = field(default_factory=dict)

    def add_rows(self, want: Tensor, got: Tensor, size: Sequence[int], slack: float = 1e-3) -> None:
        """Compare the rows (B, K, 6) of the model and of the file for images of `size` (height, width).

        A row within `slack` of a level may be missing from the other list, and so may rows that close to the last score
        for which a list has room, when as many others stand in their place.
        """
        for a, b in zip(want.double().cpu(), got.double().cpu(), strict=True):
            self.images += 1
            self._add_image(a[: len(b)], b, size, slack)

    def _add_image(self, want: Tensor, got: Tensor, size: Sequence[int], slack: float) -> None:
        pairs, boxes, scores = pair_rows(want, got, size)
        partner = np.zeros((2, max(len(want), len(got))), bool)
        partner[0, pairs[:, 0]] = partner[1, pairs[:, 1]] = True
        ours, theirs = want[:, 4].numpy(), got[:, 4].numpy()
        last = max(ours.min(initial=1.0), theirs.min(initial=1.0)) if len(want) else 0.0  # the cut of the longer list
        for level in LEVELS:
            chosen = ours[pairs[:, 0]] > level
            self.boxes[level] += boxes[chosen].tolist()
            self.scores[level] += scores[chosen].tolist()
            self.wanted[level] += int((ours > level).sum())
            self.given[level] += int((theirs > level).sum())
            free = [values > level + slack for values in (ours, theirs)]
            free = [f & ~partner[side, : len(f)] for side, f in enumerate(free)]
            at_cut = [f & (values <= last + slack) for f, values in zip(free, (ours, theirs), strict=True)]
            swapped = at_cut[0].sum() == at_cut[1].sum()
            self.lost[level] += sum(int((f & ~c if swapped else f).sum()) for f, c in zip(free, at_cut, strict=True))

    def add_logits(self, want: Tensor, got: Tensor) -> None:
        """Compare class logits (B, C) of the model and of the file, as probabilities; a lost row is another top-1."""
        a, b = want.double().cpu().softmax(1), got.double().cpu().softmax(1)
        self.images += len(a)
        for level in LEVELS:
            self.scores[level] += (a - b).abs().amax(1).tolist()
            self.wanted[level] += len(a)
            self.given[level] += len(b)
            self.lost[level] += int((a.argmax(1) != b.argmax(1)).sum())

    def add_metrics(self, want: Mapping[str, float], got: Mapping[str, float]) -> None:
        """Keep the metrics that both have, but for fitness, which sums them up."""
        self.metrics |= {k: (float(want[k]), float(got[k])) for k in want if k in got and k != "fitness"}

    def reasons(self, tolerance: Tolerance) -> list[str]:
        """Return what is beyond the tolerance, in words; an empty list is a pass."""
        found = []
        low = LEVELS[-1]
        for name, values, bound in (
            ("box", self.boxes[low], tolerance.box),
            ("score", self.scores[low], tolerance.score),
        ):
            worst = max(values, default=0.0)
            if bound is not None and not worst <= bound:
                found.append(f"a {name} differs by {worst:.4g}{' px' if name == 'box' else ''}, {bound:g} is allowed")
        for level, share in zip(LEVELS, tolerance.lost, strict=True):
            rows = self.wanted[level] + self.given[level]
            if self.lost[level] > share * rows:
                found.append(
                    f"{self.lost[level]} of {rows} rows above {level:g} have no partner, {share:.0%} is allowed"
                )
        for name, (a, b) in self.metrics.items():
            if not abs(a - b) <= tolerance.metric:
                found.append(f"{name} is {b:.4f} instead of {a:.4f}, {tolerance.metric:g} is allowed")
        return found

    def table(self) -> list[tuple[str, ...]]:
        """Return the cells of a table: a header and a row a level, then one for each metric."""
        head = ("above", "model", "file", "unpaired", "box max", "mean px", "score max", "mean")
        rows: list[tuple[str, ...]] = [head]
        for level in LEVELS:
            counts = (self.wanted[level], self.given[level], self.lost[level])
            parts = [*_spread(self.boxes[level]), *_spread(self.scores[level])]
            rows.append((f"{level:g}", *map(str, counts), *parts))
        rows += [
            (name, f"{a:.4f}", f"{b:.4f}", f"{b - a:+.4f}", "", "", "", "") for name, (a, b) in self.metrics.items()
        ]
        return rows

    def numbers(self) -> dict[str, Any]:
        """Return the same as plain values, for JSON."""
        low = {
            f"{kind}_{name}_{level:g}": value
            for level in LEVELS
            for kind, values in (("box_px", self.boxes[level]), ("score", self.scores[level]))
            for name, value in (("max", max(values, default=0.0)), ("mean", float(np.mean(values)) if values else 0.0))
        }
        counts = {
            f"{name}_{lv:g}": d[lv] for lv in LEVELS for name, d in (("rows", self.wanted), ("unpaired", self.lost))
        }
        return {"images": self.images, **low, **counts, "metrics": {k: list(v) for k, v in self.metrics.items()}}


def pair_rows(want: Tensor, got: Tensor, size: Sequence[int]) -> tuple[npt.NDArray[np.int64], Floats, Floats]:
    """Return pairs (N, 2) of row numbers of (K, 6) and (K, 6), with the differences (N,) of boxes in px and of scores.

    One to one, the sum of differences smallest; only rows of one class whose boxes overlap by half are paired.
    """
    scale = torch.tensor([size[1], size[0]] * 2, dtype=torch.float64)
    a, b = xywh2xyxy(want[:, :4]) * scale, xywh2xyxy(got[:, :4]) * scale
    boxes = (a[:, None] - b[None]).abs().amax(-1).numpy()  # (K, K)
    scores = (want[:, None, 4] - got[None, :, 4]).abs().numpy()  # (K, K)
    same = (want[:, None, 5] == got[None, :, 5]) & (box_iou(a, b) > 0.5)  # (K, K)
    cost = np.where(same.numpy(), np.nan_to_num(boxes + 100 * scores, nan=1e5, posinf=1e5), 1e6)
    pairs = np.stack(linear_sum_assignment(cost), 1).astype(np.int64)  # (K, 2)
    pairs = pairs[cost[pairs[:, 0], pairs[:, 1]] < 1e5]
    return pairs, boxes[pairs[:, 0], pairs[:, 1]], scores[pairs[:, 0], pairs[:, 1]]


def _spread(values: Sequence[float]) -> tuple[str, str]:
    return (f"{max(values):.2e}", f"{np.mean(values):.2e}") if values else ("-", "-")
