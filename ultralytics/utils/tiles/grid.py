"""Where the tiles of an image lie."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from ultralytics.utils.errors import ConfigError

MAX_OVERLAP = 0.9


class Tile(NamedTuple):
    """A rectangle of an image: left, top, right and lower edge in px, right and lower one exclusive."""

    x1: int
    y1: int
    x2: int
    y2: int

    def inner_edges(self, height: int, width: int) -> tuple[bool, bool, bool, bool]:
        """Return which edges (left, top, right, lower) lie inside an image of (height, width), where it continues."""
        return self.x1 > 0, self.y1 > 0, self.x2 < width, self.y2 < height


def tile_grid(height: int, width: int, size: int | Sequence[int], overlap: float) -> list[Tile]:
    """Return the tiles that cover an image, row by row; smaller where the image is smaller.

    `size` is the side of square tiles, or their (height, width), in px.

    Neighbours overlap by at least `overlap` of their side: tiles are spread evenly, the last ones end at the image's
    edges.

    Raises:
        ConfigError: a side below 1, or `overlap` outside 0 to `MAX_OVERLAP`.

    >>> tile_grid(100, 230, 100, 0.2)
    [Tile(x1=0, y1=0, x2=100, y2=100), Tile(x1=65, y1=0, x2=165, y2=100), Tile(x1=130, y1=0, x2=230, y2=100)]
    """
    sides = [size] if isinstance(size, int) else list(size)
    if len(sides) not in {1, 2} or min(sides) < 1 or not 0 <= overlap <= MAX_OVERLAP:
        raise ConfigError(f"tiles of {size} px, overlap {overlap}: use one or two sides, and 0 to {MAX_OVERLAP}")
    h, w = sides[0], sides[-1]
    rows, columns = _starts(height, h, overlap), _starts(width, w, overlap)
    return [Tile(x, y, min(x + w, width), min(y + h, height)) for y in rows for x in columns]


def _starts(length: int, size: int, overlap: float) -> list[int]:
    """Return where tiles of `size` px start along a side of `length` px."""
    last = length - size
    if last <= 0:
        return [0]
    steps = math.ceil(last / max(math.floor(size * (1 - overlap)), 1))
    return [round(i * last / steps) for i in range(steps + 1)]
