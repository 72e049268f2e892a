"""Which tile decides about a box, against a loop over the tiles, and on objects whose place is known."""

from __future__ import annotations

import numpy as np
import pytest

from ultralytics.utils.tiles.fusion import cut_sides
from ultralytics.utils.tiles.grid import Tile, tile_grid
from ultralytics.utils.tiles.ownership import TileColumns

SHAPE = (900, 1400)
SLACK = 4.0


def sees(tile: Tile, box: np.ndarray, axis: int) -> tuple[bool, bool]:
    """Whether a tile sees the lower and the upper end of a box along an axis."""
    start, end, length = tile[axis], tile[axis + 2], SHAPE[1 - axis]
    return bool(start == 0 or box[axis] > start + SLACK), bool(end == length or box[axis + 2] < end - SLACK)


def left_elsewhere(box: np.ndarray, tile: Tile, cut: np.ndarray, grid: list[Tile]) -> bool:
    """The rule for one box, tile by tile."""
    for axis in (0, 1):
        line = sorted({(t[axis], t[axis + 2]) for t in grid})
        others = {start: Tile(start, start, end, end) for start, end in line}
        mine = [start for start, _ in line].index(tile[axis])
        low, high = bool(cut[axis]), bool(cut[axis + 2])
        if high and mine + 1 < len(line) and sees(others[line[mine + 1][0]], box, axis)[0]:
            return True
        if low and mine > 0 and sees(others[line[mine - 1][0]], box, axis)[1]:
            return True
        away = {s: abs((box[axis] + box[axis + 2]) / 2 - (s + e) / 2) for s, e in line}
        if not low and not high:
            for start, other in others.items():
                if all(sees(other, box, axis)) and away[start] + 2 * SLACK < away[tile[axis]]:
                    return True
    return False


@pytest.mark.parametrize("overlap", [0.0, 0.2, 0.6])
def test_the_rule_is_that_of_a_loop(overlap: float) -> None:
    rng = np.random.default_rng(0)
    grid = tile_grid(*SHAPE, 320, overlap)
    columns = TileColumns(grid, SHAPE, SLACK)
    for tile in grid:
        corner = rng.uniform((tile.x1, tile.y1), (tile.x2 - 20, tile.y2 - 20), (40, 2))
        size = rng.uniform(10, 250, (40, 2))
        boxes = np.concatenate([corner, np.minimum(corner + size, (tile.x2, tile.y2))], 1)
        cut = cut_sides(boxes, tile, tile.inner_edges(*SHAPE), SLACK)
        want = [left_elsewhere(box, tile, sides, grid) for box, sides in zip(boxes, cut, strict=True)]
        assert columns.left_to_others(boxes, tile, cut).tolist() == want


@pytest.mark.parametrize("overlap", [0.2, 0.5])
def test_each_object_narrower_than_the_overlap_is_kept_whole_and_mostly_once(overlap: float) -> None:
    rng = np.random.default_rng(1)
    grid = tile_grid(*SHAPE, 320, overlap)
    columns = TileColumns(grid, SHAPE, SLACK)
    corner = rng.uniform(0, (SHAPE[1] - 50, SHAPE[0] - 50), (300, 2))
    objects = np.concatenate([corner, corner + rng.uniform(20, 50, (300, 2))], 1)
    kept, seen = np.zeros(300, int), np.zeros(300, int)
    for tile in grid:
        clipped = np.concatenate([np.maximum(objects[:, :2], tile[:2]), np.minimum(objects[:, 2:], tile[2:])], 1)
        visible = np.flatnonzero((clipped[:, 2:] - clipped[:, :2] > 5).all(1))
        boxes = clipped[visible]
        cut = cut_sides(boxes, tile, tile.inner_edges(*SHAPE), SLACK)
        mine = ~columns.left_to_others(boxes, tile, cut)
        np.testing.assert_array_equal(boxes[mine], objects[visible[mine]])  # whole
        seen[visible] += 1
        kept[visible[mine]] += 1
    assert kept.min() == 1 and seen.mean() > 1.3 * kept.mean() and (kept > 1).mean() < 0.2
    assert columns.within_overlap(objects).all()


def test_what_is_larger_than_the_overlap_is_left_to_the_whole_image_too() -> None:
    columns = TileColumns(tile_grid(300, 1400, 320, 0.2), (300, 1400), SLACK)  # one row of tiles
    boxes = np.array([[0, 0, 40, 290], [0, 0, 100, 20], [500, 0, 900, 20]], float)
    assert columns.within_overlap(boxes).tolist() == [True, False, False]
    none = TileColumns(tile_grid(*SHAPE, 320, 0.0), SHAPE, SLACK)
    assert columns.within_overlap(np.zeros((0, 4))).tolist() == []
    assert none.left_to_others(np.zeros((0, 4)), Tile(0, 0, 320, 320), np.zeros((0, 4), bool)).tolist() == []
