"""The images that choose: a part of the training split, held out by a rule that the images alone decide.

The images of the training split are sorted by the SHA-256 of their content (size and first 64 KiB of the file); the
first `fraction` of them are held out, and with one its copies. So the part does not depend on a seed, on names, or on
the order of the disk, and an image that is added later moves at most one other across. The reported split is never
looked at.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from ultralytics.data.paths import list_images
from ultralytics.data.utils import check_det_dataset
from ultralytics.utils.config.yaml_io import YAML, plain
from ultralytics.utils.errors import ConfigError, DatasetError
from ultralytics.utils.files import atomic_write

KEY_BYTES = 64 << 10


def image_key(path: str) -> str:
    """Return the digest of an image's content by which it is sorted; that of the path where it cannot be read."""
    try:
        with open(path, "rb") as f:
            content = f"{os.fstat(f.fileno()).st_size} ".encode() + f.read(KEY_BYTES)
    except OSError:
        content = path.encode(errors="surrogateescape")
    return hashlib.sha256(content).hexdigest()


def hold_out(images: Sequence[str], fraction: float) -> tuple[list[str], list[str]]:
    """Return (those that train, those that choose), both in the order given; copies of an image stay together.

    Raises:
        DatasetError: fewer than two different images.
    """
    keys = {path: image_key(path) for path in images}
    different = sorted(set(keys.values()))
    if len(different) < 2:
        raise DatasetError(f"{len(images)} image(s), {len(different)} different: at least 2 are needed to hold one out")
    copies, wanted = Counter(keys.values()), max(1, round(len(images) * fraction))
    before = accumulate((copies[key] for key in different), initial=0)  # images in front of each key
    held = {key for key, count in zip(different[:-1], before, strict=False) if count < wanted}
    return [path for path in images if keys[path] not in held], [path for path in images if keys[path] in held]


def write_tuning_data(data: str, fraction: float, folder: Path) -> Path:
    """Write `train.txt`, `held_out.txt` and `data.yaml` into a folder; return the YAML.

    Its `val` is the held-out part of the training split of `data`. Labels are read where they are.

    Raises:
        ConfigError: `fraction` is not between 0 and 1.
        DatasetError: the training split has fewer than two different images.
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"holdout={fraction:g} is not between 0 and 1", "for example holdout=0.2")
    table = check_det_dataset(data)
    images = [str(Path(path).absolute()) for path in list_images(table["train"])]
    kept, held = hold_out(images, fraction)
    record: dict[str, Any] = {
        "path": str(Path(table["path"]).absolute()),
        "train": str((folder / "train.txt").absolute()),
        "val": str((folder / "held_out.txt").absolute()),
        "names": table["names"],
        "channels": table["channels"],
        "format": table["format"],
    }
    if file := dict(table.get("annotations") or {}).get("train"):
        record["annotations"] = {"train": str(file), "val": str(file)}
    for name, part in (("train.txt", kept), ("held_out.txt", held)):
        with atomic_write(folder / name) as f:
            f.write("".join(f"{path}\n" for path in part))
    YAML.save(folder / "data.yaml", plain(record))
    return folder / "data.yaml"
