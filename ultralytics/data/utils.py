"""Data set YAML files: where the images are, what the classes are called, how to get them when they are missing.

Nothing in a data YAML is ever executed: `download:` names a generator of this package, or a URL with its sha256.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ultralytics.data.demo import GENERATORS
from ultralytics.data.formats.detect import LABEL_FORMATS, annotation_files, detect_format, names_of
from ultralytics.data.labels.verify import exif_size, get_hash, verify_image, verify_image_label
from ultralytics.data.paths import IMG_FORMATS, VID_FORMATS, img2label_paths, list_images, pick_fraction, suffix_of
from ultralytics.utils import LOGGER, ROOT, SETTINGS
from ultralytics.utils.checks import check_yaml, nearest
from ultralytics.utils.config.absent import absent_names
from ultralytics.utils.config.yaml_io import load_with_lines
from ultralytics.utils.downloads import download
from ultralytics.utils.errors import ConfigError, DatasetError, NotFoundError, printable
from ultralytics.utils.files import has_yaml_suffix, user_path

__all__ = [
    "IMG_FORMATS",
    "KEY_TYPES",
    "MAX_IMAGE_CHANNELS",
    "MAX_LISTED_CLASSES",
    "SPLITS",
    "VID_FORMATS",
    "check_det_dataset",
    "exif_size",
    "find_data_yaml",
    "get_hash",
    "img2label_paths",
    "list_images",
    "pick_fraction",
    "suffix_of",
    "verify_image",
    "verify_image_label",
]

MAX_LISTED_CLASSES, _MAX_DIGITS, MAX_IMAGE_CHANNELS = 1_000_000, 9, 1024
SPLITS = ("train", "val", "test", "minival")

KEY_TYPES: Mapping[str, tuple[type, ...]] = {
    "path": (str,),
    "train": (str, list),
    "val": (str, list),
    "test": (str, list),
    "minival": (str, list),
    "names": (list, dict),
    "channels": (int,),
    "format": (str,),
    "annotations": (str, dict),
}
"""Types of the keys of a data YAML."""


# ---- the YAML ---------------------------------------------------------------------------------------------------


class _DataYAML:
    """A data YAML with the line of each key, for messages."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.values, self.lines = load_with_lines(file)

    def error(self, key: str, *text: str) -> DatasetError:
        line = self.lines.get((key,))
        origin = f"{self.file}:{line}" if line else str(self.file)
        return DatasetError(f"{origin}: {text[0]}", *text[1:])


def find_data_yaml(data: str | Path) -> Path:
    """Return the YAML of a data set given by path, by name (`coco`, `demo.yaml`) or by a folder that holds one.

    Raises:
        NotFoundError: there is none.
        ConfigError: it is something else than a YAML file, or a folder holds several.
    """
    path = user_path(data)
    if path.is_dir():
        files = [*path.glob("*.yaml"), *path.glob("*.yml")] or [*path.rglob("*.yaml"), *path.rglob("*.yml")]
        named = [p for p in files if p.stem == path.resolve().name]
        if len(files) == 1 or named:
            return (named or files)[0]
        if not files:
            raise NotFoundError(f"{path}: no data YAML in this folder", "give data=<file>.yaml")
        raise ConfigError(f"{path}: several YAML files: {', '.join(sorted(p.name for p in files)[:5])}; name one")
    if not path.suffix:
        path = path.with_suffix(".yaml")
    if not has_yaml_suffix(path):
        raise ConfigError(f"data={data}: need a data YAML or a folder that holds one", "unpack archives first")
    return check_yaml(path, kind="datasets")


def check_det_dataset(dataset: str | Path, autodownload: bool = True, split: str = "") -> dict[str, Any]:
    """Read a detection data set's YAML, resolve its paths, and get the data if they are missing.

    A relative `path:` is taken from the YAML's folder, else from the settings' `datasets_dir`; entries that ship with
    the package always live below `datasets_dir`. `split` is the split that must exist (default: val).

    Returns the YAML's keys with `path` (Path), the splits (absolute paths, or lists of them), `names` {int: str},
    `nc`, `channels` and `yaml_file`.

    Raises:
        NotFoundError: no such YAML, or the images of the split do not exist and cannot be got.
        DatasetError: a key is missing or wrong; the message gives file and line.
    """
    spec = _DataYAML(find_data_yaml(dataset).absolute())
    values = dict(spec.values)
    if "val" not in values and "validation" in values:
        LOGGER.warning(f"{spec.file}: 'validation:' is read as 'val:'")
        values["val"] = values.pop("validation")
    _check_keys(spec, values)
    root = _root(spec, values)
    needed = split or "val"
    if _is_blank(values.get(needed)):
        have = ", ".join(s for s in SPLITS if not _is_blank(values.get(s)))
        raise NotFoundError(f"{spec.file}: there is no split '{needed}' (the file has {have})")
    if autodownload and not _exists(_resolve(values[needed], root)) and values.get("download"):
        _fetch_dataset(spec, values["download"], root)
    splits = {s: _resolve(values[s], root) for s in SPLITS if not _is_blank(values.get(s))}
    if needed not in splits or not _exists(splits[needed]):
        raise NotFoundError(
            f"{spec.file}:{spec.lines.get((needed,), 1)}: {needed}: {splits.get(needed)} does not exist",
            f"correct 'path:' or '{needed}:', or put the data set there (datasets_dir is {_datasets_dir()})",
        )
    labels = _label_format(spec, values, splits, root)
    names = _class_names(spec, {**values, **labels})
    return {
        **values,
        **splits,
        **labels,
        "path": root,
        "names": names,
        "nc": len(names),
        "channels": _channels(spec, values.get("channels", 3)),
        "yaml_file": str(spec.file),
    }


