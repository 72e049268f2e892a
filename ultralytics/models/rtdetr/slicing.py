"""Detection in large images: tiles beside the whole image, whose boxes are fused; shared by prediction and validation.

Shapes: n rows of one view, k fused rows. Rows are xyxy in px, score, class. Only the boxes of the tiles are kept, so
memory does not grow with the number of tiles but by their boxes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ultralytics.cfg import Args
from ultralytics.data.augment import LetterBox
from ultralytics.data.images import imread
from ultralytics.engine.validator import max_side
from ultralytics.models.rtdetr.post import image_rows, placed_geometry, to_network_xywhn, to_original_xyxy
from ultralytics.nn.families import PostOptions, find_family, letterboxes
from ultralytics.utils.errors import ConfigError, DatasetError
from ultralytics.utils.log import LOGGER
from ultralytics.utils.ops import RatioPad
from ultralytics.utils.tiles.fusion import Flags, Floats, ViewBoxes, cut_sides, fuse_boxes
from ultralytics.utils.tiles.grid import Tile, tile_grid
from ultralytics.utils.tiles.ownership import TileColumns
from ultralytics.utils.torch_tools.arrays import Pixels

CUT_MARGIN = 0.05
"""A side of a box counts as cut within this fraction of the tile's side from an inner edge, and within 2 px."""

ELSEWHERE = 0.5
"""Factor of the score of a box that another view decides about."""

LEAST_SIDE = 32
"""Least side of a tile, px."""

COCO_DETS = 100
"""Boxes of a class that COCO's AP takes of an image."""

DetectParts: TypeAlias = Callable[[list[Pixels]], list[Tensor]]
"""From parts of an image, (h, w, C) BGR each, to the rows (n, 6) in px of each part."""


class TileRows(NamedTuple):
    """A tile of an image and the rows (n, 6) found in it, xyxy in px of the tile."""

    tile: Tile
    rows: Tensor


class SlicedOutput(NamedTuple):
    """The network's output for the whole images of a batch, resized, and what was found in the tiles of each."""

    whole: Any
    tiles: list[list[TileRows]]


def tile_sides(args: Args) -> tuple[int, int]:
    """Return height and width of a tile in px.

    Raises ConfigError for a side below `LEAST_SIDE`.
    """
    given = [args.slice] if isinstance(args.slice, int) else list(args.slice or ())
    if min(given) < LEAST_SIDE:
        raise ConfigError(f"slice={args.slice}: a side below {LEAST_SIDE} px", "use a larger one")
    return given[0], given[-1]


def check_slices(args: Args, source: object = None) -> None:
    """Refuse what slices cannot be combined with; report `overlap` where nothing is sliced.

    Raises:
        ConfigError: `slice` with `embed`, or with a tensor, which is taken as it is.
    """
    if args.slice is None:
        if "overlap" in args.user_keys:
            LOGGER.warning(f"overlap={args.overlap} has no effect: images are not sliced without slice=")
        return
    tile_sides(args)
    if args.embed:
        raise ConfigError(f"slice={args.slice}: embed gives a vector for a whole image", "leave slice out")
    if isinstance(source, Tensor):
        raise ConfigError(f"slice={args.slice}: a tensor is the network's input", "give an image or an array")


def check_validation(args: Args) -> None:
    """Check `slice` as above; log how many boxes of an image a sliced validation takes, which is not COCO's number."""
    check_slices(args)
    if args.slice is not None:
        kept = f"{args.max_det} boxes of an image" + ("" if "max_det" in args.user_keys else " for each")
        LOGGER.info(
            f"slice={args.slice}: AP takes {COCO_DETS} boxes of a class for each tile's area in an image, rounded up, "
            f"instead of {COCO_DETS} an image; at most {kept} are kept"
        )


