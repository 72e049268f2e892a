"""Turns, medians, ratios and files of the benchmarks' common module, on timers that return fixed numbers."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def common() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmarks_common", FOLDER / "common.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_page_names_every_script() -> None:
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in sorted(FOLDER.glob("*.py")) if path.name not in page] == []


def scripted_timer(name: str, seconds: list[float], order: list[str]) -> Callable[[], float]:
    rest = iter(seconds)

    def run() -> float:
        order.append(name)
        return next(rest)

    return run


def test_sides_take_turns_and_warm_ones_are_dropped(common: ModuleType) -> None:
    order: list[str] = []
    sides = {
        "ours": scripted_timer("ours", [99.0, 1.0, 2.0], order),
        "stock": scripted_timer("stock", [99.0, 6.0, 4.0], order),
    }
    times = common.take_turns(sides, rounds=2, warm=1, rest=0)
    assert order == ["ours", "stock"] * 3
    assert times == {"ours": [1.0, 2.0], "stock": [6.0, 4.0]}


@pytest.mark.parametrize(
    ("times", "goal", "ratio", "met"),
    [
        ({"ours": [1.0]}, 2.0, None, None),  # no peer: nothing to compare with
        ({"ours": [1.0, 1.0, 100.0], "stock": [3.0, 3.0, 0.0]}, 2.0, 3.0, True),
        ({"ours": [2.0, 4.0], "stock": [3.0]}, 1.1, 1.0, False),
        ({"ours": [2.0], "stock": [3.0]}, None, 1.5, None),
    ],
)
def test_ratio_is_of_medians(common: ModuleType, times: Any, goal: Any, ratio: Any, met: Any) -> None:
    report = common.Report("x", "X")
    assert report.compare("work", times, goal) == ratio
    assert (report.rows[0]["ratio"], report.rows[0]["met"]) == (ratio, met)


def test_each_other_side_has_a_row_of_its_own(common: ModuleType) -> None:
    report = common.Report("x", "X")
    report.compare_each("work", {"ours": [1.0]}, {"a": 2})
    report.compare_each("work", {"ours": [1.0], "a": [3.0], "b": [0.5]}, {"a": 2})
    assert [(row["what"], row["ratio"], row["goal"], row["met"]) for row in report.rows] == [
        ("work", None, None, None),
        ("work, against a", 3.0, 2, True),
        ("work, against b", 0.5, None, None),
    ]


def test_report_is_written_as_json_and_markdown(common: ModuleType, tmp_path: Path, capsys: Any) -> None:
    report = common.Report("x", "X", {"batch": 2}, common.machine(threads=3))
    report.compare("work", {"ours": [0.5], "stock": [1.0]}, 1.5)
    report.fact("equal", 0.0, "0", True)
    report.write(tmp_path / "out")
    data = json.loads((tmp_path / "out" / "x.json").read_text())
    assert data["rows"][0]["seconds"] == {"ours": [0.5], "stock": [1.0]}
    assert data["machine"]["threads"] == 3 and data["settings"] == {"batch": 2}
    table = (tmp_path / "out" / "x.md").read_text()
    assert "| work | 500 ms | stock 1.00 s | 2.00 | 1.5 | yes |" in table and table in capsys.readouterr().out + "\n"


WORKER = """
import serve
def work(turns, n):
    turns.repeat(lambda: print("noise") or n, echo=n)
def steps(turns, n):
    for _ in range(n):
        turns.tick()
    raise SystemExit("ran out of steps")
serve.main({"work": work, "steps": steps})
"""


@pytest.fixture
def scripted(common: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    sides = tmp_path / "sides"
    sides.mkdir()
    (sides / "serve.py").write_text((FOLDER / "sides" / "serve.py").read_text())
    (sides / "side.py").write_text(WORKER)
    monkeypatch.setattr(common, "HERE", tmp_path)
    return common


def test_worker_answers_in_spite_of_what_libraries_print(scripted: ModuleType) -> None:
    with scripted.Worker(sys.executable, "side", "work", {"n": 7}) as side:
        assert side.answer["echo"] == 7
        assert 0 <= side() < 5 and side() >= 0
        assert side.value == 7 and side.peak_mb > 1


def test_worker_times_steps_of_a_loop_and_reports_why_it_stopped(scripted: ModuleType) -> None:
    with scripted.Worker(sys.executable, "side", "steps", {"n": 2}) as side:
        assert side() >= 0
        with pytest.raises(RuntimeError, match="ran out of steps"):
            side()


def test_side_of_the_peer_does_not_see_this_tree(common: ModuleType) -> None:
    assert "PYTHONPATH" not in common.environment("/elsewhere/python", threads=2)
    ours = common.environment(sys.executable, threads=2)
    assert ours["PYTHONPATH"] == str(FOLDER.parent) and ours["OMP_NUM_THREADS"] == "2"
