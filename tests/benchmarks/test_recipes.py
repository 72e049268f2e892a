"""The table of recipes: read from finished runs, mean and sample deviation over seeds, best epoch by mAP50-95."""

import csv
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.utils.plotting.svg import kept_text, read_words

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
ROWS = {0: [(0.2, 0.1), (0.6, 0.4), (0.7, 0.3)], 1: [(0.1, 0.0), (0.3, 0.2), (0.5, 0.3)]}


@pytest.fixture
def recipes(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return __import__("recipes")


@pytest.fixture
def call(recipes, tmp_path, monkeypatch):
    """Run the script on two finished runs of three epochs; nothing may be trained."""
    for seed, rows in ROWS.items():
        folder = tmp_path / "out" / "runs" / f"cells-small-{seed}"
        folder.mkdir(parents=True)
        with (folder / "results.csv").open("w", encoding="utf-8") as f:
            writer = csv.writer(f)
            writer.writerow(["epoch", "time", recipes.MAP50, recipes.MAP])
            writer.writerows([i + 1, 60 * (i + 1), *row] for i, row in enumerate(rows))
    monkeypatch.setattr(recipes, "subprocess", SimpleNamespace(run=lambda *a, **k: None, STDOUT=None))

    def run(epochs):
        tokens = f"--data {tmp_path}/cells/data.yaml --recipes small --seeds 0 1 --epochs {epochs} --out {tmp_path}/out"
        monkeypatch.setattr(sys, "argv", ["recipes.py", *tokens.split()])
        return recipes.main()

    return run


def test_finished_runs_are_read(call, tmp_path, capsys):
    assert call(3) == 0
    assert "| cells | small | 0 1 | 0.550 ± 0.071 | 0.350 ± 0.071 | 2 3 | 3.0 |" in capsys.readouterr().out
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"runs", "recipes.md", "recipes.json", "recipes.png"}


def test_a_run_that_stopped_is_reported(call, tmp_path, capsys):
    assert call(4) == 1
    assert capsys.readouterr().out.count("stopped, see") == 2
    assert not (tmp_path / "out" / "recipes.md").exists()


def test_names_in_the_picture_are_drawn_as_they_are(call, recipes, tmp_path):
    """Of data sets in titles, of recipes in legends; each recipe once, however many seeds it has."""
    runs = tmp_path / "out" / "runs"
    (runs / "cells-small-1").rename(runs / "price $5_$10-_mine-1")
    (runs / "cells-small-0").rename(runs / "price $5_$10-_mine-0")
    data = tmp_path / "price $5_$10" / "data.yaml"
    with kept_text():
        recipes.draw([recipes.Run(data, "_mine", seed, runs) for seed in (0, 1)], tmp_path / "r.svg")
    shown = read_words((tmp_path / "r.svg").read_bytes())
    assert shown.count("_mine") == 2
    assert [w for w in shown if "price" in w] == ["price $5_$10: mAP50", "price $5_$10: mAP50-95"]
