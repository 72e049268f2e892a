"""Prediction from every kind of source, and what it writes."""

from __future__ import annotations

import threading
import tracemalloc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image as PILImage

from tests.engine.tiny import IMAGES, NAMES, Oracle, draw, in_threads, spread_network, truth, write_dataset
from ultralytics.engine.media import ResultWriter, VideoSink
from ultralytics.engine.results import Results
from ultralytics.models.rtdetr.predict import RTDETRPredictor
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils.errors import ConfigError, UserError


class OraclePredictor(RTDETRPredictor):
    """Takes the oracle as it is instead of loading weights."""

    def _backend(self, weights: Any) -> Any:
        return weights


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("shapes")).parent / "images" / "val"


@pytest.fixture(scope="module")
def tiny() -> RTDETRDetectionModel:
    return spread_network()


def args(tmp: Path, **more: Any) -> dict[str, Any]:
    return {
        "imgsz": 64, "batch": 1, "save": False, "device": "cpu", "mode": "predict", "project": str(tmp), "name": "p",
        **more,
    }  # fmt: skip


def oracle(tmp: Path, answers: Any = None, **more: Any) -> OraclePredictor:
    predictor = OraclePredictor(overrides=args(tmp, **more))
    predictor.setup_model(Oracle(truth() if answers is None else answers))
    return predictor


def write_video(path: Path, frames: int, shape: tuple[int, int] = (48, 64)) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (shape[1], shape[0]))
    for i in range(frames):
        writer.write(np.full((*shape, 3), 10 * i % 256, np.uint8))
    writer.release()
    return path


def xyxy(rows: list[list[float]], shape: tuple[int, int]) -> np.ndarray:
    h, w = shape
    boxes = [[(r[1] - r[3] / 2) * w, (r[2] - r[4] / 2) * h, (r[1] + r[3] / 2) * w, (r[2] + r[4] / 2) * h] for r in rows]
    return np.clip(np.array(boxes).reshape(-1, 4), 0, [w, h, w, h])


# ---------------------------------------------------------------------------------------------------------- results
@pytest.mark.parametrize("batch", [1, 3])
def test_boxes_come_back_in_original_pixels(folder, tmp_path, batch):
    results = oracle(tmp_path, batch=batch)(str(folder))
    assert len(results) == len(IMAGES)
    for result, (shape, rows) in zip(results, IMAGES, strict=True):
        assert isinstance(result, Results)
        assert result.orig_shape == shape
        assert result.names == NAMES
        np.testing.assert_allclose(result.boxes.xyxy, xyxy(rows, shape), atol=1e-3)
        assert result.boxes.cls.tolist() == [r[0] for r in rows]
        assert set(result.speed) == {"preprocess", "inference", "postprocess"}
    assert not (tmp_path / "p").exists()


def test_nothing_found(folder, tmp_path, capsys):
    results = oracle(tmp_path, [[] for _ in IMAGES], save=True, save_txt=True, save_crop=True)(str(folder))
    assert [len(r) for r in results] == [0] * len(IMAGES)
    assert sorted(p.name for p in (tmp_path / "p").iterdir()) == [f"{i:03d}.jpg" for i in range(len(IMAGES))]
    assert "(no detections)" in capsys.readouterr().out


def test_boxes_are_clipped(tmp_path):
    answer = [[0.05, 0.05, 0.5, 0.5, 0.9, 0], [0.9, 0.9, 0.5, 0.5, 0.8, 1]]
    (result,) = oracle(tmp_path, [answer])(np.zeros((40, 80, 3), np.uint8))
    boxes = result.boxes.xyxy
    assert boxes.min() == 0
    assert boxes[1].tolist()[2:] == [80, 40]


def test_batch_one_equals_batch_n(folder, tmp_path, tiny):
    def run(batch: int) -> list[Results]:
        predictor = RTDETRPredictor(overrides=args(tmp_path, batch=batch, conf=0.01))
        return predictor(str(folder), model=tiny)

    ones, threes = run(1), run(3)
    assert sum(map(len, ones)) > 20
    for a, b in zip(ones, threes, strict=True):
        np.testing.assert_allclose(a.boxes.data, b.boxes.data, atol=1e-2)


