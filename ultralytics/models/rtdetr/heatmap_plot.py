"""Drawing of heat maps: the colours over the image, and around it a title, a colour bar and a legend."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from ultralytics.utils.plotting.annotator import Annotator, Color
from ultralytics.utils.torch_tools.arrays import Pixels

MapValues = npt.NDArray[np.float32]
BAR = 14  # px, width of the colour bar
WHITE, BLACK = (255, 255, 255), (0, 0, 0)
TOP_SHARE = 99.5  # percentile that gets the last colour, so that one cell does not take the scale for itself


def overlay(image: Pixels, values: MapValues) -> Pixels:
    """Lay a map in 0..1 over an image: the higher, the more colour; where it is 0 the image stays."""
    tint = cv2.applyColorMap((values * 255).round().astype(np.uint8), cv2.COLORMAP_TURBO)
    strength = 0.75 * np.sqrt(values)[..., None]
    return (image * (1 - strength) + tint * strength).round().astype(np.uint8)


def shown_range(values: MapValues, from_zero: bool) -> tuple[float, float]:
    """The values that get the first and the last colour: 0 or the smallest one, and all but the very largest.

    >>> shown_range(np.array([[0.5, 1.0]], np.float32), from_zero=True)
    (0.0, 1.0)
    """
    if not values.size:
        return 0.0, 1.0
    low = 0.0 if from_zero else float(values.min())
    high = float(values.max()) if from_zero else float(np.percentile(values, TOP_SHARE))
    return low, high if high > low else low + 1.0


def stretched(values: MapValues, shown: tuple[float, float]) -> MapValues:
    """The values with the shown range as 0..1."""
    low, high = shown
    return np.asarray(((values - low) / (high - low)).clip(0, 1), np.float32)


def with_title(picture: Pixels, title: str) -> Pixels:
    """The picture below a white strip with its title, a line each."""
    lines = title.split("\n")
    return np.vstack([_strip(lines, picture.shape[1], [BLACK] * len(lines)), picture])


def with_legend(picture: Pixels, rows: Sequence[tuple[str, Color]]) -> Pixels:
    """The picture above a strip with a coloured line for each row of a legend."""
    return np.vstack([picture, _strip([text for text, _ in rows], picture.shape[1], [color for _, color in rows])])


def with_colour_bar(picture: Pixels, low: str, high: str, unit: str) -> Pixels:
    """The picture beside a vertical colour bar with its ends and its unit."""
    height = picture.shape[0]
    letters = _letters(picture)
    width = (
        max(cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, letters / 22, 1)[0][0] for text in (low, high, unit)) + 16
    )
    side = np.full((height, max(width, BAR + 16), 3), 255, np.uint8)
    top, bottom = 3 * letters + 12, height - 2 * letters - 8
    if bottom > top:
        ramp = np.linspace(255, 0, bottom - top).round().astype(np.uint8)[:, None]  # (h, 1)
        side[top:bottom, 8 : 8 + BAR] = cv2.applyColorMap(np.repeat(ramp, BAR, 1), cv2.COLORMAP_TURBO)
    annotator = Annotator(side, line_width=1, font_size=letters)
    for text, y in ((unit, 2), (high, top - letters - 8), (low, bottom + 2)):
        annotator.text((6, y), text, BLACK, box_color=WHITE)
    return np.hstack([picture, annotator.result()])


def _letters(picture: Pixels) -> int:
    """Height of a capital letter, px."""
    return int(min(max(max(picture.shape[:2]) * 0.014, 9), 24))


def _strip(lines: Sequence[str], width: int, colors: Sequence[Color]) -> Pixels:
    """A white strip with lines of text."""
    letters = int(min(max(width * 0.014, 9), 24))
    step = 2 * letters + 2
    annotator = Annotator(np.full((step * len(lines) + 6, width, 3), 255, np.uint8), line_width=1, font_size=letters)
    for i, (line, color) in enumerate(zip(lines, colors, strict=True)):
        annotator.text((6, 3 + i * step), line, color, box_color=WHITE)
    return np.asarray(annotator.result(), np.uint8)
