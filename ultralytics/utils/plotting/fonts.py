"""Fonts for what Matplotlib's own font lacks: class names in Chinese, Japanese, Korean and other scripts.

Nothing is installed or fetched. The first font of a list that this machine has is added behind the default one, which
still draws Latin letters.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ultralytics.utils.log import LOGGER

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FONT_NAMES = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Noto Sans CJK TC", "Noto Sans SC", "Noto Sans JP"),
    *("Source Han Sans SC", "Source Han Sans CN", "Source Han Sans", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei"),
    *("Microsoft YaHei", "SimHei", "SimSun", "PingFang SC", "Hiragino Sans GB", "Heiti SC", "STHeiti", "Malgun Gothic"),
    *("Yu Gothic", "Droid Sans Fallback", "AR PL UMing CN", "AR PL UKai CN", "IPAexGothic", "Arial Unicode MS"),
)
"""Fonts with Chinese characters, in the order in which they are taken."""
FONT_FILES = (
    "notosanscjk",
    "notosanssc",
    "sourcehansans",
    "wqy-",
    "msyh",
    "simhei",
    "simsun",
    "pingfang",
    "droidsansfallback",
)
"""Beginnings of file names of such fonts, for those installed since Matplotlib listed the fonts of this machine."""
REMEDY_FONT = (
    "install one, such as `apt install fonts-noto-cjk` or `dnf install google-noto-sans-cjk-fonts`, or put the "
    ".otf file of Noto Sans CJK or Source Han Sans into ~/.local/share/fonts (macOS: ~/Library/Fonts)"
)


def use_fonts_for(figure: Figure) -> None:
    """Let every string of a figure be drawn in a font that has its characters, where one is installed.

    Otherwise the figure shows boxes, and the first one in a process logs one warning.
    """
    from matplotlib.text import Text

    texts = [text for text in figure.findobj(Text) if isinstance(text, Text)]
    missing = missing_characters(text.get_text() for text in texts)
    if not missing:
        return
    family = font_with(missing)
    if family is None:
        warn_about_font()
        return
    for text in texts:
        text.set_fontfamily([*text.get_fontfamily(), family])


def missing_characters(texts: Iterable[str]) -> frozenset[str]:
    """The printable characters that Matplotlib's default font lacks."""
    letters = {letter for text in texts for letter in text if ord(letter) > 0xFF and letter.isprintable()}
    return (
        frozenset(letter for letter in letters if ord(letter) not in _default_characters()) if letters else frozenset()
    )


@functools.cache
def _default_characters() -> frozenset[int]:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return frozenset(get_font(findfont(FontProperties())).get_charmap())


@functools.cache
def font_with(characters: frozenset[str]) -> str | None:
    """Name of the first known font that has the characters; without one the first that has any; None: there is none."""
    from matplotlib.font_manager import findSystemFonts, fontManager

    if not _installed():
        for file in findSystemFonts():
            if Path(file).name.lower().startswith(FONT_FILES):
                fontManager.addfont(file)
    codes = {ord(letter) for letter in characters}
    counts = {name: len(codes & _characters_of(name)) for name in _installed()}
    best = max(counts, key=lambda name: counts[name], default=None)  # the first of equals
    return best if best is not None and counts[best] else None


def _installed() -> list[str]:
    """The known fonts that Matplotlib has listed, in the order of `FONT_NAMES`."""
    from matplotlib.font_manager import fontManager

    names = {entry.name for entry in fontManager.ttflist}
    return [name for name in FONT_NAMES if name in names]


def _characters_of(name: str) -> frozenset[int]:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return frozenset(get_font(findfont(FontProperties(family=name))).get_charmap())


@functools.cache
def warn_about_font() -> None:
    """Log once in a process that figures show boxes, and what to install."""
    LOGGER.warning(f"no font of this machine has all letters of these class names, figures show boxes; {REMEDY_FONT}")
