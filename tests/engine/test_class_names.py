"""Classes by name: in a call, on the command line, and those of a model against those of a data set."""

from __future__ import annotations

from typing import Any

import pytest

from tests.engine.tiny import NAMES
from ultralytics.cfg.schema import KEYS
from ultralytics.engine.class_names import as_classes
from ultralytics.utils.errors import ConfigError, ConfigTypeError


@pytest.mark.parametrize(
    ("value", "stored", "ids"),
    [
        (None, None, None),
        ([], [], []),
        (1, 1, [1]),
        ([0, 2], [0, 2], [0, 2]),
        ("green", ["green"], [1]),
        ("Blue", ["Blue"], [2]),
        ("[red,blue]", ["red", "blue"], [0, 2]),
        (["red", 2], ["red", 2], [0, 2]),
        ("1, 2", [1, 2], [1, 2]),
    ],
)
def test_names_and_ids(value: Any, stored: Any, ids: list[int] | None) -> None:
    assert KEYS["classes"].check(value) == stored
    assert as_classes(stored, NAMES) == ids


@pytest.mark.parametrize(
    ("classes", "message"),
    [("gren", "did you mean green"), ("x", "there are red, green, blue"), ("WBC", "no class has")],
)
def test_unknown_names(classes: str, message: str) -> None:
    with pytest.raises(ConfigError) as e:
        as_classes([classes], NAMES)
    assert message in str(e.value) and f"classes={classes}" in str(e.value)


def test_names_that_differ_in_case_alone() -> None:
    names = {0: "a", 1: "A", 2: "b"}
    assert as_classes(["A"], names) == [1] and as_classes(["B"], names) == [2]
    with pytest.raises(ConfigError, match="several classes have"):
        as_classes(["x"], {0: "X", 1: "X"})


@pytest.mark.parametrize("value", [1.5, {"a": 1}, [None], ""])
def test_wrong_values(value: Any) -> None:
    with pytest.raises((ConfigError, ConfigTypeError)):
        KEYS["classes"].check(value)
