"""Find out which of equally scored tokens a runtime selected as queries, by running the model with the same choice.

RT-DETR selects its queries by score. Where tokens have the same score except for rounding, as in flat parts of an
image, each runtime may select different ones, and its rows differ. Counting cannot show whether that is the cause: the
tokens that could be exchanged are known, the model is run with them, and only a choice under which all rows agree
explains the file.

Shapes: T tokens of all levels, Q queries, nc classes, F tied tokens that were not selected, K rows of the file, L rows
of the model: the K that fit, and as many beyond them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ultralytics.engine.export.parity import LEVELS, TIE, TOLERANCES, lost_rows, pair_rows
from ultralytics.nn.autobackend import AutoBackend
from ultralytics.nn.families import find_family
from ultralytics.nn.modules.query_head import QueryHead
from ultralytics.utils.errors import CheckpointError

ROUNDS = 4  # choices tried of each width; each starts from what the last one left unexplained
WIDTHS = (TIE / 100, TIE / 10, TIE)
"""Logits within which tokens count as tied: first what rounding makes of equal scores, where few can be exchanged."""
MAX_CANDIDATE_ROWS = 3000  # best first
MAX_RUNS = 16  # of the model for one choice, to see the rows that the candidates would give


@dataclass
class QueryOutput:
    """Output of the model for one image under one choice of queries, on the CPU."""

    confidence: Tensor  # (T,) logits by which tokens are selected
    tokens: Tensor  # (Q,) indices of the tokens that became queries
    boxes: Tensor  # (Q, 4)
    logits: Tensor  # (Q, nc)

    def rows(self, count: int) -> Tensor:
        """Return the best `count` pairs of query and class (L, 6), fewer where there are no more."""
        return best_rows(self.boxes, self.logits, count)[0]


def best_rows(boxes: Tensor, logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return rows (L, 6) of boxes (Q, 4) and logits (Q, nc), best first, and the query (L,) of each."""
    flat = logits.double().flatten()  # (Q * nc,)
    best, index = flat.topk(min(count, len(flat)))
    query = index // logits.shape[1]
    label = (index % logits.shape[1]).double()
    return torch.cat((boxes[query].double(), best.sigmoid()[:, None], label[:, None]), 1), query


