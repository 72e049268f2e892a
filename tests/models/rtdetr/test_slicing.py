"""Detection in tiles: a detector that sees solid rectangles, and small networks of two families."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from tests.engine.tiny import COLORS, NAMES, OraclePredictor, predict_args, spread_network
from tests.models.yolo.networks import V8, spread
from ultralytics import RTDETR
from ultralytics.cfg.resolution import resolve
from ultralytics.models.rtdetr.slicing import boxes_that_count, row_limit
from ultralytics.models.rtdetr.val import RTDETRValidator
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.tiles.fusion import ViewBoxes, cut_sides, fuse_boxes
from ultralytics.utils.tiles.grid import Tile, tile_grid
from ultralytics.utils.tiles.ownership import TileColumns

SHAPE = (300, 440)
RECTS = [  # class, xyxy: whole in one tile, over an edge, larger than the overlap, larger than a tile
    (0, (10, 12, 40, 50)),
    (1, (110, 60, 140, 96)),
    (2, (150, 140, 230, 180)),
    (1, (20, 200, 220, 290)),
    (0, (380, 250, 440, 300)),
]


def scene() -> np.ndarray:
    """Draw the rectangles on grey, BGR."""
    image = np.full((*SHAPE, 3), 110, np.uint8)
    for c, (x1, y1, x2, y2) in RECTS:
        image[y1:y2, x1:x2] = COLORS[c]
    return image


class PixelDetector(nn.Module):
    """Finds each connected area of a colour of the drawn data set in the network's input; notes its input shapes."""

    fp16 = False
    stride = 32
    names = NAMES

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def forward(self, im: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(im))
        out = torch.zeros(len(im), 20, 6)
        for rows, image in zip(out, im, strict=True):
            bgr = (image.permute(1, 2, 0).numpy()[..., ::-1] * 255).round().astype(int)
            found = [row for c in NAMES for row in self._areas(bgr, c)]
            if found:
                rows[: len(found)] = torch.tensor(found)
        return out

    @staticmethod
    def _areas(bgr: np.ndarray, c: int) -> list[list[float]]:
        mask = (np.abs(bgr - np.array(COLORS[c])).max(2) < 50).astype(np.uint8)
        h, w = mask.shape
        _, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
        return [
            [(x + bw / 2) / w, (y + bh / 2) / h, bw / w, bh / h, 0.9, c]
            for x, y, bw, bh, area in stats[1:].tolist()
            if area > 9
        ]


def predict(tmp: Path, source: Any, **more: Any) -> tuple[Any, PixelDetector]:
    predictor = OraclePredictor(overrides=predict_args(tmp, **{"imgsz": 128, **more}))
    detector = PixelDetector()
    predictor.setup_model(detector)  # type: ignore[arg-type]
    return predictor(source), detector


@pytest.mark.parametrize("batch", [1, 5])
def test_objects_of_all_sizes_are_found_once(tmp_path: Path, batch: int) -> None:
    (result,), detector = predict(tmp_path, scene(), slice=128, overlap=0.25, batch=batch)
    boxes = result.boxes
    assert len(boxes) == len(RECTS)
    for c, want in RECTS:
        errors = [
            np.abs(b - np.array(want)).max() for b, k in zip(boxes.xyxy.numpy(), boxes.cls, strict=True) if k == c
        ]
        assert min(errors) < 4  # px; the whole image is seen at less than a third of its size
    tiles = len(tile_grid(*SHAPE, 128, 0.25))
    assert detector.batches[0] == 1 and sum(detector.batches) == 1 + tiles and max(detector.batches) == batch


def test_limits_grow_with_the_image_unless_given() -> None:
    assert row_limit((3000, 4000), resolve(overrides={"slice": 640})) == 300 * 30
    assert row_limit((3000, 4000), resolve(overrides={"slice": 640, "max_det": 50})) == 50
    assert row_limit((3000, 4000), resolve()) == 300 and boxes_that_count((3000, 4000), resolve()) == 100
    assert boxes_that_count((641, 640), resolve(overrides={"slice": 640})) == 200
    assert boxes_that_count((960, 1280), resolve(overrides={"slice": "[480, 640]"})) == 400


def test_tiles_that_are_not_square(tmp_path: Path) -> None:
    (result,), detector = predict(tmp_path, scene(), slice=[96, 160], overlap=0.25, batch=64)
    assert len(result.boxes) == len(RECTS)
    assert detector.batches == [1, len(tile_grid(*SHAPE, (96, 160), 0.25))]


def test_a_small_image_is_seen_once(tmp_path: Path) -> None:
    (result,), detector = predict(tmp_path, scene()[:128, :128].copy(), slice=128)
    assert detector.batches == [1] and len(result.boxes) == 2


def test_one_image_is_read_at_a_time(tmp_path: Path) -> None:
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.png"), scene())
    results, detector = predict(tmp_path, str(tmp_path), slice=256, batch=4)
    assert [len(r.boxes) for r in results] == [len(RECTS)] * 3
    tiles = len(tile_grid(*SHAPE, 256, 0.2))
    assert detector.batches == [1, *[min(4, tiles - i) for i in range(0, tiles, 4)]] * 3


