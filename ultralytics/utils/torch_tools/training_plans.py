"""Training plans of D-FINE, DEIM and RT-DETRv2 as pure functions of step and epoch (arXiv 2410.13842, 2412.04234).

Steps and epochs count from 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ultralytics.utils.errors import ConfigError

__all__ = ("PLAN_NAMES", "FlatCosine", "RunPlan", "batch_scales")


@dataclass(frozen=True)
class FlatCosine:
    """Rate factor of DEIM: quadratic warm-up, flat, half a cosine down to `gamma`, then constant.

    Attributes:
        warmup: Steps of the warm-up.
        flat: Last step at factor 1.
        closing: First step at factor `gamma`: the epochs without augmentation.
        end: Number of steps.
        gamma: Factor at the end.
    """

    warmup: int
    flat: int
    closing: int
    end: int
    gamma: float = 0.5

    @classmethod
    def from_epochs(
        cls, steps: int, epochs: int, warmup: int, flat: int, no_aug: int, gamma: float = 0.5
    ) -> FlatCosine:
        """Make a plan from epochs of `steps` steps; only `warmup` is given in steps.

        Raises:
            ConfigError: There are no steps, or more epochs without augmentation than epochs.
        """
        if steps < 1 or not 0 <= no_aug <= epochs:
            raise ConfigError(f"steps={steps} must be at least 1, and no_aug={no_aug} between 0 and epochs={epochs}")
        return cls(warmup, flat * steps, (epochs - no_aug) * steps, epochs * steps, gamma)

    def __call__(self, step: int) -> float:
        """Return the factor of a step."""
        if step <= self.warmup:
            return (step / self.warmup) ** 2 if self.warmup else 1.0
        if step <= self.flat:
            return 1.0
        if step >= self.closing:
            return self.gamma
        progress = (step - self.flat) / (self.closing - self.flat)
        return self.gamma + (1 - self.gamma) * 0.5 * (1 + math.cos(math.pi * progress))


def batch_scales(base: int, repeat: int, stride: int = 32) -> list[int]:
    """Return the image sides from which multi-scale training picks one for a batch; `base` comes `repeat` times.

    From 3/4 of the base up to it, and as many from 5/4 down, each rounded down to the stride.

    >>> batch_scales(640, 2)
    [480, 512, 544, 576, 608, 640, 640, 800, 768, 736, 704, 672]

    Raises:
        ConfigError: `base` is not a multiple of the stride.
    """
    if base < stride or base % stride:
        raise ConfigError(f"base={base} must be a multiple of the stride {stride}, at least {stride}")
    low, high = (stride * int(base * factor / stride) for factor in (0.75, 1.25))
    below = range(low, base, stride)
    return [*below, *[base] * repeat, *(high - stride * i for i in range(len(below)))]


class _Fractions(NamedTuple):
    """Where the stages of a published plan begin, as fractions of its run, and whether its rate falls in between."""

    start: float
    middle: float
    stop: float
    falls: bool


_PUBLISHED: Mapping[str, _Fractions] = {  # of the models of size S, 132 epochs
    "d-fine": _Fractions(0.0, 0.0, 120 / 132, falls=False),
    "deim": _Fractions(4 / 132, 64 / 132, 120 / 132, falls=True),
}
PLAN_NAMES = tuple(_PUBLISHED)


@dataclass(frozen=True)
class RunPlan:
    """The stages of a run, in epochs: a published plan at the length of the run.

    Attributes:
        name: Of the published plan.
        epochs: Length of the run.
        start: First epoch with strong transforms.
        middle: First epoch without mosaic and mixup; strong transforms remain.
        stop: First epoch without strong transforms, which returns to the best weights so far.
        falls: The rate is flat up to the middle and falls on half a cosine up to the stop.
    """

    name: str
    epochs: int
    start: int
    middle: int
    stop: int
    falls: bool

    @classmethod
    def named(cls, name: str, epochs: int) -> RunPlan:
        """Scale a plan to a number of epochs; at least the last epoch is clean, if it is not the only one.

        >>> RunPlan.named("deim", 12)
        RunPlan(name='deim', epochs=12, start=0, middle=6, stop=11, falls=True)

        Raises:
            ConfigError: There is no such plan.
        """
        if name not in _PUBLISHED:
            raise ConfigError(f"plan={name!r} is not known; choose {', '.join(PLAN_NAMES)}")
        start, middle, stop, falls = _PUBLISHED[name]
        clean = max(round((1 - stop) * epochs), 1) if epochs > 1 else 0
        return cls(name, epochs, round(start * epochs), round(middle * epochs), epochs - clean, falls)

    def is_strong(self, epoch: int) -> bool:
        """Whether strong transforms act in an epoch, from 0."""
        return self.start <= epoch < self.stop

    def is_dense(self, epoch: int) -> bool:
        """Whether images of an epoch are joined: mosaic, and mixup of whole batches."""
        return self.start <= epoch < min(self.middle, self.stop)

    def rates(self, batches: int, warmup: int, gamma: float) -> FlatCosine:
        """Return the rate factors of a run of `batches` an epoch, after `warmup` batches of warm-up."""
        clean = self.epochs - self.stop
        return FlatCosine.from_epochs(batches, self.epochs, warmup, self.middle, clean, gamma)
