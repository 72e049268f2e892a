"""Inference sources: each kind yields the same picture, with the right names, batches and infos."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.sets import picture
from ultralytics.data.build import load_inference_source
from ultralytics.data.loaders.files import LoadImagesAndVideos, LoadPilAndNumpy, LoadStreams, LoadTensor, as_bgr
from ultralytics.utils.errors import ConfigError, DatasetError, NotFoundError

FRAMES = 7


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three PNG images (one broken), a text file, a sub-folder and a short video; also the working directory."""
    for i in range(2):
        cv2.imwrite(str(tmp_path / f"im{i}.png"), picture(seed=i))
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    (tmp_path / "notes.md").write_text("x")
    (tmp_path / "deep").mkdir()
    cv2.imwrite(str(tmp_path / "deep/im9.png"), picture(seed=9))
    video = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for i in range(FRAMES):
        video.write(np.full((48, 64, 3), 30 * i, np.uint8))
    video.release()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def items(source, **options) -> list[tuple[str, np.ndarray, str]]:
    return [row for batch in load_inference_source(source, **options) for row in zip(*batch, strict=True)]


def test_every_form_of_a_file_gives_the_same_picture(folder: Path) -> None:
    path, want = folder / "im0.png", picture(seed=0)
    for source in (path, str(path), "im0.png", [path], want, Image.open(path), [Image.open(path)]):
        ((_, image, _),) = items(source)
        np.testing.assert_array_equal(image, want)
    ((_, image, _),) = items(path.read_bytes())
    np.testing.assert_array_equal(image, want)


def test_folders_hold_images_then_videos(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = load_inference_source(folder)
    rows = [(Path(p).name, source.mode) for (p,), _, _ in source]
    assert rows == [("im0.png", "image"), ("im1.png", "image"), *[("clip.avi", "video")] * FRAMES]
    assert "broken.jpg: cannot be read" in capsys.readouterr().out
    assert source.nf == 4 and len(source) == 4 and source.fps == 10 and not any(vars(source.source_type).values())


def test_log_words(folder: Path) -> None:
    infos = [info for _, _, info in items(folder)]
    assert infos[0] == f"image 2/4 {folder / 'im0.png'}: "
    assert infos[2] == f"video 4/4 (frame 1/{FRAMES}) {folder / 'clip.avi'}: "


def test_globs_and_lists(folder: Path) -> None:
    assert [Path(p).name for p, _, _ in items("**/*.png")] == ["im9.png", "im0.png", "im1.png"]
    (folder / "list.txt").write_text("im0.png\n\ndeep/im9.png\n")
    (folder / "list.csv").write_text("source\nim1.png\ndeep/im9.png,im0.png\n")
    assert [Path(p).name for p, _, _ in items("list.txt")] == ["im0.png", "im9.png"]
    assert [Path(p).name for p, _, _ in items("list.csv")] == ["im1.png", "im9.png", "im0.png"]


def test_lists_beside_their_entries(folder: Path, tmp_path_factory, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "list.txt").write_text("im0.png\n")
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert [p for p, _, _ in items(folder / "list.txt")] == [str(folder / "im0.png")]


def test_batches_never_mix_images_and_videos(folder: Path) -> None:
    source = load_inference_source(folder, batch=4)
    sizes = [(len(paths), source.mode if i else "image") for i, (paths, _, _) in enumerate(source)]
    assert [n for n, _ in sizes] == [2, 4, 3]
    assert [len(b[0]) for b in load_inference_source([folder / "im0.png"] * 5, batch=2)] == [2, 2, 1]


@pytest.mark.parametrize("stride, want", [(1, [0, 1, 2, 3, 4, 5, 6]), (3, [2, 5]), (10, [])])
def test_video_stride(folder: Path, stride: int, want: list[int]) -> None:
    got = [round(float(image.mean()) / 30) for _, image, _ in items(folder / "clip.avi", vid_stride=stride)]
    assert got == want


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 9), np.uint8),
        np.zeros((8, 9, 1), np.uint8),
        np.zeros((8, 9, 2), np.uint8),
        np.zeros((8, 9, 4), np.uint8),
        np.zeros((8, 9, 3), np.uint16),
        np.zeros((8, 9, 3), np.float32),
    ],
)
def test_arrays_of_many_kinds(image: np.ndarray) -> None:
    ((name, got, info),) = items(image)
    assert got.shape == (8, 9, 3) and got.dtype == np.uint8
    assert name == "image0.jpg" and info == "image 1/1 image0.jpg: "


