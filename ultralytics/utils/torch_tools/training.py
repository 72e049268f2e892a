"""Helpers of a training run: weight averaging, early stopping, learning-rate curves.

Symbols: u number of updates, e epoch counted from 0, E number of epochs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch import nn

from ultralytics.utils.torch_tools.copying import copy_network

LRCurve: TypeAlias = Callable[[float], float]


def unwrap_model(m: nn.Module) -> nn.Module:
    """Return the model inside data-parallel wrappers and `torch.compile`."""
    model = m
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and isinstance(model, (nn.parallel.DataParallel, nn.parallel.DistributedDataParallel)):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def copy_attr(a: object, b: object, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> None:
    """Copy public attributes of `b` to `a`: all, or those in `include`; never those in `exclude` or with `_` first."""
    wanted, unwanted = set(include), set(exclude)
    for key, value in vars(b).items():
        if key.startswith("_") or key in unwanted or (wanted and key not in wanted):
            continue
        setattr(a, key, value)


class ModelEMA:
    """Exponential moving average of a model's floating-point state, buffers included.

    After update u each tensor is e <- d e + (1 - d) m with d = decay (1 - exp(-u / tau)): early weights are forgotten
    quickly. Integer buffers keep the value that they had in the copy. `ema` is in eval mode and needs no gradient.
    """

    def __init__(self, model: nn.Module, decay: float = 0.9999, tau: float = 2000, updates: int = 0) -> None:
        self.ema = copy_network(unwrap_model(model)).eval()
        self.updates = updates
        self.base_decay = decay
        self.tau = tau
        for p in self.ema.parameters():
            p.requires_grad_(False)

    def decay(self, updates: int) -> float:
        """Decay that update number `updates` uses; `tau` 0 means no warm-up."""
        return self.base_decay * (1 - math.exp(-updates / self.tau)) if self.tau > 0 else self.base_decay

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the model's current state."""
        self.updates += 1
        weight = 1 - self.decay(self.updates)
        source = unwrap_model(model).state_dict()
        pairs = [(e, source[k].detach()) for k, e in self.ema.state_dict().items() if e.dtype.is_floating_point]
        # foreach needs one dtype and device per call
        groups: dict[tuple[torch.dtype, torch.device], tuple[list[torch.Tensor], list[torch.Tensor]]] = {}
        for e, m in pairs:
            ours, theirs = groups.setdefault((e.dtype, e.device), ([], []))
            ours.append(e)
            theirs.append(m.to(device=e.device, dtype=e.dtype))
        for ours, theirs in groups.values():
            torch._foreach_lerp_(ours, theirs, weight)

    @torch.no_grad()
    def resync(self, model: nn.Module) -> list[str]:
        """Take over the model's tensors where the average is not finite and the model is; return their names.

        An average never recovers from Inf or NaN by itself.
        """
        source, taken = unwrap_model(model).state_dict(), []
        for key, value in self.ema.state_dict().items():
            if value.dtype.is_floating_point and not value.isfinite().all() and source[key].isfinite().all():
                value.copy_(source[key])
                taken.append(key)
        return taken

    def update_attr(self, model: nn.Module, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> None:
        """Copy plain attributes (names, args, ...) from the model to the average."""
        never = {"process_group", "reducer", "training"}
        copy_attr(self.ema, unwrap_model(model), include, {*exclude, *never})

    def state(self) -> dict[str, Any]:
        """Plain state: `updates` and the average's state dict."""
        return {"updates": self.updates, "model": self.ema.state_dict()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` returned."""
        self.ema.load_state_dict(state["model"])
        self.updates = int(state["updates"])


class EarlyStopping:
    """Detects when `patience` epochs have passed without a better fitness; patience 0 never stops.

    Better means strictly greater, so a tie keeps the earlier epoch. Epochs with a best fitness of 0 do not count
    against the patience: nothing has been learnt yet that could get worse.
    """

    def __init__(self, patience: int = 100) -> None:
        self.patience = patience or math.inf
        self.best_fitness: float = 0.0
        self.best_epoch = 0
        self.possible_stop = False

    def __call__(self, epoch: int, fitness: float | None) -> bool:
        """Record the fitness of an epoch (None: not measured) and return whether to stop.

        Afterwards `possible_stop` says that the next epoch may be the last.
        """
        if fitness is None:
            return False
        if fitness > self.best_fitness or self.best_fitness == 0:
            self.best_fitness, self.best_epoch = fitness, epoch
        waited = epoch - self.best_epoch
        self.possible_stop = waited >= self.patience - 1
        return waited >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """Plain state; the patience is an argument of the run, not a part of it."""
        return {"best_fitness": self.best_fitness, "best_epoch": self.best_epoch, "possible_stop": self.possible_stop}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.best_fitness = float(state["best_fitness"])
        self.best_epoch = int(state["best_epoch"])
        self.possible_stop = bool(state.get("possible_stop", False))


def linear_lr(epochs: int, lrf: float) -> LRCurve:
    """Factor that falls on a line from 1 at epoch 0 to `lrf` at epoch `epochs`.

    >>> [round(linear_lr(4, 0.2)(e), 2) for e in (0, 2, 4)]
    [1.0, 0.6, 0.2]
    """
    return lambda e: max(1 - e / epochs, 0.0) * (1 - lrf) + lrf


def cosine_lr(epochs: int, lrf: float) -> LRCurve:
    """Factor that falls on half a cosine from 1 at epoch 0 to `lrf` at epoch `epochs` (Loshchilov and Hutter, 2017)."""
    return lambda e: (1 - math.cos(math.pi * min(e / epochs, 1.0))) / 2 * (lrf - 1) + 1


def flat_cosine_lr(epochs: int, lrf: float, flat: float = 0.5) -> LRCurve:
    """Factor 1 for the first `flat` fraction of the epochs, then half a cosine down to `lrf` (DEIM, CVPR 2025)."""
    start = epochs * flat
    down = cosine_lr(1, lrf)
    return lambda e: 1.0 if e <= start else down((e - start) / (epochs - start))


def constant_lr(epochs: int = 0, lrf: float = 1.0) -> LRCurve:
    """Factor 1 throughout; takes the arguments of the other curves and needs neither."""
    return lambda e: 1.0


LR_CURVES: Mapping[str, Callable[[int, float], LRCurve]] = {
    "linear": linear_lr,
    "cosine": cosine_lr,
    "flat_cosine": flat_cosine_lr,
    "constant": constant_lr,
}
"""The curves by the values of `lr_schedule`."""


@contextmanager
def in_eval_mode(network: nn.Module | None) -> Iterator[None]:
    """Put a network in evaluation mode until the block ends."""
    was_training = bool(getattr(network, "training", False))
    if network is not None:
        network.eval()
    try:
        yield
    finally:
        if network is not None:
            network.train(was_training)
