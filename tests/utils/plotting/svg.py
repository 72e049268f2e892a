"""The texts of a Matplotlib figure, as a reader sees them: read from an SVG whose text is kept as text."""

from __future__ import annotations

import io
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import pytest

# Two dollars are a formula to Matplotlib, which the first of these is not; a leading underscore hides from legends.
ODD_NAMES = {0: "price $5_$10", 1: "$100% cotton$", 2: "_dog"}


def figure_texts(figure: Any) -> list[str]:
    """Every text in the figure; a formula is taken apart into its characters and has no `$`."""
    stream = io.BytesIO()
    with kept_text():
        figure.savefig(stream, format="svg")
    return read_words(stream.getvalue())


def kept_text() -> AbstractContextManager[None]:
    """Let SVG files have text as text, not as outlines."""
    return matplotlib.rc_context({"svg.fonttype": "none"})


def read_words(svg: bytes) -> list[str]:
    """Every text in the content of an SVG file that was written so."""
    root = ElementTree.fromstring(svg)
    return ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]


def caught(monkeypatch: pytest.MonkeyPatch, module: Any) -> list[list[str]]:
    """The texts of every figure that `module` writes from now on; the files are written too."""
    found: list[list[str]] = []
    save = module.save_figure

    def write(figure: Any, file: Path, dpi: int) -> None:
        found.append(figure_texts(figure))
        save(figure, file, dpi)

    monkeypatch.setattr(module, "save_figure", write)
    return found
