"""Decoding every kind of file the same way, and judging a file without decoding it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ultralytics.data.images import as_uint8, decode, imread, pil_to_bgr, probe, resize

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
