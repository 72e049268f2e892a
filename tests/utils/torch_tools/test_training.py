from __future__ import annotations

import json
import math
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.golden.fill import fill_
from ultralytics.utils.torch_tools.training import (
    LR_CURVES,
    EarlyStopping,
    ModelEMA,
    copy_attr,
    flat_cosine_lr,
    unwrap_model,
)

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "schedules.json").read_text())


def small() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))


def test_decay_is_the_golden_one() -> None:
    ema = ModelEMA(small(), decay=GOLDEN["ema"]["decay"], tau=GOLDEN["ema"]["tau"])
    for updates, want in zip(GOLDEN["ema"]["updates"], GOLDEN["ema"]["value"], strict=True):
        assert math.isclose(ema.decay(updates), want, rel_tol=1e-12)
    assert ModelEMA(small(), decay=0.9, tau=0).decay(1) == 0.9


def test_a_run_is_the_golden_one() -> None:
    want = GOLDEN["ema"]["run"]
    model = small()
    fill_(model, prefix="ema/0/")
    ema = ModelEMA(model, decay=0.99, tau=5, updates=3)
    for k in range(1, 5):
        fill_(model, prefix=f"ema/{k}/")
        model[1].num_batches_tracked += k
        ema.update(model)
    assert ema.updates == want["updates"]
    assert ema.ema.training is want["training_flag"]
    assert [p.requires_grad for p in ema.ema.parameters()] == want["requires_grad"]
    for key, values in want["state"].items():
        torch.testing.assert_close(ema.ema.state_dict()[key].flatten().tolist(), values, rtol=0, atol=1e-6)


def test_update_equals_a_slow_reference() -> None:
    """Mixed data types; the formula tensor by tensor in float64."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"a": nn.Linear(3, 2), "b": nn.Linear(2, 2).to(torch.bfloat16), "c": nn.BatchNorm1d(2)})
    ema = ModelEMA(model, decay=0.9, tau=3)
    slow = {k: v.double() for k, v in model.state_dict().items()}
    for step in range(1, 4):
        for p in model.parameters():
            p.data.add_(torch.randn_like(p))
        ema.update(model)
        d = 0.9 * (1 - math.exp(-step / 3))
        for k, v in model.state_dict().items():
            slow[k] = d * slow[k] + (1 - d) * v.double() if v.is_floating_point() else slow[k]
    for k, v in ema.ema.state_dict().items():
        tolerance = 3e-2 if v.dtype == torch.bfloat16 else 1e-6
        torch.testing.assert_close(v.double(), slow[k], rtol=tolerance, atol=tolerance)


def test_the_average_is_apart_from_the_model() -> None:
    model = small()
    before = deepcopy(model.state_dict())
    ema = ModelEMA(model)
    ema.ema[0].weight.data.zero_()
    assert torch.equal(model[0].weight, before["0.weight"]) and model.training
    assert all(p.requires_grad for p in model.parameters())


def test_state_travels() -> None:
    model = small()
    ema = ModelEMA(model, tau=1)
    model[0].weight.data.add_(1)
    ema.update(model)
    other = ModelEMA(small())
    other.load(deepcopy(ema.state()))
    assert other.updates == 1
    assert all(
        torch.equal(a, b) for a, b in zip(other.ema.state_dict().values(), ema.ema.state_dict().values(), strict=True)
    )


def test_attributes() -> None:
    model = small()
    ema = ModelEMA(model)
    model.names, model.args, model._hidden = {0: "a"}, 1, 2  # type: ignore[assignment]
    ema.update_attr(model, include=("names", "_hidden"))
    assert ema.ema.names == {0: "a"} and not hasattr(ema.ema, "args") and not hasattr(ema.ema, "_hidden")
    ema.update_attr(model, exclude=("names",))
    assert ema.ema.args == 1 and ema.ema.training is False and model.training is True


def test_copy_attr_of_nothing() -> None:
    class Box:
        pass

    a, b = Box(), Box()
    copy_attr(a, b)
    assert vars(a) == {}


def test_unwrap_model() -> None:
    model = small()
    assert unwrap_model(model) is model
    assert unwrap_model(nn.DataParallel(nn.DataParallel(model))) is model
    assert unwrap_model(torch.compile(model)) is model  # type: ignore[arg-type]
    holder = nn.Module()
    holder.module = model  # an ordinary child of that name is not a wrapper
    assert unwrap_model(holder) is holder


@pytest.mark.parametrize(
    ("patience", "fitness", "stops", "best"),
    [
        (3, [], [], 0),
        (2, [0.1, 0.2, 0.1, 0.1], [False, False, False, True], 1),
        (2, [0.2, 0.2, 0.2], [False, False, True], 0),
        (2, [0.0, 0.0, 0.0, 0.0], [False] * 4, 3),
        (2, [0.1, None, None, None], [False] * 4, 0),
        (0, [0.5] + [0.1] * 50, [False] * 51, 0),
        (1, [0.5, 0.4], [False, True], 0),
    ],
)
def test_early_stopping(patience: int, fitness: list[float | None], stops: list[bool], best: int) -> None:
    stopper = EarlyStopping(patience)
    assert [stopper(epoch, f) for epoch, f in enumerate(fitness)] == stops
    assert stopper.best_epoch == best


def test_possible_stop_comes_one_epoch_before() -> None:
    stopper = EarlyStopping(2)
    said = []
    for epoch, f in enumerate([0.5, 0.1, 0.1]):
        stopper(epoch, f)
        said.append(stopper.possible_stop)
    assert said == [False, True, True]


def test_early_stopping_state() -> None:
    stopper = EarlyStopping(2)
    for epoch, f in enumerate([0.5, 0.1]):
        stopper(epoch, f)
    state = json.loads(json.dumps(stopper.state_dict()))
    other = EarlyStopping(2)
    other.load_state_dict(state)
    assert other.state_dict() == state and other(2, 0.1) is True


@pytest.mark.parametrize("table", GOLDEN["factor_per_epoch"]["tables"], ids=lambda t: f"{t['schedule']}-{t['epochs']}")
def test_curves_are_the_golden_ones(table: dict[str, Any]) -> None:
    curve = LR_CURVES[table["schedule"]](table["epochs"], table["lrf"])
    assert [curve(e) for e in table["epoch"]] == pytest.approx(table["factor"], abs=1e-12)


@pytest.mark.parametrize("name", sorted(LR_CURVES))
def test_curves_begin_at_one_and_never_rise(name: str) -> None:
    curve = LR_CURVES[name](10, 0.1)
    values = [curve(e / 4) for e in range(49)]
    assert values[0] == 1 and values == sorted(values, reverse=True)
    end = 1.0 if name == "constant" else 0.1
    assert values[40] == pytest.approx(end) and values[-1] == pytest.approx(end)


def test_flat_cosine_is_flat_first() -> None:
    curve = flat_cosine_lr(10, 0.0, flat=0.4)
    assert [curve(e) for e in (0, 2, 4)] == [1, 1, 1]
    assert curve(7) == pytest.approx(0.5) and curve(10) == pytest.approx(0)
