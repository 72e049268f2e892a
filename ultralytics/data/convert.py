"""Writing a data set in another label format: `yolo convert data=X.yaml format=coco save_dir=out`."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np

from ultralytics.data.formats import LABEL_FORMATS, open_reader
from ultralytics.data.formats.voc import voc_text
from ultralytics.data.formats.yolo import yolo_rows
from ultralytics.data.labels.parse import Issue, Scan
from ultralytics.data.types import LabelDict
from ultralytics.data.utils import SPLITS, check_det_dataset, list_images
from ultralytics.utils.config.yaml_io import YAML
from ultralytics.utils.errors import ConfigError, DatasetError
from ultralytics.utils.files import atomic_write, complete_folder
from ultralytics.utils.log import LOGGER
from ultralytics.utils.ops import xywh2xyxy
from ultralytics.utils.torch_tools.arrays import Float32Array

IMAGES = ("copy", "link", "none")
CONVERT_REPORT = "convert_report.txt"
SAME_FRAME = 1.0  # pixels by which a polygon's frame may differ from its box: then the polygon is used
_DIGITS = 5  # of pixel values
_MARKS = frozenset({"images", "JPEGImages"})


@dataclass(frozen=True)
class NamedLabel:
    """One image to be written: its label dict, its path relative to the images of its split, its number in the set."""

    label: LabelDict
    name: str
    number: int


def convert(data: str | Path, format: str, save_dir: str | Path, images: str = "copy") -> Path:
    """Write a data set with labels in `format` (yolo, coco or voc) into a new folder; return its data YAML.

    `images` are copied, linked (hard links, or symbolic ones across file systems), or with "none", which only COCO's
    format allows, left where they are. Rows and images that cannot be used are left out; they are listed in the log and
    in `convert_report.txt`. The folder appears when all is written.

    Raises:
        ConfigError: an unknown value, or `save_dir` exists and is not empty.
        DatasetError: the data set cannot be used, or two classes have one name, which only YOLO's format could keep.
    """
    for value, known, key in ((format, LABEL_FORMATS, "format"), (images, IMAGES, "images")):
        if value not in known:
            raise ConfigError(f"{key}={value}: must be one of {', '.join(known)}")
    if images == "none" and format != "coco":
        raise ConfigError(
            f"images=none: in {format} format the labels are found by the path of the images", "use images=link"
        )
    target = Path(save_dir).absolute()
    with complete_folder(target, "save_dir") as work:
        source = check_det_dataset(data)
        if format != "yolo":
            _refuse_same_names(source, format)
        _write_set(source, format, work, images)
    LOGGER.info(f"{format} data set: {target / 'data.yaml'}")
    return target / "data.yaml"


def _refuse_same_names(source: Mapping[str, Any], format: str) -> None:
    """Raise DatasetError for classes that a format with names instead of ids cannot distinguish."""
    owner: dict[str, int] = {}
    for i, name in source["names"].items():
        first = owner.setdefault(name, i)
        if first != i:
            raise DatasetError(
                f"{source['yaml_file']}: names: classes {first} and {i} are both called '{name}', and the {format} "
                "format distinguishes classes by name",
                "give each class its own name",
            )


def _write_set(source: Mapping[str, Any], format: str, work: Path, images: str) -> None:
    """Write all splits, the data YAML and the report into a folder."""
    issues: list[Issue] = []
    splits: dict[str, str] = {}
    for split in (s for s in SPLITS if source.get(s)):
        scan = read_split(source, split)
        issues += scan.issues
        image_folder = work / _IMAGE_FOLDER[format] / split
        items = list(named_labels(scan.labels))
        for item in items:
            copy_image(item.label["im_file"], image_folder / item.name, images)
        _WRITERS[format](items, split, source["names"], work)
        splits[split] = str(Path(_IMAGE_FOLDER[format]) / split).replace(os.sep, "/")
        LOGGER.info(f"{split}: {len(items)} images, {sum(len(i.label['cls']) for i in items)} objects")
        if images == "none":
            splits[split] = _list_file(items, work, split)
    content: dict[str, Any] = {**splits, "names": dict(source["names"]), "format": format}
    if format == "coco":
        content["annotations"] = {s: f"annotations/instances_{s}.json" for s in splits}
    if source["channels"] != 3:
        content["channels"] = source["channels"]
    YAML.save(work / "data.yaml", content)
    if issues:
        with atomic_write(work / CONVERT_REPORT) as file:
            file.write("".join(f"{issue}\n" for issue in issues))
        LOGGER.warning(f"{len(issues)} finding(s), listed in {CONVERT_REPORT}; the first: {issues[0]}")


def read_split(source: Mapping[str, Any], split: str) -> Scan:
    """Read the labels of a split of a `check_det_dataset` dict, without a cache and without stopping at bad rows.

    Raises:
        DatasetError: no image of the split can be used.
    """
    im_files = list_images(source[split])
    if not im_files:
        raise DatasetError(f"{source[split]}: no images found")
    scan = open_reader(source, source[split], im_files, split=split).scan(f"{split}: reading")
    if not scan.labels:
        first = "; ".join(map(str, scan.issues[:2]))
        raise DatasetError(f"{split}: none of {len(im_files)} images is usable", first)
    return scan


def named_labels(labels: Sequence[LabelDict]) -> Iterator[NamedLabel]:
    """Give each image its place below the folder that all of them share; no two have one name without its suffix.

    Folders that are called as the one for images are left out of the place: labels are found by the last of them.
    """
    files = [os.path.abspath(label["im_file"]) for label in labels]
    common = os.path.commonpath([os.path.dirname(file) for file in files])
    taken: set[str] = set()
    for number, (label, file) in enumerate(zip(labels, files, strict=True), 1):
        *folders, name = Path(os.path.relpath(file, common)).parts
        plain, suffix = os.path.splitext("/".join([*(f for f in folders if f not in _MARKS), name]))
        stems = (f"{plain}{mark}" for mark in chain(("", f"_{number}"), (f"_{number}_{i}" for i in count(2))))
        stem = next(s for s in stems if s.casefold() not in taken)
        taken.add(stem.casefold())
        yield NamedLabel(label, f"{stem}{suffix}", number)


def copy_image(file: str, target: Path, how: str) -> None:
    """Copy or link an image to `target`."""
    if how == "none":
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if how == "link":
        try:
            os.link(os.path.realpath(file), target)
        except OSError:  # another file system
            target.symlink_to(os.path.abspath(file))
    else:
        shutil.copyfile(file, target)


def _list_file(items: list[NamedLabel], work: Path, split: str) -> str:
    """Write the list of a split's images where they are; return its name."""
    with atomic_write(work / f"{split}.txt") as file:
        file.write("".join(f"{os.path.abspath(item.label['im_file'])}\n" for item in items))
    return f"{split}.txt"


