"""The choice of a recipe, and the warm-up that it may spend."""

import pytest

from ultralytics.cfg import get_cfg
from ultralytics.engine.runlog import choose_recipe, settle_recipe


@pytest.mark.parametrize(
    ("images", "iterations", "want"),
    [
        (1, 1, "tiny"),
        (63, 10**6, "tiny"),
        (64, 100, "small"),
        (4_999, 10**6, "small"),
        (10**5, 100, "small"),
        (5_000, 20_000, "official"),
        (118_287, 500_000, "official"),
    ],
)
def test_choice_by_size(images, iterations, want):
    name, why = choose_recipe(images, iterations, pretrained=False)
    assert name == want
    assert str(images) in why and "fresh weights" in why


@pytest.mark.parametrize(
    ("given", "want"), [({"epochs": 3}, 0.3), ({"epochs": 40}, 2.0), ({"epochs": 3, "warmup_epochs": 2.5}, 2.5)]
)
def test_warm_up_takes_a_tenth_of_a_short_run_at_most(given, want):
    args = settle_recipe(get_cfg(overrides=given), "small")
    assert args.warmup_epochs == pytest.approx(want)
    assert (args.batch, args.nbs, args.recipe) == (8, 1, "small")


def test_batch_of_the_user_wins():
    assert settle_recipe(get_cfg(overrides={"batch": 3}), "tiny").batch == 3
