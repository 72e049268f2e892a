"""Training tiles of large images: `yolo tile data=X.yaml size=640 overlap=0.2 out=tiles`.

What is done with an object at the border of a tile follows DOTA (Xia et al. 2018, arXiv 1711.10398): the part in the
tile is labelled where it is at least 0.7 of the object's area. DOTA marks smaller parts as difficult, for which YOLO's
text has no form: here they are painted grey, so that training neither rewards nor punishes them. Shapes: n objects of
an image, h x w px.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ultralytics.data.convert import NamedLabel, copy_image, named_labels, read_split
from ultralytics.data.formats.yolo import yolo_rows
from ultralytics.data.images import imread
from ultralytics.data.utils import SPLITS, check_det_dataset
from ultralytics.utils.config.yaml_io import YAML
from ultralytics.utils.errors import ConfigError, DatasetError
from ultralytics.utils.files import atomic_write, complete_folder
from ultralytics.utils.log import LOGGER, TQDM
from ultralytics.utils.ops import xywh2xyxy, xyxy2xywhn
from ultralytics.utils.plotting.annotator import write_image
from ultralytics.utils.tiles.grid import Tile, tile_grid
from ultralytics.utils.torch_tools.arrays import Float64Array, Pixels

LABELLED_AREA = 0.7
"""Part of an object's area that must lie in a tile for its label, as in DOTA."""

GREY = 114
_JPEG = {".jpg", ".jpeg", ".jpe"}


@dataclass(frozen=True)
class TileRule:
    """How a set is cut.

    Attributes:
        size: Side of a tile, or its height and width, px.
        overlap: Least overlap of neighbours, as a ratio of the side.
        min_area: Part of an object's area that must lie in a tile for its label.
        background: Most tiles without objects, for each tile with some.
        whole: Whether each image that is cut is also there as a whole.
    """

    size: int | Sequence[int] = 640
    overlap: float = 0.2
    min_area: float = LABELLED_AREA
    background: float = 0.1
    whole: bool = True

    def __post_init__(self) -> None:
        if min([self.size] if isinstance(self.size, int) else self.size, default=0) < 32:
            raise ConfigError(f"size={self.size} must be at least 32 px")
        if not 0 < self.min_area <= 1:
            raise ConfigError(f"min_area={self.min_area} must be above 0 and at most 1")
        if self.background < 0:
            raise ConfigError(f"background={self.background} must be at least 0")


@dataclass
class TileContent:
    """One tile of an image: the objects `rows` (n,) that are labelled in it, and the parts (m, 4) that are painted.

    `boxes` (n, 4) and `painted` are xyxy in px of the tile.
    """

    tile: Tile
    rows: NDArray[np.int64]
    boxes: Float64Array
    painted: Float64Array


@dataclass
class SplitCount:
    """What became of a split."""

    images: int = 0
    tiles: int = 0
    backgrounds: int = 0
    left_out: int = 0
    objects: int = 0
    labels: int = 0
    nowhere: int = 0
    plans: list[tuple[NamedLabel, list[TileContent] | None]] = field(default_factory=list)

    def line(self, split: str, whole: bool) -> str:
        """Return the line of the summary."""
        where = "in the whole images only" if whole else "in no tile"
        return (
            f"{split}: {self.images} images, {self.tiles} tiles with objects, {self.backgrounds} without "
            f"({self.left_out} left out); {self.objects} objects, {self.labels} labels in tiles, "
            f"{self.nowhere} objects {where}"
        )


def tile(
    data: str | Path,
    size: int | Sequence[int] = 640,
    overlap: float = 0.2,
    out: str | Path | None = None,
    min_area: float = LABELLED_AREA,
    background: float = 0.1,
    whole: bool = True,
) -> Path:
    """Write a data set of tiles in YOLO form into a new folder; return its data YAML.

    All splits are cut. Images of one tile are copied as they are. With `whole` images that are cut are there as a whole
    as well, for objects larger than the overlap. Tiles without objects are drawn by a fixed seed, up to `background`
    for each tile with some. The folder (default: the YAML's name and the size, in the working directory) appears when
    all is written; the source is only read.

    Raises:
        ConfigError: a value outside its bounds, or `out` exists and is not empty.
        DatasetError: the data set cannot be used.
    """
    rule = TileRule(size, overlap, min_area, background, whole)
    sides = str(size) if isinstance(size, int) else "x".join(map(str, size))
    target = Path(out or f"{Path(data).stem}-tiles-{sides}").absolute()
    with complete_folder(target, "out") as work:
        source = check_det_dataset(data)
        splits = [split for split in SPLITS if source.get(split)]
        for split in splits:
            LOGGER.info(_write_split(source, split, rule, work).line(split, whole))
        content: dict[str, Any] = {split: f"images/{split}" for split in splits}
        content["names"] = dict(source["names"])
        if source["channels"] != 3:
            content["channels"] = source["channels"]
        YAML.save(work / "data.yaml", content)
    same = str(size).replace(" ", "")
    LOGGER.info(f"tiles: {target / 'data.yaml'}; evaluate with slice={same} on the source, where objects are not cut")
    return target / "data.yaml"


