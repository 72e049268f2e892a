"""Shapes are written in one way: the legend under `Shapes:`, round brackets, and fixed letters where they occur."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract import measures
from tests.contract.source import ROOT

HEADINGS = re.compile(r"(?i)\bshape\s+legend\b|\bLegend:|\bLetters:")
SQUARE = re.compile(r"\[(?:B|K|L|B \* Q|\.\.\.), [^\]`\"']*\](?!\()")
WRONG = re.compile(r"\b(?:[B-Z] classes(?! that have)|[C-Z] batch|[A-PR-Z] queries|[A-MO-Z] targets)\b")
"""A letter that stands for what another letter stands for everywhere else."""


def texts(source: str) -> Iterator[tuple[int, str]]:
    """Comments and docstrings with their lines."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and token.string.startswith('"""')):
            yield token.start[0], token.string


def findings(source: str) -> list[str]:
    head = ast.get_docstring(ast.parse(source)) or ""
    found = [f"1 {m.group()}" for rule in (HEADINGS, WRONG) for m in rule.finditer(head)]
    return found + [f"{line} {m.group()}" for line, text in texts(source) for m in SQUARE.finditer(text)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('"""A file.\n\nShapes: B batch, Q queries, nc classes, N targets, N tokens.\n"""\nx = y[B, 0]  # (B, Q)', []),
        ('"""A file. Shape legend: B batch."""', ["1 Shape legend"]),
        ('"""A file.\n\nShapes: N batch, C classes, T targets."""', ["1 N batch", "1 C classes", "1 T targets"]),
        (
            'x = 1  # [B, Q, 4]\ndef f():\n    """Return [..., 4] of `[B, 2]`."""',
            ["1 [B, Q, 4]", "3 [..., 4]", "3 [B, 2]"],
        ),
        ("", []),
    ],
)
def test_the_rules_find_what_they_name(source: str, expected: list[str]) -> None:
    assert findings(source) == expected


def test_all_files_have_one_legend() -> None:
    found = []
    for path in measures.files(ROOT.parent):
        found += [f"{_shown(path)}:{text}" for text in findings(path.read_text(encoding="utf-8"))]
    assert not found, "\n".join(found)


def _shown(path: Path) -> str:
    return measures.relative(ROOT.parent, path)
