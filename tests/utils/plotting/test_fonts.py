"""Fonts for class names that Matplotlib's default font lacks: with such a font, without one, and with Latin names."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ultralytics.utils.plotting import fonts
from ultralytics.utils.plotting.curves import plot_mc_curve
from ultralytics.utils.plotting.figure import figure_bytes, new_figure

CHINESE = "\u767d\u7ec6\u80de"


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """What a process remembers of its fonts is forgotten."""
    for cached in (fonts.font_with, fonts.warn_about_font):
        cached.cache_clear()
    yield
    for cached in (fonts.font_with, fonts.warn_about_font):
        cached.cache_clear()


@pytest.mark.parametrize(
    ("texts", "want"),
    [([], set()), (["red cell \u00e9 \u03b1"], set()), ([f"{CHINESE} x", "y"], set(CHINESE))],
)
def test_missing_characters(texts: list[str], want: set[str]) -> None:
    assert fonts.missing_characters(texts) == want


def test_one_warning_and_no_other_without_a_font(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(fonts, "FONT_NAMES", ())
    monkeypatch.setattr(fonts, "FONT_FILES", ())
    x = np.linspace(0, 1, 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("a.png", "b.png"):
            assert plot_mc_curve(x, x[None], tmp_path / name, {0: CHINESE}).exists()
    out = capsys.readouterr().out
    assert out.count("no font of this machine") == 1 and "fonts-noto-cjk" in out


def test_the_first_font_that_has_most_is_put_behind_the_default_one(monkeypatch: pytest.MonkeyPatch) -> None:
    has = {
        "None Sans": frozenset(),
        "Few Sans": frozenset(map(ord, CHINESE[:1])),
        "All Sans": frozenset(map(ord, CHINESE)),
    }
    monkeypatch.setattr(fonts, "_installed", lambda: list(has))
    monkeypatch.setattr(fonts, "_characters_of", has.__getitem__)
    figure, (axes,) = new_figure(2, 2)
    title = axes.set_title(CHINESE)
    fonts.use_fonts_for(figure)
    assert title.get_fontfamily()[-1] == "All Sans" and len(title.get_fontfamily()) > 1
    plain, (other,) = new_figure(2, 2)
    latin = other.set_title("cell")
    figure_bytes(plain, "png", 50)
    assert "All Sans" not in latin.get_fontfamily()


def test_files_that_matplotlib_has_not_listed_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib import font_manager

    added: list[str] = []
    monkeypatch.setattr(fonts, "_installed", lambda: [])
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: ["/f/Lato.ttf", "/f/NotoSansCJK-Regular.ttc"])
    monkeypatch.setattr(font_manager.fontManager, "addfont", added.append)
    assert fonts.font_with(frozenset(CHINESE)) is None
    assert added == ["/f/NotoSansCJK-Regular.ttc"]