def _write_split(source: Mapping[str, Any], split: str, rule: TileRule, work: Path) -> SplitCount:
    """Write the tiles of a split; return the counts."""
    scan = read_split(source, split)
    if scan.issues:
        LOGGER.warning(f"{split}: {len(scan.issues)} finding(s), left out; the first: {scan.issues[0]}")
    count = plan_split(list(named_labels(scan.labels)), rule)
    for item, contents in TQDM(count.plans, desc=f"{split}: tiles"):
        if contents is None or rule.whole:
            copy_image(item.label["im_file"], work / "images" / split / item.name, "copy")
            _write_label(work, split, item.name, item.label["cls"], item.label["bboxes"])
        if contents:
            _write_tiles(item, contents, work, split, source["channels"])
    return count


def plan_split(items: Sequence[NamedLabel], rule: TileRule) -> SplitCount:
    """Return which tiles of which images are written, from the labels alone; an image of one tile has none."""
    count, empty = SplitCount(images=len(items)), 0
    candidates: list[tuple[int, TileContent]] = []
    for item in items:
        count.objects += len(item.label["cls"])
        contents = cut_labels(item, rule)
        if not contents:
            count.plans.append((item, None))
            continue
        labelled = [c for c in contents if len(c.rows)]
        candidates += [(len(count.plans), c) for c in contents if not len(c.rows) and not len(c.painted)]
        empty += sum(not len(c.rows) for c in contents)
        count.plans.append((item, labelled))
        count.tiles += len(labelled)
        count.labels += sum(len(c.rows) for c in labelled)
        count.nowhere += len(item.label["cls"]) - len({int(i) for c in labelled for i in c.rows})
    chosen = random.Random(0).sample(candidates, min(len(candidates), round(rule.background * count.tiles)))
    for place, content in chosen:
        item, chosen_so_far = count.plans[place]
        count.plans[place] = item, [*(chosen_so_far or ()), content]
    count.backgrounds, count.left_out = len(chosen), empty - len(chosen)
    return count


def cut_labels(item: NamedLabel, rule: TileRule) -> list[TileContent]:
    """Return the tiles of an image with the objects in each; none where one tile is the image."""
    h, w = item.label["shape"]
    grid = tile_grid(h, w, rule.size, rule.overlap)
    if len(grid) == 1:
        return []
    boxes = np.asarray(xywh2xyxy(item.label["bboxes"].astype(np.float64)) * (w, h, w, h), np.float64)  # (n, 4)
    return [_content(tile, boxes, rule.min_area) for tile in grid]


def _content(tile: Tile, boxes: Float64Array, min_area: float) -> TileContent:
    """Return what lies in a tile of objects xyxy (n, 4) in px of the image."""
    parts = np.concatenate([np.maximum(boxes[:, :2], tile[:2]), np.minimum(boxes[:, 2:], tile[2:])], 1)  # (n, 4)
    sides, full = np.maximum(parts[:, 2:] - parts[:, :2], 0.0), (boxes[:, 2:] - boxes[:, :2]).prod(1)
    ratio = sides.prod(1) / np.maximum(full, 1e-9)
    kept = ratio >= min_area
    parts -= (tile.x1, tile.y1) * 2
    return TileContent(tile, np.flatnonzero(kept), parts[kept], parts[(ratio > 0) & ~kept])


def _write_tiles(item: NamedLabel, contents: Sequence[TileContent], work: Path, split: str, channels: int) -> None:
    """Write the tiles of an image; its whole is only read."""
    image = imread(item.label["im_file"], channels)
    if image is None:
        raise DatasetError(f"{item.label['im_file']}: cannot be read any more")
    name = Path(item.name)
    suffix = ".jpg" if name.suffix.lower() in _JPEG else ".png"
    for content in contents:
        file = str(name.with_name(f"{name.stem}__{content.tile.x1}_{content.tile.y1}{suffix}"))
        write_image(work / "images" / split / file, painted_tile(image, content))
        x1, y1, x2, y2 = content.tile
        boxes = xyxy2xywhn(content.boxes, w=x2 - x1, h=y2 - y1)
        _write_label(work, split, file, item.label["cls"][content.rows], boxes)


def painted_tile(image: Pixels, content: TileContent) -> Pixels:
    """Return the tile of an image (h, w, C), grey where parts of objects without label are, but for labelled boxes."""
    x1, y1, x2, y2 = content.tile
    part = image[y1:y2, x1:x2]
    if not len(content.painted):
        return part
    hidden = np.zeros(part.shape[:2], bool)
    for boxes, value in ((content.painted, True), (content.boxes, False)):
        for left, top, right, lower in boxes:
            hidden[int(top) : int(np.ceil(lower)), int(left) : int(np.ceil(right))] = value
    part = part.copy()
    part[hidden] = GREY
    return part


def _write_label(work: Path, split: str, name: str, cls: NDArray[Any], boxes: NDArray[Any]) -> None:
    """Write the label file of an image or tile; an empty one where it has no object."""
    with atomic_write((work / "labels" / split / name).with_suffix(".txt")) as file:
        file.write(yolo_rows(cls, boxes))