def test_class_filter_before_top_k(folder, tmp_path, tiny):
    free = RTDETRPredictor(overrides=args(tmp_path, conf=0.0))(str(folder / "000.png"), model=tiny)[0]
    only = RTDETRPredictor(overrides=args(tmp_path, conf=0.0, classes=[2]))(str(folder / "000.png"), model=tiny)[0]
    asked = free.boxes.cls == 2
    assert 0 < len(free) == len(only)
    assert int(asked.sum()) < len(only)  # filtering afterwards would have returned fewer
    assert set(only.boxes.cls.tolist()) == {2.0}
    three = RTDETRPredictor(overrides=args(tmp_path, conf=0.0, classes=2, max_det=3))
    top = three(str(folder / "000.png"), model=tiny)[0]
    np.testing.assert_allclose(top.boxes.data, only.boxes.data[:3], atol=1e-4)


def test_letterbox_and_nonsquare_input(tmp_path):
    image = draw(*IMAGES[0])
    predictor = OraclePredictor(overrides=args(tmp_path, imgsz=[64, 128], letterbox=True))
    # 90 x 120 into 64 x 128: gain 64/90, width 85, padded by 21 on the left
    gain, left = 64 / 90, 21
    rows = [[(r[1] * 120 * gain + left) / 128, r[2], r[3] * 120 * gain / 128, r[4], 0.9, r[0]] for r in IMAGES[0][1]]
    shapes: list[torch.Size] = []

    class Spy(Oracle):
        def forward(self, im: torch.Tensor) -> torch.Tensor:
            shapes.append(im.shape)
            return super().forward(im)

    predictor.setup_model(Spy([rows]))
    (result,) = predictor(image)
    assert shapes == [(1, 3, 64, 128)]
    np.testing.assert_allclose(result.boxes.xyxy, xyxy(IMAGES[0][1], IMAGES[0][0]), atol=0.1)


@pytest.mark.parametrize("shape", [(2000, 3), (3, 2000)])
def test_a_very_narrow_image_does_not_end_a_folder(tmp_path, tiny, shape):
    """Neither fitting it nor drawing on it; the others are seen."""
    for name, size in (("a.png", shape), ("b.png", (40, 60))):
        cv2.imwrite(str(tmp_path / name), np.full((*size, 3), 90, np.uint8))
    given = args(tmp_path, letterbox=True, conf=0.0, save=True, save_crop=True)
    predictor = RTDETRPredictor(overrides=given)
    predictor.setup_model(tiny)
    first, second = predictor(str(tmp_path))
    assert (first.orig_shape, second.orig_shape) == (shape, (40, 60))
    boxes = first.boxes.xyxy
    assert len(boxes) and float(boxes.min()) >= 0
    assert float(boxes[:, 2].max()) <= shape[1] and float(boxes[:, 3].max()) <= shape[0]


def test_input_is_rgb_in_0_to_1(tmp_path):
    seen: list[torch.Tensor] = []

    class Spy(Oracle):
        def forward(self, im: torch.Tensor) -> torch.Tensor:
            seen.append(im)
            return super().forward(im)

    predictor = OraclePredictor(overrides=args(tmp_path))
    predictor.setup_model(Spy([[]]))
    blue = np.zeros((10, 20, 3), np.uint8)
    blue[..., 0] = 255  # BGR
    predictor(blue)
    assert seen[0].shape == (1, 3, 64, 64)
    assert seen[0].flatten(2).mean(-1).tolist() == [[0.0, 0.0, 1.0]]


# ---------------------------------------------------------------------------------------------------------- sources
def source_cases(folder: Path, tmp: Path) -> dict[str, tuple[Any, list[str]]]:
    """Return name -> (source, file names expected in the results)."""
    files = sorted(folder.glob("*.png"))
    listing = tmp / "list.txt"
    listing.write_text("\n".join(str(f) for f in files[:2]) + "\n")
    array = cv2.imread(str(files[0]))
    tensor = torch.rand(2, 3, 64, 96)
    names = [f.name for f in files]
    return {
        "path text": (str(files[1]), names[1:2]),
        "path": (files[1], names[1:2]),
        "folder": (folder, names),
        "glob": (str(folder / "00*.png"), names),
        "list file": (str(listing), names[:2]),
        "list": ([files[0], str(files[1])], names[:2]),
        "array": (array, ["image0.jpg"]),
        "grey array": (array[..., 0], ["image0.jpg"]),
        "arrays": ([array, array[:50]], ["image0.jpg", "image1.jpg"]),
        "pil": (PILImage.fromarray(array[..., ::-1]), ["image0.jpg"]),
        "tensor": (tensor, ["image0.jpg", "image1.jpg"]),
    }


