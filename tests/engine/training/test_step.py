"""A step without a trainer: gradients of a group of batches, the update and its events, checks before the update."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ultralytics.engine.training.console import LossMeter
from ultralytics.engine.training.nan_trace import StepFailure
from ultralytics.engine.training.optimizer import Warmup
from ultralytics.engine.training.recovery import Recovery
from ultralytics.engine.training.step import StepChecks, TrainParts, TrainStep, mean_items
from ultralytics.utils.torch_tools.training import ModelEMA

CPU = torch.device("cpu")


class Net(nn.Module):
    """The loss of a batch is the sum of its objects' errors over their number, as a detector's is."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, -2.0]))
        self.partial: list[bool] = []

    def loss(self, batch: dict[str, Any], preds: object = None, partial: bool = False) -> tuple[Tensor, Tensor]:
        self.partial.append(partial)
        error = (batch["cls"] * self.weight).sum() / max(len(batch["cls"]), 1)
        return error, error.detach().reshape(1)

    def forward(self, batch: dict[str, Any], **options: Any) -> tuple[Tensor, Tensor]:
        return self.loss(batch, **options)


class Plain(Net):
    """A loss in user code, which knows of no other batches."""

    def loss(self, batch: dict[str, Any], preds: object = None) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return super().loss(batch, preds)


def parts_of(net: nn.Module, ema: ModelEMA | None = None) -> TrainParts:
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    return TrainParts(net, torch.optim.SGD(net.parameters(), lr=0.5), ema, scaler)


def batch_of(*rows: tuple[float, float]) -> Any:
    return {"img": torch.zeros(1, 3, 2, 2), "cls": torch.tensor(rows).reshape(-1, 2), "im_file": ("a.png",)}


def test_a_step_of_one_batch_is_gradient_descent() -> None:
    net = Net()
    step = TrainStep(parts_of(net), Warmup())
    result = step(batch_of((2.0, 4.0), (4.0, 0.0)))
    assert result.complete and result.loss == pytest.approx((2 - 8 + 4) / 2) and not result.loss.requires_grad
    assert net.weight.grad is not None and net.weight.grad.tolist() == [3.0, 2.0]
    norm = step.update()
    assert float(norm) == pytest.approx(math.hypot(3, 2)) and net.weight.tolist() == [1 - 1.5, -2 - 1.0]
    assert net.weight.grad is None or not net.weight.grad.any()


def test_the_gradient_is_clipped() -> None:
    net = Net()
    step = TrainStep(parts_of(net), Warmup(), clip_norm=0.1)
    step(batch_of((3.0, 4.0)))
    assert float(step.update()) == pytest.approx(5.0)
    assert net.weight.tolist() == pytest.approx([1 - 0.5 * 0.06, -2 - 0.5 * 0.08])


def test_a_group_of_batches_equals_the_large_batch() -> None:
    rows = [(1.0, 2.0), (3.0, -1.0), (0.5, 0.5)]
    net = Net()
    step = TrainStep(parts_of(net), Warmup(accumulate=2))
    done = [step(batch_of(rows[0])).complete, step(batch_of(*rows[1:])).complete]
    assert done == [False, True] and net.partial == [True, True]
    assert net.weight.grad is not None
    torch.testing.assert_close(net.weight.grad, torch.tensor(rows).mean(0))


def test_an_epoch_may_end_inside_a_group_and_a_batch_may_be_empty() -> None:
    net = Net()
    step = TrainStep(parts_of(net), Warmup(accumulate=4))
    assert not step(batch_of()).complete and step(batch_of((2.0, 6.0)), number=1, last=True).complete
    assert net.weight.grad is not None and net.weight.grad.tolist() == [2.0, 6.0]


def test_a_loss_without_the_argument_partial_is_called_without() -> None:
    net = Plain()
    TrainStep(parts_of(net), Warmup(accumulate=2))(batch_of((1.0, 1.0)))
    assert net.partial == [False]


def test_the_update_moves_the_average_and_notifies_in_order() -> None:
    net = Net()
    ema, events, weights = ModelEMA(net), [], []
    step = TrainStep(parts_of(net, ema), Warmup())
    step(batch_of((2.0, 4.0)))

    def note(event: str) -> None:
        events.append(event)
        weights.append((net.weight[0].item(), ema.updates))

    step.update(note)
    assert events == ["optimizer_step", "on_before_zero_grad", "on_params_update"]
    assert weights == [(0.0, 0), (0.0, 0), (0.0, 1)]


def checked(net: nn.Module, every_batch: bool = False) -> tuple[TrainStep, LossMeter]:
    meter, recovery = LossMeter(["error"]), Recovery(check_every_step=True)
    recovery.check_every_batch = every_batch
    return TrainStep(parts_of(net), Warmup(), checks=StepChecks(meter, recovery, CPU)), meter


def test_a_loss_that_is_not_finite_stops_before_the_weights_change() -> None:
    net = Net()
    step, _ = checked(net)
    with pytest.raises(StepFailure, match="loss") as e:
        step(batch_of((math.inf, 0.0)))
    assert e.value.exact and net.weight.grad is None


@pytest.mark.parametrize("every_batch", [False, True])
def test_a_gradient_that_is_not_finite_stops_before_the_update(every_batch: bool) -> None:
    net = Net()
    step, _ = checked(net, every_batch)
    net.weight.register_hook(lambda gradient: gradient * math.nan)
    if every_batch:
        with pytest.raises(StepFailure, match="gradient"):
            step(batch_of((1.0, 1.0)))
    else:
        step(batch_of((1.0, 1.0)))
        with pytest.raises(StepFailure, match="gradient"):
            step.update()
    assert net.weight.tolist() == [1.0, -2.0]


def test_losses_reach_the_meter() -> None:
    step, meter = checked(Net())
    for rows in ([(1.0, 0.0)], [(3.0, 0.0)]):
        step(batch_of(*rows))
    assert meter.mean == [2.0] and not meter.pending


def test_mean_of_the_items() -> None:
    mean = mean_items([6.0, 3.0], 3, CPU)
    assert mean.dtype is torch.float64 and mean.tolist() == [2.0, 1.0]
    assert mean_items([0.0], 0, CPU).tolist() == [0.0]


@pytest.mark.parametrize(("scale", "want"), [(4.0, 0.0), (1.0, 0.0), (0.5, math.inf), (None, math.inf)])
def test_infinite_gradients_are_the_scaler_s_down_to_a_scale_of_1(scale: float | None, want: float) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale is not None)
    net = nn.Linear(2, 1)
    parts = TrainParts(net, torch.optim.SGD(net.parameters(), lr=1.0), None, scaler)
    assert parts.scales is (want == 0)
    assert float(parts.unless_scaled(torch.tensor(math.inf))) == want