def _check_keys(spec: _DataYAML, values: Mapping[str, Any]) -> None:
    for key in ("train", "val"):
        if _is_blank(values.get(key)):
            raise spec.error(key, f"the key '{key}:' is missing", "a data YAML needs train, val and names (or nc)")
    for key, types in KEY_TYPES.items():
        value = values.get(key)
        if value is not None and (not isinstance(value, types) or isinstance(value, bool)):
            wanted = " or ".join(t.__name__ for t in types)
            raise spec.error(key, f"{key}: must be {wanted}, not {type(value).__name__}")
    for split in SPLITS:
        entries = values.get(split)
        wrong = [e for e in entries if _is_blank(e) or not isinstance(e, str)] if isinstance(entries, list) else []
        if wrong:
            raise spec.error(split, f"{split}: {wrong[0]!r:.60} is not a folder, a list file or an image", "correct it")


def _is_blank(value: object) -> bool:
    """Whether nothing is given: no value, an empty list, or a string of blanks."""
    return not (value.strip() if isinstance(value, str) else value)


def _label_format(spec: _DataYAML, values: Mapping[str, Any], splits: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """Return the labels' `format`, given or found out, and for COCO the `annotations` {split: file} that exist."""
    form = str(values.get("format") or "").lower()
    if form and form not in LABEL_FORMATS:
        raise spec.error("format", f"format: '{values['format']}' is not one of {', '.join(LABEL_FORMATS)}")
    files = annotation_files(values.get("annotations"), splits, root) if form in {"", "coco"} else {}
    lost = [f for f in files.values() if not Path(f).is_file()]
    if lost:
        raise spec.error("annotations", f"annotations: {lost[0]} does not exist", "correct the path of the JSON file")
    form = form or detect_format(values.get("annotations"), files, splits)
    if form == "coco" and not files:
        raise spec.error("format", "format: coco needs a JSON file for each split", "give 'annotations: {train: ...}'")
    return {"format": form, "annotations": files} if form == "coco" else {"format": form}


def _integer(spec: _DataYAML, key: str, value: Any) -> int:
    """Return an integer, given as such or as a string; true and 2.5 are refused."""
    try:
        if not isinstance(value, bool) and int(value) == (int(value) if isinstance(value, str) else value):
            return int(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise spec.error(key, f"{key}: {value!r} is not an integer")


def _channels(spec: _DataYAML, value: Any) -> int:
    """Return the number of channels of the images."""
    channels = _integer(spec, "channels", value)
    if not 1 <= channels <= MAX_IMAGE_CHANNELS:
        raise spec.error(
            "channels", f"channels: {channels:.6g}; images have 1 to {MAX_IMAGE_CHANNELS}", "3 is colour, 1 grey"
        )
    return channels


def _class_id(key: Any) -> int:
    """Return a key of `names` as an integer, given as such or as digits; ValueError for true and 0.5."""
    if isinstance(key, bool) or not isinstance(key, (int, str)) or len(str(key)) > _MAX_DIGITS:
        raise ValueError
    return int(key)


def _class_name(spec: _DataYAML, key: Any, value: Any) -> str:
    """Return the name of a class: a string that can be written to a file, or a number."""
    if isinstance(value, (list, dict)) or value is None:
        raise DatasetError(f"{spec.file}: names: class {key!r:.20} is {value!r:.60}, not a string or a number")
    name = str(value)
    if printable(name) != name:
        raise DatasetError(f"{spec.file}: names: class {key!r:.20} has characters that cannot be shown: {name!a:.60}")
    return name


def _class_names(spec: _DataYAML, values: Mapping[str, Any]) -> dict[int, str]:
    """Return {id: name} from `names` (list, or mapping with the ids 0..n-1), else from a COCO file or from `nc`."""
    names, nc = values.get("names"), values.get("nc")
    if nc is not None:
        nc = _integer(spec, "nc", nc)
    if not names and not nc:
        names = names_of(values)
    if not names:
        return _numbered_classes(spec, nc)
    table = dict(enumerate(names)) if isinstance(names, list) else names
    try:
        table = {_class_id(k): _class_name(spec, k, v) for k, v in table.items()}
    except (TypeError, ValueError):
        raise spec.error("names", "names: the keys must be integers 0, 1, 2, ...") from None
    if sorted(table) != list(range(len(table))):
        ids = f"{sorted(table)[:8]}"[:80]
        raise spec.error("names", f"names: ids must run from 0 to {len(table) - 1} without a gap, not {ids}")
    joined = next((n for n in table.values() if {"\uff0c", "\u3001"} & set(n)), "")
    if joined:
        LOGGER.warning(f"{spec.file}: names: {joined!r:.60} is one class; between two names write a plain comma")
    if nc is not None and nc != len(table):
        raise spec.error("nc", f"nc: {nc} but {len(table)} names", "correct one, or leave nc out")
    return dict(sorted(table.items()))


def _numbered_classes(spec: _DataYAML, nc: int | None) -> dict[int, str]:
    """Return names that are made of the number of classes."""
    if not nc or nc < 1:
        raise spec.error("names", "no classes", "list them under 'names:', or give their number as 'nc:'")
    if nc > MAX_LISTED_CLASSES:
        raise spec.error("nc", f"nc: {nc:.6g} classes; at most {MAX_LISTED_CLASSES:,} are supported", "correct nc")
    return {i: f"class_{i}" for i in range(nc)}


# ---- paths ------------------------------------------------------------------------------------------------------


def _datasets_dir() -> Path:
    return Path(SETTINGS["datasets_dir"]).expanduser().absolute()


def _root(spec: _DataYAML, values: Mapping[str, Any]) -> Path:
    """Return the data set's folder, which may not exist yet."""
    folder = spec.file.parent
    configured = values.get("path")
    if not configured:
        return folder
    path = user_path(configured)
    if path.is_absolute():
        return path
    shared = user_path(_datasets_dir() / path)
    if spec.file.resolve().is_relative_to(ROOT):  # an entry of the package: never write beside the code
        return shared
    return shared if shared.exists() and not (folder / path).exists() else folder / path


def _resolve(split: str | list[str], root: Path) -> str | list[str]:
    """Return a split's absolute path(s); a leading `../` that leads nowhere is tried without it."""
    if isinstance(split, list):
        return [str(_resolve_one(str(s), root)) for s in split]
    return str(_resolve_one(split, root))


def _resolve_one(split: str, root: Path) -> Path:
    path = Path(os.path.normpath(user_path(root / user_path(split))))
    inner = Path(os.path.normpath(root / split[3:])) if split.startswith("../") else path
    return inner if not path.exists() and inner.exists() else path


def _exists(split: str | list[str]) -> bool:
    paths = split if isinstance(split, list) else [split]
    return all(os.path.exists(p) or (glob.has_magic(p) and bool(glob.glob(p, recursive=True))) for p in paths)


# ---- getting missing data ---------------------------------------------------------------------------------------


def _fetch_dataset(spec: _DataYAML, how: object, root: Path) -> None:
    """Make or fetch the data set below `root`."""
    if isinstance(how, str) and how in GENERATORS:
        LOGGER.info(f"{spec.file.name}: drawing the data set '{how}' in {root}")
        GENERATORS[how](root)
        return
    if not isinstance(how, Mapping) or not isinstance(how.get("url"), str):
        near = nearest(how, GENERATORS) if isinstance(how, str) else []
        raise spec.error(
            "download",
            f"download: {str(how)[:60]!r} is neither a generator name ({', '.join(GENERATORS)}) nor url + sha256",
            f"did you mean '{near[0]}'?" if near else "code and shell text in a data YAML are never run",
        )
    if not how.get("sha256"):
        raise spec.error(
            "download",
            f"download: {how['url']} has no sha256, so it is not fetched by itself",
            f"fetch it by hand and put the data set in {root}, or add the sha256 of a file that you trust",
        )
    LOGGER.info(f"{spec.file.name}: fetching {how['url']} into {root.parent}")
    download(how["url"], root.parent, sha256=str(how["sha256"]), unzip=True)


_ELSEWHERE: Mapping[str, tuple[str, str]] = {
    "check_cls_dataset": ("ultralytics.data.classify", "check_cls_dataset"),
    "autosplit": ("ultralytics.data.split", "autosplit"),
    "compress_one_image": ("ultralytics.utils.interface.images", "compress_one_image"),
    "find_dataset_yaml": (__name__, "find_data_yaml"),
}
"""Names that scripts import from here, with their modules and their names there."""

__getattr__ = absent_names(__name__, _ELSEWHERE)
