"""What a YAML may ask for has bounds: a network is refused before its memory or its time is spent."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.engine.tiny import TINY
from ultralytics.nn.build import builder
from ultralytics.nn.build.budget import ConstructionBudget
from ultralytics.nn.build.names import resolve_nn_text
from ultralytics.nn.checkpoint.validate import record_budget
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils.errors import ModelYAMLError


def with_row(index: int, row: list[Any]) -> dict[str, Any]:
    """The tiny network with another row."""
    rows = list(TINY["backbone"])
    rows[index] = row
    return {**TINY, "backbone": rows}


@pytest.mark.parametrize(
    ("yaml", "reason"),
    [
        (with_row(1, [-1, 10**9, "Conv", [16, 3, 2]]), "at most 200"),
        (with_row(1, [-1, 1, "Conv", [10**9, 10**6, 2]]), "layer 1"),
        ({**TINY, "backbone": [[-1, 1, "Conv", [8]]] * 6_000}, "rows; at most 5,000"),
        ({**TINY, "activation": "nn.Linear(100000, 100000)"}, "more than 10,000,000 numbers|memory"),
        ({**TINY, "activation": "nn.LSTM(10000, 10000, 100)"}, "more than 10,000,000 numbers|memory"),
        ({**TINY, "activation": "nn.Hardtanh(5, 1)"}, "neither nn.Name nor"),
        ({**TINY, "activation": "nn.ReLU(" + "-" * 100_000 + "1)"}, "neither nn.Name nor"),
        ({**TINY, "activation": "nn.ReLU(" + "[" * 900 + ")"}, "neither nn.Name nor"),
    ],
    ids=["repeats", "channels", "rows", "linear", "lstm", "values", "long", "deep"],
)
def test_bounds(yaml: dict[str, Any], reason: str) -> None:
    with pytest.raises(ModelYAMLError, match=reason) as e:
        RTDETRDetectionModel(yaml, verbose=False)
    assert max(map(len, str(e.value).splitlines())) < 600


def test_a_head_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "MAX_TENSORS", 500)
    head = [*TINY["head"][:-1], [[2, 3, 6], 1, "RTDETRDecoder", ["nc", 32, 30, 4, 4, 10**6, 64]]]
    with pytest.raises(ModelYAMLError, match=r"layer 7 \(RTDETRDecoder\): wrong arguments .* 500 tensors"):
        RTDETRDetectionModel({**TINY, "head": head}, verbose=False)


def test_what_is_counted() -> None:
    with ConstructionBudget(13, 3):
        torch.empty(4)
        torch.zeros(6, device="meta")
        torch.ones(3).sum()  # not a factory, and the third tensor
    with pytest.raises(ModelYAMLError, match="more than 10 numbers"), ConstructionBudget(10, 3):
        torch.empty(11)
    with pytest.raises(ModelYAMLError, match="in 1 tensors"), ConstructionBudget(10, 1):
        torch.empty(1)
        torch.empty(1)


def test_usual_modules_fit() -> None:
    assert isinstance(resolve_nn_text("nn.PReLU(512)"), torch.nn.PReLU)


def test_a_classifier_of_torchvision_may_be_made_for_a_part_of_it() -> None:
    state = {"m.features.0.weight": torch.empty(1_000)}
    with record_budget(state, classifier=True):
        for _ in range(4):
            torch.empty(138_000_000, device="meta")  # VGG-16, twice for its stages and twice for the row
    with pytest.raises(ModelYAMLError, match="far more than the file holds"), record_budget(state):
        torch.empty(138_000_000, device="meta")