def _corners(label: LabelDict) -> Float32Array:
    """Return the boxes as corners in pixels, float64 (n, 4)."""
    h, w = label["shape"]
    return xywh2xyxy(label["bboxes"].astype(np.float64)) * (w, h, w, h)


def _polygons(label: LabelDict) -> list[Float32Array | None]:
    """Return each object's polygon where it agrees with its box, else None."""
    h, w = label["shape"]
    polygons: list[Float32Array | None] = []
    for polygon, corners in zip(label["segments"], _corners(label), strict=False):
        frame = np.concatenate([polygon.min(0), polygon.max(0)]) * (w, h, w, h)
        polygons.append(polygon if np.abs(frame - corners).max() <= SAME_FRAME else None)
    return polygons or [None] * len(label["cls"])


def _annotated(label: LabelDict) -> Iterator[tuple[float, list[float], float, bool, Float32Array | None]]:
    """Yield class, corners in px, area, whether it is a crowd, and polygon of each object and crowd region.

    Areas and crowds come from a set that has them; crowds have no polygon, since theirs are masks in run lengths.
    """
    corners, polygons = _corners(label), _polygons(label)
    if "truth" not in label:
        for c, box, polygon in zip(label["cls"][:, 0], corners, polygons, strict=True):
            yield c, box.tolist(), float((box[2:] - box[:2]).prod()), False, polygon
        return
    for c, *box, area, crowd, row in label["truth"].tolist():
        if row >= 0:
            yield c, corners[int(row)].tolist(), area, False, polygons[int(row)]
        elif crowd:
            yield c, box, area, True, None


# ---- the formats ------------------------------------------------------------------------------------------------


def _write_yolo(items: list[NamedLabel], split: str, names: Mapping[int, str], work: Path) -> None:
    for item in items:
        label = item.label
        polygons = _polygons(label)
        if any(p is None for p in polygons):  # a file holds boxes or polygons, not both
            polygons = [None] * len(polygons)
        with atomic_write((work / "labels" / split / item.name).with_suffix(".txt")) as file:
            file.write(yolo_rows(label["cls"], label["bboxes"], polygons))


def _write_coco(items: list[NamedLabel], split: str, names: Mapping[int, str], work: Path) -> None:
    annotations: list[dict[str, Any]] = []
    for item in items:
        label = item.label
        h, w = label["shape"]
        for c, box, area, crowd, polygon in _annotated(label):
            x1, y1, x2, y2 = box
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": item.number,
                    "category_id": int(c) + 1,
                    "bbox": [round(v, _DIGITS) for v in (x1, y1, x2 - x1, y2 - y1)],
                    "area": round(area, _DIGITS),
                    "iscrowd": int(crowd),
                    "segmentation": [] if polygon is None else [np.round(polygon * (w, h), _DIGITS).ravel().tolist()],
                }
            )
    content = {
        "images": [
            {"id": i.number, "file_name": i.name, "width": i.label["shape"][1], "height": i.label["shape"][0]}
            for i in items
        ],
        "categories": [{"id": i + 1, "name": name} for i, name in names.items()],
        "annotations": annotations,
    }
    with atomic_write(work / "annotations" / f"instances_{split}.json") as file:
        json.dump(content, file, ensure_ascii=False)


def _write_voc(items: list[NamedLabel], split: str, names: Mapping[int, str], work: Path) -> None:
    for item in items:
        h, w = item.label["shape"]
        rows = [
            (names[int(c)], box.tolist()) for c, box in zip(item.label["cls"][:, 0], _corners(item.label), strict=True)
        ]
        with atomic_write((work / "Annotations" / split / item.name).with_suffix(".xml")) as file:
            file.write(voc_text(item.name.rsplit("/", 1)[-1], (h, w, 3), rows))
    with atomic_write(work / "ImageSets" / "Main" / f"{split}.txt") as file:
        file.write("".join(f"{split}/{os.path.splitext(item.name)[0]}\n" for item in items))


_IMAGE_FOLDER = {"yolo": "images", "coco": "images", "voc": "JPEGImages"}
_WRITERS: Mapping[str, Callable[[list[NamedLabel], str, Mapping[int, str], Path], None]] = {
    "yolo": _write_yolo,
    "coco": _write_coco,
    "voc": _write_voc,
}
