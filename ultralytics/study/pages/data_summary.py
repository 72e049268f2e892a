"""What a run was trained on, for its page: images and boxes of each split, by class."""

from __future__ import annotations

from collections import Counter
from functools import partial

from ultralytics.data.formats import open_reader
from ultralytics.data.labels.cache import cached_scan
from ultralytics.data.paths import list_images
from ultralytics.data.utils import SPLITS, check_det_dataset


def data_rows(data: str) -> list[tuple[str, ...]]:
    """Return a head, then a row for each split: images, those without objects, boxes, and boxes of each class.

    Labels are read from the cache of the training run where it holds; nothing is fetched.

    Raises:
        UserError: the data set is not here, or cannot be read.
    """
    table = check_det_dataset(data, autodownload=False)
    names = table["names"]
    rows: list[tuple[str, ...]] = [("split", "images", "without objects", "boxes", *map(str, names.values()))]
    for split in (s for s in SPLITS if table.get(s)):
        reader = open_reader(table, table[split], list_images(table[split]), split=split)
        desc = f"{split}: reading labels"
        labels = cached_scan(reader.cache_path, partial(reader.scan, desc), reader.key(), desc).labels
        boxes = Counter(int(c) for label in labels for c in label["cls"].ravel().tolist())
        empty = sum(not len(label["cls"]) for label in labels)
        counts = (len(labels), empty, sum(boxes.values()), *(boxes[c] for c in names))
        rows.append((split, *map(str, counts)))
    return rows
