"""Optimizer, parameter groups, warm-up and the optimizer step.

Facts of the groups and of the automatic choice follow the upstream interface; rates follow RT-DETR (Zhao et al., CVPR
2024, section 5.1: AdamW, a smaller rate for the backbone, gradient norm clipped at 0.1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from ultralytics.optim import MuSGD, musgd_groups
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.log import LOGGER

PARAMETER_GROUPS = ("weight", "bn", "bias")
"""Kinds of parameter groups, in the order of the optimizer; only `weight` decays."""

RTDETR_LR = 1e-4
"""Rate of a long run under `optimizer=auto`."""

LONG_RUN = 10_000
"""Optimizer steps from which a run counts as long under `optimizer=auto`."""


@dataclass(frozen=True)
class OptimizerChoice:
    """A resolved optimizer: class name, rate, momentum (Adam: beta 1) and the warm-up's first rate of the biases."""

    name: str
    lr: float
    momentum: float
    warmup_bias_lr: float


class OptimizerArgs(Protocol):
    """The arguments that an optimizer is chosen by."""

    @property
    def optimizer(self) -> str: ...
    @property
    def lr0(self) -> float: ...
    @property
    def momentum(self) -> float: ...
    @property
    def warmup_bias_lr(self) -> float: ...


LONG_RUN_CHOICE = OptimizerChoice("AdamW", RTDETR_LR, 0.9, 0.0)
"""What `optimizer=auto` takes for a long run, unless a family has a choice of its own."""


def choose_optimizer(
    args: OptimizerArgs,
    nc: int,
    steps: int,
    user_keys: Iterable[str] = (),
    long_run: OptimizerChoice = LONG_RUN_CHOICE,
) -> OptimizerChoice:
    """Resolve `optimizer=auto`; any other name passes with the arguments' own figures.

    `auto` takes AdamW with beta 1 = 0.9 and a rate of 0.002 * 5 / (4 + nc) for a run of at most `LONG_RUN` optimizer
    `steps`, else `long_run`. An `lr0`, `momentum` or `warmup_bias_lr` that the user gave is kept.
    """
    if str(args.optimizer).lower() != "auto":
        return OptimizerChoice(str(args.optimizer), float(args.lr0), float(args.momentum), float(args.warmup_bias_lr))
    given = set(user_keys)
    auto = long_run if steps > LONG_RUN else OptimizerChoice("AdamW", round(0.002 * 5 / (4 + nc), 6), 0.9, 0.0)
    return OptimizerChoice(
        auto.name,
        float(args.lr0) if "lr0" in given else auto.lr,
        float(args.momentum) if "momentum" in given else auto.momentum,
        float(args.warmup_bias_lr) if "warmup_bias_lr" in given else auto.warmup_bias_lr,
    )


def accumulation(batch: int, nbs: int) -> int:
    """Batches per optimizer step for a nominal batch `nbs`; nbs = 1 means every batch is a step."""
    return max(round(nbs / batch), 1)


def scaled_decay(weight_decay: float, batch: int, nbs: int) -> float:
    """Weight decay for the batch that a step really sees; as given when `nbs` is 1 (no nominal batch)."""
    return weight_decay if nbs == 1 else weight_decay * batch * accumulation(batch, nbs) / nbs


def _kind(module: nn.Module, full_name: str) -> str:
    """Group kind of a parameter that `module` owns."""
    if "bias" in full_name:
        return "bias"
    return "bn" if "Norm" in type(module).__name__ or "logit_scale" in full_name else "weight"


def parameter_groups(model: nn.Module, backbone_layers: int = 0) -> dict[tuple[str, bool], list[nn.Parameter]]:
    """Sort the parameters into groups keyed by (kind, in backbone).

    Frozen ones are among them, so that they can be unfrozen during a run: without a gradient no optimizer moves them.
    A parameter is in the backbone when it belongs to `model.model[i]` with i < `backbone_layers`. The three groups
    outside of the backbone always exist, those of the backbone only when it has layers.
    """
    sides = (False, True) if backbone_layers else (False,)
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {
        (kind, side): [] for side in sides for kind in PARAMETER_GROUPS
    }
    prefixes = tuple(f"model.{i}." for i in range(backbone_layers))
    seen: set[int] = set()
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.is_floating_point() or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            full_name = f"{module_name}.{name}" if module_name else name
            groups[_kind(module, full_name), full_name.startswith(prefixes) if prefixes else False].append(parameter)
    return groups


