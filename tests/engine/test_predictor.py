"""Prediction from every kind of source, in streams and threads; what it writes is with the tests of `media`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image as PILImage

from tests.engine.tiny import (
    IMAGES,
    NAMES,
    Oracle,
    OraclePredictor,
    draw,
    in_threads,
    oracle,
    predict_args,
    spread_network,
    truth,
    write_dataset,
)
from ultralytics.engine.results.results import Results
from ultralytics.models.rtdetr.predict import RTDETRPredictor
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils.errors import ConfigError, UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("shapes")).parent / "images" / "val"


@pytest.fixture(scope="module")
def tiny() -> RTDETRDetectionModel:
    return spread_network()


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
        predictor = RTDETRPredictor(overrides=predict_args(tmp_path, batch=batch, conf=0.01))
        return predictor(str(folder), model=tiny)

    ones, threes = run(1), run(3)
    assert sum(map(len, ones)) > 20
    for a, b in zip(ones, threes, strict=True):
        np.testing.assert_allclose(a.boxes.data, b.boxes.data, atol=1e-2)


def test_class_filter_before_top_k(folder, tmp_path, tiny):
    free = RTDETRPredictor(overrides=predict_args(tmp_path, conf=0.0))(str(folder / "000.png"), model=tiny)[0]
    only = RTDETRPredictor(overrides=predict_args(tmp_path, conf=0.0, classes=[2]))(
        str(folder / "000.png"), model=tiny
    )[0]
    asked = free.boxes.cls == 2
    assert 0 < len(free) == len(only)
    assert int(asked.sum()) < len(only)  # filtering afterwards would have returned fewer
    assert set(only.boxes.cls.tolist()) == {2.0}
    three = RTDETRPredictor(overrides=predict_args(tmp_path, conf=0.0, classes=2, max_det=3))
    top = three(str(folder / "000.png"), model=tiny)[0]
    np.testing.assert_allclose(top.boxes.data, only.boxes.data[:3], atol=1e-4)


def test_letterbox_and_nonsquare_input(tmp_path):
    image = draw(*IMAGES[0])
    predictor = OraclePredictor(overrides=predict_args(tmp_path, imgsz=[64, 128], letterbox=True))
    # 90 x 120 into 64 x 128: 64 x 85 cells, padded by 21 on the left
    gain, left = 85 / 120, 21
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
    given = predict_args(tmp_path, letterbox=True, conf=0.0, save=True, save_crop=True)
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

    predictor = OraclePredictor(overrides=predict_args(tmp_path))
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
    predictor = RTDETRPredictor(overrides=predict_args(tmp_path, conf=0.01))
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
    predictor = RTDETRPredictor(overrides=predict_args(tmp_path, conf=0.01))
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
    predictor = RTDETRPredictor(overrides=predict_args(tmp_path, conf=0.0))
    predictor.setup_model(tiny)
    found = set()

    def ask(count: int) -> None:
        for _ in range(20):
            found.add((count, len(predictor(str(folder / "000.png"), max_det=count)[0])))

    in_threads(lambda: ask(3), lambda: ask(5))
    assert found == {(3, 3), (5, 5)}


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

    predictor = OraclePredictor(overrides=predict_args(tmp_path, augment=True, imgsz=128))
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

    predictor = OraclePredictor(overrides=predict_args(tmp_path))
    predictor.setup_model(Grey([[]] * 2))
    predictor(np.full((10, 20, 3), 51, np.uint8))
    predictor(np.full((10, 20), 51, np.uint8))
    for im in seen:
        assert im.shape == (1, 1, 64, 64)
        assert float(im.mean()) == pytest.approx(0.2, abs=1e-6)


@pytest.mark.parametrize("name", ["visualize", "dnn"])
def test_arguments_without_effect_warn_once(tmp_path, name, capsys):
    predictor = oracle(tmp_path, **{name: True})
    assert capsys.readouterr().out.count(f"{name}=True has no effect") == 1 and predictor.args.get(name) is False


def test_no_model(tmp_path):
    with pytest.raises(ConfigError, match="model"):
        RTDETRPredictor(overrides=predict_args(tmp_path))("x.jpg")