class TieResolver:
    """Compute the model's rows for an image under the choice of queries that explains a file's rows, if there is one.

    Args:
        backend: The PyTorch model, with a head that selects queries.
        max_det: Bound on the rows of an exported file.
    """

    def __init__(self, backend: AutoBackend, max_det: int = 300) -> None:
        head = backend.model.model[-1] if backend.model is not None else None
        family = find_family(backend)
        if not isinstance(head, QueryHead) or family is None or family.places is None:
            raise TypeError(f"{type(head).__name__} does not select queries")
        self.backend, self.head, self.places, self.max_det = backend, head, family.places, max_det

    @torch.no_grad()
    def __call__(self, image: Tensor, got: Tensor, resolve: bool = True) -> tuple[Tensor, int]:
        """Return rows (L, 6) of the model for an image (1, C, H, W), and how many of its queries were exchanged.

        Without `resolve`, or where no choice among ties explains the rows `got` (K, 6) of the file, they are those of
        the model's own choice. Exchanged tokens differ in score by no more than `TIE`.

        Raises:
            CheckpointError: the file gives a different number of rows.
        """
        got = got.double().cpu()
        first = self._run(image)
        limit = min(self.head.num_queries, first.logits.numel(), self.max_det)
        if len(got) != limit:
            raise CheckpointError(f"the file gives {len(got)} rows, expected {limit}", "this is a bug")
        for width in WIDTHS if resolve else ():
            now = self._explained(image, first, got, width)
            if now is not None:
                return now.rows(2 * len(got)), _exchanged(first, now)
        return first.rows(2 * len(got)), 0

    def _explained(self, image: Tensor, first: QueryOutput, got: Tensor, width: float) -> QueryOutput | None:
        """Return the output under a choice of queries that gives the rows (K, 6) of a file, None if none is found.

        Only tokens whose scores are within `width` logits of the last query's are exchanged.
        """
        now, size = first, (int(image.shape[2]), int(image.shape[3]))
        for _ in range(ROUNDS):
            missing, unmatched = _differences(now, got, size)
            if not len(missing) and not len(unmatched):
                return now
            tokens = self._other_choice(image, first, now, missing, got[unmatched], width)
            if tokens is None:
                return None
            now = self._run(image, tokens)
        return None

    def _run(self, image: Tensor, tokens: Tensor | None = None) -> QueryOutput:
        """Run the model with its own choice of queries, or with a prescribed one (Q,)."""
        seen: list[Tensor] = []

        def select(confidence: Tensor, queries: int) -> Tensor:
            index = self.head.best_tokens(confidence, queries) if tokens is None else tokens[None].to(confidence.device)
            seen.extend((confidence[0], index[0]))
            return index

        with self.head.selecting_by(select):
            scored = self.places(self.head, self.backend(image), (int(image.shape[2]), int(image.shape[3])))
        confidence, index = (t.cpu() for t in seen)
        return QueryOutput(confidence.double(), index, scored.boxes.cpu(), scored.logits.cpu())

    def _other_choice(
        self,
        image: Tensor,
        first: QueryOutput,
        now: QueryOutput,
        missing: Tensor,
        unmatched: Tensor,
        width: float,
    ) -> Tensor | None:
        """Return tokens (Q,) with those exchanged that the differences point to; None where none can be exchanged.

        `missing` are queries (m,) whose rows the file lacks, `unmatched` rows (s, 6) that only the file has.
        """
        cut = first.confidence[first.tokens].min()
        tied = (first.confidence - cut).abs() <= width  # (T,)
        inside = torch.zeros_like(tied)
        inside[now.tokens] = True
        candidates = (tied & ~inside).nonzero()[:, 0]  # (F,)
        tied_queries = tied[now.tokens].nonzero()[:, 0]  # queries
        if not len(candidates) or not len(tied_queries):
            return None
        candidates = candidates[first.confidence[candidates].argsort(descending=True)]
        tied_queries = tied_queries[first.confidence[now.tokens[tied_queries]].argsort()]
        incoming = candidates[self._candidates_for(image, now, tied_queries, candidates, unmatched)]
        outgoing = tied_queries[torch.isin(tied_queries, missing)]
        # A query may be exchanged without a row of its own: then those nearest to the cut change places.
        spare = candidates[~torch.isin(candidates, incoming)]
        incoming = torch.cat((incoming, spare[: max(len(outgoing) - len(incoming), 0)]))
        rest = tied_queries[~torch.isin(tied_queries, outgoing)]
        outgoing = torch.cat((outgoing, rest[: max(len(incoming) - len(outgoing), 0)]))
        count = min(len(incoming), len(outgoing))
        if not count:
            return None
        tokens = now.tokens.clone()
        tokens[outgoing[:count]] = incoming[:count]
        return tokens if _exchange_is_a_tie(first, tokens) else None

    def _candidates_for(
        self,
        image: Tensor,
        now: QueryOutput,
        tied_queries: Tensor,
        candidates: Tensor,
        unmatched: Tensor,
    ) -> Tensor:
        """Return which candidates, as indices into (F,), would give one of the unmatched rows (s, 6) of the file.

        All of them are tried as queries, as many at a time as there are queries that they can replace.
        """
        boxes, logits, number = [], [], []
        size = (int(image.shape[2]), int(image.shape[3]))
        order = torch.arange(len(candidates))
        for part in order.split(len(tied_queries))[:MAX_RUNS]:
            tokens = now.tokens.clone()
            tokens[tied_queries[: len(part)]] = candidates[part]
            answer = self._run(image, tokens)
            boxes.append(answer.boxes[tied_queries[: len(part)]])
            logits.append(answer.logits[tied_queries[: len(part)]])
            number.append(part)
        rows, query = best_rows(torch.cat(boxes), torch.cat(logits), MAX_CANDIDATE_ROWS)
        pairs = torch.from_numpy(pair_rows(rows, unmatched, size)[0])
        return torch.cat(number)[query[pairs[:, 0]]].unique()


def _differences(now: QueryOutput, got: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return queries (m,) with rows that the file lacks, and indices (s,) of rows that only the file has.

    Rows that are paired although they differ by more than a file may are such rows: of a neighbouring token.
    """
    want, query = best_rows(now.boxes, now.logits, 2 * len(got))
    pairs, boxes, scores = pair_rows(want, got, size)
    allowed = TOLERANCES["fp32"]
    pairs = pairs[(boxes <= (allowed.box or 0.0)) & (scores <= (allowed.score or 0.0))]
    ours, theirs = map(torch.from_numpy, lost_rows(pairs, want, got))
    low = LEVELS[-1]
    missing = ours & (want[: len(ours), 4] > low)
    unmatched = theirs & ~(got[:, 4] <= low)
    return query[: len(ours)][missing].unique(), unmatched.nonzero()[:, 0]


def _exchanged(first: QueryOutput, now: QueryOutput) -> int:
    return int((~torch.isin(now.tokens, first.tokens)).sum())


def _exchange_is_a_tie(first: QueryOutput, tokens: Tensor) -> bool:
    """Whether all exchanged tokens have the same score as those that they replace."""
    came = first.confidence[tokens[~torch.isin(tokens, first.tokens)]]
    went = first.confidence[first.tokens[~torch.isin(first.tokens, tokens)]]
    return not len(came) or bool(went.max() - came.min() <= TIE)