def _adam(cls: type[Optimizer], **extra: Any) -> Callable[..., Optimizer]:
    return lambda groups, lr, momentum: cls(groups, lr=lr, betas=(momentum, 0.999), weight_decay=0.0, **extra)  # type: ignore[call-arg]


def _sgd(groups: list[dict[str, Any]], lr: float, momentum: float) -> Optimizer:
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0)


def _rmsprop(groups: list[dict[str, Any]], lr: float, momentum: float) -> Optimizer:
    return torch.optim.RMSprop(groups, lr=lr, momentum=momentum)


_MAKERS: dict[str, Callable[..., Optimizer]] = {
    "SGD": _sgd,
    "Adam": _adam(torch.optim.Adam, fused=True),
    "AdamW": _adam(torch.optim.AdamW, fused=True),
    "Adamax": _adam(torch.optim.Adamax),
    "NAdam": _adam(torch.optim.NAdam),
    "RAdam": _adam(torch.optim.RAdam),
    "RMSprop": _rmsprop,
}


def build_optimizer(
    model: nn.Module, choice: OptimizerChoice, weight_decay: float, backbone_lr_ratio: float = 1.0
) -> Optimizer:
    """Build the optimizer over the parameters of `model`.

    Param groups carry `param_group` (weight, bn, bias; `backbone_...` for the three of the backbone, which exist when
    `backbone_lr_ratio` is not 1 and come last) and `initial_lr`. Raises ConfigError for an unknown optimizer.
    """
    by_lower = {name.lower(): name for name in (*_MAKERS, "MuSGD")}
    if choice.name.lower() not in by_lower:
        raise ConfigError(f"optimizer={choice.name} is not known; choose one of auto, {', '.join(by_lower.values())}")
    if choice.name.lower() == "musgd":
        return _musgd(model, choice, weight_decay, backbone_lr_ratio)
    split = backbone_lr_ratio != 1.0
    backbone_layers = len(getattr(model, "yaml", {}).get("backbone", ())) if split else 0
    groups = []
    for (kind, backbone), parameters in parameter_groups(model, backbone_layers).items():
        lr = choice.lr * backbone_lr_ratio if backbone else choice.lr
        decay = weight_decay if kind == "weight" else 0.0
        tag = f"backbone_{kind}" if backbone else kind
        groups.append({"params": parameters, "lr": lr, "initial_lr": lr, "weight_decay": decay, "param_group": tag})
    return _MAKERS[by_lower[choice.name.lower()]](groups, choice.lr, choice.momentum)


def _musgd(model: nn.Module, choice: OptimizerChoice, weight_decay: float, backbone_lr_ratio: float) -> Optimizer:
    """Build MuSGD, whose groups are its own: class towers have a larger rate, a backbone none of its own."""
    if backbone_lr_ratio != 1.0:
        LOGGER.warning(f"backbone_lr_ratio={backbone_lr_ratio:g} has no effect with MuSGD, which has groups of its own")
    groups = musgd_groups(model, choice.lr, choice.momentum, weight_decay)
    for group in groups:
        group["initial_lr"] = group["lr"]
    return MuSGD(groups, choice.lr, choice.momentum, nesterov=True, muon=0.2, sgd=1.0)


def describe_optimizer(optimizer: Optimizer) -> str:
    """One line: class, rate, momentum, and each group's number of trainable parameters and decay."""
    parts = []
    for i, group in enumerate(optimizer.param_groups):
        count = sum(p.requires_grad for p in group["params"])
        parts.append(f"{count} {group.get('param_group', f'group {i}')}(decay={group.get('weight_decay', 0.0):g})")
    lr = max(group.get("initial_lr", group["lr"]) for group in optimizer.param_groups)
    what = f"{type(optimizer).__name__}(lr={lr:g}, momentum={momentum_of(optimizer):g})"
    return f"{what} with parameter groups {', '.join(parts)}"


def momentum_of(optimizer: Optimizer) -> float:
    """Momentum of an optimizer's first group, or its beta 1; 0 when it has neither."""
    group = optimizer.param_groups[0]
    return float(group.get("momentum", group.get("betas", (0.0,))[0]))


