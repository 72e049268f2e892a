"""Folders of images: linked ones too, each once, and no loop without an end."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.data.sets import data_dict, make_set, write_set
from ultralytics.data.dataset import YOLODataset
from ultralytics.data.doctor.files import check_files
from ultralytics.data.doctor.survey import survey
from ultralytics.data.formats.detect import first_images
from ultralytics.data.paths import list_images, walk_files
from ultralytics.utils.errors import DatasetError

linked = pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")


def names(folder: Path) -> list[str]:
    return [str(Path(f).relative_to(folder)) for f in list_images(str(folder))]


@linked
def test_linked_folders_are_listed(tmp_path: Path) -> None:
    images, other = make_set(tmp_path / "set", 2), write_set(tmp_path / "other", {"x": None})
    (images / "more").symlink_to(other)
    (other / "deep").mkdir()
    (other / "x.png").rename(other / "deep/x.png")
    want = ["im0.png", "im1.png", "more/deep/x.png"]
    assert names(images) == want == sorted(os.path.relpath(f, images) for f in first_images(str(images)))
    (tmp_path / "set/linked").symlink_to(images)
    assert names(tmp_path / "set/linked") == want
    (tmp_path / "set/labels/train/more/deep").mkdir(parents=True)
    (tmp_path / "set/labels/train/more/deep/x.txt").write_text("2 .5 .5 .2 .2\n", encoding="utf-8")
    found = YOLODataset(str(images), imgsz=32, data=data_dict(tmp_path), augment=False)
    assert len(found) == 3 and found.labels[2]["cls"].tolist() == [[2.0]]


@linked
def test_loops_end_and_no_image_comes_twice(tmp_path: Path) -> None:
    images = make_set(tmp_path / "set", 2)
    write_set(tmp_path / "set", {"v": None}, "val")
    (images / "deep").mkdir()
    (images / "im1.png").rename(images / "deep/im1.png")
    outside = write_set(tmp_path / "outside", {"x": None})
    for link, target in (
        ("again", images / "deep"),  # seen under its own path
        ("self", images),
        ("up", images.parent),  # with the validation images in it
        ("deep/back", images),
        ("one", outside),
        ("two", outside.parent),  # holds what `one` brought already
    ):
        (images / link).symlink_to(target)
    (outside / "home").symlink_to(images.parent.parent)
    assert names(images) == ["deep/im1.png", "im0.png", "one/x.png"]
    places = [os.path.realpath(place) for place, _ in walk_files(images)]
    assert len(places) == len(set(places))


@linked
def test_the_doctor_looks_into_linked_folders(tmp_path: Path) -> None:
    images, other = make_set(tmp_path / "set", 2), tmp_path / "other"
    other.mkdir()
    (other / "picture.gif").write_bytes(b"GIF")
    (images / "more").symlink_to(other)
    data = {**data_dict(tmp_path), "train": str(images)}
    found = {f.code: f.examples for f in check_files(survey(data, "train"), data)}
    assert found["format"] == (str(images / "more/picture.gif"),)


def test_a_list_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_bytes("./a.jpg\n./é.jpg\n".encode("latin-1"))
    with pytest.raises(DatasetError, match=r"train\.txt:2: the list is not UTF-8"):
        list_images(str(tmp_path / "train.txt"))


def test_lines_of_a_list_that_name_no_image_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "val.txt"
    file.write_text("\"./a.jpg\"\n'b.png'\n# later\nc.jpg 1\n")
    assert list_images(str(file)) == [str(tmp_path / "a.jpg"), str(tmp_path / "b.png")]
    assert "val.txt: 2 of 4 lines name no image file and are left out: # later" in capsys.readouterr().out
    file.write_text("a.jpg\n\nb.png\n")
    assert len(list_images(str(file))) == 2 and not capsys.readouterr().out
