"""Verdicts of a study against formulas of the textbook, loops and draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from tests.study.runs import table
from ultralytics.study.statistics import (
    BETTER,
    UNRESOLVED,
    UNTESTED,
    WORSE,
    Contrast,
    Design,
    contrasts,
    holm,
    image_interval,
    judge,
    unequal_noise,
)
from ultralytics.utils.errors import ConfigError

VALUES = table({"base": [0.50, 0.52, 0.49, 0.51], "a": [0.53, 0.54, 0.53, 0.55], "b": [0.50, 0.53, 0.47, 0.52]})


def slow_holm(p: list[float]) -> list[float]:
    """The definition: the k-th smallest is multiplied by the number that is left, and never below an earlier one."""
    out = [0.0] * len(p)
    largest = 0.0
    for k, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        largest = max(largest, (len(p) - k) * p[i])
        out[i] = min(largest, 1.0)
    return out


@pytest.mark.parametrize("p", [[], [0.2], [0.01, 0.04, 0.03, 0.005], [0.9, 0.9], [0.0, 0.5, 0.02]])
def test_holm_is_its_definition(p: list[float]) -> None:
    assert holm(p) == pytest.approx(slow_holm(p))


def test_own_variance_is_the_paired_t_test() -> None:
    found = contrasts(VALUES, "base", pooled=False)
    for arm in ("a", "b"):
        wanted = stats.ttest_rel(list(VALUES[arm].values()), list(VALUES["base"].values()))
        assert found[arm].p == pytest.approx(wanted.pvalue)
        assert tuple(found[arm].interval())[1:] == pytest.approx(tuple(wanted.confidence_interval(0.95)))


def test_pooled_variance_is_the_analysis_of_variance_of_blocks() -> None:
    y = np.array([list(runs.values()) for runs in VALUES.values()])  # (A, S)
    residual = y - y.mean(1, keepdims=True) - y.mean(0, keepdims=True) + y.mean()
    freedom = (y.shape[0] - 1) * (y.shape[1] - 1)
    variance = (residual**2).sum() / freedom
    found = contrasts(VALUES, "base")["a"]
    assert found.freedom == freedom
    assert found.difference == pytest.approx(y[1].mean() - y[0].mean())
    assert found.error == pytest.approx(math.sqrt(2 * variance / y.shape[1]))


def test_two_arms_pooled_are_the_paired_test() -> None:
    two = {arm: VALUES[arm] for arm in ("base", "a")}
    assert contrasts(two, "base")["a"].p == pytest.approx(contrasts(two, "base", pooled=False)["a"].p)


def test_a_missing_run_costs_itself_alone() -> None:
    cut = {**VALUES, "b": {s: v for s, v in VALUES["b"].items() if s != 3}}
    found = contrasts(cut, "base")
    assert found["a"].freedom == 5 and found["b"].pairs == 3
    assert found["a"].difference == pytest.approx(contrasts(VALUES, "base")["a"].difference)


def test_power_is_how_often_the_test_rejects() -> None:
    rng, design, effect, deviation, seeds = np.random.default_rng(0), Design(1, pooled=False), 0.02, 0.01, 4
    differences = rng.normal(effect, deviation, (20_000, seeds))
    p = stats.ttest_1samp(differences, 0, axis=1).pvalue
    assert design.power(effect, deviation, seeds) == pytest.approx((p < 0.05).mean(), abs=0.01)


def test_least_and_needed_agree_with_power() -> None:
    design = Design(4)
    least = design.least(0.01, 3)
    assert least is not None and design.power(least, 0.01, 3) == pytest.approx(0.8, abs=1e-6)
    needed = design.seeds_needed(0.01, 0.01)
    assert needed is not None
    assert design.power(0.01, 0.01, needed) >= 0.8 > design.power(0.01, 0.01, needed - 1)
    assert design.seeds_needed(0.0, 0.01) is None and design.seeds_needed(1e-6, 0.01) is None


def test_verdicts() -> None:
    values = table(
        {
            "base": [0.50, 0.51, 0.52, 0.50],
            "up": [0.60, 0.61, 0.62, 0.601],
            "down": [0.40, 0.41, 0.42, 0.402],
            "same": [0.501, 0.509, 0.521, 0.499],
        }
    )
    verdicts = {row.arm: row.verdict for row in judge(values, "base")}
    assert verdicts == {"base": "base", "up": BETTER, "down": WORSE, "same": UNRESOLVED}


def test_images_may_contradict_seeds() -> None:
    values = table({"base": [0.50, 0.51, 0.52], "up": [0.60, 0.61, 0.6201]})
    rng = np.random.default_rng(0)
    base = {s: rng.normal(0.5, 0.01, 200) for s in range(3)}
    wide = {s: base[s] + 0.1 + rng.normal(0, 0.3, 200) for s in range(3)}
    narrow = {s: base[s] + 0.1 for s in range(3)}
    doubtless = judge(values, "base", {"base": base, "up": narrow})[1]
    unclear = judge(values, "base", {"base": base, "up": wide})[1]
    assert doubtless.beyond_noise and not unclear.beyond_noise
    assert unclear.verdict == "better on these images"


def test_one_seed_is_never_better() -> None:
    rows = judge(table({"base": [0.1], "up": [0.9]}), "base")
    assert rows[1].verdict == UNTESTED and rows[1].adjusted is None and not rows[1].beyond_noise


def test_an_arm_without_a_common_seed_is_not_tested() -> None:
    rows = judge({"base": {0: 0.1, 1: 0.12}, "up": {2: 0.9, 3: 0.91}}, "base")
    assert rows[1].difference is None and rows[1].verdict == UNTESTED


def test_equal_values_are_within_noise() -> None:
    rows = judge(table({"base": [0.5, 0.5], "copy": [0.5, 0.5]}), "base")
    assert rows[1].verdict == UNRESOLVED and rows[1].p == 1.0


def test_the_base_must_have_run() -> None:
    with pytest.raises(ConfigError, match="base 'base' has no finished run"):
        judge({"a": {0: 0.5}}, "base")


def test_replicates_of_other_lengths_are_refused() -> None:
    with pytest.raises(ConfigError, match="different length"):
        image_interval({0: np.zeros(3)}, {0: np.zeros(4)}, 0.0)
    assert image_interval({}, {0: np.zeros(4)}, 0.0) is None


def test_unequal_noise_is_reported() -> None:
    values = table({"base": [0.5, 0.501, 0.502, 0.5], "wild": [0.3, 0.7, 0.5, 0.9]})
    assert unequal_noise(values) == ("base", "wild")
    assert unequal_noise(VALUES) is None and unequal_noise({"base": {0: 0.5}}) is None


def test_no_freedom_has_no_interval() -> None:
    contrast = Contrast(0.1, math.inf, 0, math.inf, 1)
    assert contrast.p is None and math.isnan(contrast.interval().low)


@pytest.mark.parametrize("pooled", [True, False])
def test_without_an_effect_few_studies_call_anything_better(pooled: bool) -> None:
    """A small form of benchmarks/study_calibration.py."""
    rng = np.random.default_rng(3)
    false = 0
    for _ in range(60):
        values = table({arm: rng.normal(0.5, 0.01, 3).tolist() for arm in ("base", "a", "b")})
        false += any(row.beyond_noise for row in judge(values, "base", pooled=pooled))
    assert false <= 6
