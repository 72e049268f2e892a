"""Ties in the query selection: a choice among equals passes the gate, and nothing that only looks like one does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tests.engine.tiny import TINY, spread_network
from ultralytics.engine.export.parity import TIE, TOLERANCES, ParityReport
from ultralytics.engine.export.tie_breaking import TieResolver
from ultralytics.nn.autobackend import AutoBackend
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils.errors import CheckpointError
from ultralytics.utils.metrics import box_iou
from ultralytics.utils.ops import xywh2xyxy

SIZE = (96, 128)
Change = Callable[[torch.Tensor], torch.Tensor]


@pytest.fixture(scope="module")
def network() -> RTDETRDetectionModel:
    """30 queries from 252 places; the boxes of tied places differ, since their anchors do."""
    assert TINY["head"][-1][-1][2] == 30
    model = spread_network()
    model.fuse(verbose=False)
    return model


@pytest.fixture(scope="module")
def flat() -> torch.Tensor:
    """Half of the picture is noise, half is flat: places far from its border have the very same score."""
    image = torch.rand((1, 3, *SIZE), generator=torch.Generator().manual_seed(0))
    image[..., 48:] = 0.5
    return image


def file_rows(network: RTDETRDetectionModel, image: torch.Tensor, change: Change | None = None) -> torch.Tensor:
    """The rows (K, 6) of a runtime whose scores of places are changed before it selects."""
    head = network.model[-1]
    select = head.best_tokens if change is None else lambda values, queries: head.best_tokens(change(values), queries)
    with torch.no_grad(), head.selecting_by(select):
        return network(image)[0][0]


def level(network: RTDETRDetectionModel, image: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Scores of all places, and that of the last query."""
    seen: list[torch.Tensor] = []
    file_rows(network, image, lambda confidence: seen.append(confidence) or confidence)
    return seen[0][0], float(seen[0][0].topk(30).values[-1])


def judge(network: RTDETRDetectionModel, image: torch.Tensor, got: torch.Tensor) -> tuple[list[str], ParityReport]:
    want, swapped = TieResolver(AutoBackend(network))(image, got)
    found = ParityReport()
    found.add_rows(want[None], got[None], SIZE, swapped)
    return found.reasons(TOLERANCES["fp32"]), found


def with_ties(network: RTDETRDetectionModel, image: torch.Tensor, count: int, gap: float) -> Change:
    """Make the scores of `count` places on both sides of the cut differ by `gap` from it; bound to the network."""
    confidence, _ = level(network, image)
    order = confidence.argsort(descending=True)
    lower, upper = order[30 : 30 + count], order[30 - count : 30]

    def change(values: torch.Tensor) -> torch.Tensor:
        out = values.clone()
        middle = float(confidence[order[29]])
        out[0, upper], out[0, lower] = middle + gap / 2, middle - gap / 2
        return out

    return change


