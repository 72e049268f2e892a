"""Validation of RT-DETR: data set with its resize rule, post-processing without NMS, COCO metrics, pictures.

Legend: B images, K rows that the head returns, N kept predictions of one image, T targets of one image.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ultralytics.cfg import Args
from ultralytics.data.build import build_dataloader, build_yolo_dataset
from ultralytics.data.dataset import YOLODataset
from ultralytics.data.formats import CocoReader, open_reader
from ultralytics.data.utils import list_images
from ultralytics.engine.results.results import Results
from ultralytics.engine.validator import BaseValidator, Batch, Prediction
from ultralytics.models.rtdetr.post import (
    RatioPad,
    class_filter,
    output_rows,
    select_rows,
    stretch_geometry,
    to_network_xywhn,
    to_original_xyxy,
)
from ultralytics.models.rtdetr.tta import augmented_rows
from ultralytics.utils import LOGGER, colorstr, dist
from ultralytics.utils.files import atomic_write
from ultralytics.utils.metrics import ConfusionMatrix, DetMetrics, box_iou, match_predictions
from ultralytics.utils.metrics.report import write_tables
from ultralytics.utils.ops import xyxy2ltwh
from ultralytics.utils.plotting.curves import plot_images

# Category numbers of COCO's annotation files: 1..90 without those that none of the 80 classes uses.
COCO80_TO_91 = tuple(i for i in range(1, 91) if i not in {12, 26, 29, 30, 45, 66, 68, 69, 71, 83})

LABELS = ("cls", "bboxes", "batch_idx")
"""What a batch says of its objects, which stays on the host: to count them there costs no wait for the device."""

FEW_IMAGES = 30  # the percentile bootstrap covers too little below this


class RTDETRDataset(YOLODataset):
    """YOLO-form data whose images are stretched to a square, as RT-DETR takes them, unless `letterbox` is asked for."""

    def __init__(self, *args: Any, data: dict[str, Any], letterbox: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, data=data, letterbox=letterbox, **kwargs)


def build_rtdetr_dataset(
    args: Args,
    img_path: str | list[str],
    data: dict[str, Any],
    batch: int,
    mode: str = "train",
    stride: int = 32,
) -> YOLODataset:
    """Return the data set of a split as the arguments of a run want it; augmented in mode "train"."""
    return build_yolo_dataset(
        args,
        img_path,
        batch,
        data,
        mode=mode,
        stride=stride,
        dataset=RTDETRDataset,
        letterbox=bool(args.letterbox),
    )


class RTDETRValidator(BaseValidator):
    """Evaluate RT-DETR as COCO does: AP over IoU 0.50:0.95, from at most `max_det` boxes an image, in original pixels.

    Confusion matrices are filled at the confidence that a user sees (0.25 unless `conf` is given), AP from 0.001 on.
    """

    confusion_matrix: ConfusionMatrix
    jdict: list[dict[str, Any]]

    def get_dataloader(self, img_path: str | list[str], batch_size: int) -> Any:
        """Return the loader of the evaluated split: never shuffled, never augmented."""
        dataset = build_rtdetr_dataset(self.args, img_path, self.data, batch_size, mode="val", stride=self.stride)
        return build_dataloader(dataset, batch_size, self.args.workers, shuffle=False)

    def class_filter(self, model: Any) -> AbstractContextManager[None]:
        """Let the head select its top rows among the classes asked for."""
        return class_filter(model, self.classes)

    def infer(self, module: Any, im: torch.Tensor) -> Any:
        """Run the network; with `augment`, outside of training, on several views."""
        if not self.args.augment or self.training:
            return module(im)
        return augmented_rows(module, im, self.stride, getattr(module, "pt", True))

    def preprocess(self, batch: Batch) -> Batch:
        """Move images to the device; they become floats in 0..1 (half precision where the backend wants it)."""
        moved = on_device(batch, self.device)
        half = bool(getattr(self.model, "fp16", False))
        moved["img"] = (moved["img"].half() if half else moved["img"].float()) / 255
        return moved

    # -------------------------------------------------------------------------------------------- post-processing
    def postprocess(self, preds: Any, batch: Batch) -> list[Prediction]:
        """Return one dict per image, on the CPU: bboxes (N, 4) xyxy original px clipped, conf (N,), cls (N,)."""
        network = tuple(batch["img"].shape[2:])
        rows = output_rows(preds).cpu()  # one copy for the whole batch
        out = []
        for i, row in enumerate(select_rows(rows, self.conf, self.args.max_det, self.classes)):
            shape = batch["ori_shape"][i]
            boxes = to_original_xyxy(row[:, :4], network, shape, geometry_of(batch, i))
            out.append({"bboxes": boxes, "conf": row[:, 4], "cls": row[:, 5] * (not self.args.single_cls)})
        return out

    def _targets(self, batch: Batch) -> list[Prediction]:
        """Return the labels of each image: bboxes (T, 4) xyxy original px, cls (T,); with `truth` areas and crowd too.

        What a reader says of the truth wins over the boxes that are trained on.
        """
        if "truth" in batch:
            return [_true_targets(rows) for rows in batch["truth"]]
        network = tuple(batch["img"].shape[2:])
        cls, boxes, owner = (batch[k].cpu() for k in LABELS)
        out = []
        for i, shape in enumerate(batch["ori_shape"]):
            mine = owner.flatten() == i
            xyxy = to_original_xyxy(boxes[mine].view(-1, 4), network, shape, geometry_of(batch, i))
            out.append({"bboxes": xyxy, "cls": cls.flatten()[mine]})
        return out

    # ---------------------------------------------------------------------------------------------------- metrics
    def init_metrics(self) -> None:
        """Start with empty statistics; the metrics object reports COCO's AP."""
        self.metrics = DetMetrics(self.names, coco=True)
        self.metrics.shown_conf = self.shown_conf
        self.confusion_matrix = ConfusionMatrix(names=self.names)
        self.iouv = torch.linspace(0.5, 0.95, 10)
        self.jdict = []

    def update_metrics(self, preds: list[Prediction], batch: Batch) -> None:
        """Match every image's predictions with its labels and keep what the metrics need."""
        for i, (pred, target) in enumerate(zip(preds, self._targets(batch), strict=True)):
            every = {key: value.numpy() for key, value in target.items()}
            if "crowd" in target:
                target = {key: value[~target["crowd"]] for key, value in target.items()}
            boxes = target["bboxes"].to(pred["bboxes"])
            iou = box_iou(boxes, pred["bboxes"])  # (T, N)
            tp = match_predictions(pred["cls"], target["cls"], iou, self.iouv)
            self.metrics.update_stats(
                {
                    "tp": np.asarray(tp, dtype=bool),
                    "conf": pred["conf"].numpy(),
                    "pred_cls": pred["cls"].numpy(),
                    "target_cls": every["cls"],
                    "target_img": np.unique(target["cls"].numpy()),
                    "im_name": batch["im_file"][i],
                    "image_id": self.seen,
                    "pred_boxes": pred["bboxes"].numpy(),
                    "target_boxes": every["bboxes"],
                    "areas": every.get("areas"),
                    "crowd": every.get("crowd"),
                }
            )
            self.seen += 1
            if not self.training:
                self.confusion_matrix.process_batch(pred, {**target, "bboxes": boxes}, conf=self.shown_conf)
                self._save_predictions(pred, batch["im_file"][i], batch["ori_shape"][i])

    def gather(self) -> None:
        """Bring together the statistics of all images, in the order that one process would see them."""
        super().gather()
        shares = dist.all_gather_objects(self.metrics.stats)
        world = len(shares)
        stats = [(int(str(s["image_id"])) * world + rank, s) for rank, share in enumerate(shares) for s in share]
        stats.sort(key=lambda pair: pair[0])
        self.metrics.stats = [{**s, "image_id": place} for place, s in stats]
        self.seen = len(stats)

    def get_stats(self) -> dict[str, float]:
        """Compute all metrics and return them by name, fitness included."""
        curves = self.plots and not self.training
        self.metrics.process(save_dir=self.folder if curves else Path())
        self.metrics.speed, self.metrics.times = self.speed, self.times
        if self.args.ci and not self.training:
            self.metrics.resample(seed=int(self.args.seed))
        self.metrics.confusion_matrix = None if self.training else self.confusion_matrix
        return {k: float(v) for k, v in self.metrics.results_dict.items()}

    # ----------------------------------------------------------------------------------------------------- report
    def print_results(self) -> None:
        """Log the row of all classes and, in a stand-alone run, one row per class."""
        columns = ("Class", "Images", "Instances", "Box(P", "R", "mAP50", "mAP50-95)")
        LOGGER.info(("%22s" + "%11s" * 6) % columns)
        row = "%22s" + "%11i" * 2 + "%11.3g" * 4
        counts = self.metrics.nt_per_class
        LOGGER.info(row % ("all", self.seen, int(counts.sum()), *self.metrics.mean_results()))
        if not counts.sum():
            LOGGER.warning(f"no labels in the '{self.args.split}' split: the metrics mean nothing")
        if self.args.verbose and not self.training and len(self.names) > 1:
            for i, c in enumerate(self.metrics.box.ap_class_index):
                images, boxes = self.metrics.nt_per_image[c], counts[c]
                LOGGER.info(row % (self.names[int(c)], images, boxes, *self.metrics.class_result(i)))

        if not self.training:
            self._print_tables()

    def _print_tables(self) -> None:
        """Log COCO's numbers by size, the thresholds, and with `ci` the intervals."""
        tables = self.metrics.tables()
        for name in ("sizes", "thresholds", *(["coco"] if self.args.ci else [])):
            LOGGER.info("")
            for line in tables[name].render().splitlines():
                LOGGER.info(line)
        if self.args.ci and self.seen < FEW_IMAGES:
            LOGGER.warning(f"intervals from {self.seen} images are too narrow: below {FEW_IMAGES} do not lean on them")

    def plot_samples(self, preds: list[Prediction], batch: Batch, ni: int) -> None:
        """Draw the batch as the network saw it, with its labels and with its predictions."""
        common = {"paths": batch["im_file"], "names": self.names}
        plot_images(
            batch["img"],
            batch["batch_idx"],
            batch["cls"].flatten(),
            batch["bboxes"],
            fname=self.folder / f"val_batch{ni}_labels.jpg",
            **common,
        )
        parts = [self._drawable(pred, batch, i) for i, pred in enumerate(preds)]
        owner, cls, boxes, conf = (torch.cat(x) for x in zip(*parts, strict=True))
        plot_images(
            batch["img"], owner, cls, boxes, confs=conf, fname=self.folder / f"val_batch{ni}_pred.jpg", **common
        )

    def _drawable(self, pred: Prediction, batch: Batch, i: int) -> tuple[torch.Tensor, ...]:
        """Return owner, class, cx cy w h in 0..1 of the network input, and score of the boxes that a user would see."""
        shown = pred["conf"] >= self.shown_conf
        boxes = to_network_xywhn(pred["bboxes"][shown], tuple(batch["img"].shape[2:]), geometry_of(batch, i))
        cls = pred["cls"][shown]
        return torch.full_like(cls, i), cls, boxes, pred["conf"][shown]

    def finalize(self) -> None:
        """Write predictions.json when asked for, the tables, then the curves and confusion matrices if plots are on."""
        if self.args.save_json and not self.training:
            path = self.folder / "predictions.json"
            with atomic_write(path) as f:
                json.dump(self.jdict, f)
            LOGGER.info(f"{len(self.jdict)} predictions saved to {colorstr('bold', str(path))}")
        if (self.plots or self.args.save_json) and not self.training:
            facts = {"model": str(self.args.model), "data": str(self.args.data), "images": self.seen}
            write_tables(self.metrics.tables(), self.folder, "metrics", facts)
        if self.plots and not self.training:  # last, so that a picture that fails costs no number
            self.metrics.plot_curves(self.folder)
            for normalize in (True, False):
                self.confusion_matrix.plot(normalize=normalize, save_dir=self.folder)

    def _save_predictions(self, pred: Prediction, im_file: str, shape: tuple[int, int]) -> None:
        """Keep an image's predictions for predictions.json and write its label file, each if asked for."""
        if self.args.save_json:
            self.jdict.extend(self._coco_rows(pred, im_file))
        if self.args.save_txt:
            data = torch.cat([pred["bboxes"], pred["conf"][:, None], pred["cls"][:, None]], 1)
            result = Results(np.zeros((*shape, 0), np.uint8), path=im_file, names=self.names, boxes=data)
            path = self.folder / "labels" / self._label_name(Path(im_file))
            path.unlink(missing_ok=True)
            result.save_txt(path, save_conf=self.args.save_conf)

    def _label_name(self, im_file: Path) -> str:
        """Return a name that images of one name in different folders do not share: the relative path joined by _."""
        root = Path(self.data.get("path", im_file.parent))
        relative = im_file.relative_to(root) if im_file.is_relative_to(root) else Path(im_file.name)
        return "_".join(relative.with_suffix(".txt").parts)

    def _coco_rows(self, pred: Prediction, im_file: str) -> list[dict[str, Any]]:
        """Return COCO result rows: boxes left, top, width, height in original pixels."""
        stem = Path(im_file).stem
        image_id = None if self.annotations is None else self.annotations.image_id(im_file)
        if image_id is None:
            image_id = int(stem) if stem.isdecimal() else stem
        boxes = xyxy2ltwh(pred["bboxes"]).tolist()
        return [
            {
                "image_id": image_id,
                "file_name": Path(im_file).name,
                "category_id": self.category_ids[int(c)],
                "bbox": [round(v, 3) for v in box],
                "score": round(score, 5),
            }
            for box, score, c in zip(boxes, pred["conf"].tolist(), pred["cls"].tolist(), strict=True)
            if int(c) in self.category_ids
        ]

    @cached_property
    def annotations(self) -> CocoReader | None:
        """The annotation file of the evaluated split, whose ids predictions.json has; None for data in other forms."""
        if self.data.get("format") != "coco":
            return None
        source = self._split_path()
        reader = open_reader(self.data, source, list_images(source), split=self.args.split)
        return reader if isinstance(reader, CocoReader) else None

    @cached_property
    def category_ids(self) -> Mapping[int, int]:
        """Category number of each class: as the annotation file has them, COCO's own for its splits, else class + 1."""
        if self.annotations is not None:
            return self.annotations.category_ids()
        path = str(self.data.get(self.args.split, ""))
        official = "coco" in path and path.endswith(("val2017.txt", "test-dev2017.txt")) and len(self.names) == 80
        return dict(enumerate(COCO80_TO_91 if official else range(1, len(self.names) + 1)))


def _true_targets(rows: NDArray[np.float64]) -> Prediction:
    """Return the targets in rows of `TRUTH_COLUMNS`."""
    table = torch.from_numpy(rows)
    cls = table[:, 0].float()
    return {"bboxes": table[:, 1:5], "cls": cls, "areas": table[:, 5], "crowd": table[:, 6] > 0}


def on_device(batch: Batch, device: torch.device) -> Batch:
    """Return the batch with its tensors on a device, but for `LABELS`."""
    return {
        k: v.to(device, non_blocking=True) if isinstance(v, torch.Tensor) and k not in LABELS else v
        for k, v in batch.items()
    }


def geometry_of(batch: Batch, i: int) -> RatioPad:
    """Return how image `i` of a batch was placed in the network input."""
    ratio_pad = batch.get("ratio_pad")
    if ratio_pad is None or not isinstance(ratio_pad[i][0], (tuple, list)):
        return stretch_geometry(batch["ori_shape"][i], tuple(batch["img"].shape[2:]))
    (gain_h, gain_w), (left, top) = ratio_pad[i]
    return (float(gain_h), float(gain_w)), (float(left), float(top))
