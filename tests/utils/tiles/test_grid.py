"""Tiles of an image, against what a grid has to be: complete, inside, with enough overlap."""

from __future__ import annotations

import numpy as np
import pytest

from ultralytics.utils.errors import ConfigError
from ultralytics.utils.tiles.grid import Tile, tile_grid


@pytest.mark.parametrize("overlap", [0.0, 0.2, 0.5])
@pytest.mark.parametrize(("height", "width"), [(3000, 4000), (641, 640), (100, 1500), (1281, 700)])
def test_a_grid_covers_the_image_with_the_overlap(height: int, width: int, overlap: float) -> None:
    tiles = tile_grid(height, width, 640, overlap)
    seen = np.zeros((height, width), bool)
    for x1, y1, x2, y2 in tiles:
        assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height
        assert (x2 - x1, y2 - y1) == (min(640, width), min(640, height))
        seen[y1:y2, x1:x2] = True
    assert seen.all() and len(set(tiles)) == len(tiles)
    for starts in (sorted({t.x1 for t in tiles}), sorted({t.y1 for t in tiles})):
        steps = np.diff(starts)
        assert (steps <= 640 * (1 - overlap)).all() and (not len(steps) or np.ptp(steps) <= 1)


def test_no_more_tiles_than_needed() -> None:
    assert len(tile_grid(3000, 4000, 640, 0.2)) == 8 * 6
    assert tile_grid(480, 640, 640, 0.2) == [Tile(0, 0, 640, 480)]
    assert tile_grid(0, 0, 640, 0.2) == [Tile(0, 0, 0, 0)]


@pytest.mark.parametrize(("size", "overlap"), [(0, 0.2), (64, -0.1), (64, 0.95)])
def test_wrong_values(size: int, overlap: float) -> None:
    with pytest.raises(ConfigError, match=f"tiles of {size} px, overlap {overlap}"):
        tile_grid(100, 100, size, overlap)


def test_edges_inside_the_image() -> None:
    assert Tile(0, 10, 64, 74).inner_edges(74, 100) == (False, True, True, False)


def test_tiles_that_are_not_square() -> None:
    tiles = tile_grid(200, 230, (100, 230), 0.2)
    assert tiles == [Tile(0, y, 230, y + 100) for y in (0, 50, 100)]