@pytest.mark.parametrize(
    "kind",
    ["path text", "path", "folder", "glob", "list file", "list", "array", "grey array", "arrays", "pil", "tensor"],
)
def test_sources(folder, tmp_path, kind):
    source, want = source_cases(folder, tmp_path)[kind]
    results = oracle(tmp_path, [[[0.5, 0.5, 0.5, 0.5, 0.9, 1]]] * 4)(source)
    assert [Path(r.path).name for r in results] == want
    for result in results:
        h, w = result.orig_shape
        assert result.orig_img.shape == (h, w, 3)
        np.testing.assert_allclose(result.boxes.xyxy, [[w / 4, h / 4, 3 * w / 4, 3 * h / 4]], atol=1e-3)


def test_array_and_pil_and_file_are_the_same_image(folder, tmp_path, tiny):
    array = cv2.imread(str(folder / "000.png"))
    sources = [str(folder / "000.png"), array, PILImage.open(folder / "000.png")]
    predictor = RTDETRPredictor(overrides=args(tmp_path, conf=0.01))
    file, *others = [predictor(s, model=tiny)[0].boxes.data for s in sources]
    for other in others:
        np.testing.assert_allclose(other, file, atol=1e-4)


def test_unreadable_image_is_skipped(folder, tmp_path, capsys):
    for f in sorted(folder.glob("*.png"))[:2]:
        (tmp_path / f.name).write_bytes(f.read_bytes())
    (tmp_path / "000a.png").write_bytes(b"not an image")
    results = oracle(tmp_path)(tmp_path)
    assert [Path(r.path).name for r in results] == ["000.png", "001.png"]
    assert "000a.png" in capsys.readouterr().out


@pytest.mark.parametrize("source", ["missing.jpg", "missing/", "*.nothing"])
def test_missing_source(tmp_path, source):
    with pytest.raises(UserError):
        oracle(tmp_path, save=True)(str(tmp_path / source))
    assert not (tmp_path / "p").exists()


# ---------------------------------------------------------------------------------------------------------- streaming
def test_stream_is_a_lazy_generator(folder, tmp_path):
    predictor = oracle(tmp_path, save=True)
    stream = predictor(str(folder), stream=True)
    assert isinstance(stream, Iterator)
    assert predictor.model.shown == 0
    next(stream)
    assert predictor.model.shown == 1
    stream.close()
    assert predictor.model.shown == 1
    assert [p.name for p in (tmp_path / "p").iterdir()] == ["000.jpg"]


def test_two_streams_of_one_predictor_interleave(folder, tmp_path):
    predictor = oracle(tmp_path, truth() * 2)
    a, b = predictor(str(folder), stream=True), predictor(str(folder), stream=True)
    first = [(Path(next(a).path).name, Path(next(b).path).name) for _ in range(3)]
    assert first == [(f"{i:03d}.png",) * 2 for i in range(3)]


def test_a_stream_keeps_the_arguments_it_started_with(folder, tmp_path):
    predictor = oracle(tmp_path, truth(score=0.5) * 2)
    stream = predictor(str(folder), stream=True)
    assert len(next(stream)) == 2
    predictor.update_args({"conf": 0.9})
    assert len(next(stream)) == 1
    predictor.model.shown = 0
    assert len(predictor(str(folder / "000.png"))[0]) == 0


