"""Which of equally good places a runtime took for its queries: shown by running the model with the same choice.

RT-DETR selects its queries by score. Where places have the same score but for rounding, as in flat parts of an image,
each runtime may take its own, and its rows are then others. Whether rows that differ come from that is no matter of
counting: the places that could be exchanged are known, the model is run with them, and only a choice under which all
rows agree explains the file. Legend: N places (tokens of all levels), Q queries, C classes, F places that could come in
for others, K rows of the file, L rows of the model: its K, and as many that it had no room for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from ultralytics.engine.export.parity import LEVELS, TIE, lost_rows, pair_rows
from ultralytics.nn.autobackend import AutoBackend
from ultralytics.nn.modules.head import DecoderOutput, RTDETRDecoder
from ultralytics.utils.errors import CheckpointError

ROUNDS = 4  # choices tried: each starts from what the last one left unexplained
MAX_ROWS = 3000  # of these places, best first
MAX_RUNS = 16  # of the model for one choice, to see what the places that could come in would give


@dataclass
class Answer:
    """What the model gives for one image under one choice of queries, on the CPU."""

    confidence: Tensor  # (N,) logits by which places are selected
    places: Tensor  # (Q,) those that became queries
    boxes: Tensor  # (Q, 4)
    logits: Tensor  # (Q, C)

    def rows(self, count: int) -> Tensor:
        """Return the best `count` pairs of query and class (L, 6), fewer where there are no more."""
        return best_rows(self.boxes, self.logits, count)[0]


def best_rows(boxes: Tensor, logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return rows (L, 6) of boxes (Q, 4) and logits (Q, C), best first, and the query (L,) of each."""
    flat = logits.double().flatten()  # (Q*C,)
    best, index = flat.topk(min(count, len(flat)))
    query = index // logits.shape[1]
    label = (index % logits.shape[1]).double()
    return torch.cat((boxes[query].double(), best.sigmoid()[:, None], label[:, None]), 1), query


