"""Which files are images, where their labels lie, and the lists of images that a split may be."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ultralytics.utils import LOGGER
from ultralytics.utils.errors import DatasetError, NotFoundError, printable
from ultralytics.utils.files import user_path

IMG_FORMATS = frozenset(
    "avif bmp dng heic heif jp2 jpeg jpg mpo png tif tiff webp".split(),
)
VID_FORMATS = frozenset("asf avi gif m4v mkv mov mp4 mpeg mpg ts webm wmv".split())
_VOC_SUFFIXES = ("jpg", "jpeg", "png", "JPG", "JPEG", "PNG", "bmp", "tif", "tiff", "webp")


MAX_LIST_BYTES = 256 << 20  # of a list: two million paths


def img2label_paths(img_paths: Sequence[str]) -> list[str]:
    """Return the label file of each image: its last `images` folder becomes `labels`, its suffix `.txt`.

    >>> [p.replace(os.sep, "/") for p in img2label_paths(["data/images/train/a.b.jpg", "flat/c.png"])]
    ['data/labels/train/a.b.txt', 'flat/c.txt']
    """
    last, folder, paths = None, "", []
    for path in img_paths:
        before, sep, name = _split(path.replace("/", os.sep))[0].rpartition(os.sep)
        if before + sep != last:  # images of one folder come one after another
            last = before + sep
            folder = _label_folder(last)
        paths.append(f"{folder}{name}.txt")
    return paths


def _label_folder(folder: str) -> str:
    """Return the folder of labels for a folder of images, both with a separator behind, or empty."""
    before, found, after = (os.sep + folder).rpartition(f"{os.sep}images{os.sep}")
    return f"{before}{os.sep}labels{os.sep}{after}"[len(os.sep) :] if found else folder


def list_images(source: str | Sequence[str]) -> list[str]:
    """Return the sorted image files of a split: a folder, a glob, an image, a text list, or several.

    Folders are searched to their ends, see `walk_files`. Lines of a text list that start with `./` are relative to the
    list's folder; other relative lines are tried there when they do not exist from the working directory.

    Raises:
        NotFoundError: a folder or list does not exist.
        DatasetError: a list is not UTF-8 text.
    """
    sources = [source] if isinstance(source, str) else list(source)
    return sorted(path for s in sources for path in _list_one(str(s)))


def _list_one(source: str) -> list[str]:
    path = user_path(source)
    if path.is_dir():
        places = ((os.path.join(folder, ""), names) for folder, names in walk_files(path))
        found = [folder + name for folder, names in places for name in names]
    elif path.is_file():
        found = _read_list(path) if suffix_of(source) == "txt" else [source]
    elif glob.has_magic(source):
        found = glob.glob(source, recursive=True)
    else:
        raise NotFoundError(f"{source}: no such folder or list of images")
    return [f for f in found if _split(f)[1].lower() in IMG_FORMATS]


def walk_files(top: str | Path) -> Iterator[tuple[str, list[str]]]:
    """Yield (folder, names of its files) of a folder and of all below it, linked ones too.

    Each real folder comes once, under its own path rather than a link's; a link to a folder that holds it, or the whole
    tree, is not followed.
    """
    above = os.path.realpath(top)
    pending, seen = [str(top)], set[str]()
    while pending:
        start = pending.pop(0)
        real = os.path.realpath(start)
        if real in seen:
            continue
        for parent, folders, names in os.walk(start):
            here = os.path.join(real, os.path.relpath(parent, start)) if parent != start else real
            seen.add(here)
            links = [os.path.join(parent, name) for name in folders if os.path.islink(os.path.join(parent, name))]
            pending += sorted(link for link in links if not _holds(os.path.realpath(link), above, here))
            folders[:] = [name for name in folders if os.path.join(here, name) not in seen]
            yield parent, names


def _holds(folder: str, *others: str) -> bool:
    """Return whether a folder is one of others or holds one."""
    inside = os.path.join(folder, "")
    return any(os.path.join(other, "").startswith(inside) for other in others)


def _read_list(path: Path) -> list[str]:
    lines = [_unquoted(line.strip()) for line in list_text(path).splitlines()]
    found = [_from_image_set(line, path) or _beside(line, path.parent) for line in lines if line]
    others = [file for file in found if suffix_of(file) not in IMG_FORMATS]
    if others:
        first = printable(os.path.basename(others[0]))[:80]
        LOGGER.warning(f"{path}: {len(others)} of {len(found)} lines name no image file and are left out: {first}")
    return found


def _unquoted(line: str) -> str:
    """Return a line without a pair of equal quotes around it."""
    return line[1:-1] if len(line) > 1 and line[0] == line[-1] and line[0] in "'\"" else line


def list_text(path: Path) -> str:
    """Return the text of a file that lists others; raise DatasetError where it is not UTF-8."""
    try:
        if path.stat().st_size > MAX_LIST_BYTES:
            raise DatasetError(
                f"{path}: the list is larger than {MAX_LIST_BYTES >> 20} MiB", "give its folders instead"
            )
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise DatasetError(f"{path}:{line}: the list is not UTF-8 text: {error.reason}", "save it as UTF-8") from None


def _from_image_set(line: str, path: Path) -> str | None:
    """Return the image of a name in a list below Pascal VOC's `ImageSets`: a file of that stem in `JPEGImages`."""
    if suffix_of(line) in IMG_FORMATS or "ImageSets" not in path.parts:
        return None
    root = next(p.parent for p in path.parents if p.name == "ImageSets") / "JPEGImages"
    stems = [str(root / line), str(root / line.rsplit(maxsplit=1)[0])]  # lists of one class have a number behind
    candidates = (f"{stem}.{s}" for stem in stems for s in _VOC_SUFFIXES)
    return next(filter(os.path.exists, candidates), f"{stems[-1]}.jpg")


def _beside(line: str, folder: Path) -> str:
    if line.startswith("./"):
        return str(folder / line[2:])
    return line if os.path.isabs(line) or os.path.exists(line) else str(folder / line)


def suffix_of(path: str) -> str:
    """Return a path's suffix in lower case, without the dot."""
    return _split(path)[1].lower()


def _split(path: str) -> tuple[str, str]:
    """Return a path without its suffix, and that without the dot: `os.path.splitext`, faster for the usual ones."""
    stem, dot, suffix = path.rpartition(".")
    if dot and suffix.isalnum() and stem and stem[-1] not in "./\\":
        return stem, suffix
    stem, suffix = os.path.splitext(path)
    return stem, suffix[1:]


def pick_fraction(files: list[str], fraction: float, seed: int = 0) -> list[str]:
    """Return a seeded random part of a list, in its order: a ratio up to 1, or a number of files above 1."""
    count = round(len(files) * fraction) if fraction <= 1 else int(fraction)
    count = max(1, min(count, len(files)))
    if count >= len(files):
        return files
    picked = np.random.default_rng(seed).choice(len(files), count, replace=False)
    return [files[i] for i in sorted(picked.tolist())]
