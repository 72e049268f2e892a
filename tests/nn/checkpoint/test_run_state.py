"""The state of a run is checked field by field before anything of the run is changed."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from ultralytics.nn.checkpoint.validate import check_run_state
from ultralytics.utils.errors import CheckpointError


def state() -> dict[str, Any]:
    """A whole state; networks are checked elsewhere."""
    return {
        "epoch": 1,
        "updates": 8,
        "model": {},
        "ema": {},
        "optimizer": {"state": {}, "param_groups": [{}]},
        "stopper": {"best_fitness": 0.5, "best_epoch": 1, "possible_stop": False},
        "rng": {
            "python": [1, 2],
            "python_gauss": None,
            "numpy": ["MT19937", torch.zeros(624), 1, 0, 0.0],
            "torch": torch.zeros(4),
            "cuda": [],
        },
        "train_state": {"epoch": 2, "batch": 0, "step": 8, "elapsed": 1.5, "epochs": 3, "loss_sum": [0.5]},
        "train_results": {"epoch": [1, 2], "loss": [0.5, float("nan")]},
    }


def test_a_whole_state_passes() -> None:
    check_run_state(state())
    check_run_state({**state(), "train_results": {}})


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        ("rng", None, "rng is None"),
        ("rng.python", "x", "rng.python is 'x'"),
        ("rng.torch", [1], "rng.torch is a list"),
        ("stopper.best_epoch", -1, "stopper.best_epoch is -1"),
        ("stopper", [], "stopper is a list"),
        ("optimizer.param_groups", {}, "optimizer.param_groups is a dict"),
        ("train_state.epoch", True, "train_state.epoch is True"),
        ("train_state.elapsed", float("inf"), "train_state.elapsed is inf"),
        ("train_state.more", 1, "train_state has 'more'"),
        ("train_results.loss", [1], "columns of numbers"),
        ("train_results.loss", ["a", "b"], "columns of numbers"),
        ("updates", None, "updates and epoch"),
        ("ema", None, "ema is None"),
    ],
)
def test_a_field_that_is_wrong_is_named(place: str, value: Any, reason: str) -> None:
    damaged = copy.deepcopy(state())
    *path, last = place.split(".")
    owner = damaged
    for key in path:
        owner = owner[key]
    owner[last] = value
    with pytest.raises(CheckpointError, match=reason):
        check_run_state(damaged)


@pytest.mark.parametrize("place", ["rng.numpy", "train_state.step", "stopper.best_fitness", "optimizer.state"])
def test_a_field_that_is_absent_is_named(place: str) -> None:
    damaged = copy.deepcopy(state())
    part, key = place.split(".")
    del damaged[part][key]
    with pytest.raises(CheckpointError, match=f"{part} lacks {key!r}"):
        check_run_state(damaged)
