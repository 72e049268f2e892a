"""Kinds of damage that real data sets arrive with: each row makes one, in a set that is good otherwise."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from tests.data.sets import write_set

SIDE = 96
GOOD = "0 .3 .3 .25 .25\n1 .7 .6 .3 .4\n"


class Damage(NamedTuple):
    """A name, the finding that the doctor must report, what makes it, and what happens to the image in training."""

    name: str
    code: str
    make: Callable[[Path, Path], None]  # gets the image and its label file
    fate: str = "kept"  # "gone": the image is left out; "kept": it is trained on; "stops": a strict run refuses the set
    split: str = "train"


def text(rows: str, encoding: str = "utf-8") -> Callable[[Path, Path], None]:
    """Replace the label file."""
    return lambda image, label: label.write_bytes(rows.encode(encoding)) and None


def more(rows: str) -> Callable[[Path, Path], None]:
    """Add rows to good ones."""
    return text(GOOD + rows)


def content(data: bytes) -> Callable[[Path, Path], None]:
    """Replace the image file's bytes."""
    return lambda image, label: image.write_bytes(data) and None


def _cut_jpeg(image: Path, label: Path) -> None:
    data = cv2.imencode(".jpg", _scene(5))[1].tobytes()
    image.unlink()
    image.with_suffix(".jpg").write_bytes(data[: len(data) // 2])


def _bad_checksum(image: Path, label: Path) -> None:
    data = bytearray(image.read_bytes())
    data[len(data) // 2] ^= 0xFF
    image.write_bytes(bytes(data))


def _duplicate(image: Path, label: Path) -> None:
    shutil.copy(image.parent / "good0.png", image)


def _near(image: Path, label: Path) -> None:
    image.unlink()
    smaller = cv2.resize(_scene(0), (72, 72), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(image.with_suffix(".jpg")), smaller, [cv2.IMWRITE_JPEG_QUALITY, 85])


def _leak(image: Path, label: Path) -> None:
    shutil.copy(image.parents[1] / "train" / "good1.png", image)


def _near_leak(image: Path, label: Path) -> None:
    image.unlink()
    cv2.imwrite(str(image.with_suffix(".jpg")), _scene(1), [cv2.IMWRITE_JPEG_QUALITY, 70])


def _folder(image: Path, label: Path) -> None:
    label.unlink()
    label.mkdir()


def _broken_link(image: Path, label: Path) -> None:
    image.unlink()
    image.symlink_to(image.with_name("nowhere.png"))


def _unreadable_format(image: Path, label: Path) -> None:
    image.with_suffix(".psd").write_bytes(b"8BPS")


def _upper_case(image: Path, label: Path) -> None:
    os.replace(label, label.with_suffix(".TXT"))


def _same_stem(image: Path, label: Path) -> None:
    cv2.imwrite(str(image.with_suffix(".bmp")), _scene(77))


def _exif(image: Path, label: Path) -> None:
    from PIL import Image

    image.unlink()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(_scene(6)[..., ::-1]).save(image.with_suffix(".jpg"), exif=exif)


def _write(pixels: np.ndarray) -> Callable[[Path, Path], None]:
    return lambda image, label: cv2.imwrite(str(image), pixels) and None


def _scene(seed: int) -> np.ndarray:
    """Return a picture of smooth random shades: no two seeds look the same."""
    noise = np.random.default_rng((5, seed)).integers(0, 256, (7, 7, 3)).astype(np.uint8)
    return cv2.resize(noise, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)


_CROWD = "".join(f"0 {0.1 + x * 0.04:.3f} {0.1 + y * 0.04:.3f} .03 .03\n" for x in range(20) for y in range(16))

DAMAGES = [
    # images
    Damage("empty_image", "image", content(b""), "gone"),
    Damage("truncated_jpeg", "image", _cut_jpeg, "gone"),
    Damage("text_as_image", "image", content(b"<html>404</html>"), "gone"),
    Damage("bad_png_checksum", "image", _bad_checksum, "gone"),
    Damage("tiny_image", "image", _write(np.zeros((6, 6, 3), np.uint8)), "gone"),
    Damage("broken_link", "link", _broken_link, "gone"),
    Damage("foreign_format", "format", _unreadable_format),
    Damage("jpeg_named_png", "suffix", content(cv2.imencode(".jpg", _scene(8))[1].tobytes())),
    Damage("blank_image", "blank", _write(np.full((SIDE, SIDE, 3), 200, np.uint8))),
    Damage("exif_turned", "exif", _exif),
    Damage("same_stem_twice", "stem", _same_stem),
    Damage("same_image_twice", "duplicate_image", _duplicate),
    Damage("nearly_same_image", "near", _near),
    Damage("train_image_in_val", "leak", _leak, split="val"),
    Damage("near_train_image_in_val", "near_leak", _near_leak, split="val"),
    # pairs
    Damage("no_label_file", "unlabelled", lambda image, label: label.unlink()),
    Damage("no_image", "orphan", lambda image, label: image.unlink(), "gone"),
    Damage("empty_label_file", "background", text("")),
    Damage("label_suffix_in_capitals", "case", _upper_case),
    Damage("label_is_a_folder", "unreadable", _folder, "gone"),
    Damage("label_not_utf8", "unreadable", text("0 .5 .5 .2 .2 # é\n", "utf-16"), "gone"),
    # rows
    Damage("class_too_high", "class", more("7 .5 .5 .2 .2"), "stops"),
    Damage("class_not_whole", "class", more("1.5 .5 .5 .2 .2")),
    Damage("four_columns", "columns", more("0 .5 .5 .2"), "stops"),
    Damage("score_column", "columns", more("0 .5 .5 .2 .2 .97"), "stops"),
    Damage("comma_separated", "columns", more("0,.5,.5,.2,.2"), "stops"),
    Damage("negative_width", "negative", more("0 .5 .5 -.2 .2"), "stops"),
    Damage("word_for_number", "number", more("0 .5 x .2 .2")),
    Damage("not_a_number", "number", more("0 .5 nan .2 .2")),
    Damage("pixel_units", "pixels", text("0 48 40 120 300\n1 200 150 30 30\n"), "gone"),
    Damage("percent_units", "percent", text("0 48 40 20 30\n"), "gone"),
    Damage("beyond_the_image", "outside", more("0 1.3 .5 .2 .2")),
    Damage("half_outside", "cut", more("0 .95 .5 .3 .6")),
    Damage("sides_exchanged", "axes", more("0 .5 .9 .1 .7")),
    Damage("corners_for_centre", "corners", more("0 .2 .3 .8 .9")),
    Damage("no_area", "area", more("0 .5 .5 0 .2")),
    Damage("repeated_row", "duplicate", text(GOOD + GOOD.splitlines()[0])),
    Damage("one_box_two_classes", "twice", more("1 .3 .3 .25 .25")),
    Damage("nearly_repeated_box", "overlap", more("0 .301 .3 .25 .25")),
    Damage("tiny_box", "tiny", more("0 .5 .5 .001 .001")),
    Damage("whole_image_box", "covering", more("0 .5 .5 1 1")),
    Damage("hairline_box", "thin", more("0 .5 .2 .9 .011")),
    Damage("boxes_and_polygons", "mixed", more("0 .1 .1 .2 .1 .2 .2")),
    Damage("odd_polygon", "columns", more("0 .1 .1 .2 .1 .2 .2 .3"), "stops"),
    Damage("more_objects_than_queries", "queries", text(_CROWD)),
]


def damaged_set(root: Path, fatal: bool = True) -> dict[str, Path]:
    """Write a set with one image for each damage (without `fatal` only those that do not stop a run), and good ones.

    Returns the place where each damage should be reported: the image, without its suffix.
    """
    chosen = [d for d in DAMAGES if fatal or d.fate != "stops"]
    places = {}
    for split in ("train", "val"):
        names = [f"good{i}" for i in range(3)] + [d.name for d in chosen if d.split == split]
        folder = write_set(root, dict.fromkeys(names, GOOD), split)
        for i, name in enumerate(names):
            cv2.imwrite(str(folder / f"{name}.png"), _scene(i if split == "train" else 100 + i))
        places |= {name: folder / name for name in names}
    for damage in chosen:
        image = places[damage.name].with_suffix(".png")
        damage.make(image, root / "labels" / damage.split / f"{damage.name}.txt")
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [a, b]\n", encoding="utf-8")
    return places


def state(root: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return what must not change: kind, time of change and bytes of every file."""
    found = {}
    for path in sorted(root.rglob("*")):
        info = path.lstat()
        data = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (info.st_mode, info.st_mtime_ns, data)
    return found
