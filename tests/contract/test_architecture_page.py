"""The map page names files that exist, and names every wing, so that a newcomer finds the place in one step."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.contract.source import ROOT

PAGE = (ROOT.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
TABLE = PAGE[PAGE.index("## You want to change X") : PAGE.index("## Which file to read first")]


def paths(text: str) -> list[str]:
    """Paths in backticks: with a slash, and no placeholder in them."""
    return [p for p in re.findall(r"`([\w./-]+/[\w./-]*)`", text) if "<" not in p]


@pytest.mark.parametrize("name", sorted(set(paths(PAGE))))
def test_what_the_page_names_exists(name: str) -> None:
    places = [ROOT.parent / name, ROOT / name, ROOT / "nn" / name]
    assert any(place.exists() for place in places), f"docs/architecture.md names {name}"


@pytest.mark.parametrize("page", sorted(p.name for p in (ROOT.parent / "docs").glob("*.md")))
def test_python_files_that_a_page_names_exist(page: str) -> None:
    text = (ROOT.parent / "docs" / page).read_text(encoding="utf-8")
    names = re.findall(
        r"`((?:tests|benchmarks|examples|nn|engine|data|utils|cfg|cli|models|study)/[\w./-]+\.py)`", text
    )
    assert [n for n in names if not (ROOT.parent / n).exists() and not (ROOT / n).exists()] == []


def test_every_package_is_on_the_page() -> None:
    packages = {p.parent.relative_to(ROOT).as_posix() for p in ROOT.rglob("__init__.py")} - {"."}
    wings = {name for name in packages if name.count("/") == 1 and not name.startswith(("models", "utils/config"))}
    missing = [name for name in sorted(wings) if name not in PAGE]
    assert not missing, f"docs/architecture.md does not name {missing}"


TASKS = {
    "change the learning-rate schedule": "engine/training/optimizer.py",
    "add a weight format": "nn/checkpoint/key_maps.py",
    "why is my label dropped": "data/labels/parse.py",
    "add a block": "nn/modules/__init__.py",
    "change a default value": "cfg/schema.py",
    "add an export format": "nn/export/",
    "change the loss": "models/utils/loss.py",
    "find where NaN is reported": "engine/training/nan_trace.py",
    "add a command": "cli/tools.py",
    "change the drawing of results": "engine/results/",
}


@pytest.mark.parametrize("task", TASKS)
def test_ten_tasks_of_a_newcomer_are_one_step_away(task: str) -> None:
    assert f"`{TASKS[task]}`" in TABLE, task


def test_the_page_is_short_enough_to_read() -> None:
    assert len(PAGE.splitlines()) < 120 and Path(ROOT.parent / "mkdocs.yml").read_text().count(": architecture.md") == 1