def overlapping_pair(network: RTDETRDetectionModel, image: torch.Tensor) -> tuple[int, int]:
    """A selected place and one that is not, whose boxes overlap so much that their rows are taken for one."""
    order = level(network, image)[0].argsort(descending=True)
    boxes = []
    for tokens in order[:120].split(30):
        with torch.no_grad(), network.model[-1].selecting_by(lambda values, queries, t=tokens: t[None]):
            boxes.append(network(image)[1].dec_bboxes[-1][0])
    corners = xywh2xyxy(torch.cat(boxes)) * torch.tensor([SIZE[1], SIZE[0]] * 2)
    apart = (corners[:30, None] - corners[None, 30:]).abs().amax(-1) > 1
    overlap = box_iou(corners[:30], corners[30:]) * apart  # (30, 90)
    best = int(overlap.argmax())
    assert overlap.flatten()[best] > 0.55  # `pair_rows` pairs those above one half
    return int(order[best // 90]), int(order[30 + best % 90])


def tied_model(network: RTDETRDetectionModel, change: Change, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the model itself see the changed scores, also when it selects by them."""
    head = network.model[-1]
    real = type(head)._get_decoder_input

    def shown(self, feats, anchors, queries):  # type: ignore[no-untyped-def]
        pick = self.selector
        with self.selecting_by(lambda confidence, n: pick(change(confidence), n)):
            return real(self, feats, anchors, queries)

    monkeypatch.setattr(type(head), "_get_decoder_input", shown)


def test_no_difference(network: RTDETRDetectionModel, flat: torch.Tensor):
    reasons, found = judge(network, flat, file_rows(network, flat))
    assert not reasons and found.swapped == 0 and max(found.boxes[0.001]) < 1e-4


@pytest.mark.parametrize("count", [1, 3, 8])
def test_a_genuine_tie_passes(
    network: RTDETRDetectionModel, flat: torch.Tensor, count: int, monkeypatch: pytest.MonkeyPatch
):
    """The file takes the lower ones of places whose scores differ by a tenth of the tolerance."""
    tied_model(network, with_ties(network, flat, count, TIE / 10), monkeypatch)
    reverse = with_ties(network, flat, count, -TIE / 10)
    got = file_rows(network, flat, reverse)
    assert (got - file_rows(network, flat)).abs().max() > 0.01  # without the referee this is a failure
    reasons, found = judge(network, flat, got)
    assert not reasons and found.swapped == count
    assert max(found.boxes[0.001]) < 1e-3 and found.lost == {0.25: 0, 0.001: 0}


def test_a_tie_of_neighbours_passes(network: RTDETRDetectionModel, flat: torch.Tensor, monkeypatch: pytest.MonkeyPatch):
    """The rows of both are paired, since their boxes overlap: the exchange shows as a box that is too far away."""
    inside, outside = overlapping_pair(network, flat)
    middle = level(network, flat)[1]

    def tie(gap: float) -> Change:
        places, values = torch.tensor([inside, outside]), torch.tensor([middle + gap, middle - gap])
        return lambda confidence: confidence.index_copy(1, places, values[None])

    tied_model(network, tie(TIE / 50), monkeypatch)
    want, got = file_rows(network, flat), file_rows(network, flat, tie(-TIE / 50))
    plain = ParityReport()
    plain.add_rows(want[None], got[None], SIZE)
    assert [reason[:5] for reason in plain.reasons(TOLERANCES["fp32"])] == ["a box"] and not plain.lost[0.001]
    reasons, found = judge(network, flat, got)
    assert not reasons and found.swapped == 1 and max(found.boxes[0.001]) < 1e-3
    got[4, 0] += 0.1 / SIZE[1]  # a defect beside the tie
    assert "a box differs" in judge(network, flat, got)[0][0]


@pytest.mark.parametrize("count", [1, 3])
def test_other_queries_that_are_no_tie_fail(
    network: RTDETRDetectionModel, flat: torch.Tensor, count: int, monkeypatch: pytest.MonkeyPatch
):
    tied_model(network, with_ties(network, flat, count, TIE * 3), monkeypatch)
    reasons, found = judge(network, flat, file_rows(network, flat, with_ties(network, flat, count, -TIE)))
    assert reasons and found.swapped == 0


@pytest.mark.parametrize(
    ("defect", "word"),
    [
        ("shifted", "a box differs"),
        ("far", "no partner"),
        ("class", "no partner"),
        ("lost", "no partner"),
        ("score", "a score differs"),
        ("nan", "no partner"),
    ],
)
def test_a_defect_fails_among_ties_too(
    network: RTDETRDetectionModel, flat: torch.Tensor, defect: str, word: str, monkeypatch: pytest.MonkeyPatch
):
    tied_model(network, with_ties(network, flat, 3, TIE / 10), monkeypatch)
    got = file_rows(network, flat, with_ties(network, flat, 3, -TIE / 10)).clone()
    row = 4
    if defect == "shifted":
        got[row, 0] += 0.1 / SIZE[1]
    elif defect == "far":
        got[row, :2] = 1 - got[row, :2]
    elif defect == "class":
        got[row, 5] = (got[row, 5] + 1) % 3
    elif defect == "lost":
        got = torch.cat((got[:row], got[row + 1 :], got[-1:]))  # the last row twice
    elif defect == "score":
        got[row, 4] -= 2e-3
    else:
        got[row, :5] = torch.nan
    reasons, _ = judge(network, flat, got)
    assert any(word in reason for reason in reasons), reasons


def test_a_picture_without_any_detail(network: RTDETRDetectionModel):
    """Real ties, not made ones: many places of one score, of which a runtime takes the last instead of the first."""
    image = torch.full((1, 3, 256, 320), 0.3)
    confidence, cut = level(network, image)
    tied = (confidence - cut).abs() < TIE / 10
    assert tied.sum() > 4

    def last_first(values: torch.Tensor) -> torch.Tensor:
        out = values.clone()
        out[0, tied] = cut + 1e-6 * torch.arange(int(tied.sum()))
        return out

    got = file_rows(network, image, last_first)
    want, swapped = TieResolver(AutoBackend(network))(image, got)
    found = ParityReport()
    found.add_rows(want[None], got[None], (256, 320), swapped)
    assert not found.reasons(TOLERANCES["fp32"])


def test_another_number_of_rows_is_an_error(network: RTDETRDetectionModel, flat: torch.Tensor):
    got = file_rows(network, flat)
    with pytest.raises(CheckpointError, match="29 rows, expected 30"):
        TieResolver(AutoBackend(network))(flat, got[:-1])
    assert len(TieResolver(AutoBackend(network), max_det=7)(flat, got[:7])[0]) == 14
