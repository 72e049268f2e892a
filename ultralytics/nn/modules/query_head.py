"""What detection heads with query selection have in common: anchors, selection, and the rows that come out.

Shapes: B batch, N tokens of all levels, Q queries, nc classes. Boxes are cx, cy, w, h in 0..1 of the image; box logits
are their inverse sigmoid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from ultralytics.nn.modules.utils import at_least_float32, is_exporting, sym_min
from ultralytics.nn.registry import Plan, RowContext
from ultralytics.utils.errors import ConfigError

__all__ = ("Anchors", "QueryHead", "check_head_options", "head_rule")

SELECTIONS = ("default", "one2many", "agnostic")

Selector: TypeAlias = Callable[[Tensor, int], Tensor]
"""Chooses tokens: from confidences (B, N) and a number Q of queries their places (B, Q)."""


class Anchors(NamedTuple):
    """Anchors of one set of map shapes."""

    logits: Tensor  # (1, N, 4), infinite where invalid
    valid: Tensor  # (1, N, 1)
    usable: int  # number of valid ones


def head_rule(row: RowContext) -> Plan:
    """`[nc, ...]` -> (nc, channels of all inputs, ...)."""
    return Plan((row.args[0], list(row.in_channels), *row.args[1:]), row.in_channels[-1])


def check_head_options(nq: int, ndl: int, eval_idx: int, nd: int, box_noise_scale: float) -> None:
    """Raise ConfigError for the first option outside its bounds: some would give no rows, others fail in training."""
    for name, count, low in (("nq", nq, 1), ("ndl", ndl, 1), ("nd", nd, 0)):
        if isinstance(count, bool) or not isinstance(count, int) or count < low:
            raise ConfigError(f"{name}={count!r} must be an integer, at least {low}")
    if not isinstance(eval_idx, int) or not -ndl <= eval_idx < ndl:
        raise ConfigError(f"eval_idx={eval_idx!r} must be a decoder layer, -{ndl} to {ndl - 1}; -1 is the last")
    if not isinstance(box_noise_scale, (int, float)) or not box_noise_scale >= 0:
        raise ConfigError(f"box_noise_scale={box_noise_scale!r} must be a number, at least 0")


class QueryHead(nn.Module):
    """Base of heads that select the most confident tokens as queries (RT-DETR, arXiv 2304.08069, section 4.3).

    Attributes:
        nc: Number of classes.
        num_queries: Queries Q.
        max_det: Bound on the rows of an exported model.
        export: Return the rows alone.
        dynamic: Map shapes may differ from call to call in one exported graph: do not keep anchors.
    """

    nc: int
    num_queries: int
    export: bool = False
    format: str | None = None
    dynamic: bool = False
    max_det: int = 300
    _classes: tuple[int, ...] | None = None
    _one_class: bool = False
    _selector: Selector | None = None
    _anchors: tuple[tuple[object, ...], Anchors] | None = None  # last anchors with what they were made for

    @property
    def classes(self) -> tuple[int, ...] | None:
        """The class indices that can come out, None for all; see `restricted_to`."""
        return self._classes

    @contextmanager
    def restricted_to(self, classes: Sequence[int] | None, one_class: bool = False) -> Iterator[None]:
        """Give rows of these classes alone until the block ends; None: of all.

        The others are left out before the top-k, so that no row of a wanted class is crowded out. With `one_class` a
        query gives one row, of its best class, as validation without top-k does.
        """
        before = self._classes, self._one_class
        self._classes, self._one_class = None if classes is None else tuple(classes), one_class
        try:
            yield
        finally:
            self._classes, self._one_class = before

    @property
    def selector(self) -> Selector:
        """What selects the queries: `best_tokens`, or the function of `selecting_by`."""
        return self.best_tokens if self._selector is None else self._selector

    @contextmanager
    def selecting_by(self, selector: Selector) -> Iterator[None]:
        """Let a function select the queries until the block ends: to look at the selection, or to prescribe it."""
        before, self._selector = self._selector, selector
        try:
            yield
        finally:
            self._selector = before

    def postprocess(self, boxes: Tensor, logits: Tensor) -> Tensor:
        """Return the best pairs of query and class as rows (B, rows, 6): cx, cy, w, h, score, class.

        Args:
            boxes: (B, Q, 4).
            logits: (B, Q, nc).
        """
        wanted = None if self._classes is None else torch.as_tensor(list(self._classes), device=logits.device)
        if wanted is not None:
            logits = logits.index_select(-1, wanted)
        if self._one_class:
            logits = logits.masked_fill(logits < logits.amax(-1, keepdim=True), -torch.inf)
        classes = logits.shape[-1]
        flat = at_least_float32(logits).flatten(1)  # (B, Q*nc)
        keep = sym_min(self.num_queries, flat.shape[1], *([self.max_det] if self.export else []))
        best, index = flat.topk(keep, 1)  # the sigmoid keeps the order, so it is taken of the few only
        label = index % classes if wanted is None else wanted[index % classes]
        query = torch.div(index, classes, rounding_mode="floor")[..., None].expand(-1, -1, 4)
        columns = (boxes.gather(1, query), best.sigmoid()[..., None], label[..., None].to(boxes.dtype))
        return torch.cat(columns, -1)  # (B, rows, 6)

    @staticmethod
    def check_select(select: str) -> None:
        """Raise ConfigError for an unknown way of selecting tokens."""
        if select not in SELECTIONS:
            raise ConfigError(f"select={select!r} is not known; choose {', '.join(SELECTIONS)}")

    def selected(self, scores: Tensor, anchors: Anchors, queries: int, select: str = "default") -> Tensor:
        """Return the places (B, Q) of the most confident tokens with a valid anchor.

        Args:
            scores: (B, N, nc) logits.
            anchors: Anchors of the N tokens.
            queries: Tokens wanted, Q.
            select: `one2many`: the best pairs of token and class, so that a token may come several times.
        """
        many = select == "one2many"
        confidence = scores.detach() if many else scores.detach().amax(-1, keepdim=True)  # (B, N, nc or 1)
        if is_exporting() or anchors.usable < confidence.shape[1]:
            confidence = confidence.masked_fill(~anchors.valid, -torch.inf)
        pick = self.selector
        if not many:
            return pick(confidence[..., 0], queries)
        return torch.div(pick(confidence.flatten(1), queries), confidence.shape[2], rounding_mode="floor")

    def start_of_queries(self, like: Tensor, queries: int) -> Tensor:
        """Return learnt contents `tgt_embed` for a number of queries, (B, Q, D), repeated where there are fewer."""
        start: Tensor = self.get_parameter("tgt_embed.weight")
        start = start[:queries] if queries <= len(start) else start[torch.arange(queries) % len(start)]
        return start.expand(like.shape[0], -1, -1)

    @staticmethod
    def best_tokens(confidence: Tensor, queries: int) -> Tensor:
        """Return the places (B, Q) of the most confident tokens, from confidences (B, N)."""
        return confidence.topk(queries, 1).indices

    def _get_anchors(self, shapes: Sequence[Sequence[int]], like: Tensor) -> Anchors:
        """Return anchors for these map shapes, from memory when they are the last ones."""
        if self.dynamic or torch.compiler.is_compiling():  # kept ones would fit no other size
            return self._generate_anchors(shapes, device=like.device)
        key = (tuple(map(tuple, shapes)), like.device)
        kept = self._anchors  # looked at once: other threads may put those of their size there
        if kept is None or kept[0] != key:
            with torch.inference_mode(False):  # an inference tensor could not serve a later training step
                self._anchors = kept = key, self._generate_anchors(shapes, device=like.device)
        return kept[1]

    @staticmethod
    def _generate_anchors(
        shapes: Sequence[Sequence[int]],
        grid_size: float = 0.05,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        eps: float = 1e-2,
    ) -> Anchors:
        """Return one anchor per cell: its centre, with side `grid_size` * 2^level.

        An anchor is valid where all four numbers lie between eps and 1 - eps. The number of valid ones bounds the
        queries, so that no other is ever selected. It is computed from the map shapes alone, which may be symbols of
        an exported graph.
        """
        parts = []
        for level, (h, w) in enumerate(shapes):
            y, x = torch.meshgrid(
                (torch.arange(h, dtype=dtype, device="cpu") + 0.5) / h,
                (torch.arange(w, dtype=dtype, device="cpu") + 0.5) / w,
                indexing="ij",
            )
            side = torch.full_like(x, grid_size * 2.0**level)
            parts.append(torch.stack((x, y, side, side), -1).flatten(0, 1))  # (H*W, 4)
        boxes = torch.cat(parts)[None]  # (1, N, 4)
        valid = ((boxes > eps) & (boxes < 1 - eps)).all(-1, keepdim=True)
        logits = torch.log(boxes / (1 - boxes)).masked_fill(~valid, torch.inf)
        count = _count_valid(shapes, grid_size, eps)
        logits, valid = logits.to(device, non_blocking=True), valid.to(device, non_blocking=True)
        return Anchors(logits, valid, count)


def _count_valid(shapes: Sequence[Sequence[int]], grid_size: float, eps: float) -> int:
    """Return how many anchors are valid: eps < side of the level < 1 - eps, and for cell i of n so is (i + 0.5) / n.

    At either end of a line of n cells round(n * eps) fall away, halves rounded up; eps is the inverse of a whole one.
    """
    per = round(1 / eps)
    count = 0
    for level, (h, w) in enumerate(shapes):
        if eps < grid_size * 2.0**level < 1 - eps:
            rows, columns = (n - 2 * ((2 * n + per) // (2 * per)) for n in (h, w))
            count = count + rows * columns
    return count