def test_lists_of_images_form_one_batch_and_may_hold_paths(folder: Path) -> None:
    mixed = [picture(seed=3), folder / "im1.png", Image.fromarray(picture(seed=4)), (folder / "im0.png").read_bytes()]
    source = load_inference_source(mixed, batch=1)
    ((paths, images, _),) = list(source)
    assert isinstance(source, LoadPilAndNumpy) and source.bs == 4 and source.source_type.from_img
    assert paths == ["image0.jpg", str(folder / "im1.png"), "image2.jpg", "image3.jpg"]
    np.testing.assert_array_equal(images[1], picture(seed=1))
    np.testing.assert_array_equal(images[2], picture(seed=4)[..., ::-1])
    np.testing.assert_array_equal(images[3], picture(seed=0))


def test_an_unreadable_file_beside_an_array_is_left_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "empty.png").touch()
    (folder / "no suffix").write_bytes((folder / "im1.png").read_bytes())
    rows = items([picture(seed=3), folder / "broken.jpg", "empty.png", "notes.md", "no suffix"], batch=2)
    assert [(path, info) for path, _, info in rows] == [
        ("image0.jpg", "image 1/5 image0.jpg: "), ("no suffix", "image 5/5 no suffix: "),
    ]  # fmt: skip
    np.testing.assert_array_equal(rows[1][1], picture(seed=1))
    out = capsys.readouterr().out
    for place in (f"2/5 {folder / 'broken.jpg'}", "3/5 empty.png", "4/5 notes.md"):
        assert f"image {place}: cannot be read, left out" in out


def test_folders_globs_and_lists_beside_an_array_stand_for_their_images(folder: Path) -> None:
    (folder / "deep/notes.txt").write_text("x")
    (folder / "list.csv").write_text("im1.png,im0.png\n")
    rows = items([picture(seed=3), folder / "deep", "im*.png", "list.csv"])
    assert [Path(path).name for path, _, _ in rows] == [
        "image0.jpg", "im9.png", "im0.png", "im1.png", "im1.png", "im0.png",
    ]  # fmt: skip
    for (path, image, _), seed in zip(rows, (3, 9, 0, 1, 1, 0), strict=True):
        np.testing.assert_array_equal(image, picture(seed=seed), err_msg=path)


def test_orientation_of_pillow_images(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture(20, 30)).save(tmp_path / "a.png", exif=exif)
    assert items(Image.open(tmp_path / "a.png"))[0][1].shape == (30, 20, 3)
    assert items(tmp_path / "a.png")[0][1].shape == (30, 20, 3)


def test_tensors(capsys: pytest.CaptureFixture[str]) -> None:
    source = load_inference_source(torch.rand(2, 3, 64, 32))
    ((paths, tensor, infos),) = list(source)
    assert isinstance(source, LoadTensor) and source.source_type.tensor and source.bs == 2
    assert paths == ["image0.jpg", "image1.jpg"] and tensor.shape == (2, 3, 64, 32) and len(infos) == 2
    assert next(iter(load_inference_source(torch.rand(3, 32, 32))))[1].shape == (1, 3, 32, 32)
    big = next(iter(load_inference_source(torch.full((1, 3, 32, 32), 255.0))))[1]
    assert float(big.max()) == 1.0 and "divided by 255" in capsys.readouterr().out
    for shape in ((1, 3, 30, 32), (3, 32), (0, 3, 32, 32)):
        with pytest.raises(ConfigError, match="multiples of 32"):
            load_inference_source(torch.zeros(shape))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("given", [1, 2, 3, 4])
