"""Tracking of drawn frames with known truth: crossings, gaps, batch sizes, persistence, files, scores."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from tests.engine.tiny import COLORS, NAMES, TINY, OraclePredictor
from ultralytics import RTDETR
from ultralytics.cli import entrypoint
from ultralytics.engine.tracking.evaluate import mot_sequences
from ultralytics.engine.tracking.tracks import TRAIL
from ultralytics.utils.errors import ConfigError, MissingPackageError

SIDE, FRAMES, BOX = 128, 40, 16
TRACKERS = ("bytetrack", "botsort", "ocsort", "sort")


def truth(frame: int) -> list[tuple[int, int, int]]:
    """Id, left and top of the objects of a frame: 1 and 2 cross, 3 stands still and is hidden for five frames."""
    return [(1, 4 + 2 * frame, 20), (2, 104 - 2 * frame, 44), *([] if 18 <= frame < 23 else [(3, 60, 96)])]


def draw(frame: int) -> np.ndarray:
    image = np.random.default_rng(0).integers(60, 100, (SIDE, SIDE, 3), np.uint8)  # texture: the camera stands still
    for i, x, y in truth(frame):
        image[y : y + BOX, x : x + BOX] = COLORS[i - 1]
    return image


class ColourDetector(nn.Module):
    """Finds the square of each colour in the network's input, all of class 0."""

    fp16 = False
    stride = 32
    names = NAMES

    def forward(self, im: torch.Tensor) -> torch.Tensor:
        out = torch.zeros(len(im), 3, 6)
        for rows, image in zip(out, im, strict=True):
            bgr = (image.permute(1, 2, 0).numpy()[..., ::-1] * 255).round().astype(int)
            for c, row in enumerate(rows):
                y, x = np.nonzero(np.abs(bgr - np.array(COLORS[c])).max(2) < 60)
                if len(x):
                    corners = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1]) / SIDE
                    row[:4] = torch.tensor([*(corners[:2] + corners[2:]) / 2, *(corners[2:] - corners[:2])])
                    row[4] = 0.9
        return out


class ColourPredictor(OraclePredictor):
    """Runs the detector in place of the model."""

    def setup_model(self, model: Any = None, verbose: bool = False) -> None:
        if self.model is None:
            super().setup_model(ColourDetector())  # type: ignore[arg-type]

    def holds(self, network: Any) -> bool:
        return True


class ColourModel(RTDETR):
    """A model whose predictor is the detector of colours."""

    @property
    def task_map(self) -> dict[str, dict[str, type[Any]]]:
        family = super().task_map
        return {"detect": {**family["detect"], "predictor": ColourPredictor}}


@pytest.fixture
def model() -> ColourModel:
    return ColourModel(TINY)


