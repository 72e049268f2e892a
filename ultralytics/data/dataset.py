"""The detection data set, whatever the form of its labels, and how samples become a batch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from ultralytics.data.augment import AugmentParams, Compose, Format, LetterBox, train_transforms, val_transforms
from ultralytics.data.augment.pipeline import colour_and_flips
from ultralytics.data.augment.staged import StagedChains, staged_chains
from ultralytics.data.base import BaseDataset
from ultralytics.data.formats import open_reader
from ultralytics.data.labels.cache import cached_scan
from ultralytics.data.labels.parse import Issue, Scan, check_strict
from ultralytics.data.labels.report import Reporting
from ultralytics.data.labels.table import LabelTable
from ultralytics.data.labels.truth import follow_labels, snapshot
from ultralytics.data.types import LabelDict
from ultralytics.utils.errors import DatasetError
from ultralytics.utils.log import LOGGER
from ultralytics.utils.torch_tools.training_plans import RunPlan


class YOLODataset(Reporting, BaseDataset):
    """Images with labels as YOLO text, COCO JSON or VOC XML; see `BaseDataset` for the arguments.

    `data` is the dict of `check_det_dataset`; its `format` says which (YOLO without), and `split` which of its splits
    this is, where several have the same images. With `strict`, a label row with a
    class out of range, a wrong number of columns or a negative value stops with an error; without, such rows are left
    out and reported like other damage. `report` lists all that was left out or cleaned, with file, line and reason; the
    log shows the first of them, and the whole list goes to `data_report.txt` in `save_dir` if that is given.
    """

    def __init__(
        self,
        *args: Any,
        data: dict[str, Any],
        task: str = "detect",
        split: str = "",
        strict: bool = True,
        save_dir: str | Path | None = None,
        **kwargs: Any,
    ) -> None:
        if task != "detect":
            raise DatasetError(f"task='{task}': this data set knows 'detect' only")
        self.data, self.split, self.strict, self.save_dir = data, split, strict, save_dir
        self.report: list[Issue] = []
        self._scanned: LabelTable | None = None
        super().__init__(*args, **{"channels": data.get("channels", 3), **kwargs})
        self._stages = self._staged_chains()

    def get_labels(self) -> Sequence[LabelDict]:
        """Scan the label files, or read the cached scan; log and keep what was found wrong.

        Raises:
            DatasetError: no image can be used, a training split has no object, or a row stops a strict run.
        """
        reader = open_reader(self.data, self.img_path, self.im_files, self.single_cls, self.split)
        self.label_files = reader.label_files
        desc = f"{self.prefix}Scanning {Path(self.label_files[0]).parent}..."
        self.cache_path = reader.cache_path
        scan = cached_scan(self.cache_path, lambda: reader.scan(desc), reader.key(), desc)
        self.report = scan.issues
        if self.strict:
            check_strict(scan.issues)
        self._log_report()
        self._check_usable(scan)
        table = LabelTable.from_dicts(scan.labels)
        overridden = type(self).get_labels is not YOLODataset.get_labels
        self._scanned = snapshot(table) if overridden and table.truth is not None and not self.augment else None
        return table

    def label_table(self, labels: Sequence[LabelDict]) -> LabelTable:
        """Return the table of labels; the truth follows those that a custom data set changed."""
        table, scanned = super().label_table(labels), self._scanned
        self._scanned = None
        return table if scanned is None else follow_labels(table, scanned)

    def update_labels(self, include_class: int | Sequence[int] | None) -> None:
        """Keep the objects of the given classes; DatasetError where a training run is left without any."""
        super().update_labels(include_class)
        if include_class is None or len(self.labels.cls.values):
            return
        text = f"{self.prefix}{self.img_path}: no object of classes={include_class}"
        if self.augment:
            remedy = "with single_cls=True all objects are of class 0: leave classes out"
            raise DatasetError(text, remedy if self.single_cls else "choose classes that the labels have")
        LOGGER.warning(text)

    def _check_usable(self, scan: Scan) -> None:
        if not scan.labels:
            first = "; ".join(map(str, scan.issues[:2])) or "no reason recorded"
            raise DatasetError(f"{self.prefix}{self.img_path}: none of {scan.counts['total']} images is usable", first)
        if not len(LabelTable.from_dicts(scan.labels).cls.values):
            text = f"{self.prefix}no labels found: looked for files like {self.label_files[0]}"
            if self.augment:
                raise DatasetError(text, "put label files there, one per image, or correct the paths in the data YAML")
            LOGGER.warning(text)
        beside = self._labels_beside_images() if scan.counts["missing"] else []
        if beside:
            LOGGER.warning(
                f"{self.img_path}: {len(beside)} images count as backgrounds, but a .txt file lies beside them "
                f"({beside[0]}): labels are read from {Path(self.label_files[0]).parent}, move them there"
            )

    def _labels_beside_images(self) -> list[str]:
        """Return the .txt files beside images that have none at the place where labels are read."""
        texts: set[str] = set()
        folders = {image.replace("/", os.sep).rpartition(os.sep)[0] for image in self.im_files}
        for folder in folders:  # a look at each folder, not at each image
            with suppress(OSError):  # of a list of images; a folder that cannot be listed has nothing to report
                texts |= {os.path.join(folder, name) for name in os.listdir(folder or ".") if name.endswith(".txt")}
        if not texts:
            return []
        pairs = zip(self.im_files, self.label_files, strict=False)
        beside = ((os.path.splitext(image)[0] + ".txt", label) for image, label in pairs if label.endswith(".txt"))
        return [near for near, label in beside if near != label and near in texts and not os.path.exists(label)]

    def build_transforms(self, hyp: object = None) -> Compose:
        """Return the training or the validation chain."""
        if not self.augment:
            return val_transforms(self.imgsz)
        params = AugmentParams.from_args(hyp)
        if self.rect:
            return Compose([LetterBox(self.imgsz, scaleup=False), *colour_and_flips(params), Format(bgr=params.bgr)])
        fit = LetterBox(self.imgsz) if self.letterbox else None
        return train_transforms(self, self.imgsz, params, fit)

    def chain_at(self, epoch: int) -> Compose:
        """Return the chain of an epoch: that of its stage, where the arguments name a plan."""
        if self._stages is None or self._closed.item():
            return super().chain_at(epoch)
        return self._stages.at(epoch)

    def _staged_chains(self) -> StagedChains | None:
        """Return the chains of the stages of the run, None where it has none."""
        name = getattr(self.hyp, "plan", None)
        if name is None or not self.augment or self.rect:
            return None
        plan = RunPlan.named(str(name), int(getattr(self.hyp, "epochs", 1)))
        return staged_chains(self, self.imgsz, AugmentParams.from_args(self.hyp), plan, self.letterbox)

    @staticmethod
    def collate_fn(batch: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Join samples to a `Batch`; keys in alphabetical order."""
        joined: dict[str, Any] = {}
        for key in sorted(batch[0]):
            values = [sample[key] for sample in batch]
            if key == "img":
                joined[key] = torch.stack(values)
            elif key == "batch_idx":
                joined[key] = torch.cat([v + i for i, v in enumerate(values)])
            else:
                joined[key] = torch.cat(values) if key in {"cls", "bboxes"} else tuple(values)
        return joined


collate_fn = YOLODataset.collate_fn
