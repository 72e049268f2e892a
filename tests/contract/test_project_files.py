"""Files of the project beside its source agree with each other: versions, Pythons, hooks, pages, glossary."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.contract import language
from tests.contract.source import ROOT
from ultralytics import __version__

TREE = ROOT.parent
FORMS = sorted((TREE / ".github/ISSUE_TEMPLATE").glob("*.yml"))
ROOT_PAGES = {"index.md", "zh-CN.md", "contributing.md", "changelog.md", "security.md"}


def text(name: str) -> str:
    return (TREE / name).read_text(encoding="utf-8")


def load(name: str) -> Any:
    return yaml.safe_load(text(name))


def pages_of(navigation: object) -> Iterator[str]:
    """Files of a navigation, at any depth."""
    if isinstance(navigation, str):
        yield navigation
    elif isinstance(navigation, dict):
        for value in navigation.values():
            yield from pages_of(value)
    elif isinstance(navigation, list):
        for item in navigation:
            yield from pages_of(item)


def test_the_workflow_runs_each_python_of_the_classifiers() -> None:
    classifiers = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', text("pyproject.toml"))
    matrix = load(".github/workflows/ci.yml")["jobs"]["tests"]["strategy"]["matrix"]
    assert matrix["python"] == classifiers != []
    assert matrix["os"] == ["ubuntu-latest", "windows-latest", "macos-latest"]
    assert f'requires-python = ">={classifiers[0]}"' in text("pyproject.toml")


def test_the_bare_import_comes_before_the_tests() -> None:
    steps = [str(step.get("run", "")) for step in load(".github/workflows/ci.yml")["jobs"]["tests"]["steps"]]
    bare = next(i for i, run in enumerate(steps) if "import ultralytics" in run)
    extra = next(i for i, run in enumerate(steps) if "[test]" in run)
    assert bare < extra < steps.index("pytest")


def test_the_version_is_one() -> None:
    assert str(load("CITATION.cff")["version"]) == __version__
    sections = re.findall(r"(?m)^## \[([^\]]+)\]", text("CHANGELOG.md"))
    assert sections[0] == "Unreleased" and __version__ in sections


def test_the_citation_names_both_papers() -> None:
    cited = {i["value"] for reference in load("CITATION.cff")["references"] for i in reference["identifiers"]}
    assert cited == {"arXiv:2304.08069", "arXiv:2401.16456"}


def test_hooks_need_no_other_repository() -> None:
    repositories = load(".pre-commit-config.yaml")["repos"]
    assert {r["repo"] for r in repositories} == {"local"}
    hooks = {h["id"] for r in repositories for h in r["hooks"]}
    assert {"ruff", "ruff-format", "mypy", "codespell"} <= hooks


def test_every_page_is_in_the_navigation_once() -> None:
    listed = sorted(pages_of(load("mkdocs.yml")["nav"]))
    docs = TREE / "docs"
    assert listed == sorted({p.relative_to(docs).as_posix() for p in docs.rglob("*.md")} | ROOT_PAGES)


def test_every_package_has_an_api_page() -> None:
    packages = {p.parent.name for p in ROOT.glob("*/__init__.py")}
    described = {p.stem: p.read_text(encoding="utf-8") for p in (TREE / "docs/api").glob("*.md")}
    assert packages <= set(described)
    assert [name for name in packages if f"::: ultralytics.{name}\n" not in described[name]] == []


@pytest.mark.parametrize("path", FORMS, ids=lambda p: p.stem)
def test_issue_forms_are_complete(path: Path) -> None:
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    if path.stem == "config":
        assert form == {"blank_issues_enabled": False}
        return
    assert {"name", "description", "body"} <= set(form)
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    ids = [field["id"] for field in fields]
    assert len(set(ids)) == len(ids) > 0
    assert all(field["attributes"]["label"] for field in fields)


def test_the_glossary_explains_and_names_what_is_not_used() -> None:
    rows = re.findall(r"(?m)^\|([^|]+)\|([^|]*)\|([^|]*)\|$", text("CONTRIBUTING.md").split(language.GLOSSARY)[1])[2:]
    terms = [term.strip() for term, _, _ in rows]
    assert len(set(terms)) == len(terms) >= 30
    assert [term for term, meaning, other in rows if not meaning.strip() and not other.strip()] == []


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_paths_in_the_pages_exist(page: str) -> None:
    named = re.findall(r"`((?:ultralytics|tests|benchmarks|docs|\.ci)(?:/[\w.]+)+/?)`", text(page))
    assert [path for path in named if not (TREE / path).exists()] == []
