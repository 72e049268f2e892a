"""The gate: it must let equal files pass, and no other."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ultralytics.engine.export.parity import LEVELS, TOLERANCES, ParityReport, pair_rows

SIZE = (320, 640)


def rows(*items: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(items, dtype=torch.float64).reshape(1, -1, 6)


TWO = rows((0.3, 0.3, 0.2, 0.2, 0.9, 0), (0.7, 0.6, 0.2, 0.4, 0.4, 2), (0.1, 0.1, 0.1, 0.1, 1e-4, 2))
RANDOM = torch.cat(
    (
        torch.rand(3, 40, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.1,
        torch.rand(3, 40, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1)),
        torch.randint(3, (3, 40, 1), generator=torch.Generator().manual_seed(2)).double(),
    ),
    -1,
)


def compare(want: torch.Tensor, got: torch.Tensor) -> ParityReport:
    found = ParityReport()
    found.add_rows(want, got, SIZE)
    return found


def moved(index: int, column: int, by: float) -> torch.Tensor:
    other = TWO.clone()
    other[0, index, column] += by
    return other


@pytest.mark.parametrize(
    ("want", "got", "word"),
    [
        (rows(), rows(), None),
        (TWO, TWO, None),
        (TWO, TWO.flip(1), None),  # the order does not matter: equal scores may change places
        (RANDOM, RANDOM[:, torch.randperm(40, generator=torch.Generator().manual_seed(3))], None),
        (TWO, moved(0, 0, 0.04 / 640), None),
        (TWO, moved(0, 0, 0.06 / 640), "a box differs by 0.06 px"),
        (TWO, moved(0, 1, 0.06 / 320), "a box differs by 0.06 px"),
        (TWO, moved(1, 4, 2e-3), "a score differs by 0.002"),
        (TWO, moved(1, 5, -1), "no partner"),  # another class
        (TWO, moved(1, 0, 0.3), "no partner"),  # another place
        (TWO, moved(1, 4, -0.4), "a score differs"),  # gone below the level
        (TWO, torch.full_like(TWO, torch.nan), "no partner"),
        (RANDOM, RANDOM.roll(1, 0), "no partner"),  # answers of another image
        (TWO[:, :1], torch.full_like(TWO[:, :1], torch.nan), "no partner"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_verdict_in_fp32(want: torch.Tensor, got: torch.Tensor, word: str | None):
    reasons = compare(want, got).reasons(TOLERANCES["fp32"])
    assert not reasons if word is None else any(word in reason for reason in reasons), reasons


def test_differences_are_those_of_the_largest_side():
    found = compare(TWO, moved(0, 2, 0.02))  # wider by 0.02 * 640 px, half of it on each side
    assert found.boxes[0.25] == pytest.approx([6.4, 0.0], abs=1e-9)
    assert found.wanted == {0.25: 2, 0.001: 2} and found.lost == {0.25: 0, 0.001: 0}


CUT = rows((0.3, 0.3, 0.2, 0.2, 0.9, 0), (0.7, 0.6, 0.2, 0.4, 0.3, 2), (0.2, 0.7, 0.2, 0.4, 0.29999, 1))


@pytest.mark.parametrize(
    ("want", "got", "word"),
    [
        (CUT, CUT[:, :2], None),
        (CUT, CUT[:, [0, 2]], None),  # the last two are equals: a list of two may end with either
        (CUT, CUT[:, 1:], "1 of 4 rows above 0.25"),  # the best is lost, whatever stands in its place
        (CUT[:, :2], CUT[:, [0, 2]], "1 of 4 rows above 0.25"),  # a row at the end that the model does not have
        (CUT, CUT[:, [0, 2]] + torch.tensor([0.0, 0, 0, 0, 0.01, 0]), "a score differs"),
        # the file makes a better row of the model's third than its second is, by less than the bound of scores
        (CUT, CUT[:, [0, 2]] + torch.tensor([0.0, 0, 0, 0, 9e-4, 0]), "1 of 4 rows above 0.25"),
        (rows((0.7, 0.6, 0.2, 0.4, 0.003, 2), (0.2, 0.7, 0.2, 0.4, 0.002999, 1)),
         rows((0.2, 0.7, 0.2, 0.4, 0.002999, 1)), None),
        # at low scores too, equal means equal in logits, not by so much of a score that is not larger itself
        (rows((0.7, 0.6, 0.2, 0.4, 0.0030, 2), (0.2, 0.7, 0.2, 0.4, 0.0025, 1)),
         rows((0.2, 0.7, 0.2, 0.4, 0.0025, 1)), "1 of 2 rows above 0.001"),
        (rows((0.7, 0.6, 0.2, 0.4, 0.003, 2)), rows((0.7, 0.6, 0.2, 0.4, 0.003, 1)), "1 of 2 rows above 0.001"),
        (rows((0.7, 0.6, 0.2, 0.4, 0.003, 2)), rows((0.1, 0.6, 0.2, 0.4, 0.003, 2)), "1 of 2 rows above 0.001"),
    ],
)  # fmt: skip
def test_the_end_of_a_list(want: torch.Tensor, got: torch.Tensor, word: str | None):
    """An output holds a fixed number of rows; which of equal scores comes last depends on rounding alone."""
    reasons = compare(want, got).reasons(TOLERANCES["fp32"])
    assert not reasons if word is None else any(word in reason for reason in reasons), reasons


def test_pairs_are_one_to_one():
    want = rows((0.5, 0.5, 0.2, 0.2, 0.9, 0), (0.5, 0.5, 0.2, 0.2, 0.8, 0))[0]
    pairs, boxes, scores = pair_rows(want, want.flip(0), SIZE)
    assert sorted(map(tuple, pairs.tolist())) == [(0, 1), (1, 0)]
    assert np.allclose(boxes, 0) and np.allclose(scores, 0)


def test_metrics_count():
    found = compare(TWO, TWO)
    found.add_metrics({"metrics/mAP50(B)": 0.5, "fitness": 1.0}, {"metrics/mAP50(B)": 0.502, "fitness": 9.0})
    assert found.metrics == {"metrics/mAP50(B)": (0.5, 0.502)}
    assert any("mAP50" in r for r in found.reasons(TOLERANCES["fp32"]))
    assert not found.reasons(TOLERANCES["fp16"])
    found.add_metrics({"x": float("nan")}, {"x": 0.5})
    assert found.reasons(TOLERANCES["int8"])


@pytest.mark.parametrize(
    ("name", "model", "file", "exact", "lower"),
    [
        ("metrics/mAP50(B)", 0.5, 0.5, True, True),
        ("metrics/mAP50(B)", 0.5, 0.4, False, False),
        ("metrics/mAP50(B)", 0.4, 0.5, False, True),  # a lower precision may be better
        ("metrics/recall(B)", 0.5, 0.4, False, True),
        ("metrics/precision(B)", 0.5, float("nan"), False, False),
        ("metrics/mAP50(B)", 0.5, float("nan"), False, False),
        ("metrics/accuracy_top1", 0.9, 0.8, False, False),
    ],
)
def test_what_metrics_may_do(name: str, model: float, file: float, exact: bool, lower: bool):
    for precision, allowed in (("fp32", exact), ("fp16", lower), ("int8", lower)):
        found = compare(TWO, TWO)
        found.add_metrics({name: model}, {name: file})
        assert (not found.reasons(TOLERANCES[precision])) is allowed, precision


def test_logits():
    logits = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    same, other = ParityReport(), ParityReport()
    same.add_logits(logits, logits + 5)  # the same probabilities
    other.add_logits(logits, logits.flip(1))
    assert not same.reasons(TOLERANCES["fp32"]) and other.lost[0.25] == 2 and other.reasons(TOLERANCES["int8"])


def test_table_and_numbers():
    found = compare(RANDOM, RANDOM)
    table, numbers = found.table(), found.numbers()
    assert [row[0] for row in table[1:]] == [f"{level:g}" for level in LEVELS]
    assert {len(row) for row in table} == {8}
    assert numbers["images"] == 3 and numbers["box_px_max_0.25"] == 0.0 and numbers["rows_0.001"] == 120
    assert ParityReport().table()[1][1:4] == ("0", "0", "0")
