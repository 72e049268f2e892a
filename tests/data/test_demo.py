"""The drawn demo set: deterministic, whole, with boxes that frame what was drawn."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from ultralytics.data import demo
from ultralytics.data.demo import DEMO_CLASSES, draw_scene, generate_demo
from ultralytics.data.labels.parse import parse_labels
from ultralytics.utils.errors import DatasetError


def file_bytes(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate_demo(tmp_path_factory.mktemp("demo") / "set", train=6, val=2, imgsz=128)


def test_two_runs_draw_the_same_and_seeds_differ(small: Path, tmp_path: Path) -> None:
    again = generate_demo(tmp_path / "a", train=6, val=2, imgsz=128)
    other = generate_demo(tmp_path / "b", train=6, val=2, imgsz=128, seed=1)
    assert file_bytes(again) == file_bytes(small) != file_bytes(other)
    more = generate_demo(tmp_path / "c", train=7, val=2, imgsz=128)
    same = {k: v for k, v in file_bytes(small).items() if k != demo.MARKER}
    assert same.items() <= file_bytes(more).items(), "a larger set begins with the smaller one"


def test_layout_and_labels(small: Path) -> None:
    assert json.loads((small / demo.MARKER).read_text())["names"] == list(DEMO_CLASSES)
    images = sorted(small.glob("images/*/*.jpg"))
    assert [p.parent.name for p in images] == ["train"] * 6 + ["val"] * 2
    seen = set()
    for image in images:
        text = Path(str(image).replace("/images/", "/labels/")).with_suffix(".txt").read_text()
        rows = parse_labels(text, len(DEMO_CLASSES))
        assert not rows.issues and 1 <= len(rows.cls) <= 8
        seen |= set(rows.cls.ravel().astype(int).tolist())
        assert max(cv2.imread(str(image)).shape) == 128
    assert len(seen) >= 4


def test_a_set_that_is_there_is_left_alone(small: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in small.rglob("*")}
    generate_demo(small, train=6, val=2, imgsz=128)
    assert {p: p.stat().st_mtime_ns for p in small.rglob("*")} == before


def test_other_folders_are_never_touched(small: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/work.txt").write_text("precious")
    with pytest.raises(DatasetError, match="not a demo set"):
        generate_demo(tmp_path / "mine", 1, 1)
    with pytest.raises(DatasetError, match="another demo set"):
        generate_demo(small, train=5, val=2, imgsz=128)
    with pytest.raises(DatasetError, match="train=0"):
        generate_demo(tmp_path / "zero", train=0)
    assert file_bytes(tmp_path) == {"mine/work.txt": b"precious"}
    (tmp_path / "void").mkdir()
    assert (generate_demo(tmp_path / "void", 1, 1, imgsz=64) / "images/val").is_dir()


def test_an_interrupted_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "draw_scene", fail)
    with pytest.raises(KeyboardInterrupt):
        generate_demo(tmp_path / "set", 1, 1)
    assert not list(tmp_path.iterdir())


def test_a_box_frames_its_object(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a black table, without shadow and noise, a lone object's lit pixels span exactly its box."""
    monkeypatch.setattr(demo, "_background", lambda rng, h, w: np.zeros((h, w, 3), np.float32))
    for seed in range(12):
        rng = np.random.default_rng(seed)
        scene = demo._Scene(rng, 96, 120)
        toy = demo._toy(rng, 22.0, scene.light)
        assert scene.place(toy, 60, 48)
        ys, xs = np.nonzero(scene.image.max(2) > 0)
        (_, cx, cy, w, h), *_ = scene.rows
        got = [(cx - w / 2) * 120, (cy - h / 2) * 96, (cx + w / 2) * 120, (cy + h / 2) * 96]
        np.testing.assert_allclose(got, [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], atol=1.01)


def test_no_object_is_hidden_too_much() -> None:
    for seed in range(6):
        scene = demo._Scene(np.random.default_rng(seed), 128, 128)
        for _ in range(30):
            scene.place(demo._toy(scene.rng, 20.0, scene.light), *(scene.rng.uniform(10, 118, 2)))
        visible = np.bincount(scene.owner.ravel(), minlength=len(scene.areas) + 1)[1:]
        assert (visible >= 0.55 * np.array(scene.areas)).all() and len(scene.areas) > 3


def test_pictures_are_not_flat() -> None:
    image, rows = draw_scene(np.random.default_rng(5), 96, 128)
    assert image.dtype == np.uint8 and image.std() > 10 and rows
    assert (np.abs(np.diff(image.astype(int), axis=1)) > 0).mean() > 0.5, "sensor noise everywhere"
