"""Prediction from every kind of source: the same picture, however it comes, gives the same boxes."""

from __future__ import annotations

import io
import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from tests.engine.servers import http_server, jpeg, rtsp_server, running
from tests.engine.tiny import IMAGES, draw, spread_network
from ultralytics.data.loaders.files import LoadScreenshots, LoadStreams
from ultralytics.data.loaders.open import load_inference_source
from ultralytics.data.loaders.urls import fetch
from ultralytics.models.rtdetr.predict import RTDETRPredictor
from ultralytics.utils.errors import ConfigError, MissingPackageError, NotFoundError

FRAMES = 8
PICTURE = cv2.resize(draw(*IMAGES[0]), (128, 96))


def frames() -> Iterator[np.ndarray]:
    """The picture, darker from frame to frame."""
    return (PICTURE - np.uint8(2 * i) * (PICTURE > 60) for i in range(FRAMES))


@pytest.fixture(scope="module")
def predictor() -> RTDETRPredictor:
    """A network whose scores and boxes are spread, so that different pictures give different boxes."""
    options = {"imgsz": 64, "conf": 0.05, "device": "cpu", "mode": "predict", "save": False}
    predictor = RTDETRPredictor(overrides=options)
    predictor.setup_model(spread_network())
    return predictor


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The picture as a file, lists that name it, and the frames as a video."""
    root = tmp_path_factory.mktemp("sources")
    cv2.imwrite(str(root / "a.png"), PICTURE)
    (root / "list.txt").write_text("a.png\n")
    (root / "list.csv").write_text("source\na.png\n")
    video = cv2.VideoWriter(str(root / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (128, 96))
    for frame in frames():
        video.write(frame)
    video.release()
    return root


@pytest.fixture(scope="module")
def web(folder: Path) -> Iterator[str]:
    pages = {
        "/a.png": ("image/png", (folder / "a.png").read_bytes()),
        "/snapshot": ("image/png", (folder / "a.png").read_bytes()),
        "/clip.avi": ("video/x-msvideo", (folder / "clip.avi").read_bytes()),
        "/broken.png": ("image/png", b"no image"),
        "/page.mp4": ("text/html", b"<html>not found</html>"),
    }
    with running(http_server(pages, frames)) as place:
        yield f"http://{place}"


def boxes_of(predictor: RTDETRPredictor, source: Any) -> list[np.ndarray]:
    return [r.numpy().boxes.data for r in predictor(source)]


@pytest.fixture(scope="module")
def want(predictor: RTDETRPredictor) -> np.ndarray:
    (boxes,) = boxes_of(predictor, PICTURE)
    assert len(boxes) > 3
    assert not np.allclose(boxes_of(predictor, 255 - PICTURE)[0][:3], boxes[:3], atol=1e-3)
    return boxes


@pytest.mark.parametrize(
    "kind",
    ["path", "text", "folder", "glob", "txt", "csv", "list", "bytes", "pil", "numpy", "mixture", "url", "typed url"],
)
def test_one_picture_in_every_form(
    predictor: RTDETRPredictor, folder: Path, web: str, want: np.ndarray, kind: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    file = folder / "a.png"
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "a.png").write_bytes(file.read_bytes())
    sources = {
        "path": file, "text": str(file), "folder": alone, "glob": f"{alone}/**/*.png", "txt": folder / "list.txt",
        "csv": str(folder / "list.csv"), "list": [file], "bytes": file.read_bytes(), "pil": Image.open(file),
        "numpy": PICTURE, "mixture": [PICTURE, file, Image.open(file), file.read_bytes(), f"{web}/a.png"],
        "url": f"{web}/a.png?size=1", "typed url": f"{web}/snapshot",
    }  # fmt: skip
    monkeypatch.chdir(alone)
    found = boxes_of(predictor, sources[kind])
    assert len(found) == (5 if kind == "mixture" else 1)
    for boxes in found:
        np.testing.assert_allclose(boxes, want, atol=1e-3)
    assert [p.name for p in alone.iterdir()] == ["a.png"]  # a picture of the web leaves nothing behind


def test_tensor(predictor: RTDETRPredictor, want: np.ndarray) -> None:
    resized = cv2.resize(PICTURE, (64, 64))
    tensor = torch.from_numpy(resized[..., ::-1].copy()).permute(2, 0, 1)[None] / 255
    (boxes,) = boxes_of(predictor, tensor)
    np.testing.assert_allclose(boxes / [64, 64, 64, 64, 1, 1], want / [128, 96, 128, 96, 1, 1], atol=2e-2)


@pytest.mark.parametrize(
    ("shape", "tokens"), [((1, 1, 64, 64), "C=1, .*C=3"), ((4, 64, 64), "C=4, .*C=3"), ((5,), "multiples of 32")]
)
def test_a_tensor_that_does_not_fit_is_refused(predictor: RTDETRPredictor, shape: tuple[int, ...], tokens: str) -> None:
    with pytest.raises(ConfigError, match=tokens):
        predictor(torch.zeros(shape))


def test_video_of_file_and_web(
    predictor: RTDETRPredictor, folder: Path, web: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    a, b = boxes_of(predictor, folder / "clip.avi"), boxes_of(predictor, f"{web}/clip.avi")
    assert len(a) == len(b) == FRAMES
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)
    assert [p.name for p in tmp_path.iterdir()] == ["clip.avi"]  # seeking needs a file


@pytest.mark.parametrize("kind", ["mjpeg", "rtsp"])
def test_network_streams(predictor: RTDETRPredictor, web: str, kind: str) -> None:
    """Every frame with `stream_buffer`; each is the picture as JPEG."""
    with running(rtsp_server(frames)) as place:
        source = f"{web}/stream" if kind == "mjpeg" else f"rtsp://{place}/live"
        results = list(predictor(source, stream=True, stream_buffer=True))
    assert len(results) == FRAMES and predictor.source_type.stream
    for result, frame in zip(results, frames(), strict=True):
        sent = cv2.imdecode(np.frombuffer(jpeg(frame), np.uint8), cv2.IMREAD_COLOR)
        assert np.abs(result.orig_img.astype(int) - sent).mean() < 3
    predictor.update_args({"stream_buffer": False})


def test_two_streams_make_one_batch(predictor: RTDETRPredictor, web: str) -> None:
    results = list(predictor([f"{web}/stream", f"{web}/stream"], stream=True, stream_buffer=True))
    assert len(results) == 2 * FRAMES
    predictor.update_args({"stream_buffer": False})


def test_without_buffer_the_newest_frame_is_seen() -> None:
    """A reader that is slower than the camera skips; the shade of grey says which frame it was."""

    def shades() -> Iterator[np.ndarray]:
        return (np.full((48, 64, 3), 5 * i, np.uint8) for i in range(40))

    with running(http_server({}, shades, pause=0.02)) as place:
        seen = []
        for _, (image,), _ in LoadStreams(f"http://{place}/stream"):
            seen.append(float(image.mean()) / 5)
            time.sleep(0.1)
    assert len(seen) < 30 and seen == sorted(seen)
    assert max(np.diff(seen)) >= 1.9


def test_a_stream_can_be_left_at_any_time(predictor: RTDETRPredictor) -> None:
    def infinite() -> Iterator[np.ndarray]:
        return itertools.repeat(PICTURE)

    with running(http_server({}, infinite, pause=0.01)) as place:
        stream = predictor(f"http://{place}/stream", stream=True)
        assert len(list(itertools.islice(stream, 2))) == 2
        stream.close()


def test_streams_file(predictor: RTDETRPredictor, web: str, tmp_path: Path) -> None:
    (tmp_path / "cams.streams").write_text(f"{web}/stream\n\n")
    assert len(list(predictor(str(tmp_path / "cams.streams"), stream=True, stream_buffer=True))) == FRAMES
    predictor.update_args({"stream_buffer": False})
    opened = LoadStreams(str(tmp_path / "cams.streams"), buffer=True)
    assert opened.bs == 1 and len(list(opened)) == FRAMES
    opened.close()


def test_webcam_numbers_go_to_the_camera(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    opened: list[Any] = []
    real = cv2.VideoCapture

    def capture(source: Any, *rest: Any) -> Any:
        opened.append(source)
        return real(str(folder / "clip.avi"))

    monkeypatch.setattr(cv2, "VideoCapture", capture)
    for source in (0, "0", [0, 1]):
        opened.clear()
        loader = load_inference_source(source, buffer=True)
        assert isinstance(loader, LoadStreams) and opened == ([0, 1] if isinstance(source, list) else [0])
        assert len(list(loader)) == FRAMES


# -------------------------------------------------------------------------------------------------------------- screen
class FakeScreen:
    """Stands in for the package `mss`: two monitors; the left top pixel holds the place of a picture."""

    monitors = (
        {"left": 0, "top": 0, "width": 300, "height": 100},
        {"left": 0, "top": 0, "width": 100, "height": 100},
        {"left": 100, "top": 0, "width": 200, "height": 100},
    )
    closed = 0

    def grab(self, area: dict[str, int]) -> np.ndarray:
        image = np.zeros((area["height"], area["width"], 4), np.uint8)
        image[0, 0] = (area["left"], area["top"], 7, 255)
        return image

    def close(self) -> None:
        FakeScreen.closed += 1


@pytest.mark.parametrize(
    ("tokens", "shape", "corner"),
    [
        ("screen", (100, 300), (0, 0)),
        ("screen 2", (100, 200), (100, 0)),
        ("screen 2 10 20 64 48", (48, 64), (110, 20)),
        ("screen 5 6 30 40", (40, 30), (5, 6)),
    ],
)
def test_screen(
    predictor: RTDETRPredictor, monkeypatch: pytest.MonkeyPatch, tokens: str, shape: Any, corner: Any
) -> None:
    monkeypatch.setitem(sys.modules, "mss", SimpleNamespace(mss=FakeScreen))
    before = FakeScreen.closed
    stream = predictor(tokens, stream=True)
    result = next(stream)
    assert result.orig_shape == shape and tuple(result.orig_img[0, 0].tolist()) == (*corner, 7)
    assert predictor.source_type.screenshot
    next(stream)
    stream.close()
    assert FakeScreen.closed == before + 1


@pytest.mark.parametrize("tokens", ["screen 3", "screen -1", "screen 1 2", "screen a", "screen 0 0 0 0 0"])
def test_screens_that_are_not_there(monkeypatch: pytest.MonkeyPatch, tokens: str) -> None:
    monkeypatch.setitem(sys.modules, "mss", SimpleNamespace(mss=FakeScreen))
    with pytest.raises(ConfigError, match="screen"):
        LoadScreenshots(tokens)


def test_screen_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mss", None)
    with pytest.raises(MissingPackageError, match="pip install"):
        load_inference_source("screen")


# -------------------------------------------------------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("source", "error", "tokens"),
    [
        ("{web}/none.png", NotFoundError, "cannot be read"),
        ("{web}/none", NotFoundError, "cannot be opened"),
        (["{web}/stream", "{folder}/a.png"], ConfigError, "is live"),
        ([PICTURE, "{web}/stream"], ConfigError, "is live"),
        ([PICTURE, "{folder}/clip.avi"], ConfigError, "a video beside images in memory"),
        ("https://www.youtube.com/watch?v=abc", ConfigError, "is not a video"),
        (["{folder}/a.png", "{folder}/none.png"], NotFoundError, "no such file"),
        (b"no image", ConfigError, "not an image"),
        ("http://[::1/a.jpg", ConfigError, "not an address"),
        ("9" * 5000, NotFoundError, "too long"),
        ("~nobody-here/x.png", NotFoundError, "no such user"),
        ("a" * 300 + ".png", NotFoundError, "too long"),
        ("a\0b.png", NotFoundError, "null character"),
        ("{web}/page.mp4", NotFoundError, "not a video"),
    ],
)
def test_what_cannot_be_opened_is_named(web: str, folder: Path, source: Any, error: type, tokens: str) -> None:
    texts = [source] if isinstance(source, str) else source
    if not isinstance(source, bytes):
        texts = [t.format(web=web, folder=folder) if isinstance(t, str) else t for t in texts]
        source = texts if isinstance(source, list) else texts[0]
    with pytest.raises(error, match=tokens):
        list(load_inference_source(source))


def test_a_broken_picture_of_the_web_is_left_out(web: str, capsys: pytest.CaptureFixture[str]) -> None:
    for others, names in (([], []), ([PICTURE], ["image0.jpg"])):
        found = list(load_inference_source([*others, f"{web}/broken.png", f"{web}/a.png"]))
        assert [paths for paths, _, _ in found] == [[*names, "a.png"]]
        assert "broken.png: cannot be read" in capsys.readouterr().out


def test_a_list_that_names_itself(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"list.txt\n{folder / 'a.png'}\n")
    with pytest.raises(ConfigError, match="does one name itself"):
        load_inference_source(str(tmp_path / "list.txt"))


def test_a_slow_answer_has_an_end(web: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ultralytics.data.loaders.urls.TOTAL_S", -1)
    with pytest.raises(NotFoundError, match="not whole after"):
        fetch(f"{web}/a.png")


def test_a_picture_has_a_largest_size(web: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ultralytics.data.loaders.urls.MAX_IMAGE", 10)
    with pytest.raises(NotFoundError, match="too large"):
        fetch(f"{web}/a.png")


def test_pictures_and_video_of_one_name_in_memory(predictor: RTDETRPredictor) -> None:
    stream = io.BytesIO()
    Image.fromarray(PICTURE[..., ::-1]).save(stream, format="PNG")
    results = predictor([stream.getvalue(), PICTURE])
    assert [r.path for r in results] == ["image0.jpg", "image1.jpg"]
