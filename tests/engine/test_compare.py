"""Tables of a comparison from numbers made up here. Whole comparisons: tests/engine/test_evaluation.py."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ultralytics.engine.compare import PAIRED, SCOPE, differences_table, labels_of, models_table
from ultralytics.utils.errors import ConfigError

ZERO = {"AP": 0.5, "AP50": 0.75, "AP75": 0.25, "AP_small": -1.0, "AP_medium": 0.5, "AP_large": 0.5, "AR100": 0.625}


class Drawn:
    """Replicates whose intervals reach `below` and `above` the value."""

    def __init__(self, below: float, above: float) -> None:
        self.below, self.above = below, above

    def interval(self, name: str, value: float) -> tuple[float, float, float]:
        return value, value - self.below, value + self.above

    def difference(self, base: Any, name: str, change: float) -> tuple[float, float, float]:
        return self.interval(name, change)


def metrics(drawn: Drawn | None = None, **changes: float) -> Any:
    return SimpleNamespace(coco_stats={**ZERO, **changes}, bootstrap=drawn, speed={"inference": 12.5})


def test_models() -> None:
    """One row a model; what COCO cannot determine (-1) and intervals that were not drawn are None."""
    table = models_table({"one": metrics(), "two": metrics(Drawn(0.125, 0.25), AP=0.625)})
    assert table.columns[:4] == ("model", "AP", "AP low 95%", "AP high 95%") and table.columns[-1] == "ms"
    assert table.rows[0] == ("one", 0.5, None, None, 0.75, 0.25, None, 0.5, 0.5, 0.625, 12.5)
    assert table.rows[1][:4] == ("two", 0.625, 0.5, 0.875)


@pytest.mark.parametrize(
    ("ap", "below", "above", "verdict"),
    [
        (0.75, 0.125, 0.125, "differs"),  # 0.125 to 0.375
        (0.25, 0.125, 0.125, "differs"),
        (0.75, 0.25, 0.125, "no sign"),  # from 0 on
        (0.75, 0.5, 0.5, "no sign"),
        (0.5, 0.0, 0.0, "no sign"),
    ],
)
def test_models_differ_on_the_images_when_the_interval_is_beside_zero(
    ap: float, below: float, above: float, verdict: str
) -> None:
    table = differences_table({"base": metrics(Drawn(1, 1)), "other": metrics(Drawn(below, above), AP=ap)})
    assert table.title == f"Differences to base ({SCOPE})" and [row[1] for row in table.rows] == list(PAIRED)
    assert table.rows[0] == ("other", "AP", ap - 0.5, ap - 0.5 - below, ap - 0.5 + above, verdict)
    assert [row[2] for row in table.rows[1:]] == [0, 0, 0]


def test_differences_need_replicates() -> None:
    for found in ({"a": metrics(), "b": metrics(Drawn(0, 0))}, {"a": metrics(Drawn(0, 0)), "b": metrics()}):
        with pytest.raises(ConfigError, match="no replicates"):
            differences_table(found)
    assert differences_table({"a": metrics()}).rows == ()


@pytest.mark.parametrize(
    ("paths", "labels"),
    [
        (["best.pt", "runs/x/best.pt"], ["best", "x/best"]),
        (["/a/w/best.pt", "/b/w/best.pt", "/b/w/last.pt"], ["a/w/best", "b/w/best", "b/w/last"]),
        (["m.yaml", "m.pt"], ["m-1", "m-2"]),
    ],
)
def test_labels_are_distinct(paths: list[str], labels: list[str]) -> None:
    assert labels_of(paths) == labels
