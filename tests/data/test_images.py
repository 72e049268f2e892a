"""Decoding every kind of file the same way, and judging a file without decoding it."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from ultralytics.data.images import as_uint8, decode, imread, imread_reduced, pil_to_bgr, probe, reduction, resize

PIXELS = np.zeros((40, 60, 3), np.uint8)
PIXELS[:20, :30] = (200, 30, 60)  # RGB


def save(path: Path, mode: str = "RGB", orientation: int = 1, **options) -> Path:
    """Write the test picture through Pillow, which is not what reads it."""
    if mode == "I;16":
        image = Image.fromarray(np.asarray(Image.fromarray(PIXELS).convert("L")).astype(np.uint16) * 257)
    else:
        image = Image.fromarray(PIXELS).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, exif=exif, **options) if orientation != 1 else image.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_and_predicted(tmp_path: Path, suffix: str, orientation: int) -> None:
    """The picture stands as a viewer shows it, and the quick look gives the same shape as decoding."""
    options = {"quality": 95} if suffix in {"jpg", "webp"} else {}
    path = save(tmp_path / f"a.{suffix}", orientation=orientation, **options)
    image = imread(path)
    turns = {1: "", 2: "lr", 3: "lr ud", 4: "ud", 5: "t", 6: "t lr", 7: "t lr ud", 8: "t ud"}[orientation]
    want = PIXELS[..., ::-1]
    for turn in turns.split():
        want = {"lr": want[:, ::-1], "ud": want[::-1], "t": want.transpose(1, 0, 2)}[turn]
    assert image.shape == want.shape and image.shape[:2] == probe(path)
    assert np.abs(image.astype(int) - want).mean() < 6


@pytest.mark.parametrize(
    "mode, suffix",
    [
        *(("L", "png"), ("LA", "png"), ("RGBA", "png"), ("P", "png"), ("1", "png"), ("I;16", "png"), ("I;16", "tif")),
        *(("CMYK", "jpg"), ("CMYK", "tif"), ("RGB", "bmp"), ("L", "jpg"), ("L", "bmp")),
    ],
)
def test_every_mode_becomes_three_uint8_channels(tmp_path: Path, mode: str, suffix: str) -> None:
    path = save(tmp_path / f"a.{suffix}", mode)
    image = imread(path)
    assert image.dtype == np.uint8 and image.shape == (40, 60, 3) and probe(path) == (40, 60)
    inside, outside = image[:18, :28].mean((0, 1)), image[22:, 32:].mean((0, 1))
    assert np.abs(inside - outside).max() > 50, "the two areas of the picture differ"


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_reduced_jpeg_is_the_mean_of_squares(tmp_path: Path, factor: int, channels: int) -> None:
    """A file of sides that the factor does not divide, under an odd name; compared where whole squares are."""
    y, x = np.mgrid[:75, :106]
    wave = np.stack([np.sin(x / 9 + i) * np.cos(y / 11 - i) * 100 + 128 for i in range(3)], -1).astype(np.uint8)
    path = tmp_path / "größe"
    Image.fromarray(wave).save(path, format="JPEG", quality=98, subsampling=0)
    reduced, whole = imread_reduced(path, factor, channels), imread(path, channels)
    assert reduced.dtype == np.uint8 and reduced.shape == (-(-75 // factor), -(-106 // factor), channels)
    h, w = 75 // factor, 106 // factor
    squares = whole[: h * factor, : w * factor].reshape(h, factor, w, factor, channels)
    assert np.abs(reduced[:h, :w].astype(float) - squares.mean((1, 3))).max() < 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_reduced_jpeg_is_turned_as_a_whole_one(tmp_path: Path, orientation: int) -> None:
    path = save(tmp_path / "a.jpg", orientation=orientation, quality=95)
    reduced, whole = imread_reduced(path, 2), imread(path)
    assert reduced.shape[:2] == (whole.shape[0] // 2, whole.shape[1] // 2)
    assert np.abs(reduced.astype(int) - whole[::2, ::2]).mean() < 6


def test_what_cannot_be_read_reduced(tmp_path: Path) -> None:
    jpeg, png, empty = save(tmp_path / "a.jpg"), save(tmp_path / "b.png"), tmp_path / "empty.jpg"
    empty.touch()
    for path, factor, channels in (
        (png, 2, 3),
        (tmp_path / "none.jpg", 2, 3),
        (empty, 2, 3),
        (jpeg, 2, 4),
        (jpeg, 3, 3),
    ):
        assert imread_reduced(path, factor, channels) is None


@pytest.mark.parametrize(
    ("shape", "least", "factor"),
    [
        ((3000, 4000), (640, 640), 4),
        ((3000, 4000), (1000, 1000), 2),
        ((3000, 4000), (1501, 1501), 1),
        ((3001, 4000), (640, 640), 1),  # odd
        ((3002, 4000), (640, 640), 2),
        ((5120, 5120), (640, 640), 8),
        ((5120, 5112), (640, 640), 4),
        ((640, 640), (640, 640), 1),
        ((51200, 51200), (640, 640), 8),  # JPEG knows no further
    ],
)
def test_reduction_leaves_what_is_wanted(shape: tuple[int, int], least: tuple[int, int], factor: int) -> None:
    assert reduction(shape, least) == factor


def test_grey_and_paths_that_are_not_ascii(tmp_path: Path) -> None:
    path = save(tmp_path / "größe_图.png")
    assert imread(path, channels=1).shape == (40, 60, 1)
    assert imread(path).shape == (40, 60, 3)


@pytest.mark.parametrize(
    "name, change, reason",
    [
        ("empty.jpg", lambda data: b"", "0 bytes"),
        ("text.jpg", lambda data: b"no image at all" * 50, "not an image"),
        ("cut.jpg", lambda data: data[: len(data) // 2], "truncated"),
        ("cut.png", lambda data: data[: len(data) // 2], "."),
        ("cut.webp", lambda data: data[: len(data) // 2], "."),
        ("cut.tif", lambda data: data[: len(data) // 2], "."),
        ("cut.bmp", lambda data: data[: len(data) // 2], "truncated"),
        ("flipped.png", lambda data: data[:60] + bytes([data[60] ^ 255]) + data[61:], "."),
    ],
)
def test_damage_is_found_and_nothing_is_changed(tmp_path: Path, name: str, change, reason: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    path = tmp_path / name
    Image.fromarray(noise).save(path)
    damaged = change(path.read_bytes())
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=reason):
        probe(path)
    assert path.read_bytes() == damaged


def test_a_long_trailer_is_no_damage(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg")
    path.write_bytes(path.read_bytes() + bytes(10_000))
    assert probe(path) == (40, 60)


def test_tiny_and_missing_files(tmp_path: Path) -> None:
    Image.fromarray(PIXELS[:5]).save(tmp_path / "tiny.png")
    with pytest.raises(ValueError, match="smaller than 10"):
        probe(tmp_path / "tiny.png")
    with pytest.raises(ValueError):
        probe(tmp_path / "none.png")
    assert imread(tmp_path / "none.png") is None


def test_bytes_that_are_no_image_decode_to_nothing() -> None:
    assert decode(np.zeros(0, np.uint8)) is None
    assert decode(np.frombuffer(b"nonsense", np.uint8)) is None


def test_depths() -> None:
    assert as_uint8(np.full((2, 2), 0xABCD, np.uint16)).tolist() == [[[0xAB]] * 2] * 2
    assert as_uint8(np.full((2, 2, 3), 0.5, np.float32)).max() == 127
    assert as_uint8(np.full((2, 2, 3), 300.0)).max() == 255
    assert resize(np.zeros((4, 4, 1), np.uint8), (8, 6)).shape == (6, 8, 1)
    assert pil_to_bgr(Image.fromarray(PIXELS))[0, 0].tolist() == [60, 30, 200]


@pytest.mark.parametrize(
    ("values", "want"),
    [
        (np.linspace(0, 1, 256, dtype=np.float32), np.arange(256)),
        (np.arange(256, dtype=np.float32), np.arange(256)),
        (np.arange(0, 65536, 256, dtype=np.float32), np.arange(256)),
        (np.arange(0, 65536, 256, dtype=np.int32), np.arange(256)),
        (np.arange(256, dtype=np.int32), np.arange(256)),
        (np.arange(256, dtype=np.int32) * 4_000_000, np.arange(256)),
        (np.array([-5, 0, 255, 300] * 64, np.int32), [0, 0, 255, 255] * 64),
        (np.array([np.nan, 0, 1, 0.5] * 64, np.float32), [0, 0, 255, 127] * 64),
        (np.arange(256) > 127, [0] * 128 + [255] * 128),
    ],
)
def test_wide_numbers_keep_their_shades(tmp_path: Path, values: np.ndarray, want: np.ndarray) -> None:
    image = np.tile(values, (16, 1))
    got = as_uint8(image)
    assert got.shape == (16, 256, 1) and np.abs(got[0, :, 0] - np.asarray(want, int)).max() <= 1
    if values.dtype.kind in "fi":
        Image.fromarray(image).save(tmp_path / "a.tif")  # of 32 bits, which OpenCV does not read
        np.testing.assert_array_equal(imread(tmp_path / "a.tif"), np.repeat(got, 3, axis=2))
        np.testing.assert_array_equal(imread(tmp_path / "a.tif", 1), got)
        np.testing.assert_array_equal(pil_to_bgr(Image.fromarray(image)), np.repeat(got, 3, axis=2))


@pytest.mark.parametrize("suffix", ["png", "webp", "tif", "avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_four_channels_are_upright_too(tmp_path: Path, suffix: str, orientation: int) -> None:
    """Alpha is lower where the picture is red, so it must move with the colours."""
    options = {"webp": {"lossless": True}, "avif": {"quality": 100}}.get(suffix, {})
    exif = Image.Exif()
    exif[0x0112] = orientation
    alpha = np.where(PIXELS[..., :1] > 0, 245, 255).astype(np.uint8)
    Image.fromarray(np.dstack([PIXELS, alpha])).save(tmp_path / f"a.{suffix}", exif=exif, **options)
    got, colour = imread(tmp_path / f"a.{suffix}", 4), imread(tmp_path / f"a.{suffix}")
    assert got.shape[2] == 4 and got.shape[:2] == colour.shape[:2] == probe(tmp_path / f"a.{suffix}")
    red = colour[..., 2] > 100
    assert red.mean() == pytest.approx(0.25, abs=0.01)
    assert ((got[..., 3] < 250) == red).mean() > 0.99 and ((got[..., 2] > 100) == red).mean() > 0.99


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("suffix", [".tiff", ".tif"])
def test_floating_images_of_three_channels_are_read(tmp_path: Path, channels: int, suffix: str) -> None:
    file = tmp_path / f"f{suffix}"
    cv2.imwrite(str(file), np.full((12, 14, 3), (0.0, 0.5, 1.0), np.float32))
    image = imread(file, channels)
    assert image is not None and image.shape == (12, 14, channels)
    assert channels == 1 or image[0, 0].tolist() == [0, 127, 255]


@pytest.mark.parametrize("shape", [(12, 14, 3), (12, 14)], ids=["colour", "grey"])
@pytest.mark.parametrize("channels", [1, 3])
def test_portable_float_maps(tmp_path: Path, shape: tuple[int, ...], channels: int) -> None:
    """Read in colour and upright; the file holds its rows from the bottom up."""
    values = np.random.default_rng(0).random(shape, np.float32)
    file = tmp_path / "a.pfm"
    cv2.imwrite(str(file), values)
    assert file.read_bytes()[:2] == (b"PF" if len(shape) == 3 else b"Pf")
    if len(shape) == 3 and channels == 1:
        values = cv2.cvtColor(values, cv2.COLOR_BGR2GRAY)
    want = values.reshape(12, 14, -1) * 255
    got = imread(file, channels)
    assert got is not None and got.shape == (12, 14, channels)
    np.testing.assert_allclose(got, np.broadcast_to(want, got.shape), atol=1)


def test_a_program_named_as_a_picture_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow chooses by content and starts the program `gs` for PostScript."""
    called = tmp_path / "called"
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {called}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    file = tmp_path / "a.jpg"
    file.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\n%%EndComments\nshowpage\n%%EOF\n")
    assert imread(file) is None and imread(file, 4) is None
    with pytest.raises(ValueError, match="not an image"):
        probe(file)
    assert not called.exists()


def test_a_header_that_claims_too_many_pixels_is_not_decoded(tmp_path: Path) -> None:
    header = b"\x89PNG\r\n\x1a\n" + b"\x00\x00\x00\rIHDR" + (20000).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    crc = zlib.crc32(header[12:]).to_bytes(4, "big")
    file = tmp_path / "a.png"
    file.write_bytes(header + crc + b"\x00\x00\x00\x00IEND\xaeB`\x82")
    assert imread(file) is None and imread(file, 4) is None
    with pytest.raises(ValueError, match="too many pixels"):
        probe(file)
