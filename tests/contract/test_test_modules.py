"""What test modules may rely on: helper modules and fixtures, never each other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]


def imported(source: str) -> Iterator[str]:
    """Yield the dotted names that a source imports, those of `from package import module` with the module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)


def in_test_modules(names: Iterator[str]) -> list[str]:
    """Return the imported names that lead into a test module below `tests`."""
    own = [name.split(".") for name in names if name.startswith(("tests.", "."))]
    return [".".join(parts) for parts in own if any(p.startswith("test_") for p in parts[:-1]) or _is_file(parts)]


def _is_file(parts: list[str]) -> bool:
    return parts[-1].startswith("test_") and TESTS.parent.joinpath(*parts).with_suffix(".py").is_file()


def test_no_module_imports_a_test_module() -> None:
    found = {
        str(path.relative_to(TESTS)): names
        for path in sorted(TESTS.rglob("*.py"))
        if (names := in_test_modules(imported(path.read_text(encoding="utf-8"))))
    }
    assert found == {}, "move what is shared to a helper module without tests, or to a fixture in conftest.py"


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("from tests.engine.test_trainer import rows", 1),
        ("from tests.engine import test_trainer", 1),
        ("import tests.engine.test_trainer as t", 1),
        ("def f():\n    from .test_trainer import rows", 1),
        ("from tests.engine.tiny import IMAGES, test_like_name", 0),
        ("import torch.test_utils", 0),
        ("", 0),
    ],
)
def test_an_import_of_a_test_module_is_found(source: str, count: int) -> None:
    assert len(in_test_modules(imported(source))) == count
