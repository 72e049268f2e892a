"""Lists of images for the splits of a data set that lies in one folder."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from ultralytics.data.utils import IMG_FORMATS, img2label_paths
from ultralytics.utils.errors import ConfigError, DatasetError
from ultralytics.utils.files import atomic_write
from ultralytics.utils.log import LOGGER

SPLIT_FILES = ("autosplit_train.txt", "autosplit_val.txt", "autosplit_test.txt")


def autosplit(
    path: str | Path, weights: Sequence[float] = (0.9, 0.1, 0.0), annotated_only: bool = False
) -> dict[str, int]:
    """Deal the images below a folder out to train, val and test, by a fixed seed; return how many each has.

    The lists `autosplit_train.txt`, ... lie beside the folder, with paths relative to theirs. With `annotated_only`
    images without a label file are left out.

    Raises:
        ConfigError: not three weights, or none above zero.
        DatasetError: there is no image.
    """
    if len(weights) != 3 or min(weights) < 0 or not sum(weights):
        raise ConfigError(f"weights={list(weights)}: three numbers are needed, for train, val and test")
    folder = Path(path).resolve()
    images = sorted(p for p in folder.rglob("*") if p.suffix.lstrip(".").lower() in IMG_FORMATS)
    if annotated_only:
        labels = img2label_paths([str(p) for p in images])
        images = [p for p, label in zip(images, labels, strict=True) if Path(label).exists()]
    if not images:
        raise DatasetError(f"{folder}: there is no image below it")
    chosen = random.Random(0).choices(range(3), weights=weights, k=len(images))
    counts = {}
    for k, name in enumerate(SPLIT_FILES):
        lines = [f"./{p.relative_to(folder.parent).as_posix()}" for p, c in zip(images, chosen, strict=True) if c == k]
        with atomic_write(folder.parent / name) as f:
            f.write("".join(f"{line}\n" for line in lines))
        counts[name.removeprefix("autosplit_").removesuffix(".txt")] = len(lines)
    LOGGER.info(f"{folder.parent / 'autosplit_*.txt'}: {', '.join(f'{k} {n}' for k, n in counts.items())} images")
    return counts
