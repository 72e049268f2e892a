"""What a prediction writes and shows: label files, pictures, crops, frames and videos."""

from __future__ import annotations

import tracemalloc
import weakref
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.engine.tiny import IMAGES, NAMES, draw, oracle, predict_args, write_dataset, write_video
from ultralytics.engine.results.results import Results
from ultralytics.engine.writers import ResultWriter, VideoSink
from ultralytics.models.rtdetr.predict import RTDETRPredictor


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("shapes")).parent / "images" / "val"


def test_save_txt_reads_back(folder, tmp_path):
    oracle(tmp_path, save_txt=True, save_conf=True)(str(folder))
    files = sorted((tmp_path / "p" / "labels").iterdir())
    assert [f.name for f in files] == ["000.txt", "001.txt", "003.txt"]
    for file, (_, rows) in zip(files, [x for x in IMAGES if x[1]], strict=True):
        got = np.loadtxt(file, ndmin=2)
        np.testing.assert_allclose(got[:, :5], np.array(rows), atol=1e-4)
        np.testing.assert_allclose(got[:, 5], 0.9, atol=1e-4)


def test_saved_pictures_show_the_boxes(folder, tmp_path):
    oracle(tmp_path, save=True, save_crop=True)(str(folder))
    root = tmp_path / "p"
    for i, (shape, rows) in enumerate(IMAGES):
        saved = cv2.imread(str(root / f"{i:03d}.jpg"))
        assert saved.shape[:2] == shape
        changed = np.abs(saved.astype(int) - draw(shape, rows).astype(int)).max(-1) > 60
        assert changed.any() == bool(rows)
    crops = sorted(str(p.relative_to(root / "crops")) for p in (root / "crops").rglob("*.jpg"))
    assert len(crops) == 6
    assert crops[0] == "blue/001.jpg"


def test_equal_names_do_not_overwrite_each_other(folder, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes((folder / "000.png").read_bytes())
    predictor = oracle(tmp_path, [[]] * 3, save=True)
    predictor([tmp_path / "a" / "x.png", tmp_path / "b" / "x.png"])
    predictor(tmp_path / "a" / "x.png")
    assert sorted(p.name for p in (tmp_path / "p").iterdir()) == ["x-2.jpg", "x-3.jpg", "x.jpg"]


def test_video(tmp_path):
    source = write_video(tmp_path / "clip.avi", 6)
    predictor = oracle(tmp_path, [[[0.5, 0.5, 0.5, 0.5, 0.9, 1]]] * 6, save=True, save_txt=True, save_frames=True)
    results = predictor(source)
    assert len(results) == 6
    root = tmp_path / "p"
    capture = cv2.VideoCapture(str(root / "clip.avi"))
    assert int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) == 6
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    capture.release()
    assert sorted(p.name for p in (root / "labels").iterdir()) == [f"clip_{i}.txt" for i in range(1, 7)]
    assert len(list((root / "clip_frames").iterdir())) == 6
    assert not list(root.glob(".*"))  # no temporary file is left


def test_an_annotated_video_has_a_bar_instead_of_lines(tmp_path, capsys):
    for name in "ab":
        write_video(tmp_path / f"{name}.avi", 6)
    oracle(tmp_path, [[]] * 12, save=True, batch=4)([tmp_path / "a.avi", tmp_path / "b.avi"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if "6/6" in line] == ["a.avi", "b.avi"]
    assert not any("frame 3/6" in line for line in lines)
    oracle(tmp_path, [[]] * 6)(tmp_path / "a.avi")
    assert "frame 3/6" in capsys.readouterr().out


def test_a_short_video_keeps_its_own_frame_rate(tmp_path):
    write_video(tmp_path / "a.avi", 2)
    fast = cv2.VideoWriter(str(tmp_path / "b.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (64, 48))
    for _ in range(3):
        fast.write(np.zeros((48, 64, 3), np.uint8))
    fast.release()
    oracle(tmp_path, [[]] * 5, save=True, batch=4)([tmp_path / "a.avi", tmp_path / "b.avi"])
    rates = []
    for name in "ab":
        capture = cv2.VideoCapture(str(tmp_path / "p" / f"{name}.avi"))
        rates.append(capture.get(cv2.CAP_PROP_FPS))
        capture.release()
    assert rates == pytest.approx([10, 25])


def test_video_stride_and_early_close(tmp_path):
    source = write_video(tmp_path / "clip.avi", 6)
    assert len(oracle(tmp_path, [[]] * 6, vid_stride=2)(source)) == 3
    stream = oracle(tmp_path, [[]] * 6, save=True)(source, stream=True)
    next(stream), next(stream)
    stream.close()
    capture = cv2.VideoCapture(str(tmp_path / "p" / "clip.avi"))
    assert int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) == 2  # what was seen is a whole file
    capture.release()


def test_a_long_video_keeps_one_batch(tmp_path):
    """With `stream=True` no more results live than those of the present and the next batch, and memory stays."""
    source = write_video(tmp_path / "clip.avi", 240, shape=(240, 320))
    alive: weakref.WeakSet[Results] = weakref.WeakSet()
    most, peaks = 0, []
    tracemalloc.start()
    for i, result in enumerate(oracle(tmp_path, [[]] * 240, imgsz=32, batch=4, save=True)(source, stream=True)):
        alive.add(result)
        most = max(most, len(alive))
        if i % 60 == 59:
            peaks.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert most <= 9  # four of the batch, four of the one before, and the loop's own
    assert peaks[-1] - peaks[0] < 2**20


def test_video_sink_writes_nothing_before_the_first_frame(tmp_path):
    sink = VideoSink(tmp_path / "x.avi", 25)
    sink.close()
    assert list(tmp_path.iterdir()) == []


def test_show_without_a_screen_warns_once_and_the_run_continues(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cv2, "imshow", lambda *args: pytest.fail("Qt would end the process here"))
    assert len(oracle(tmp_path, show=True)(str(folder))) > 1
    assert capsys.readouterr().out.count("neither DISPLAY") == 1


def test_writer_makes_no_folder_when_nothing_is_asked_for(tmp_path):
    predictor = RTDETRPredictor(overrides=predict_args(tmp_path))

    def folder() -> Path:
        raise AssertionError("a folder was asked for")

    writer = ResultWriter(predictor.args, folder, set())
    assert not writer.active
    writer.write(Results(np.zeros((4, 4, 3), np.uint8), path="x.png", names=NAMES), "x.png")
    writer.close()
    writer.log()
