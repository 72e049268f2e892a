"""Training tiles of a drawn set, against its pixels and boxes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from ultralytics.cli import entrypoint
from ultralytics.data.images import imread
from ultralytics.data.tile_set import GREY, tile
from ultralytics.data.utils import check_det_dataset
from ultralytics.utils.config.yaml_io import YAML
from ultralytics.utils.errors import ConfigError

SIDE = (200, 300)
OBJECTS = {  # xyxy px
    "large": [(5, 5, 35, 35), (90, 10, 130, 60), (40, 100, 260, 190)],
    "empty": [],
    "small": [(10, 10, 50, 50)],
}


def write(root: Path) -> Path:
    """Write two images of 300 x 200 and one of 60 x 60; objects are white on black."""
    for kind in ("images", "labels"):
        (root / kind).mkdir(parents=True)
    for name, boxes in OBJECTS.items():
        h, w = (60, 60) if name == "small" else SIDE
        image = np.zeros((h, w, 3), np.uint8)
        lines = []
        for x1, y1, x2, y2 in boxes:
            image[y1:y2, x1:x2] = 255
            lines.append(f"1 {(x1 + x2) / 2 / w} {(y1 + y2) / 2 / h} {(x2 - x1) / w} {(y2 - y1) / h}\n")
        cv2.imwrite(str(root / "images" / f"{name}.png"), image)
        (root / "labels" / f"{name}.txt").write_text("".join(lines))
    YAML.save(root / "data.yaml", {"train": "images", "val": "images", "names": {0: "a", 1: "b"}})
    return root / "data.yaml"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("source"))


def read(path: Path) -> np.ndarray:
    image = imread(path)
    assert image is not None
    return image


def labels(path: Path) -> np.ndarray:
    return np.array([[float(v) for v in line.split()] for line in path.read_text().splitlines()]).reshape(-1, 5)


def test_tiles_have_the_pixels_and_the_boxes_of_their_place(source: Path, tmp_path: Path) -> None:
    before = {p: p.read_bytes() for p in source.parent.rglob("*") if p.is_file() and p.suffix != ".cache"}
    yaml = tile(source, size=100, overlap=0.2, out=tmp_path / "tiles", background=0.5)
    assert {p: p.read_bytes() for p in before} == before
    data = check_det_dataset(yaml)
    assert data["names"] == {0: "a", 1: "b"}
    folder = yaml.parent / "images" / "train"
    tiles = {p.stem for p in folder.iterdir() if "__" in p.stem}
    assert {p.stem for p in folder.iterdir()} - tiles == set(OBJECTS)  # the whole images
    kinds = [bool(len(labels(yaml.parent / "labels" / "train" / f"{name}.txt"))) for name in tiles]
    assert sum(kinds) > 0 and kinds.count(False) <= round(0.5 * sum(kinds))
    assert not any(name.startswith("small__") for name in tiles)
    for name in tiles:
        whole = read(source.parent / "images" / f"{name.partition('__')[0]}.png")
        x, y = map(int, name.partition("__")[2].split("_"))
        got, want = read(folder / f"{name}.png"), whole[y : y + 100, x : x + 100]
        painted = (got == GREY).all(2)
        assert (got[~painted] == want[~painted]).all()
        covered = np.zeros((100, 100), bool)
        for c, cx, cy, w, h in labels(yaml.parent / "labels" / "train" / f"{name}.txt"):
            x1, y1, x2, y2 = np.round(
                [(cx - w / 2) * 100, (cy - h / 2) * 100, (cx + w / 2) * 100, (cy + h / 2) * 100]
            ).astype(int)
            covered[y1:y2, x1:x2] = True
            assert c == 1 and (got[y1:y2, x1:x2] == 255).all()
        assert (covered == (got == 255).all(2)).all()  # each visible object has a label


def test_an_object_is_labelled_where_enough_of_it_is(source: Path, tmp_path: Path) -> None:
    """The second object, 90 to 130, has 10 of 40 columns in the first tile, and all of them in the second."""
    counts = {}
    for min_area in (0.7, 0.2):
        yaml = tile(source, size=100, overlap=0.3, out=tmp_path / str(min_area), min_area=min_area, background=0)
        counts[min_area] = len(labels(yaml.parent / "labels" / "train" / "large__0_0.txt"))
    assert counts == {0.7: 1, 0.2: 2}


def test_the_command_and_its_errors(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new"
    entrypoint(["tile", f"data={source}", "size=100", f"out={out}", "whole=false", "background=0"])
    text = capsys.readouterr().out
    assert "train: 3 images" in text and "1 objects in no tile" in text  # the large one
    assert {p.stem.partition("__")[0] for p in (out / "images" / "train").iterdir()} == {"large", "small"}
    with pytest.raises(ConfigError, match="exists and is not empty"):
        tile(source, out=out)
    for name, value in {"size": 8, "min_area": 0.0, "background": -1.0, "overlap": 0.95}.items():
        with pytest.raises(ConfigError, match=str(value)):
            tile(source, out=tmp_path / "other", **{name: value})  # type: ignore[arg-type]
    assert not (tmp_path / "other").exists() and not list(tmp_path.glob(".other*"))