def load_optimizer_state(optimizer: Optimizer, saved: Mapping[str, Any]) -> None:
    """Load the state of an optimizer over the same network; raises ValueError when the groups differ.

    Older checkpoints hold the trainable parameters alone: their numbers are moved to the places that they have now.
    """
    groups: list[dict[str, Any]] = []
    places: dict[int, int] = {}
    position = 0
    for old, group in zip(saved["param_groups"], optimizer.param_groups, strict=True):
        trainable = [position + i for i, p in enumerate(group["params"]) if p.requires_grad]
        everything = list(range(position, position + len(group["params"])))
        numbers = old["params"] if len(old["params"]) != len(everything) else everything
        if len(numbers) == len(trainable) != len(everything):
            places |= dict(zip(old["params"], trainable, strict=True))
            numbers = everything
        else:
            places |= dict(zip(old["params"], numbers, strict=True))
        groups.append({**old, "params": numbers})
        position += len(everything)
    state = {places.get(number, number): values for number, values in saved["state"].items()}
    optimizer.load_state_dict({**saved, "state": state, "param_groups": groups})
    _check_optimizer_state(optimizer)


def _check_option(key: str, value: object, wanted: object) -> None:
    """Raise ValueError where an option of a parameter group is not as many numbers as its default."""
    numbers = (bool, int, float)
    if isinstance(wanted, numbers) and not isinstance(value, numbers):
        raise ValueError(f"the optimizer's {key} is a {type(value).__name__}, not a number")
    if isinstance(wanted, tuple):  # such as the betas of Adam
        values = value if isinstance(value, (list, tuple)) else ()
        if len(values) != len(wanted) or not all(isinstance(v, numbers) for v in values):
            raise ValueError(f"the optimizer's {key} is not {len(wanted)} numbers")


def _check_optimizer_state(optimizer: Optimizer) -> None:
    """Raise ValueError where a state does not belong to its parameter: torch finds that out at the first step."""
    for group in optimizer.param_groups:
        for key, value in group.items():
            _check_option(key, value, optimizer.defaults.get(key))
        for parameter in group["params"]:
            for key, value in optimizer.state[parameter].items() if parameter in optimizer.state else ():
                if isinstance(value, torch.Tensor) and value.numel() != 1 and value.shape != parameter.shape:
                    shapes = f"{list(value.shape)!s:.40}, its parameter {list(parameter.shape)!s:.40}"
                    raise ValueError(f"the optimizer's {key} has the shape {shapes}")


def warmup_iterations(warmup_epochs: float, epochs: int, batches: int) -> int:
    """Iterations of warm-up; the last epoch is never part of it, so a run of one epoch has none."""
    return round(min(warmup_epochs, epochs - 1) * batches) if warmup_epochs > 0 else 0


def set_unless_changed(group: dict[str, Any], key: str, value: float, scheduled: float | None = None) -> None:
    """Set a value of a parameter group that changes from batch to batch, unless a callback has set another.

    What is set is noted in the group, so that it is saved with it: a value that is neither the noted one nor
    `scheduled`, which the scheduler has just set, is a callback's, and holds.
    """
    note = f"warmup_{key}"
    expected = group.get(note, group[key] if scheduled is None else scheduled)
    if group[key] == expected or group[key] == scheduled:
        group[key] = group[note] = value


def forget_noted_rates(optimizer: Optimizer) -> None:
    """Let the next batch of the warm-up set its rates whatever they are: they were set by the run itself."""
    for group in optimizer.param_groups:
        group.pop("warmup_lr", None)


@dataclass(frozen=True)
class Warmup:
    """Linear warm-up of rates, momentum and accumulation over the first `iterations` batches.

    Batch i (from 0) runs at (i + 1) / iterations of the way, so that no step is ever spent at rate 0 and the last
    warm-up batch is at the full rate. Biases start at `bias_lr` when that is above 0. A pure function of the batch
    number; a rate or momentum that a callback has set holds, the rate until the scheduler's next step.
    """

    iterations: int = 0
    bias_lr: float = 0.0
    start_momentum: float = 0.8
    momentum: float = 0.937
    accumulate: int = 1

    def progress(self, step: int) -> float:
        """Way through the warm-up at batch `step`, in (0, 1]."""
        return min((step + 1) / self.iterations, 1.0) if self.iterations else 1.0

    def set_rates(self, optimizer: Optimizer, targets: Sequence[float], step: int, fresh: bool = True) -> None:
        """Set the rate (towards `targets`, one a group) and the momentum of every group for batch `step`.

        `fresh` says that the scheduler has set the rates to `targets` since the batch before.
        """
        way = self.progress(step)
        for group, target in zip(optimizer.param_groups, targets, strict=False):  # a callback may have added groups
            start = self.bias_lr if str(group.get("param_group", "")).endswith("bias") else 0.0
            set_unless_changed(group, "lr", start + (target - start) * way, target if fresh else None)
            if "momentum" in group:
                momentum = self.start_momentum + (self.momentum - self.start_momentum) * way
                set_unless_changed(group, "momentum", momentum)

    def accumulate_at(self, step: int) -> int:
        """Batches per optimizer step at batch `step`: from 1 up to `accumulate`."""
        if step >= self.iterations:
            return self.accumulate
        return max(1, int(np.interp(step, [0, self.iterations], [1, self.accumulate]).round()))