def test_threads_may_share_a_predictor(folder, tmp_path, tiny):
    predictor = RTDETRPredictor(overrides=args(tmp_path, conf=0.01))
    want = [r.boxes.data for r in predictor(str(folder), model=tiny)]
    got: list[list[Any]] = []
    threads = [
        threading.Thread(target=lambda: got.append([r.boxes.data for r in predictor(str(folder))])) for _ in range(3)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(got) == 3
    for one in got:
        for a, b in zip(one, want, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-3)


def test_a_call_and_its_arguments_are_one_step(folder, tmp_path, tiny):
    predictor = RTDETRPredictor(overrides=args(tmp_path, conf=0.0))
    predictor.setup_model(tiny)
    found = set()

    def ask(count: int) -> None:
        for _ in range(20):
            found.add((count, len(predictor(str(folder / "000.png"), max_det=count)[0])))

    in_threads(lambda: ask(3), lambda: ask(5))
    assert found == {(3, 3), (5, 5)}


# ---------------------------------------------------------------------------------------------------------- files
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


def test_show_without_a_screen_is_refused(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cv2, "imshow", lambda *args: pytest.fail("Qt would end the process here"))
    with pytest.raises(ConfigError, match="DISPLAY"):
        oracle(tmp_path, show=True)(str(folder))


def test_writer_makes_no_folder_when_nothing_is_asked_for(tmp_path):
    predictor = RTDETRPredictor(overrides=args(tmp_path))

    def folder() -> Path:
        raise AssertionError("a folder was asked for")

    writer = ResultWriter(predictor.args, folder, set())
    assert not writer.active
    writer.write(Results(np.zeros((4, 4, 3), np.uint8), path="x.png", names=NAMES), "x.png")
    writer.close()
    writer.log()


# ---------------------------------------------------------------------------------------------------------- the rest
def test_log_lines(folder, tmp_path, capsys):
    oracle(tmp_path)(str(folder))
    lines = capsys.readouterr().out.splitlines()
    first = next(line for line in lines if "image 1/4" in line)
    assert "000.png" in first and "64x64" in first and "1 red, 1 green" in first and first.endswith("ms")
    assert any(line.startswith("Speed:") for line in lines)
    oracle(tmp_path, verbose=False)(str(folder))
    assert "image 1/4" not in capsys.readouterr().out


def test_callbacks_run_in_order(folder, tmp_path):
    seen: list[str] = []
    predictor = oracle(tmp_path)
    names = ("start", "batch_start", "postprocess_end", "batch_end", "end")
    for name in names:
        predictor.add_callback(f"on_predict_{name}", lambda _, name=name: seen.append(name))
    predictor(str(folder / "000.png"))
    assert seen == list(names)


def test_a_callback_may_replace_the_results(folder, tmp_path):
    predictor = oracle(tmp_path)

    def keep_first(p: OraclePredictor) -> None:
        p.results[:] = [r[:1] for r in p.results]

    predictor.add_callback("on_predict_postprocess_end", keep_first)
    assert [len(r) for r in predictor(str(folder))] == [1, 1, 0, 1]


def test_augment_sees_several_views(folder, tmp_path):
    sizes: list[tuple[int, ...]] = []

    class Mirror(Oracle):
        """Answers the mirrored view with mirrored boxes: the fused ones are those of the plain view."""

        def forward(self, im: torch.Tensor) -> torch.Tensor:
            sizes.append(tuple(im.shape))
            self.shown = 0
            rows = super().forward(im)
            if len(sizes) == 2:
                rows[..., 0] = 1 - rows[..., 0]
            return rows

    predictor = OraclePredictor(overrides=args(tmp_path, augment=True, imgsz=128))
    predictor.setup_model(Mirror(truth()[:1]))
    (result,) = predictor(str(folder / "000.png"))
    assert sizes == [(1, 3, 128, 128), (1, 3, 128, 128), (1, 3, 160, 160)]
    shape, rows = IMAGES[0]
    np.testing.assert_allclose(result.boxes.xyxy, xyxy(rows, shape), atol=1e-3)
    assert result.boxes.conf.tolist() == pytest.approx([0.9, 0.9])


def test_the_last_picture_stays_at_hand(folder, tmp_path):
    predictor = oracle(tmp_path, save=True)
    assert predictor.plotted_img is None
    predictor(str(folder))
    assert predictor.plotted_img.shape[:2] == IMAGES[-1][0]


def test_results_are_a_list_of_their_own(folder, tmp_path):
    found = oracle(tmp_path)(str(folder))
    assert isinstance(found, list) and len(found.to_df()) == 6


def test_grey_network(tmp_path):
    seen: list[torch.Tensor] = []

    class Grey(Oracle):
        channels = 1

        def forward(self, im: torch.Tensor) -> torch.Tensor:
            seen.append(im)
            return super().forward(im)

    predictor = OraclePredictor(overrides=args(tmp_path))
    predictor.setup_model(Grey([[]] * 2))
    predictor(np.full((10, 20, 3), 51, np.uint8))
    predictor(np.full((10, 20), 51, np.uint8))
    for im in seen:
        assert im.shape == (1, 1, 64, 64)
        assert float(im.mean()) == pytest.approx(0.2, abs=1e-6)


@pytest.mark.parametrize("name", ["visualize", "dnn", "rect"])
def test_arguments_that_cannot_be_honoured_are_refused(tmp_path, name):
    with pytest.raises(ConfigError, match=name):
        oracle(tmp_path, **{name: True})


def test_no_model(tmp_path):
    with pytest.raises(ConfigError, match="model"):
        RTDETRPredictor(overrides=args(tmp_path))("x.jpg")