@pytest.mark.parametrize("batch", [None, 2])
def test_tensors_have_the_channels_of_the_network(channels: int, given: int, batch: int | None) -> None:
    tensor = torch.zeros(given, 32, 64) if batch is None else torch.zeros(batch, given, 32, 64)
    if given == channels:
        ((_, image, _),) = list(load_inference_source(tensor, channels=channels))
        assert image.shape[1] == channels
        return
    with pytest.raises(ConfigError, match=rf"source: .*has C={given}, the network takes C={channels}"):
        load_inference_source(tensor, channels=channels)


@pytest.mark.parametrize(
    "source, error",
    [
        ("nowhere.jpg", NotFoundError),
        ("notes.md", ConfigError),
        (["im0.png", "nowhere.jpg"], NotFoundError),
        ([np.zeros((4, 4, 3), np.uint8), "nowhere.jpg"], NotFoundError),
        ([], ConfigError),
        ("*.tiff", ConfigError),
        (3.5, ConfigError),
        ({}, ConfigError),
        (b"nonsense", ConfigError),
        (np.zeros((4, 4, 7), np.uint8), ConfigError),
        (np.zeros((0, 4, 3), np.uint8), ConfigError),
        (np.full((4, 4, 3), "im0.png"), ConfigError),
        ([np.zeros((4, 4, 3), np.uint8), object()], ConfigError),
        ("rtsp://127.0.0.1:9/none", NotFoundError),
        ([np.zeros((4, 4, 3), np.uint8), "clip.avi"], ConfigError),
        ([np.zeros((4, 4, 3), np.uint8), "."], ConfigError),  # there is a video in it
        ([np.zeros((4, 4, 3), np.uint8), "*.md"], ConfigError),
        ([np.zeros((4, 4, 3), np.uint8), "rtsp://127.0.0.1:9/none"], ConfigError),
        ([np.zeros((4, 4, 3), np.uint8), 0], ConfigError),
        ([np.zeros((4, 4, 3), np.uint8), b"nonsense"], ConfigError),
    ],
)
def test_what_cannot_be_read_is_named(folder: Path, source, error) -> None:
    with pytest.raises(error, match="source"):
        items(source)


@pytest.mark.parametrize("options", [{"batch": 0}, {"vid_stride": 0}])
def test_wrong_options(folder: Path, options: dict) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        load_inference_source("im0.png", **options)


# ---- streams and addresses, on this machine only ----


@pytest.fixture
def address(folder: Path) -> Iterator[str]:
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    handler.log_message = lambda *_: None  # type: ignore[attr-defined]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_an_address_of_an_image_is_fetched(address: str, tmp_path_factory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))
    ((path, image, info),) = items(f"{address}/im0.png")
    np.testing.assert_array_equal(image, picture(seed=0))
    assert path == "im0.png" and info == f"image 1/1 {address}/im0.png: "
    assert not list(Path.cwd().iterdir())


def test_streams_give_a_frame_of_each(folder: Path) -> None:
    clip = str(folder / "clip.avi")
    source = LoadStreams([clip, clip], vid_stride=2)
    batches = list(source)
    assert [len(paths) for paths, _, _ in batches] == [2] * (FRAMES // 2) and source.mode == "stream"
    assert batches[0][2] == ["0: ", "1: "] and source.source_type.stream
    (folder / "cams.streams").write_text(f"{clip}\n\n{clip}\n")
    assert len(list(load_inference_source("cams.streams"))) == FRAMES


def test_close_frees_streams(folder: Path) -> None:
    source = LoadStreams(str(folder / "clip.avi"))
    source.close()
    assert not list(source)
    LoadImagesAndVideos(folder / "im0.png").close()


def test_channel_counts() -> None:
    assert as_bgr(np.full((2, 2, 1), 7, np.uint8)).tolist() == [[[7] * 3] * 2] * 2
    assert as_bgr(np.arange(16, dtype=np.uint8).reshape(2, 2, 4))[0, 1].tolist() == [4, 5, 6]


@pytest.mark.parametrize("suffix", ["txt", "csv", "streams"])
def test_a_list_that_is_not_utf8_is_named(folder: Path, suffix: str) -> None:
    file = folder / f"list.{suffix}"
    file.write_bytes("a.jpg\né.jpg\n".encode("latin-1"))
    with pytest.raises(DatasetError, match=rf"list\.{suffix}:2: the list is not UTF-8"):
        load_inference_source(str(file))
