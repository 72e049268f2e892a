"""Training plans: bounds, edges between phases, and refused values; the published curves are golden cases."""

from __future__ import annotations

from itertools import pairwise

import pytest

from ultralytics.utils.errors import ConfigError
from ultralytics.utils.torch_tools.training_plans import FlatCosine, batch_scales


def test_flat_cosine_is_continuous_and_stays_within_its_bounds() -> None:
    plan = FlatCosine.from_epochs(steps=50, epochs=20, warmup=100, flat=8, no_aug=4, gamma=0.25)
    factors = [plan(k) for k in range(1000)]
    assert factors[0] == 0 and factors[100] == factors[400] == 1.0 and set(factors[800:]) == {0.25}
    assert min(factors[100:]) == 0.25 and max(factors) == 1.0
    assert max(abs(a - b) for a, b in pairwise(factors)) < 0.03
    assert FlatCosine.from_epochs(10, 5, 0, 5, 0)(0) == 1.0  # no warm-up


@pytest.mark.parametrize(("steps", "no_aug"), [(0, 1), (10, 6), (10, -1)])
def test_impossible_plans_are_refused(steps: int, no_aug: int) -> None:
    with pytest.raises(ConfigError, match="no_aug"):
        FlatCosine.from_epochs(steps, 5, 10, 2, no_aug)


@pytest.mark.parametrize("base", [0, 100, -32])
def test_sides_off_the_stride_are_refused(base: int) -> None:
    with pytest.raises(ConfigError, match="multiple of the stride 32"):
        batch_scales(base, 3)