class GradientAccumulator:
    """Adds up gradients of several batches so that the step equals that of the one large batch.

    The loss of a batch is a sum divided by its number of objects (by 1 if it has none). Each batch is multiplied by
    that divisor again, and the sum is divided by the objects of the whole step. One batch per step costs nothing.
    """

    def __init__(self) -> None:
        self.count = 0
        self._first = 1.0
        self._total = 0.0

    def factor(self, objects: float) -> float:
        """Record one more batch; return what its loss is multiplied with before `backward`."""
        if not self.count:
            self._first, self._total = max(objects, 1.0), 0.0
        self.count += 1
        self._total += objects
        return max(objects, 1.0) / self._first

    def finish(self, parameters: Iterable[nn.Parameter]) -> None:
        """Divide the gradients by the objects of the whole step and start a new one."""
        if self.count > 1:
            scale = self._first / max(self._total, 1.0)
            if grads := [p.grad for p in parameters if p.grad is not None]:
                torch._foreach_mul_(grads, scale)
        self.count = 0


def optimizer_step(
    parameters: Sequence[nn.Parameter],
    optimizer: Optimizer,
    scaler: torch.amp.GradScaler,
    accumulator: GradientAccumulator,
    clip_norm: float,
    check: Callable[[torch.Tensor], None] = lambda norm: None,
) -> torch.Tensor:
    """Unscale, average, clip and step; return the gradient norm before clipping (a scalar on the device).

    `clip_norm` 0 means no clipping. `check` sees the norm before the step, and may raise to prevent it. A scaler that
    found an infinite fp16 gradient skips the step, as it should.
    """
    scaler.unscale_(optimizer)
    accumulator.finish(parameters)
    norm = nn.utils.clip_grad_norm_(parameters, clip_norm if clip_norm > 0 else math.inf)
    check(norm)
    scaler.step(optimizer)
    scaler.update()
    return norm


def freeze_layers(model: nn.Module, freeze: int | str | Iterable[int | str] | None) -> list[str]:
    """Stop training of layers and return the names of the frozen parameters.

    `freeze` = n means the first n layers; a list holds layer indices or parts of parameter names. All other parameters
    become trainable, but for those that the network names in `frozen_parts`. Raises ConfigError when an entry matches
    nothing or when nothing is left to train.
    """
    entries = range(freeze) if isinstance(freeze, int) else [freeze] if isinstance(freeze, str) else (freeze or ())
    layers = tuple(f"model.{e}." for e in entries if isinstance(e, int))
    parts = [e for e in entries if isinstance(e, str)]
    constants = tuple(getattr(model, "frozen_parts", ()))
    frozen = []
    for name, parameter in model.named_parameters():
        hit = name.startswith(layers) or any(part in name for part in (*parts, *constants))
        parameter.requires_grad_(not hit and parameter.is_floating_point())
        if hit:
            frozen.append(name)
    unknown = [part for part in parts if not any(part in name for name in frozen)]
    if unknown:
        raise ConfigError(f"freeze: no parameter name contains '{unknown[0]}'", "give layer numbers or parts of names")
    count = len(getattr(model, "model", ()))
    beyond = [e for e in entries if isinstance(e, int) and not 0 <= e < count]
    if beyond:
        raise ConfigError(f"freeze={freeze}: layer {beyond[-1]} does not exist", f"layers are 0 to {count - 1}")
    if not any(p.requires_grad for p in model.parameters()):
        raise ConfigError(f"freeze={freeze} leaves nothing to train; freeze fewer layers")
    return frozen


def report_unfrozen(before: nn.Module, after: nn.Module) -> None:
    """Warn when parameters that were frozen in one network train in another, by their names."""
    trained = {name for name, p in after.named_parameters() if p.requires_grad}
    lost = [name for name, p in before.named_parameters() if not p.requires_grad and name in trained]
    if lost:
        LOGGER.warning(
            f"{len(lost)} parameters with requires_grad=False are trained, {lost[0]} ... {lost[-1]}: "
            "pass freeze=[...], a list of layer numbers or parts of names, to keep them as they are"
        )


def norms_of(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """All BatchNorm layers."""
    return [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def frozen_norms(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """BatchNorm layers whose weights are frozen: they stay in eval mode, so that their statistics stay too."""
    return [m for m in norms_of(model) if m.weight is not None and not m.weight.requires_grad]
