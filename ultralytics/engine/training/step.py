"""One training step, readable without the trainer: forward, loss, backward, and at a group's end the update.

    step = TrainStep(TrainParts(model, optimizer, ema, scaler), Warmup())
    for number, batch in enumerate(loader):
        result = step(batch, number)
        if result.complete:
            step.update()

Shapes: N targets of a batch.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ultralytics.data.types import Batch
from ultralytics.engine.training.console import LossMeter
from ultralytics.engine.training.nan_trace import StepFailure
from ultralytics.engine.training.optimizer import GradientAccumulator, Warmup, optimizer_step
from ultralytics.engine.training.profiler import StepTimes
from ultralytics.utils import dist
from ultralytics.utils.torch_tools.training import ModelEMA
from ultralytics.utils.torch_utils import autocast, unwrap_model


class MixedPrecision(NamedTuple):
    """The scaler of the loss, and the data type of the forward pass; None is float32."""

    scaler: torch.amp.GradScaler
    dtype: torch.dtype | None = None

    @classmethod
    def of_dtype(cls, dtype: torch.dtype | None, device: torch.device) -> MixedPrecision:
        """Return a data type with the scaler that it needs."""
        return cls(torch.amp.GradScaler(device.type, enabled=dtype is torch.float16), dtype)


@dataclass
class TrainParts:
    """What a step moves: the network (possibly wrapped for several processes), its optimizer, average and scaler."""

    model: nn.Module
    optimizer: Optimizer
    ema: ModelEMA | None
    scaler: torch.amp.GradScaler
    amp_dtype: torch.dtype | None = None
    """Precision of the forward pass; None is float32."""

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All parameters of the optimizer, in the order of its groups."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    @property
    def scales(self) -> bool:
        """Whether a scaler is on that handles infinite gradients; below a scale of 1 they are faults of the run.

        To read the scale a GPU must be waited for.
        """
        return self.scaler.is_enabled() and self.scaler.get_scale() >= 1

    def unless_scaled(self, norm: Tensor) -> Tensor:
        """Return a gradient norm, 0 where `scales` holds, without a wait."""
        if not self.scaler.is_enabled():
            return norm
        scale = self.scaler.scale(torch.ones_like(norm))
        return torch.where(scale >= 1, torch.zeros_like(norm), norm)


class StepResult(NamedTuple):
    """`loss` is a scalar, `items` one value per loss name, both detached and on the device.

    `complete`: the gradients of the accumulation group are ready, and `update` is to be called.
    """

    loss: Tensor
    items: Tensor
    complete: bool


class SearchMode(Protocol):
    """How closely a run checks for values that are not finite."""

    check_every_step: bool
    check_every_batch: bool


class StepChecks:
    """Checks losses and gradients for values that are not finite; raises `StepFailure` before the weights take them.

    On a GPU the values are fetched every few batches only, since each check makes the host wait for the device.
    """

    KINDS = ("loss", "gradient")

    def __init__(self, meter: LossMeter, mode: SearchMode, device: torch.device) -> None:
        self.meter, self.mode, self.device = meter, mode, device

    def losses(self, loss: Tensor, items: Tensor, batch: Batch) -> None:
        """Take the losses of a batch, and check them now when each step is checked."""
        self.meter.add(loss, items)
        if self.mode.check_every_step:
            self.fetch(batch, exact=True)

    def gradients(self, parts: TrainParts, batch: Batch) -> None:
        """Check the gradients of a batch, when each batch is checked."""
        if not self.mode.check_every_batch or parts.scales:
            return
        norm = nn.utils.get_total_norm([p.grad for p in parts.parameters if p.grad is not None])
        if not math.isfinite(norm):
            raise StepFailure("gradient", batch, exact=True)

    def norm(self, norm: Tensor, parts: TrainParts, batch: Batch, single: bool) -> None:
        """Take the gradient norm of a step, before the step; `single`: the step is of one batch."""
        if not self.mode.check_every_step:
            self.meter.add_norm(parts.unless_scaled(norm))
        elif not parts.scales and not math.isfinite(norm):
            raise StepFailure("gradient", batch, exact=single)

    def fetch(self, batch: Batch, exact: bool = False) -> None:
        """Fetch the pending losses and norms; all processes stop together when one holds what is not finite."""
        bad = self.meter.flush()
        if dist.is_initialized():
            flags = torch.tensor([float(bad == kind) for kind in self.KINDS], device=self.device)
            counts = dist.all_reduce_sum(flags).tolist()
            bad = next((kind for kind, n in zip(self.KINDS, counts, strict=True) if n), "")
        if bad:
            raise StepFailure(bad, batch, exact)


class TrainStep:
    """Runs batches forward and backward, and moves the weights at the end of each accumulation group.

    Args:
        parts: Network, optimizer, average, scaler, precision.
        warmup: How many batches make a step; see `Warmup.accumulate_at`.
        clip_norm: Largest gradient norm, 0 for no clipping.
        checks: Checks for values that are not finite; None: none.
        times: Stopwatch of the parts of a step.
    """

    def __init__(
        self,
        parts: TrainParts,
        warmup: Warmup,
        clip_norm: float = 0.0,
        checks: StepChecks | None = None,
        times: StepTimes | None = None,
    ) -> None:
        self.parts, self.warmup, self.clip_norm = parts, warmup, clip_norm
        self.checks, self.times = checks, times or StepTimes()
        self.accumulator = GradientAccumulator()
        self._batch: Batch | None = None
        self._options = self._loss_options()

    def __call__(self, batch: Batch, number: int = 0, last: bool = False) -> StepResult:
        """Add the gradients of a batch.

        `number` counts the batches of the run, `last` ends the accumulation group early (at the end of an epoch).
        """
        self._batch = batch
        device = batch["img"].device
        with autocast(self.parts.amp_dtype is not None, device, self.parts.amp_dtype):
            loss, items = self.parts.model(batch, **self._options)
        self.times.lap("forward")
        if self.checks is not None:
            self.checks.losses(loss, items, batch)
        self.parts.scaler.scale(loss * self.accumulator.factor(self._objects(batch))).backward()
        if self.checks is not None:
            self.checks.gradients(self.parts, batch)
        self.times.lap("backward")
        complete = last or self.accumulator.count >= self.warmup.accumulate_at(number)
        if complete:
            self.accumulator.finish(self.parts.parameters)
        return StepResult(loss.detach(), items, complete)

    def update(self, notify: Callable[[str], None] = lambda event: None) -> Tensor:
        """Unscale, clip, step, zero the gradients and move the average; return the gradient norm (a scalar).

        `notify` hears `optimizer_step`, `on_before_zero_grad` and `on_params_update` at their places.
        """
        parts = self.parts
        norm = optimizer_step(
            parts.parameters, parts.optimizer, parts.scaler, self.accumulator, self.clip_norm, self._check_norm
        )
        notify("optimizer_step")
        notify("on_before_zero_grad")
        parts.optimizer.zero_grad()
        self.times.lap("optimizer")
        if parts.ema is not None:
            parts.ema.update(parts.model)
        self.times.lap("ema")
        notify("on_params_update")
        return norm

    def fetch_losses(self) -> None:
        """Check the losses and norms that wait on the device."""
        if self.checks is not None and self._batch is not None:
            self.checks.fetch(self._batch)

    def release(self) -> None:
        """Let go of the last batch, whose memory a validation may need."""
        self._batch = None

    def _check_norm(self, norm: Tensor) -> None:
        """Let the checks see the norm of a step."""
        if self.checks is not None and self._batch is not None:
            self.checks.norm(norm, self.parts, self._batch, single=self.warmup.accumulate == 1)

    def _objects(self, batch: Batch) -> float:
        """Number of objects in the batch, over all processes; 1 where batches are not added up."""
        if self.warmup.accumulate == 1:
            return 1.0
        here = float(len(batch["cls"]))
        if not dist.is_initialized():
            return here
        return float(dist.all_reduce_sum(torch.tensor(here, device=batch["img"].device)))

    def _loss_options(self) -> dict[str, bool]:
        """`partial` where several batches make a step, and the loss of the network has such an argument."""
        if self.warmup.accumulate == 1:
            return {}
        loss = getattr(unwrap_model(self.parts.model), "loss", None)
        return {"partial": True} if loss is not None and _takes(loss, "partial") else {}


def _takes(function: Callable[..., object], name: str) -> bool:
    """Whether a function has an argument of this name, or takes any."""
    parameters: Mapping[str, inspect.Parameter] = inspect.signature(function).parameters
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def mean_items(sums: Sequence[float], count: int, device: torch.device) -> Tensor:
    """Return the mean of the loss items over the batches of all processes: float64, on the CPU."""
    total = torch.tensor([*sums, count], dtype=torch.float64, device=device)
    *items, batches = dist.all_reduce_sum(total).tolist()
    return torch.tensor([item / max(batches, 1) for item in items], dtype=torch.float64)
