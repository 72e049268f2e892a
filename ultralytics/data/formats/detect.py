"""Which of the label formats a data set has, and where the JSON files of a COCO set lie."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ultralytics.data.formats.coco import category_names
from ultralytics.data.formats.voc import find_xml
from ultralytics.data.paths import IMG_FORMATS, img2label_paths, list_images, suffix_of, walk_files
from ultralytics.utils.files import user_path

LABEL_FORMATS = ("yolo", "coco", "voc")
_INSPECTED = 50  # images; the first ones may be backgrounds without a file


def annotation_files(given: str | Mapping[str, str] | None, splits: Mapping[str, Any], root: Path) -> dict[str, str]:
    """Return {split: JSON file}: what the data YAML gives, relative to `root`, else what lies at the usual paths.

    These are `annotations/instances_<name>.json` and `annotations/<name>.json` below `root`, where <name> is the
    split's image folder or the split's key, and `_annotations.coco.json` in the image folder.
    """
    if isinstance(given, str):
        return {split: _below(root, given) for split in splits}
    if given:
        return {split: _below(root, str(given[split])) for split in splits if given.get(split)}
    files = {
        split: next(filter(os.path.isfile, _usual_places(split, source, root)), "") for split, source in splits.items()
    }
    return {split: file for split, file in files.items() if file}


def _below(root: Path, path: str) -> str:
    return os.path.normpath(user_path(root / user_path(path)))


def _usual_places(split: str, source: str | Sequence[str], root: Path) -> Iterator[str]:
    folder = Path(source if isinstance(source, str) else source[0])
    if folder.is_dir():
        yield str(folder / "_annotations.coco.json")
    for name in dict.fromkeys((folder.stem, split)):
        for stem in (f"instances_{name}", name):
            yield str(root / "annotations" / f"{stem}.json")


def detect_format(given: object, files: Mapping[str, str], splits: Mapping[str, Any]) -> str:
    """Return the format of a set whose YAML does not name it: by the label files that its first images have.

    Text labels take precedence over JSON files at the usual paths, JSON files that the YAML names over everything.
    """
    if given and files:
        return "coco"
    images = [f for source in splits.values() for f in first_images(source)]
    if any(map(os.path.exists, img2label_paths(images))):
        return "yolo"
    if files:
        return "coco"
    return "voc" if any(os.path.exists(find_xml(f)) for f in images) else "yolo"


def first_images(source: str | Sequence[str], n: int = _INSPECTED) -> list[str]:
    """Return up to `n` images of a split without listing a large folder to its end."""
    sources = [source] if isinstance(source, str) else list(source)
    images: list[str] = []
    for item in sources:
        if os.path.isdir(item):
            files = (os.path.join(folder, name) for folder, names in walk_files(item) for name in names)
            images += islice((f for f in files if suffix_of(f) in IMG_FORMATS), n)
        elif os.path.exists(item) or glob.has_magic(item):
            images += list_images(item)[:n]
    return images[:n]


def names_of(values: Mapping[str, Any]) -> dict[int, str]:
    """Return the classes of a COCO set whose YAML names none, from its first JSON file; else an empty mapping."""
    files = values.get("annotations")
    if values.get("format") != "coco" or not isinstance(files, Mapping):
        return {}
    return category_names(next(iter(files.values())))
