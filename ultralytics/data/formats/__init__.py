"""Label formats: YOLO text, COCO JSON and Pascal VOC XML, read straight from a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ultralytics.data.formats.base import LabelReader, Split
from ultralytics.data.formats.coco import CocoReader
from ultralytics.data.formats.detect import LABEL_FORMATS, detect_format
from ultralytics.data.formats.voc import VocReader
from ultralytics.data.formats.yolo import YoloReader
from ultralytics.utils.errors import DatasetError

__all__ = [
    "LABEL_FORMATS",
    "CocoReader",
    "LabelReader",
    "Split",
    "VocReader",
    "YoloReader",
    "detect_format",
    "open_reader",
]


def open_reader(
    data: Mapping[str, Any],
    source: str | Sequence[str],
    im_files: list[str],
    single_cls: bool = False,
    split: str = "",
) -> LabelReader:
    """Return the reader of a split's labels.

    `data` is the dict of `check_det_dataset`, `source` one of its splits, `im_files` the images of it. `split` is its
    name, which distinguishes splits that have one source and a JSON file each.

    Raises:
        DatasetError: a COCO set without a JSON file for this split.
    """
    wanted = Split(source, im_files, data["names"], single_cls, data)
    form = data.get("format", "yolo")
    if form == "voc":
        return VocReader(wanted)
    if form == "yolo":
        return YoloReader(wanted)
    files = data.get("annotations") or {}
    same = [s for s in files if data.get(s) == source]
    name = split if split in same else same[0] if same else _by_folder(files, source)
    if name is None:
        raise DatasetError(f"{source}: no JSON file for these images", "give 'annotations: {train: ..., val: ...}'")
    return CocoReader(wanted, files[name], dict.fromkeys(files[s] for s in same if files[s] != files[name]))


def _by_folder(files: Mapping[str, str], source: str | Sequence[str]) -> str | None:
    """Return the split that a folder is named after."""
    name = Path(source if isinstance(source, (str, Path)) else source[0]).stem
    return name if name in files else None