def images_worth(shape: Sequence[int], args: Args) -> int:
    """Return to how many images of a tile's size an image (h, w) amounts; 1 without `slice`.

    Its bounds on boxes are so many times those of an image.
    """
    if args.slice is None:
        return 1
    h, w = tile_sides(args)
    return max(-(-shape[0] * shape[1] // (h * w)), 1)


def boxes_that_count(shape: Sequence[int], args: Args) -> int:
    """Return how many boxes of a class AP takes of an image (h, w)."""
    return COCO_DETS * images_worth(shape, args)


def row_limit(shape: Sequence[int], args: Args) -> int:
    """Return how many boxes of an image (h, w) are kept: `max_det`, and where the user leaves it, more if sliced."""
    return args.max_det * (1 if "max_det" in args.user_keys else images_worth(shape, args))


def detect_tiles(image: Pixels, args: Args, detect: DetectParts) -> list[TileRows]:
    """Return what `detect` finds in the tiles of an image (h, w, C), `args.batch` of them at a time.

    An image of one tile has none: it is seen as a whole anyway.
    """
    grid = tile_grid(image.shape[0], image.shape[1], tile_sides(args), args.overlap)
    if len(grid) == 1:
        return []
    return [row for tiles in _groups(grid, max(int(args.batch), 1)) for row in _detect_group(image, tiles, detect)]


@dataclass(frozen=True)
class FileTiles:
    """Reads an image file, whose resized form a batch has, and detects in its tiles.

    Attributes:
        model: Network, or what runs it.
        args: Arguments of the validation; its images are square.
        options: Options of the family's post-process.
        forward: Runs the network on images (B, C, H, W) uint8 RGB on the CPU.
    """

    model: Any
    args: Args
    options: PostOptions
    forward: Callable[[Tensor], Any]

    def __call__(self, file: str) -> list[TileRows]:
        """Return the rows of each tile; DatasetError where the file has gone."""
        image = imread(file, int(getattr(self.model, "channels", 3)))
        if image is None:
            raise DatasetError(f"{file}: cannot be read any more", "is the disk that it lies on still there?")
        return detect_tiles(image, self.args, self._detect)

    def _detect(self, parts: list[Pixels]) -> list[Tensor]:
        """Return the rows (n, 6) of parts of an image in px of each."""
        side, letterboxed = max_side(self.args.imgsz), letterboxes(self.model, self.args.letterbox)
        fit, network = LetterBox(side, scale_fill=not letterboxed), (side, side)
        chw = np.stack([fit(image=part)[..., ::-1].transpose(2, 0, 1) for part in parts])  # (B, C, H, W)
        kept = image_rows(find_family(self.model), self.forward(torch.from_numpy(chw)), network, self.options)
        rows = zip(kept, (part.shape[:2] for part in parts), strict=True)
        return [pixel_rows(row, network, shape, placed_geometry(shape, network, letterboxed)) for row, shape in rows]


def _groups(grid: Sequence[Tile], n: int) -> Iterator[Sequence[Tile]]:
    return (grid[i : i + n] for i in range(0, len(grid), n))


def _detect_group(image: Pixels, tiles: Sequence[Tile], detect: DetectParts) -> list[TileRows]:
    found = detect([image[t.y1 : t.y2, t.x1 : t.x2] for t in tiles])
    return [TileRows(tile, rows) for tile, rows in zip(tiles, found, strict=True)]


def pixel_rows(rows: Tensor, network: Sequence[int], shape: Sequence[int], geometry: RatioPad) -> Tensor:
    """Map rows (n, 6) cx cy w h in 0..1 of the network input (h, w) to xyxy px of the image (h, w) put into it."""
    return torch.cat([to_original_xyxy(rows[:, :4], network, shape, geometry), rows[:, 4:6]], 1)


def fused_rows(
    whole: Tensor,
    tiles: Sequence[TileRows],
    network: Sequence[int],
    shape: Sequence[int],
    geometry: RatioPad,
    args: Args,
) -> Tensor:
    """Return the rows (k, 6) of an image (h, w) from those of the whole of it (n, 6) and of its tiles.

    `whole` and the result are cx, cy, w, h in 0..1 of the network input (h, w) that the whole image lies in.
    """
    n = row_limit(shape, args)
    if not tiles:
        return whole[:n]
    fused = fuse_boxes(_joined(pixel_rows(whole, network, shape, geometry), tiles, shape))
    n = min(n, int((fused.scores >= (args.conf or 0.0)).sum()))
    boxes = to_network_xywhn(torch.from_numpy(fused.boxes[:n]), network, geometry)
    scores, classes = torch.from_numpy(fused.scores[:n]), torch.from_numpy(fused.classes[:n])
    return torch.cat([boxes, scores[:, None], classes[:, None]], 1).float()


def _joined(whole: Tensor, tiles: Sequence[TileRows], shape: Sequence[int]) -> ViewBoxes:
    """Return the boxes of all views in px of the image (h, w); those that another view decides about weigh less."""
    sides = [max(tile.x2 - tile.x1, tile.y2 - tile.y1) for tile, _ in tiles]
    margin = max(2.0, CUT_MARGIN * max(sides))
    columns = TileColumns([tile for tile, _ in tiles], shape, margin)
    table = whole.double().numpy()
    parts = [_view(table, 0, np.zeros(4, bool), columns.within_overlap(table[:, :4]))]
    for i, (tile, rows) in enumerate(tiles, 1):
        table = rows.double().numpy() + np.array([tile.x1, tile.y1] * 2 + [0, 0])
        cut = cut_sides(table[:, :4], tile, tile.inner_edges(shape[0], shape[1]), margin)
        parts.append(_view(table, i, cut, columns.left_to_others(table[:, :4], tile, cut)))
    return ViewBoxes(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _view(table: Floats, i: int, cut: Flags, elsewhere: Flags) -> ViewBoxes:
    """Return the rows (n, 6) of view `i`; `elsewhere` (n,) says which another view decides about."""
    n = len(table)
    classes = table[:, 5].astype(np.int64)
    return ViewBoxes(
        table[:, :4],
        table[:, 4] * np.where(elsewhere, ELSEWHERE, 1.0),
        classes,
        np.full(n, i),
        np.broadcast_to(cut, (n, 4)),
    )
