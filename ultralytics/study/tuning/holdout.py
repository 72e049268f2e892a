"""The images that choose: a part of the training split, held out by a rule that names alone decide.

The images of the training split are sorted by the SHA-256 of their file names; the first `fraction` of them are held
out. So the part does not depend on the order of the disk, on a seed, or on the folder in which the data lie, and an
image that is added later moves at most one other across. The reported split is never looked at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ultralytics.data.paths import list_images
from ultralytics.data.utils import check_det_dataset
from ultralytics.utils.config.yaml_io import YAML, plain
from ultralytics.utils.errors import ConfigError, DatasetError
from ultralytics.utils.files import atomic_write

MIN_IMAGES = 2


def hold_out(images: Sequence[str], fraction: float) -> tuple[list[str], list[str]]:
    """Return (those that train, those that choose), both in the order given.

    >>> hold_out(["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"], 0.2)[1] == hold_out(["x/d.jpg", "x/a.jpg"], 0.5)[1]
    False
    """
    count = min(max(1, round(len(images) * fraction)), len(images) - 1)
    order = sorted(images, key=lambda path: (hashlib.sha256(Path(path).name.encode()).hexdigest(), path))
    held = set(order[:count])
    return [path for path in images if path not in held], [path for path in images if path in held]


def write_tuning_data(data: str, fraction: float, folder: Path) -> Path:
    """Write `train.txt`, `held_out.txt` and `data.yaml` into a folder; return the YAML.

    Its `val` is the held-out part of the training split of `data`. Labels are read where they are.

    Raises:
        ConfigError: `fraction` is not between 0 and 1.
        DatasetError: the training split has fewer than two images.
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"holdout={fraction:g} is not between 0 and 1", "for example holdout=0.2")
    table = check_det_dataset(data)
    images = [str(Path(path).absolute()) for path in list_images(table["train"])]
    if len(images) < MIN_IMAGES:
        raise DatasetError(f"{data}: {len(images)} training image(s): at least {MIN_IMAGES} are needed to hold one out")
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
