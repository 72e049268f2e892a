"""Which tile of an image decides about a box: the one that shows the object whole, nearest to its middle.

Without it each overlap of tiles has the boxes of two views: what one of them alone finds there counts like what all of
an image's views agree on, and what an edge leaves of an object counts as an object. A box that another tile decides
about is not dropped, it counts less: the other tile may have missed the object. Shapes: n boxes of one tile, k
intervals, the columns or rows of tiles.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ultralytics.utils.tiles.fusion import Flags, Floats
from ultralytics.utils.tiles.grid import Tile


class TileColumns:
    """The columns and rows of the tiles of an image (h, w).

    Attributes:
        slack: Error of a box in px up to which its place is not relied on.
    """

    def __init__(self, grid: Sequence[Tile], shape: Sequence[int], slack: float) -> None:
        self.slack = slack
        spans = ({(t.x1, t.x2) for t in grid}, {(t.y1, t.y2) for t in grid})
        self._spans = tuple(np.array(sorted(span), np.float64) for span in spans)  # (k, 2) along x and y
        self._lengths = (float(shape[1]), float(shape[0]))

    def left_to_others(self, boxes: Floats, tile: Tile, cut: Flags) -> Flags:
        """Return which boxes (n, 4) xyxy in px of the image, of which `cut` (n, 4) says what sides a tile cuts, another
        tile decides about.

        It is so for a box that is cut, if the neighbour at that side sees its opposite side: the object is whole there,
        or at least more of it. A box that is whole is left to a tile that sees it whole nearer to its middle.
        """
        return np.asarray(self._along(0, boxes, tile.x1, cut) | self._along(1, boxes, tile.y1, cut))

    def within_overlap(self, boxes: Floats) -> Flags:
        """Return which boxes (n, 4) of the whole image are so small that some tile shows each of them whole."""
        small = np.ones(len(boxes), bool)
        for axis, spans in enumerate(self._spans):
            if len(spans) > 1:
                common = (spans[:-1, 1] - spans[1:, 0]).min()
                small &= boxes[:, axis + 2] - boxes[:, axis] < common - 2 * self.slack
        return small

    def _along(self, axis: int, boxes: Floats, start: int, cut: Flags) -> Flags:
        low, high, spans = boxes[:, axis], boxes[:, axis + 2], self._spans[axis]
        mine = int(np.searchsorted(spans[:, 0], start))
        first = np.where(spans[:, 0] == 0, -np.inf, spans[:, 0] + self.slack)  # what a tile sees whole lies in between
        last = np.where(spans[:, 1] >= self._lengths[axis], np.inf, spans[:, 1] - self.slack)
        cut_low, cut_high = cut[:, axis], cut[:, axis + 2]
        elsewhere = np.zeros(len(boxes), bool)
        if mine + 1 < len(spans):
            elsewhere |= cut_high & (low > first[mine + 1])
        if mine > 0:
            elsewhere |= cut_low & (high < last[mine - 1])
        whole = (low[:, None] > first) & (high[:, None] < last)  # (n, k)
        away = np.abs((low + high)[:, None] / 2 - spans.mean(1))  # (n, k)
        better = (whole & (away + 2 * self.slack < away[:, mine : mine + 1])).any(1)
        return np.asarray(elsewhere | (better & ~cut_low & ~cut_high))