def test_what_slices_cannot_be_combined_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="slice=128: a tensor"):
        predict(tmp_path, torch.zeros(1, 3, 64, 64), slice=128)
    with pytest.raises(ConfigError, match="slice=128: embed"):
        predict(tmp_path, scene(), slice=128, embed=[1])
    with pytest.raises(ConfigError, match=r"slice=\[128, 16\]: a side below 32 px"):
        predict(tmp_path, scene(), slice=[128, 16])
    predict(tmp_path, scene(), overlap=0.3)
    model = RTDETR(dict(spread_network().yaml))
    calls: list[Callable[..., Any]] = [model.export, model.benchmark, partial(model.heatmap, scene())]
    for call in calls:
        with pytest.raises(ConfigError, match="slice=64 has no effect"):
            call(slice=64)


class PixelValidator(RTDETRValidator):
    """Takes the detector as it is instead of loading weights."""

    def _backend(self, weights: Any) -> Any:
        return weights


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One large image, as PNG in YOLO form."""
    root = tmp_path_factory.mktemp("large")
    (root / "images").mkdir()
    (root / "labels").mkdir()
    cv2.imwrite(str(root / "images" / "a.png"), scene())
    h, w = SHAPE
    rows = [f"{c} {(a + x) / 2 / w} {(b + y) / 2 / h} {(x - a) / w} {(y - b) / h}\n" for c, (a, b, x, y) in RECTS]
    (root / "labels" / "a.txt").write_text("".join(rows))
    names = "".join(f"  {i}: {n}\n" for i, n in NAMES.items())
    (root / "data.yaml").write_text(f"path: {root}\ntrain: images\nval: images\nnames:\n{names}")
    return root / "data.yaml"


@pytest.mark.parametrize("letterbox", [None, True])
def test_the_whole_image_is_evaluated(data: Path, tmp_path: Path, letterbox: bool | None) -> None:
    given = {"data": str(data), "imgsz": 128, "batch": 4, "workers": 0, "plots": False, "device": "cpu", "mode": "val"}
    place = {"project": str(tmp_path), "letterbox": letterbox}
    ap = []
    for more in ({}, {"slice": 128}):
        validator = PixelValidator(args={**given, **place, **more})
        validator(model=PixelDetector())  # type: ignore[arg-type]
        ap.append(validator.metrics.box.map)
        assert validator.metrics.nt_per_class.tolist() == [2, 2, 1]
    assert ap[1] > 0.9 and ap[1] > ap[0] - 1e-9


@pytest.mark.parametrize("family", ["rtdetr", "yolo"])
def test_predict_and_val_of_both_families(family: str, data: Path, tmp_path: Path) -> None:
    """Sliced prediction is the fusion of predictions of the parts; val runs the same way."""
    if family == "yolo":
        model: Any = spread(V8)
    else:
        model = RTDETR(dict(spread_network().yaml))
        model.model.load_state_dict(spread_network().state_dict())
    image, fast = scene(), {"imgsz": 64, "conf": 0.01, "device": "cpu", "amp": False, "verbose": False}
    tiles = [(0, 0, SHAPE[1], SHAPE[0]), *tile_grid(*SHAPE, 160, 0.2)]
    margin = 0.05 * 160
    columns = TileColumns(tile_grid(*SHAPE, 160, 0.2), SHAPE, margin)
    parts = []
    for i, tile in enumerate(tiles):
        x1, y1, x2, y2 = tile
        rows = model.predict(image[y1:y2, x1:x2].copy(), **fast)[0].boxes.data.double().numpy()
        boxes = rows[:, :4] + (x1, y1, x1, y1)
        inner = (x1 > 0, y1 > 0, x2 < SHAPE[1], y2 < SHAPE[0])
        cut = cut_sides(boxes, tile, inner, margin)
        elsewhere = columns.left_to_others(boxes, Tile(*tile), cut) if i else columns.within_overlap(boxes)
        parts.append(
            (boxes, rows[:, 4] * np.where(elsewhere, 0.5, 1.0), rows[:, 5].astype(np.int64), np.full(len(rows), i), cut)
        )
    want = fuse_boxes(ViewBoxes(*(np.concatenate(column) for column in zip(*parts, strict=True))))
    got = model.predict(image, slice=160, batch=3, **fast)[0].boxes
    n = min(300 * 6, int((want.scores >= 0.01).sum()))  # 300 for each 160 x 160 px
    assert len(model.predict(image, slice=160, max_det=5, **fast)[0].boxes) == 5
    assert n > 5 and len(got) == n
    np.testing.assert_allclose(got.conf.numpy(), want.scores[:n], atol=1e-4)
    np.testing.assert_allclose(got.xyxy.numpy().sum(1), want.boxes[:n].sum(1), atol=1.0)
    metrics = model.val(data=str(data), slice=160, workers=0, plots=False, project=str(tmp_path), **fast)
    seen = len(metrics.stats[0]["conf"])
    assert 0 <= metrics.box.map <= 1 and (seen == n if family == "rtdetr" else seen >= n)  # YOLO: rows of each class
