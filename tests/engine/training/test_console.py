"""The choice of a recipe, and the warm-up that it may spend."""

import pytest

from ultralytics.cfg import get_cfg
from ultralytics.engine.training.console import choose_recipe, settle_recipe


@pytest.mark.parametrize(
    ("images", "iterations", "epochs", "pretrained", "want"),
    [
        (1, 6, 6, False, "tiny"),
        (31, 10**6, 50, False, "tiny"),
        (31, 5, 5, True, "tiny"),
        (32, 320, 40, False, "few"),
        (63, 5, 5, True, "few"),
        (64, 100, 6, False, "small"),
        (4_999, 10**6, 100, False, "small"),
        (205, 156, 3, True, "small"),
        (10**5, 100, 1, False, "small"),
        (5_000, 20_000, 50, False, "official"),
        (118_287, 30_000, 4, False, "official"),
        (205, 156, 3, False, "trial"),
        (24, 10, 5, False, "trial"),
        (4_999, 10**6, 1, False, "trial"),
    ],
)
def test_choice_by_size_length_and_start(images, iterations, epochs, pretrained, want):
    name, why = choose_recipe(images, iterations, pretrained, epochs)
    assert name == want
    assert str(images) in why and ("loaded weights" if pretrained else "fresh weights") in why


@pytest.mark.parametrize(
    ("given", "want"), [({"epochs": 3}, 0.3), ({"epochs": 40}, 2.0), ({"epochs": 3, "warmup_epochs": 2.5}, 2.5)]
)
def test_warm_up_takes_a_tenth_of_a_short_run_at_most(given, want):
    args, note = settle_recipe(get_cfg(overrides=given), "small")
    assert args.warmup_epochs == pytest.approx(want) and note.startswith("Recipe: small")
    assert (args.batch, args.nbs, args.recipe) == (8, 1, "small")


def test_batch_of_the_user_wins():
    assert settle_recipe(get_cfg(overrides={"batch": 3}), "tiny")[0].batch == 3