FAST: dict[str, Any] = {"imgsz": SIDE, "device": "cpu", "verbose": False}


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The frames as a MOT sequence, with its truth."""
    root = tmp_path_factory.mktemp("mot") / "crossing"
    (root / "img1").mkdir(parents=True)
    (root / "gt").mkdir()
    lines = []
    for f in range(FRAMES):
        cv2.imwrite(str(root / "img1" / f"{f + 1:06d}.png"), draw(f))
        lines += [f"{f + 1},{i},{x},{y},{BOX},{BOX},1,1,1\n" for i, x, y in truth(f)]
    (root / "gt" / "gt.txt").write_text("".join(lines))
    return root


def table(results: Sequence[Any]) -> list[list[tuple[int, tuple[float, ...]]]]:
    return [
        sorted((int(i), tuple(box.round().tolist())) for i, box in zip(r.boxes.id, r.boxes.xyxy, strict=True))
        for r in results
    ]


def test_a_model_without_the_package_says_what_to_install(
    model: ColourModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "supervision", None)
    with pytest.raises(MissingPackageError, match=r"tracking needs the package 'supervision'") as error:
        model.track(draw(0), **FAST)
    assert "[track]" in str(error.value) and len(str(error.value).splitlines()) == 2


def test_what_is_not_a_mot_set(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no MOT sequence there"):
        mot_sequences(tmp_path)


def test_a_sequence_that_holds_sequences_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in (tmp_path, tmp_path / "a", tmp_path / "b"):
        (folder / "img1").mkdir(parents=True)
        (folder / "gt").mkdir()
        (folder / "gt" / "gt.txt").touch()
    assert mot_sequences(tmp_path) == [tmp_path]
    assert "left out: a, b" in capsys.readouterr().out


class TestWithThePackage:
    @pytest.fixture(autouse=True)
    def _needs_trackers(self) -> None:
        pytest.importorskip("trackers")

    @pytest.mark.parametrize("tracker", TRACKERS)
    def test_each_object_keeps_its_id(self, tracker: str, model: ColourModel, frames: Path) -> None:
        results = model.track(str(frames / "img1"), tracker=f"{tracker}.yaml", **FAST)
        owners: dict[int, set[int]] = {}
        for f, rows in enumerate(table(list(results))):
            assert len(rows) == len(truth(f)) or f in (0, 23)  # a track has its id from its second frame on
            for i, box in rows:
                owners.setdefault(i, set()).add(
                    next(k for k, x, y in truth(f) if abs(box[0] - x) + abs(box[1] - y) < 3)
                )
        assert sorted(owners) == [1, 2, 3] and sorted(map(tuple, owners.values())) == [(1,), (2,), (3,)]

    def test_ids_do_not_depend_on_the_batch_size(self, model: ColourModel, frames: Path) -> None:
        one, many = (table(model.track(str(frames / "img1"), batch=b, **FAST)) for b in (1, 7))
        assert one == many

    def test_tracks_persist_between_calls_or_start_again(self, model: ColourModel) -> None:
        ids = lambda f, **kw: {i for i, _ in table(model.track(draw(f), **FAST, **kw))[0]}  # noqa: E731
        assert ids(0) == set()
        assert all(ids(f, persist=True) == {1, 2, 3} for f in range(1, 12))
        assert ids(12) == set()  # new tracks
        assert ids(13, persist=True) == {1, 2, 3}
        assert ids(13, persist=True, tracker="sort.yaml") == set()  # another tracker begins again

    def test_a_new_video_starts_its_own_tracks(self, model: ColourModel, tmp_path: Path) -> None:
        for name in ("a", "b"):
            writer = cv2.VideoWriter(str(tmp_path / f"{name}.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (SIDE, SIDE))
            for f in range(4):
                writer.write(draw(f))
            writer.release()
        found = model.track(str(tmp_path), save=True, save_mot=True, save_txt=True, project=str(tmp_path), **FAST)
        assert [sorted(i for i, _ in rows) for rows in table(found)] == [[], *[[1, 2, 3]] * 3] * 2
        folder = Path(str(found[0].save_dir))
        assert {p.name for p in folder.iterdir()} == {"a.avi", "b.avi", "labels", "tracks"}
        rows = [line.split(",") for line in (folder / "tracks" / "b.txt").read_text().splitlines()]
        assert [int(r[0]) for r in rows] == [f for f in range(2, 5) for _ in range(3)] and {len(r) for r in rows} == {
            10
        }
        assert all(len(line.split()) == 6 for line in (folder / "labels" / "a_2.txt").read_text().splitlines())
        assert not list((folder / "tracks").glob(".*"))

    def test_trails_are_drawn_and_bounded(self, model: ColourModel, frames: Path) -> None:
        last = list(model.track(str(frames / "img1"), stream=True, **FAST))[-1]
        assert isinstance(last.trails, dict) and {len(t) for t in last.trails.values()} == {TRAIL}
        with_trail = last.plot()
        last.trails = {}
        assert (with_trail != last.plot()).any()

    def test_prediction_after_tracking_has_no_ids(self, model: ColourModel) -> None:
        model.track(draw(0), **FAST)
        (plain,) = model.predict(draw(0), **FAST)
        assert plain.boxes.id is None and not plain.trails

    def test_scores_of_a_mot_set(
        self, model: ColourModel, frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        scores = model.track_mot(frames.parent, project=str(tmp_path), **FAST)
        objects = sum(len(truth(f)) for f in range(FRAMES))  # the three of the first frame have no id yet
        assert scores.combined["MOTA"] == pytest.approx(1 - 3 / objects)
        assert scores.combined["IDF1"] == pytest.approx(2 * (objects - 3) / (2 * objects - 3))
        assert scores.combined["IDSW"] == 0 and scores.combined["HOTA"] > 0.97
        assert "crossing" in capsys.readouterr().out

    def test_scores_of_several_sequences(self, model: ColourModel, frames: Path, tmp_path: Path) -> None:
        """Each as it is alone, and the counts of all together; the second lacks the truth of its last frames."""
        lines = (frames / "gt" / "gt.txt").read_text().splitlines(keepends=True)
        for name, kept in (("a", len(lines)), ("b", 30)):
            shutil.copytree(frames, tmp_path / "set" / name)
            (tmp_path / "set" / name / "gt" / "gt.txt").write_text("".join(lines[:kept]))
        found = model.track_mot(tmp_path / "set", project=str(tmp_path), **FAST).sequences
        alone = {n: model.track_mot(tmp_path / "set" / n, project=str(tmp_path), **FAST).combined for n in ("a", "b")}
        assert {name: found[name] for name in alone} == alone and list(found) == ["a", "b", "COMBINED"]
        assert alone["a"]["MOTA"] > found["COMBINED"]["MOTA"] > alone["b"]["MOTA"]

    def test_the_speed_line_has_the_part_of_the_detector(
        self, model: ColourModel, capsys: pytest.CaptureFixture[str]
    ) -> None:
        model.track(draw(0), **{**FAST, "verbose": True})
        assert "ms tracking (the detector takes " in capsys.readouterr().out


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("trackers")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    weights = RTDETR(TINY).save(tmp_path / "w.pt")
    cv2.imwrite("a.png", draw(0))
    entrypoint(["track", f"model={weights}", "source=a.png", "imgsz=64", "device=cpu", "conf=0.001", "save_mot=True"])
    assert (tmp_path / "runs" / "detect" / "track" / "a.jpg").is_file()
