"""`yolo show data=... augment=True`: images as the network gets them, with their target boxes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ultralytics.cfg import Args, get_cfg, get_save_dir
from ultralytics.cfg.resolution import apply_recipe
from ultralytics.data.build import build_yolo_dataset
from ultralytics.data.dataset import collate_fn
from ultralytics.data.utils import check_det_dataset
from ultralytics.engine.training.console import choose_recipe, count_images
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.files import atomic_write
from ultralytics.utils.plotting.curves import plot_images

GRID = 16  # images drawn in one file
LIST_FILE = "show.txt"


def show(
    data: str | Path,
    augment: bool = True,
    split: str = "train",
    n: int = GRID,
    epoch: int = 0,
    save_dir: str | Path | None = None,
    **overrides: Any,
) -> list[Path]:
    """Draw the first `n` samples of a split as the loader passes them to the network; return the files.

    With `augment` they are those of training, in the given epoch and with the seed and rates that a run with the same
    arguments would use: its recipe, and over it what `overrides` give (`mosaic=1.0`, `imgsz=320`, `letterbox=True`).
    Without, they are those of validation. A text file beside them lists the images of each file.

    Raises:
        ConfigError: `n` below 1, or an argument outside its bounds.
        NotFoundError: no such data set, or no such split in it.
    """
    if n < 1 or epoch < 0:
        raise ConfigError(f"n={n}, epoch={epoch}: need at least one image, and an epoch from 0 on")
    args = get_cfg(overrides={"data": str(data), "mode": "train", **overrides})
    content = check_det_dataset(data, split=split)
    args = _with_recipe(args, content) if augment else args
    mode = "train" if augment else "val"
    dataset = build_yolo_dataset(args, content[split], GRID, content, mode, letterbox=bool(args.letterbox), split=split)
    folder = Path(save_dir) if save_dir is not None else get_save_dir(args, "show")
    count = min(n, len(dataset))
    files, lines = [], []
    for start in range(0, count, GRID):
        samples = [dataset[(epoch, i)] for i in range(start, min(start + GRID, count))]
        path = folder / f"show{start // GRID}.jpg"
        batch = collate_fn(samples)
        plot_images(
            batch["img"],
            batch["batch_idx"],
            batch["cls"],
            batch["bboxes"],
            paths=batch["im_file"],
            fname=path,
            names=content["names"],
        )
        files.append(path)
        lines += [f"{path.name}\t{i}\t{len(s['cls'])} boxes\t{s['im_file']}" for i, s in enumerate(samples)]
    _write_list(folder / LIST_FILE, lines)
    LOGGER.info(f"{split}: {count} of {len(dataset)} images, {'augmented' if augment else 'plain'}: {folder}")
    return files


def _with_recipe(args: Args, data: dict[str, Any]) -> Args:
    """Apply the recipe below the user's arguments; "auto" is decided as in a run from fresh weights."""
    name, why = str(args.recipe), ""
    if name == "auto":
        images = count_images(args, data["train"])
        batch = int(args.batch) if args.batch >= 1 else 16
        name, why = choose_recipe(images, images * args.epochs // batch, False, args.epochs)
    LOGGER.info(f"recipe: {name}{f' ({why})' if why else ''}")
    return apply_recipe(args, name)


def _write_list(path: Path, lines: Sequence[str]) -> None:
    with atomic_write(path) as file:
        file.write("".join(f"{line}\n" for line in lines))
