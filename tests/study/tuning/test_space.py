"""Search spaces: those of the recipes, those of a user, and errors that name the axis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ultralytics.cfg.keys import Trait
from ultralytics.cfg.resolution import recipe_names
from ultralytics.cfg.schema import KEYS
from ultralytics.study.tuning.space import AXIS_GROUPS, Choices, Range, as_record, read_space, space_for
from ultralytics.utils.errors import UserError


@pytest.mark.parametrize("recipe", recipe_names())
def test_every_axis_is_within_the_bounds_of_its_argument(recipe: str) -> None:
    for acting in (Trait.MATCHING, Trait.GAIN):
        axes = space_for(recipe, "all", acting)
        assert "lr0" in axes and set(axes) == {n for g in AXIS_GROUPS for n in space_for(recipe, g, acting)}
        for name, axis in axes.items():
            values = axis.values if isinstance(axis, Choices) else (axis.low, axis.high)
            assert [KEYS[name].check(v) for v in values] == list(values)


def test_loss_gains_are_searched_where_they_act() -> None:
    assert set(space_for("official", "loss", Trait.MATCHING)) == {"loss", "box_loss"}
    assert set(space_for("ultralytics", "loss", Trait.GAIN)) == {"box", "cls", "dfl"}


def test_a_space_is_read_from_its_file_and_written_back(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text("lr0: {low: 1e-5, high: 1e-2, log: true}\nloss: [vfl, mal]\nnbs: {low: 1, high: 64}\n")
    axes = read_space(str(file), "small", Trait.MATCHING)
    assert axes == {"lr0": Range(1e-5, 1e-2, True), "loss": Choices(("vfl", "mal")), "nbs": Range(1, 64, integer=True)}
    assert read_space(as_record(axes), "", Trait.NONE) == axes
    assert read_space({"lr0": (1e-5, 1e-1)}, "", Trait.NONE) == {"lr0": Range(1e-5, 1e-1)}  # the interface's form


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ("everything", "is not one of optimizer, augmentation, loss, all"),
        ({}, "is empty"),
        ({"lr0": 1e-3}, "neither a range nor choices"),
        ({"lr0": {"low": 1e-2, "high": 1e-3}}, "low must be below high"),
        ({"lr0": {"low": 0, "high": 1e-3, "log": True}}, "above 0 with log"),
        ({"lr0": {"low": 1e-5, "high": 3}}, "outside its bounds"),
        ({"lr0": {"min": 1, "max": 2}}, "no numbers low and high"),
        ({"lr0": {"low": 0, "high": 1, "step": 0.1}}, "unknown key 'step'"),
        ({"loss": ["vfl"]}, "at least two values"),
        ({"lr": {"low": 0, "high": 1}}, "no argument 'lr'"),
    ],
)
def test_a_wrong_space_is_refused(space: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_space(space, "small", Trait.MATCHING)
