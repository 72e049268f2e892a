"""Tuples of the interface for one image and its labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.engine.tiny import IMAGES, draw
from ultralytics.data.images import imread
from ultralytics.data.utils import exif_size, verify_image, verify_image_label
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.plotting.annotator import write_image


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    write_image(tmp_path / "a.png", draw(*IMAGES[0]))
    return tmp_path / "a.png"


@pytest.mark.parametrize(
    ("text", "rows", "counts", "message"),
    [
        (None, 0, (1, 0, 0, 0), ""),
        ("", 0, (0, 1, 1, 0), ""),
        ("1 0.5 0.5 0.2 0.2\n0 0.25 0.25 0.5 0.5\n", 2, (0, 1, 0, 0), ""),
        ("0 0.5 0.5 0.2 0.2\n7 0.5 0.5 0.2 0.2\n", 1, (0, 1, 0, 0), "class 7 is out of range"),
        ("0 0.5 0.5 0.2 0.2\n0 0.5 0.5 0.2 0.2\n", 1, (0, 1, 0, 0), "the same object"),
    ],
)
def test_an_image_with_labels(
    picture: Path, text: str | None, rows: int, counts: tuple[int, ...], message: str
) -> None:
    labels = picture.with_suffix(".txt")
    if text is not None:
        labels.write_text(text)
    file, table, shape, polygons, keypoints, *rest = verify_image_label(
        (str(picture), str(labels), "train: ", False, 3, 0, 0, False)
    )
    assert (file, shape, polygons, keypoints) == (str(picture), (90, 120), [], None)
    assert table is not None and table.shape == (rows, 5) and table.dtype == np.float32
    assert tuple(rest[:4]) == counts and message in str(rest[4])
    assert not message or str(rest[4]).startswith("train: ")


def test_an_image_that_cannot_be_used(picture: Path) -> None:
    picture.write_bytes(b"")
    *nothing, missing, found, empty, corrupt, message = verify_image_label((picture, "a.txt", "", False, 3, 0, 0))
    assert nothing == [None] * 5 and (missing, found, empty, corrupt) == (0, 0, 0, 1) and "a.png" in message
    (name, class_id), good, bad, text = verify_image(((str(picture), 2), "p: "))
    assert (name, class_id, good, bad) == (str(picture), 2, 0, 1) and text.startswith("p: ") and "corrupt" in text


def test_an_image_alone(picture: Path) -> None:
    assert verify_image(((str(picture), 2), "")) == ((str(picture), 2), 1, 0, "")


def test_keypoints_are_refused(picture: Path) -> None:
    with pytest.raises(ConfigError, match="keypoint"):
        verify_image_label((picture, "a.txt", "", True, 3, 17, 3, False))


@pytest.mark.parametrize(("kind", "orientation"), [("jpeg", 6), ("jpeg", 3), ("png", 8), ("tiff", 6), ("png", None)])
def test_the_size_is_that_of_the_image_as_it_is_read(tmp_path: Path, kind: str, orientation: int | None) -> None:
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    Image.new("RGB", (40, 20)).save(tmp_path / f"a.{kind}", exif=exif)
    read = imread(tmp_path / f"a.{kind}")
    assert read is not None
    with Image.open(tmp_path / f"a.{kind}") as image:
        assert exif_size(image) == (read.shape[1], read.shape[0])
