"""Whether an exported file gives the same output as the PyTorch model; every export must pass this comparison.

Rows of both are paired one to one: same class, boxes that overlap. Shapes: B batch, K rows of an image that fit into
the output, L rows of the model: these K and further ones beyond them, n pairs, nc classes; a row is cx, cy, w, h in
0..1, score, class. Differences of boxes are the largest of their four sides, in px of the network's input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ultralytics.utils.metrics import box_iou
from ultralytics.utils.ops import xywh2xyxy

_Floats = npt.NDArray[np.float64]
_Bools = npt.NDArray[np.bool_]

LEVELS = (0.25, 0.001)
"""Scores above which rows are compared: those that a user sees, and those that AP counts."""


@dataclass(frozen=True)
class Tolerance:
    """How far a file may be from its model.

    Attributes:
        box: Largest difference of a paired box, px; None sets no bound.
        score: Largest difference of a paired score.
        lost: Largest fraction of rows without a partner, above each of `LEVELS`.
        metric: Largest difference of an AP or accuracy.
        loss_only: A better AP is allowed, and precision and recall are not bounded: the best F1, where they are
            taken, may jump from one confidence to another.
    """

    box: float | None
    score: float | None
    lost: tuple[float, float]
    metric: float
    loss_only: bool = False

    def allows(self, name: str, model: float, file: float) -> bool:
        """Return whether the metric `name` may be `file` where the model has `model`; NaN is not allowed."""
        if not self.loss_only:
            return abs(model - file) <= self.metric
        jumps = name.startswith(("metrics/precision", "metrics/recall"))
        return model - file <= self.metric or (jumps and isfinite(model - file))


TOLERANCES: Mapping[str, Tolerance] = {
    "fp32": Tolerance(box=0.05, score=1e-3, lost=(0.0, 0.0), metric=5e-4),
    "fp16": Tolerance(box=None, score=None, lost=(0.05, 0.20), metric=0.01, loss_only=True),
    "int8": Tolerance(box=None, score=None, lost=(0.30, 1.0), metric=0.05, loss_only=True),
}
"""By precision. In fp32 no row may be lost; ties that a runtime may break differently are resolved by `tie_breaking`. A
lower precision moves boxes and scores by an amount that no bound fits for all models: it is printed, and what is
bounded are rows that appear or disappear, and AP."""

TIE = 1e-3
"""Logits that differ by less are equal: of places, or of rows at the end of a list, either may be taken. Measured
differences of fp32 files are a hundredth of it."""

SLACK = 1e-3
"""Scores that differ by less are equal at the end of a list in a lower precision."""


@dataclass
class ParityReport:
    """Differences collected over images.

    Attributes:
        boxes, scores: Differences of all pairs whose model row is above the level, by level.
        wanted, given: Rows above the level, of the model and of the file.
        lost: Rows above the level that have no partner, of either.
        swapped: Queries of the model that were exchanged for others of equal score before comparing.
        metrics: By name, the number of the model and of the file.
    """

    images: int = 0
    swapped: int = 0
    boxes: dict[float, list[float]] = field(default_factory=lambda: {level: [] for level in LEVELS})
    scores: dict[float, list[float]] = field(default_factory=lambda: {level: [] for level in LEVELS})
    wanted: dict[float, int] = field(default_factory=lambda: dict.fromkeys(LEVELS, 0))
    given: dict[float, int] = field(default_factory=lambda: dict.fromkeys(LEVELS, 0))
    lost: dict[float, int] = field(default_factory=lambda: dict.fromkeys(LEVELS, 0))
    metrics: dict[str, tuple[float, float]] = field(default_factory=dict)

    def add_rows(
        self, want: Tensor, got: Tensor, size: Sequence[int], swapped: int = 0, slack: float | None = None
    ) -> None:
        """Compare the rows (B, L, 6) of the model and (B, K, 6) of the file for images of `size` (height, width).

        The first K rows of the model are its output; the others, beyond the limit, show whether a row at the end of the
        file's output is one of the model's, see `lost_rows`. `swapped` queries are only counted.
        """
        self.swapped += swapped
        for a, b in zip(want.double().cpu(), got.double().cpu(), strict=True):
            self.images += 1
            self._add_image(a, b, size, slack)

    def _add_image(self, want: Tensor, got: Tensor, size: Sequence[int], slack: float | None) -> None:
        pairs, boxes, scores = pair_rows(want, got, size)
        ours, theirs = want[:, 4].numpy(), got[:, 4].numpy()
        without = lost_rows(pairs, want, got, slack)
        lost = [ours[: len(got)][without[0]], theirs[without[1]]]
        for level in LEVELS:
            chosen = ours[pairs[:, 0]] > level
            self.boxes[level] += boxes[chosen].tolist()
            self.scores[level] += scores[chosen].tolist()
            self.wanted[level] += int((ours[: len(got)] > level).sum())
            self.given[level] += int((theirs > level).sum())
            self.lost[level] += sum(int((~(values <= level)).sum()) for values in lost)  # NaN is lost too

    def add_logits(self, want: Tensor, got: Tensor) -> None:
        """Compare class logits (B, nc) of the model and of the file, as probabilities; a lost row is another top-1."""
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
        """Return a message for each value beyond the tolerance; an empty list is a pass."""
        messages = []
        low = LEVELS[-1]
        for name, values, bound in (
            ("box", self.boxes[low], tolerance.box),
            ("score", self.scores[low], tolerance.score),
        ):
            worst = max(values, default=0.0)
            if bound is not None and not worst <= bound:
                messages.append(
                    f"a {name} differs by {worst:.4g}{' px' if name == 'box' else ''}, {bound:g} is allowed"
                )
        for level, fraction in zip(LEVELS, tolerance.lost, strict=True):
            rows = self.wanted[level] + self.given[level]
            if self.lost[level] > fraction * rows:
                messages.append(
                    f"{self.lost[level]} of {rows} rows above {level:g} have no partner, {fraction:.0%} is allowed"
                )
        for name, (a, b) in self.metrics.items():
            if not tolerance.allows(name, a, b):
                messages.append(f"{name} is {b:.4f} instead of {a:.4f}, {tolerance.metric:g} is allowed")
        return messages

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

    def numbers(self) -> dict[str, float | dict[str, list[float]]]:
        """Return the figures as plain values, for JSON."""
        low = {
            f"{kind}_{name}_{level:g}": value
            for level in LEVELS
            for kind, values in (("box_px", self.boxes[level]), ("score", self.scores[level]))
            for name, value in (("max", max(values, default=0.0)), ("mean", float(np.mean(values)) if values else 0.0))
        }
        counts = {
            f"{name}_{lv:g}": d[lv] for lv in LEVELS for name, d in (("rows", self.wanted), ("unpaired", self.lost))
        }
        seen = {"images": self.images, "swapped": self.swapped}
        return {**seen, **low, **counts, "metrics": {k: list(v) for k, v in self.metrics.items()}}


def pair_rows(want: Tensor, got: Tensor, size: Sequence[int]) -> tuple[npt.NDArray[np.int64], _Floats, _Floats]:
    """Return pairs (n, 2) of row numbers of (L, 6) and (K, 6), with the differences (n,) of boxes in px and of scores.

    One to one, the sum of differences smallest; only rows of one class whose boxes overlap by half are paired.
    """
    from scipy.optimize import linear_sum_assignment  # 33 MB, which a prediction does not need

    scale = torch.tensor([size[1], size[0]] * 2, dtype=torch.float64)
    a, b = xywh2xyxy(want[:, :4]) * scale, xywh2xyxy(got[:, :4]) * scale
    boxes = (a[:, None] - b[None]).abs().amax(-1).numpy()  # (L, K)
    scores = (want[:, None, 4] - got[None, :, 4]).abs().numpy()  # (L, K)
    same = (want[:, None, 5] == got[None, :, 5]) & (box_iou(a, b) > 0.5)  # (L, K)
    cost = np.where(same.numpy(), np.nan_to_num(boxes + 100 * scores, nan=1e5, posinf=1e5), 1e6)
    pairs = np.stack(linear_sum_assignment(cost), 1).astype(np.int64)  # (at most K, 2)
    pairs = pairs[cost[pairs[:, 0], pairs[:, 1]] < 1e5]
    return pairs, boxes[pairs[:, 0], pairs[:, 1]], scores[pairs[:, 0], pairs[:, 1]]


def lost_rows(
    pairs: npt.NDArray[np.int64], want: Tensor, got: Tensor, slack: float | None = None
) -> tuple[_Bools, _Bools]:
    """Return which rows of the model's list (K,) and of the file's (K,) have no partner in the other one.

    A row at the end of a list may differ there: it must be in `want` (L, 6), beyond its first K, and no better
    than the other list's last row by more than `TIE` in logits, or by `slack` in score.
    """
    kept = len(got)
    ours, theirs = want[:kept, 4], got[:, 4]
    if not len(ours) or not kept:
        return np.ones(len(ours), bool), np.ones(kept, bool)
    of_ours, of_theirs = np.ones(len(want), bool), np.full(kept, True)
    of_ours[pairs[:, 0]] = False
    of_theirs[pairs[pairs[:, 0] < kept, 1]] = False
    beyond = pairs[pairs[:, 0] >= kept, 1]
    of_theirs[beyond] = _better(theirs, ours.min(), slack)[beyond]
    return of_ours[:kept] & _better(ours, theirs.min(), slack), of_theirs


def _better(scores: Tensor, last: Tensor, slack: float | None) -> _Bools:
    """Return (n,): not equal to the last score of a list, nor below it; NaN is better than all."""
    if slack is not None:
        return (~(scores <= last + slack)).numpy()
    return (~(scores.logit(1e-9) <= last.logit(1e-9) + TIE)).numpy()


def _spread(values: Sequence[float]) -> tuple[str, str]:
    return (f"{max(values):.2e}", f"{np.mean(values):.2e}") if values else ("-", "-")
