"""Pictures of what the network will see, and the command line's data tools."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.data.sets import make_set
from ultralytics.cli.main import entrypoint
from ultralytics.engine.show import show
from ultralytics.utils.errors import ConfigError, NotFoundError


@pytest.fixture
def yaml(tmp_path: Path) -> Path:
    for split in ("train", "val"):
        make_set(tmp_path, 5, split)
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [a, b, c]\n", encoding="utf-8")
    return tmp_path / "data.yaml"


def test_plain_pictures_show_the_image_as_it_is_stretched(yaml: Path, tmp_path: Path) -> None:
    paths = show(yaml, augment=False, split="val", n=1, imgsz=96, save_dir=tmp_path / "out")
    assert [p.name for p in paths] == ["show0.jpg"]
    drawn = cv2.imread(str(paths[0]))
    assert drawn.shape == (320, 320, 3)  # a tile's least side
    assert (tmp_path / "out" / "show.txt").read_text(encoding="utf-8").split("\t")[1:3] == ["0", "1 boxes"]


def test_augmented_pictures_follow_seed_epoch_and_arguments(yaml: Path, tmp_path: Path) -> None:
    def picture(name: str, **options: object) -> np.ndarray:
        arguments = {"imgsz": 64, "recipe": "official", "n": 4, "save_dir": tmp_path / name, **options}
        return cv2.imread(str(show(yaml, **arguments)[0]))

    first = picture("a")
    np.testing.assert_array_equal(first, picture("b"))
    for i, other in enumerate(({"epoch": 1}, {"seed": 1}, {"mosaic": 1.0}, {"recipe": "auto"})):
        assert (first != picture(f"c{i}", **other)).any()


def test_many_images_take_several_pictures(yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ultralytics.engine.show.GRID", 2)
    paths = show(yaml, n=50, imgsz=32, save_dir=tmp_path / "out")
    assert len(paths) == 3 and len((tmp_path / "out/show.txt").read_text(encoding="utf-8").splitlines()) == 5


def test_the_recipe_is_for_the_images_that_are_taken(yaml: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    show(yaml, n=1, imgsz=32, fraction=2, save_dir=tmp_path / "out")
    assert "(2 training images" in capsys.readouterr().out


def test_refusals(yaml: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least one"):
        show(yaml, n=0)
    with pytest.raises(ConfigError, match="mosaic_n"):
        show(yaml, mosaic_n=5, save_dir=tmp_path / "out")
    with pytest.raises(NotFoundError, match="test"):
        show(yaml, split="test")
    assert not (tmp_path / "out").exists()


def test_the_command_line_knows_the_data_tools(
    yaml: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    entrypoint(["show", f"data={yaml}", "imgsz=32", "n=2", "augment=False", "save_dir=shown"])
    assert (tmp_path / "shown" / "show0.jpg").exists()
    entrypoint(["convert", f"data={yaml}", "format=voc", "save_dir=voc"])
    assert (tmp_path / "voc" / "data.yaml").exists()
    with pytest.raises(SystemExit) as caught:  # noise of 48 x 64 px repeats between the splits
        entrypoint(["doctor", f"data={yaml}", "save_dir=report"])
    assert caught.value.code == 1 and (tmp_path / "report" / "doctor.html").exists()
    for arguments, text in (
        (["doctor"], "needs data="),
        (["doctor", f"data={yaml}", "colour=1"], "not 'colour'"),
        (["convert", f"data={yaml}"], "needs format=, save_dir="),
        (["show"], "needs data="),
    ):
        with pytest.raises(SystemExit):
            entrypoint(arguments)
        assert text in capsys.readouterr().err
