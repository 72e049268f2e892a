"""Is a variant better than the base, or within the noise of its seeds and images?

Two models of the values y of arm a (base or variant) and seed s are offered. `pooled`: y = arm + seed + noise with
one variance of the noise for all arms (randomised blocks, two-way analysis of variance), fitted by least squares so
that a missing run costs only itself. `own`: the paired t test of each variant, with a variance of its own.
Differences are tested two-sided by Student's t and corrected over the variants (Holm 1979, "A simple sequentially
rejective multiple test procedure"). Power is that of the first step of Holm's procedure, by the noncentral t
distribution, so the announced one is a lower bound.

Shapes: A arms, S seeds, N runs, R replicates of a bootstrap over images.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ultralytics.utils.errors import ConfigError
from ultralytics.utils.metrics.bootstrap import Interval, percentile_interval
from ultralytics.utils.torch_tools.arrays import Float64Array

ERROR_RATE = 0.05
POWER = 0.8
MAX_SEEDS = 1000
BETTER, WORSE, UNRESOLVED, UNTESTED, IS_BASE = "better", "worse", "within noise", "not tested", "base"
STOPPED = "stopped early"
THESE_IMAGES = "{} on these images"
"""Verdict where the seeds agree, but other images of the same kind may turn the difference."""

RunValues = Mapping[str, Mapping[int, float]]
"""A number of each run: by arm, then by seed."""


@dataclass(frozen=True)
class Contrast:
    """Difference of a variant to the base: its standard error, degrees of freedom, and deviation of a paired one.

    `deviation` is that of the difference of one pair of runs; with infinite `error` nothing can be tested.
    """

    difference: float
    error: float
    freedom: int
    deviation: float
    pairs: int

    @property
    def p(self) -> float | None:
        """Two-sided p value; None where there is no degree of freedom."""
        from scipy import stats

        if self.freedom < 1:
            return None
        if self.error == 0:
            return 1.0 if self.difference == 0 else 0.0
        return float(2 * stats.t.sf(abs(self.difference) / self.error, self.freedom))

    def interval(self, level: float = 1 - ERROR_RATE) -> Interval:
        """Interval of the difference over seeds, for this variant alone; NaN where nothing can be tested."""
        from scipy import stats

        if self.freedom < 1:
            return Interval(self.difference, math.nan, math.nan)
        half = float(stats.t.ppf((1 + level) / 2, self.freedom)) * self.error
        return Interval(self.difference, self.difference - half, self.difference + half)


class Judgement(NamedTuple):
    """What is known of one arm. `least` is the difference that so many seeds show with a probability of 0.8, `power`
    the probability to show one as large as the observed, `needed` the seeds for that at 0.8 (None: over 1000)."""

    arm: str
    runs: int
    mean: float
    deviation: float | None
    difference: float | None = None
    seeds: Interval | None = None
    images: Interval | None = None
    p: float | None = None
    adjusted: float | None = None
    verdict: str = UNTESTED
    least: float | None = None
    power: float | None = None
    needed: int | None = None

    @property
    def beyond_noise(self) -> bool:
        """Whether seeds, and images where they were resampled, agree that the variant is better."""
        return self.verdict == BETTER


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p values in the order of the input: each rejected at a level has at most this error rate.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    factors = np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return [float(v) for v in adjusted]


def contrasts(values: RunValues, base: str, pooled: bool = True) -> dict[str, Contrast]:
    """Return the difference of each further arm to the base; arms that have no seed in common with it are left out.

    Raises:
        ConfigError: the base has no run.
    """
    if not values.get(base):
        raise ConfigError(f"the base '{base}' has no finished run, so that nothing can be compared", "run it first")
    arms = [a for a in values if a != base and set(values[a]) & set(values[base])]
    return _pooled(values, base, arms) if pooled else {a: _paired(values[a], values[base]) for a in arms}


def _paired(values: Mapping[int, float], base: Mapping[int, float]) -> Contrast:
    """The paired differences of the seeds that both have."""
    d = np.array([values[s] - base[s] for s in sorted(set(values) & set(base))])
    n = len(d)
    deviation = float(d.std(ddof=1)) if n > 1 else math.inf
    return Contrast(float(d.mean()), deviation / math.sqrt(n), n - 1, deviation, n)


def _pooled(values: RunValues, base: str, arms: Sequence[str]) -> dict[str, Contrast]:
    """Least squares of arm and seed effects; the residuals of all runs give one variance."""
    names = [base, *arms]
    rows = [(i, s, v) for i, a in enumerate(names) for s, v in values[a].items()]
    seeds = sorted({s for _, s, _ in rows})
    design = np.zeros((len(rows), len(names) + len(seeds)))  # (N, A + S)
    for k, (i, s, _) in enumerate(rows):
        design[k, i] = design[k, len(names) + seeds.index(s)] = 1.0
    y = np.array([v for *_, v in rows])
    inverse = np.linalg.pinv(design.T @ design)
    effects = inverse @ design.T @ y
    freedom = len(rows) - int(np.linalg.matrix_rank(design))
    residual = float(((y - design @ effects) ** 2).sum())
    sigma = _exact(math.sqrt(residual / freedom)) if freedom > 0 else math.inf
    out = {}
    for i, arm in enumerate(arms, 1):
        c = np.zeros(design.shape[1])
        c[i], c[0] = 1.0, -1.0
        scale = math.sqrt(float(c @ inverse @ c))
        pairs = len(set(values[arm]) & set(values[base]))
        out[arm] = Contrast(_exact(float(c @ effects)), sigma * scale, freedom, math.sqrt(2) * sigma, pairs)
    return out


def _exact(value: float) -> float:
    """Return 0 for what is nothing but rounding of the least squares; values of AP are of the order of 1."""
    return 0.0 if abs(value) < 1e-12 else value


@dataclass(frozen=True)
class Design:
    """How a difference is tested: number of variants, and whether their noise is pooled."""

    variants: int
    pooled: bool = True
    alpha: float = ERROR_RATE

    def freedom(self, seeds: int) -> int:
        """Degrees of freedom with so many seeds of each arm."""
        return (seeds - 1) * (self.variants if self.pooled else 1)

    def power(self, effect: float, deviation: float, seeds: int) -> float:
        """Probability that a variant with this effect is called better (worse where it is negative).

        `deviation` is that of a paired difference.
        """
        from scipy import stats

        freedom = self.freedom(seeds)
        if freedom < 1 or not math.isfinite(deviation):
            return 0.0
        if deviation == 0:
            return float(effect != 0)
        critical = stats.t.ppf(1 - self.alpha / (2 * self.variants), freedom)
        return float(stats.nct.sf(critical, freedom, abs(effect) * math.sqrt(seeds) / deviation))

    def least(self, deviation: float, seeds: int) -> float | None:
        """The effect that is called with a probability of 0.8; None where nothing can be tested."""
        from scipy import optimize

        if self.freedom(seeds) < 1 or not math.isfinite(deviation):
            return None
        if deviation == 0:
            return 0.0
        unit = deviation / math.sqrt(seeds)
        high = 10.0
        while self.power(high * unit, deviation, seeds) < POWER:
            high *= 2
        return unit * float(optimize.brentq(lambda e: self.power(e * unit, deviation, seeds) - POWER, 1e-6, high))

    def seeds_needed(self, effect: float, deviation: float) -> int | None:
        """The fewest seeds that call the effect with a probability of 0.8; None above 1000."""
        if effect == 0 or not math.isfinite(deviation) or self.power(effect, deviation, MAX_SEEDS) < POWER:
            return None
        low, high = 1, MAX_SEEDS
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.power(effect, deviation, middle) >= POWER else (middle, high)
        return high


def image_interval(
    variant: Mapping[int, Float64Array], base: Mapping[int, Float64Array], value: float
) -> Interval | None:
    """Return the interval of the mean difference over other images, from replicates (R,) of each seed.

    All replicates come from the same draws of images, so that they are paired. None without a common seed.

    Raises:
        ConfigError: the runs were not evaluated on the same number of replicates.
    """
    seeds = sorted(set(variant) & set(base))
    if not seeds:
        return None
    if len({len(side[s]) for s in seeds for side in (variant, base)}) > 1:
        raise ConfigError("replicates of different length cannot be paired", "evaluate all runs again with ci=True")
    mean = np.mean([np.asarray(variant[s]) - np.asarray(base[s]) for s in seeds], axis=0)
    return percentile_interval(mean, value)


def judge(
    values: RunValues,
    base: str,
    replicates: Mapping[str, Mapping[int, Float64Array]] | None = None,
    pooled: bool = True,
    alpha: float = ERROR_RATE,
    stopped: Collection[str] = (),
) -> list[Judgement]:
    """Judge every arm against the base; the base comes first.

    Arms in `stopped` have lost runs because they looked worse; they are not tested, and count in Holm's correction as
    if they had been tested with p = 1, so that the others get no easier test.

    `replicates` are those of the number over images, by arm and seed. A variant is better when its p value, adjusted
    over the variants, is below `alpha`, and the interval over images, where there is one, is above 0. From one seed
    nothing is ever called better.

    Raises:
        ConfigError: the base has no run.
    """
    found = contrasts(values, base, pooled)
    tested = {a: c.p for a, c in found.items() if c.p is not None and c.pairs > 1 and a not in stopped}
    family = [p for p in tested.values() if p is not None]
    adjusted = dict(zip(tested, holm([*family, *(1.0 for _ in stopped)])[: len(family)], strict=True))
    design = Design(max(len({*found, *stopped}), 1), pooled, alpha)
    rows = [_summary(base, values[base])._replace(verdict=IS_BASE)]
    for arm in (a for a in values if a != base and values[a]):
        row = _summary(arm, values[arm])
        if arm in found:
            images = _images_of(arm, base, replicates, found[arm].difference)
            row = _with_contrast(row, found[arm], adjusted.get(arm), images, design)
        rows.append(row._replace(verdict=STOPPED) if arm in stopped else row)
    return rows


def _images_of(
    arm: str, base: str, replicates: Mapping[str, Mapping[int, Float64Array]] | None, difference: float
) -> Interval | None:
    if not replicates:
        return None
    return image_interval(replicates.get(arm, {}), replicates.get(base, {}), difference)


def _summary(arm: str, runs: Mapping[int, float]) -> Judgement:
    numbers = np.array(list(runs.values()))
    return Judgement(arm, len(numbers), float(numbers.mean()), float(numbers.std(ddof=1)) if len(numbers) > 1 else None)


def _with_contrast(
    row: Judgement, contrast: Contrast, adjusted: float | None, images: Interval | None, design: Design
) -> Judgement:
    """Add the difference, the verdict and the power."""
    row = row._replace(difference=contrast.difference, images=images)
    if adjusted is None:
        return row
    return row._replace(
        seeds=contrast.interval(),
        p=contrast.p,
        adjusted=adjusted,
        verdict=verdict_of(contrast.difference, adjusted, images, design.alpha),
        least=design.least(contrast.deviation, contrast.pairs),
        power=design.power(contrast.difference, contrast.deviation, contrast.pairs),
        needed=design.seeds_needed(contrast.difference, contrast.deviation),
    )


def verdict_of(difference: float, adjusted: float, images: Interval | None, alpha: float = ERROR_RATE) -> str:
    """Return the verdict on a tested difference.

    >>> verdict_of(0.02, 0.01, Interval(0.02, -0.01, 0.05))
    'better on these images'
    """
    if adjusted >= alpha or difference == 0:
        return UNRESOLVED
    side = BETTER if difference > 0 else WORSE
    doubt = images is not None and not (images.low > 0 or images.high < 0)
    return THESE_IMAGES.format(side) if doubt else side


def unequal_noise(values: RunValues, alpha: float = ERROR_RATE) -> tuple[str, str] | None:
    """Return the arms with the least and the largest deviation when these differ beyond chance, else None.

    Bartlett's test over the arms with at least two seeds; then pooled noise misleads, and each variant should be tested
    by its own.
    """
    from scipy import stats

    spread = {a: float(np.std(list(v.values()), ddof=1)) for a, v in values.items() if len(v) > 1}
    if len(spread) < 2 or min(spread.values()) == 0:
        return None
    result = stats.bartlett(*[list(values[a].values()) for a in spread])
    if not result.pvalue < alpha:
        return None
    return min(spread, key=lambda a: spread[a]), max(spread, key=lambda a: spread[a])