class Referee:
    """Gives the model's rows for an image under the choice of queries that explains a file's rows, if there is one.

    Args:
        backend: The PyTorch model, with a head that selects queries.
        max_det: Bound on the rows of an exported file.
    """

    def __init__(self, backend: AutoBackend, max_det: int = 300) -> None:
        head = backend.model.model[-1] if backend.model is not None else None
        if not isinstance(head, RTDETRDecoder):
            raise TypeError(f"{type(head).__name__} does not select queries")
        self.backend, self.head, self.max_det = backend, head, max_det

    @torch.no_grad()
    def __call__(self, image: Tensor, got: Tensor, settle: bool = True) -> tuple[Tensor, int]:
        """Return rows (L, 6) of the model for an image (1, C, H, W), and how many of its queries were exchanged.

        Without `settle`, or where no choice among equals explains the file's rows `got` (K, 6), they are those of the
        model's own choice. Exchanged places differ in score by no more than `TIE`.

        Raises:
            CheckpointError: the file gives another number of rows.
        """
        got = got.double().cpu()
        size = (int(image.shape[2]), int(image.shape[3]))
        first = now = self._run(image)
        room = min(self.head.num_queries, first.logits.numel(), self.max_det)
        if len(got) != room:
            raise CheckpointError(f"the file gives {len(got)} rows for {room}", "this is a bug")
        for _ in range(ROUNDS if settle else 0):
            missing, strange = _differences(now, got, size)
            if not len(missing) and not len(strange):
                return now.rows(2 * len(got)), _exchanged(first, now)
            places = self._other_choice(image, first, now, missing, got[strange], size)
            if places is None:
                break
            now = self._run(image, places)
        return first.rows(2 * len(got)), 0

    def _run(self, image: Tensor, places: Tensor | None = None) -> Answer:
        """Run the model with its own choice of queries, or with a prescribed one (Q,)."""
        seen: list[Tensor] = []

        def select(confidence: Tensor, queries: int) -> Tensor:
            index = self.head.best_tokens(confidence, queries) if places is None else places[None].to(confidence.device)
            seen.extend((confidence[0], index[0]))
            return index

        with _selected_by(self.head, select):
            raw: DecoderOutput = self.backend(image)[1]
        confidence, index = (t.cpu() for t in seen)
        return Answer(confidence.double(), index, raw.dec_bboxes[-1, 0].cpu(), raw.dec_scores[-1, 0].cpu())

    def _other_choice(
        self, image: Tensor, first: Answer, now: Answer, missing: Tensor, strange: Tensor, size: tuple[int, int]
    ) -> Tensor | None:
        """Return places (Q,) with those exchanged that the differences speak of; None where none could be.

        `missing` are queries (m,) whose rows the file lacks, `strange` rows (s, 6) that only the file has.
        """
        cut = first.confidence[first.places].min()
        tied = (first.confidence - cut).abs() <= TIE  # (N,)
        inside = torch.zeros_like(tied)
        inside[now.places] = True
        free = (tied & ~inside).nonzero()[:, 0]  # (F,)
        may_go = tied[now.places].nonzero()[:, 0]  # queries
        if not len(free) or not len(may_go):
            return None
        coming = free[self._speak_of(image, now, may_go, free, strange, size)]
        gone = missing[torch.isin(missing, may_go)]
        # A query may come or go without a row of its own: then the best of the free ones, the worst of the others.
        spare = free[~torch.isin(free, coming)]
        coming = torch.cat((coming, spare[: max(len(gone) - len(coming), 0)]))
        rest = may_go[~torch.isin(may_go, gone)]
        rest = rest[now.logits.amax(1)[rest].argsort()]
        gone = torch.cat((gone, rest[: max(len(coming) - len(gone), 0)]))
        count = min(len(coming), len(gone))
        if not count:
            return None
        places = now.places.clone()
        places[gone[:count]] = coming[:count]
        return places if _exchange_is_a_tie(first, places) else None

    def _speak_of(
        self, image: Tensor, now: Answer, may_go: Tensor, free: Tensor, strange: Tensor, size: tuple[int, int]
    ) -> Tensor:
        """Return which of the free places (numbers in (F,)) would give one of the file's strange rows (s, 6).

        All of them are tried as queries, as many at a time as there are queries to give way.
        """
        boxes, logits, number = [], [], []
        order = torch.arange(len(free))
        for part in order.split(len(may_go))[:MAX_RUNS]:
            places = now.places.clone()
            places[may_go[: len(part)]] = free[part]
            answer = self._run(image, places)
            boxes.append(answer.boxes[may_go[: len(part)]])
            logits.append(answer.logits[may_go[: len(part)]])
            number.append(part)
        rows, query = best_rows(torch.cat(boxes), torch.cat(logits), MAX_ROWS)
        pairs = torch.from_numpy(pair_rows(rows, strange, size)[0])
        return torch.cat(number)[query[pairs[:, 0]]].unique()


def _differences(now: Answer, got: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return queries (m,) with rows that the file lacks, and numbers (s,) of rows that the file alone has."""
    want, query = best_rows(now.boxes, now.logits, 2 * len(got))
    pairs = pair_rows(want, got, size)[0]
    ours, theirs = map(torch.from_numpy, lost_rows(pairs, want, got))
    low = LEVELS[-1]
    missing = ours & (want[: len(ours), 4] > low)
    strange = theirs & ~(got[:, 4] <= low)
    return query[: len(ours)][missing].unique(), strange.nonzero()[:, 0]


def _exchanged(first: Answer, now: Answer) -> int:
    return int((~torch.isin(now.places, first.places)).sum())


def _exchange_is_a_tie(first: Answer, places: Tensor) -> bool:
    """Whether all that came in instead of others have the same score as these."""
    came = first.confidence[places[~torch.isin(places, first.places)]]
    went = first.confidence[first.places[~torch.isin(first.places, places)]]
    return not len(came) or bool(went.max() - came.min() <= TIE)


@contextmanager
def _selected_by(head: RTDETRDecoder, selector: object) -> Iterator[None]:
    before = head.selector
    head.selector = selector  # type: ignore[assignment]
    try:
        yield
    finally:
        head.selector = before
