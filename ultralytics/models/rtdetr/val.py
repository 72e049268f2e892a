"""Validation of detectors: data set with its resize rule, the family's post-process, COCO metrics, pictures.

Shapes: B images in a batch, n predictions and N targets of one image.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypedDict, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from ultralytics.cfg import Args
from ultralytics.cfg.resolution import drop_foreign
from ultralytics.cfg.schema import Trait
from ultralytics.data.build import build_dataloader, build_yolo_dataset
from ultralytics.data.dataset import YOLODataset
from ultralytics.data.formats import CocoReader, open_reader
from ultralytics.data.types import Batch
from ultralytics.data.utils import list_images
from ultralytics.engine.error_report import write_errors
from ultralytics.engine.results.results import Results
from ultralytics.engine.validator import BaseValidator, Module, Prediction, RawOutput, TrainingContext, WeightsSource
from ultralytics.models.rtdetr.post import (
    class_filter,
    image_rows,
    network_to_original,
    report_unknown_classes,
    stretch_geometry,
    to_network_xywhn,
    to_network_xyxy,
    to_original_xyxy,
)
from ultralytics.models.rtdetr.slicing import FileTiles, SlicedOutput, boxes_that_count, check_validation, fused_rows
from ultralytics.models.rtdetr.tta import augmented_output
from ultralytics.nn.families import PostOptions, find_family, letterboxes
from ultralytics.utils import LOGGER, colorstr, dist
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.files import atomic_write
from ultralytics.utils.metrics import ConfusionMatrix, DetMetrics, box_iou, match_predictions
from ultralytics.utils.metrics.det import StatValue
from ultralytics.utils.metrics.report import log_table, write_tables
from ultralytics.utils.ops import RatioPad, clip_boxes, xyxy2ltwh
from ultralytics.utils.plotting.curves import plot_images
from ultralytics.utils.torch_tools.transfers import to_device

# Category numbers of COCO's annotation files: 1..90 without those that none of the 80 classes uses.
COCO80_TO_91 = tuple(i for i in range(1, 91) if i not in {12, 26, 29, 30, 45, 66, 68, 69, 71, 83})

LABELS = ("cls", "bboxes", "batch_idx")
"""The labels of a batch, which stay on the host: counting them there needs no wait for the device."""


class ImageTruth(TypedDict, total=False):
    """The labels of one image: `cls` (N,), `bboxes` (N, 4) xyxy original px, and how it lies in the network input.

    `areas` (N,) and `crowd` (N,) bool where the reader of the data knows them. Sizes are (h, w) in px.
    """

    cls: Tensor
    bboxes: Tensor
    areas: Tensor
    crowd: Tensor
    ori_shape: tuple[int, int]
    imgsz: tuple[int, int]
    ratio_pad: RatioPad
    im_file: str


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
        stride=max(stride, 32),
        dataset=RTDETRDataset,
        letterbox=bool(args.letterbox),
    )


class RTDETRValidator(BaseValidator):
    """Evaluate a detector as COCO does: AP over IoU 0.50:0.95, from at most `max_det` boxes an image, in original px.

    Confusion matrices are filled at the confidence that a user sees (0.25 unless `conf` is given), AP from 0.001 on.

    Attributes:
        clips_boxes: Compare what of a predicted box lies in the image, which is what `predict` gives, or all of it.
    """

    clips_boxes: bool = True
    confusion_matrix: ConfusionMatrix
    jdict: list[dict[str, Any]]
    iouv: Tensor
    is_lvis: bool = False
    _batch: Batch  # in work

    def dataset_args(self) -> Args:
        """Return the arguments of the data set: images are placed as the model's family wants it."""
        return self.args.replace(letterbox=letterboxes(getattr(self, "model", None), self.args.letterbox))

    def build_dataset(self, img_path: str | list[str], mode: str = "val", batch: int | None = None) -> YOLODataset:
        """Return the data set of the evaluated split."""
        return build_rtdetr_dataset(
            self.dataset_args(), img_path, self.data, batch or 16, mode=mode, stride=self.stride
        )

    def get_dataloader(self, dataset_path: str | list[str], batch_size: int) -> DataLoader[Batch]:
        """Return the loader of the evaluated split: never shuffled, never augmented."""
        dataset = self.build_dataset(dataset_path, mode="val", batch=batch_size)
        return build_dataloader(dataset, batch_size, self.args.workers, shuffle=False)

    def _setup_standalone(self, model: WeightsSource | None) -> Module:
        """Load model and data set; arguments that do not act in the model's family are reported and left out."""
        module = super()._setup_standalone(model)
        family = find_family(module)
        self.args = drop_foreign(self.args, family.arguments if family else Trait.NONE)
        check_validation(self.args)
        return module

    def class_filter(self, model: Module) -> AbstractContextManager[None]:
        """Let the head select its top rows among the classes asked for."""
        report_unknown_classes(self.classes, len(self.names))
        one_class = self.args.match == "one-class"
        if one_class and getattr(model, "metadata", None) is not None:
            raise ConfigError("match=one-class: an exported file gives top-k rows alone", "validate the weights (.pt)")
        if one_class and not self.training:
            LOGGER.info("match=one-class: a query counts for its best class alone; papers report top-k")
        return class_filter(model, self.classes, one_class)

    def infer(self, module: Module, im: Tensor) -> RawOutput:
        """Run the network; outside of training with `augment` on several views, with `slice` also on tiles."""
        whole = self._forward(module, im)
        if self.args.slice is None or self.training:
            return whole
        read = FileTiles(module, self.args, self._options, lambda x: self._forward(module, self._network_input(x)))
        return SlicedOutput(whole, [read(file) for file in self._batch["im_file"]])

    def _forward(self, module: Module, im: Tensor) -> RawOutput:
        if not self.args.augment or self.training:
            return super().infer(module, im)
        return augmented_output(module, im, self.stride)

    def _network_input(self, images: Tensor) -> Tensor:
        """Return images (B, C, H, W) of 0..255 as floats in 0..1, in half precision where the backend wants it."""
        images = to_device(images, self.device)
        return (images.half() if getattr(self.model, "fp16", False) else images.float()) / 255

    def preprocess(self, batch: Batch) -> Batch:
        """Move images to the device; they become floats in 0..1 (half precision where the backend wants it)."""
        moved = self._batch = on_device(batch, partial(to_device, device=self.device))
        moved["img"] = self._network_input(moved["img"])
        return moved

    @torch.no_grad()
    def __call__(self, trainer: TrainingContext | None = None, model: WeightsSource | None = None) -> dict[str, float]:
        """Evaluate; with `match=both` a second time with one class for each query, and log both APs."""
        stats = super().__call__(trainer, model)
        if trainer is None and self.args.match == "both":
            quiet = {"plots": False, "save_json": False, "save_txt": False, "errors": False, "ci": False}
            other = type(self)(args=self.args.replace(match="one-class", **quiet))
            backend: Any = self.model
            other(model=backend if model is None else model)
            self.metrics.one_class_stats = other.metrics.coco_stats
            for name in ("AP", "AP50", "AP75"):
                values = self.metrics.coco_stats[name], other.metrics.coco_stats[name]
                LOGGER.info("{}: {:.4f} by top-k, {:.4f} with one class a query".format(name, *values))
        return stats

    # -------------------------------------------------------------------------------------------- post-processing
    @property
    def _options(self) -> PostOptions:
        """The options of the family's post-process."""
        args, classes = self.args, None if self.classes is None else tuple(self.classes)
        agnostic = bool(args.agnostic_nms or args.single_cls)
        return PostOptions(self.conf, args.max_det, classes, args.iou, agnostic, args.match != "one-class")

    def postprocess(self, preds: RawOutput) -> list[Prediction]:
        """Return one dict per image, on the CPU: bboxes (n, 4) xyxy network px, conf (n,), cls (n,)."""
        size, whole = self.network_size, preds.whole if isinstance(preds, SlicedOutput) else preds
        rows = image_rows(find_family(getattr(self, "model", None)), whole, size, self._options)
        if isinstance(preds, SlicedOutput):
            places = ((self._batch["ori_shape"][i], geometry_of(self._batch, i)) for i in range(len(rows)))
            rows = [fused_rows(r, t, size, *at, self.args) for r, t, at in zip(rows, preds.tiles, places, strict=True)]
        return [{"bboxes": to_network_xyxy(row[:, :4], size), "conf": row[:, 4], "cls": row[:, 5]} for row in rows]

    def _prepare_batch(self, si: int, batch: Batch) -> ImageTruth:
        """Return the labels of image `si` of a batch.

        The ground truth of a reader takes precedence over the boxes that are trained on.
        """
        shape, ratio_pad = batch["ori_shape"][si], geometry_of(batch, si)
        size = (batch["img"].shape[2], batch["img"].shape[3])
        place: ImageTruth = {"ori_shape": shape, "imgsz": size, "ratio_pad": ratio_pad, "im_file": batch["im_file"][si]}
        if (truth := cast("Mapping[str, Any]", batch).get("truth")) is not None:
            return {**_true_targets(truth[si]), **place}
        cls, boxes, owner = batch["cls"].cpu(), batch["bboxes"].cpu(), batch["batch_idx"].cpu()
        mine = owner.flatten() == si
        xyxy = to_original_xyxy(boxes[mine].view(-1, 4), size, shape, ratio_pad)
        return {"bboxes": xyxy, "cls": cls.flatten()[mine], **place}

    def _prepare_pred(self, pred: Prediction) -> Prediction:
        """Return the predictions of an image with the classes that are compared: one alone with `single_cls`."""
        return {**pred, "cls": pred["cls"] * (not self.args.single_cls)}

    def scale_preds(self, predn: Prediction, pbatch: ImageTruth) -> Prediction:
        """Return the predictions of an image with boxes xyxy in pixels of the original image, as they are compared."""
        boxes = network_to_original(predn["bboxes"], pbatch["ratio_pad"])
        return {**predn, "bboxes": clip_boxes(boxes, pbatch["ori_shape"]) if self.clips_boxes else boxes}

    # ---------------------------------------------------------------------------------------------------- metrics
    def init_metrics(self, model: Module) -> None:
        """Start with empty statistics; the metrics object reports COCO's AP."""
        self.metrics = DetMetrics(self.names, coco=True, shown_conf=self.shown_conf)
        self.confusion_matrix = ConfusionMatrix(names=self.names)
        self.iouv = torch.linspace(0.5, 0.95, 10)
        self.jdict = []

    @property
    def niou(self) -> int:
        """Number of IoU thresholds."""
        return self.iouv.numel()

    @property
    def stats(self) -> list[Mapping[str, StatValue]]:
        """What the metrics keep of each image."""
        return self.metrics.stats

    @property
    def is_coco(self) -> bool:
        """Whether the split is one of COCO's own, whose category numbers predictions.json then has."""
        path = str(self.data.get(self.args.split, ""))
        return "coco" in path and path.endswith(("val2017.txt", "test-dev2017.txt")) and len(self.names) == 80

    @property
    def class_map(self) -> list[int]:
        """Category number of each class."""
        return list(self.category_ids.values())

    def update_metrics(self, preds: list[Prediction], batch: Batch) -> None:
        """Match every image's predictions with its labels and keep what the metrics need."""
        for si, pred in enumerate(preds):
            pbatch = self._prepare_batch(si, batch)
            predn = self.scale_preds(self._prepare_pred(pred), pbatch)
            counted = without_crowd(pbatch)
            self.metrics.update_stats({**self._process_batch(predn, counted), **self._image_stats(predn, pbatch)})
            self.seen += 1
            if not self.training:
                targets = {"cls": counted["cls"], "bboxes": counted["bboxes"].to(predn["bboxes"])}
                found = {"bboxes": predn["bboxes"], "conf": predn["conf"], "cls": predn["cls"]}
                self.confusion_matrix.process_batch(found, targets, conf=self.shown_conf)
                self._save_predictions(predn, pbatch)

    def _process_batch(self, preds: Prediction, batch: ImageTruth) -> dict[str, NDArray[np.bool_]]:
        """Return `tp` (n, 10): which predictions of an image are right at which IoU threshold."""
        iou = box_iou(batch["bboxes"].to(preds["bboxes"]), preds["bboxes"])  # (N, n)
        return {"tp": np.asarray(self.match_predictions(preds["cls"], batch["cls"], iou), dtype=bool)}

    def match_predictions(
        self, pred_classes: Tensor, true_classes: Tensor, iou: Tensor, use_scipy: bool = False
    ) -> Tensor:
        """Match predictions (n,) with targets (N,) by IoU (N, n); return right or not at each threshold, (n, 10) bool.

        Pairs are taken in the order of their IoU. Raises ConfigError for `use_scipy`, which matches otherwise.
        """
        if use_scipy:
            raise ConfigError("use_scipy=True: predictions are matched in the order of their IoU", "leave it out")
        return torch.as_tensor(match_predictions(pred_classes, true_classes, iou, self.iouv))

    def _image_stats(self, predn: Prediction, pbatch: ImageTruth) -> dict[str, StatValue]:
        """Return what the metrics keep of an image beside the matches."""
        crowd = pbatch.get("crowd")
        cls = pbatch["cls"] if crowd is None else pbatch["cls"][~crowd]
        return {
            "conf": predn["conf"].numpy(),
            "pred_cls": predn["cls"].numpy(),
            "target_cls": pbatch["cls"].numpy(),
            "target_img": np.unique(cls.numpy()),
            "im_name": pbatch["im_file"],
            "image_id": self.seen,
            "pred_boxes": predn["bboxes"].numpy(),
            "target_boxes": pbatch["bboxes"].numpy(),
            "areas": pbatch["areas"].numpy() if "areas" in pbatch else None,
            "crowd": None if crowd is None else crowd.numpy(),
            "max_dets": boxes_that_count(pbatch["ori_shape"], self.args),
        }

    def gather(self) -> None:
        """Bring together the statistics of all images, in the order that one process would see them."""
        super().gather()
        gathered = dist.all_gather_objects(self.metrics.stats)
        world = len(gathered)
        stats = [(int(str(s["image_id"])) * world + rank, s) for rank, part in enumerate(gathered) for s in part]
        stats.sort(key=lambda pair: pair[0])
        self.metrics.stats = [{**s, "image_id": place} for place, s in stats]
        self.seen = len(stats)

    def get_stats(self) -> dict[str, float]:
        """Compute all metrics and return them by name, fitness included."""
        self.metrics.process(save_dir=self.planned_folder())
        self.metrics.save_dir = self.planned_folder()
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
            LOGGER.warning(f"no labels in the '{self.args.split}' split: the metrics are meaningless")
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
            log_table(tables[name])
        if self.args.ci and self.seen < FEW_IMAGES:
            LOGGER.warning(
                f"intervals from {self.seen} images are too narrow: do not rely on them below {FEW_IMAGES} images"
            )

    def plot_val_samples(self, batch: Batch, ni: int) -> None:
        """Draw the batch as the network saw it, with its labels."""
        self._plot(batch, (batch["batch_idx"], batch["cls"].flatten(), batch["bboxes"]), None, f"val_batch{ni}_labels")

    def plot_predictions(self, batch: Batch, preds: list[Prediction], ni: int) -> None:
        """Draw the batch as the network saw it, with the predictions that a user would see."""
        parts = [self._drawable(pred, batch, i) for i, pred in enumerate(preds)]
        owner, cls, boxes, conf = (torch.cat(x) for x in zip(*parts, strict=True))
        self._plot(batch, (owner, cls, boxes), conf, f"val_batch{ni}_pred")

    def _plot(self, batch: Batch, boxes: tuple[Tensor, Tensor, Tensor], conf: Tensor | None, name: str) -> None:
        """Draw boxes, given as owner, class and cx cy w h in 0..1 of the network input, on the images of a batch."""
        path = self.folder / f"{name}.jpg"
        plot_images(batch["img"], *boxes, confs=conf, paths=batch["im_file"], names=self.names, fname=path)
        self.on_plot(path)

    def _drawable(self, pred: Prediction, batch: Batch, i: int) -> tuple[Tensor, ...]:
        """Return owner, class, cx cy w h in 0..1 of the network input, and score of the boxes that a user would see."""
        pbatch = self._prepare_batch(i, batch)
        scaled = self.scale_preds(self._prepare_pred(pred), pbatch)
        shown = scaled["conf"] >= self.shown_conf
        boxes = to_network_xywhn(scaled["bboxes"][shown], pbatch["imgsz"], pbatch["ratio_pad"])
        cls = scaled["cls"][shown]
        return torch.full_like(cls, i), cls, boxes, scaled["conf"][shown]

    def write_json(self) -> None:
        """Write predictions.json, in COCO's form."""
        path = self.folder / "predictions.json"
        with atomic_write(path) as f:
            json.dump(self.jdict, f)
        LOGGER.info(f"{len(self.jdict)} predictions saved to {colorstr('bold', str(path))}")

    def finalize_metrics(self) -> None:
        """Write the tables, then the curves and confusion matrices if plots are on."""
        if self.training:
            return
        if self.args.errors:
            files = [str(s["im_name"]) for s in self.metrics.stats]
            tables, written = write_errors(self.metrics.coco_images(), files, self.names, self.folder, self.shown_conf)
            for table in tables.values():
                log_table(table)
            self.on_plot(written[-1])
        if self.drawing or self.args.save_json:
            sources = {"model": str(self.args.model), "data": str(self.args.data)}
            provenance = {**sources, "images": self.seen, "precision": self.precision}
            if self.args.match != "top-k":
                provenance["match"] = self.args.match
            write_tables(self.metrics.tables(), self.folder, "metrics", provenance)
        if self.drawing:  # last, so that a picture that fails costs no number
            self.metrics.plot_curves(self.folder, on_plot=self.on_plot)
            for normalize in (True, False):
                self.confusion_matrix.plot(normalize=normalize, save_dir=self.folder, on_plot=self.on_plot)

    def _save_predictions(self, predn: Prediction, pbatch: ImageTruth) -> None:
        """Keep an image's predictions for predictions.json and write its label file, each if asked for."""
        if self.args.save_json:
            self.pred_to_json(predn, pbatch)
        if self.args.save_txt:
            file = self.folder / "labels" / self._label_name(Path(pbatch["im_file"]))
            self.save_one_txt(predn, self.args.save_conf, pbatch["ori_shape"], file)

    def save_one_txt(self, predn: Prediction, save_conf: bool, shape: tuple[int, int], file: Path) -> None:
        """Write the label file of an image of (h, w) px; its boxes are clipped to the image, as labels must be."""
        boxes = clip_boxes(predn["bboxes"], shape)
        data = torch.cat([boxes, predn["conf"][:, None], predn["cls"][:, None]], 1)  # (n, 6)
        result = Results(np.zeros((*shape, 0), np.uint8), path=str(file), names=self.names, boxes=data)
        file.unlink(missing_ok=True)
        result.save_txt(file, save_conf=save_conf)

    def _label_name(self, im_file: Path) -> str:
        """Return a name that images of one name in different folders do not share: the relative path joined by _."""
        root = Path(self.data.get("path", im_file.parent))
        relative = im_file.relative_to(root) if im_file.is_relative_to(root) else Path(im_file.name)
        return "_".join(relative.with_suffix(".txt").parts)

    def pred_to_json(self, predn: Prediction, pbatch: ImageTruth) -> None:
        """Add an image's rows to `jdict`, in COCO's form: boxes left, top, width, height in original pixels."""
        im_file, stem = pbatch["im_file"], Path(pbatch["im_file"]).stem
        image_id = None if self.annotations is None else self.annotations.image_id(im_file)
        image_id = image_id if image_id is not None else int(stem) if stem.isdecimal() else stem
        boxes = xyxy2ltwh(predn["bboxes"]).tolist()
        self.jdict += [
            {
                "image_id": image_id,
                "file_name": Path(im_file).name,
                "category_id": self.category_ids[int(c)],
                "bbox": [round(v, 3) for v in box],
                "score": round(score, 5),
            }
            for box, score, c in zip(boxes, predn["conf"].tolist(), predn["cls"].tolist(), strict=True)
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
        return dict(enumerate(COCO80_TO_91 if self.is_coco else range(1, len(self.names) + 1)))


def without_crowd(pbatch: ImageTruth) -> ImageTruth:
    """Return the labels of an image without regions that hold any number of objects."""
    if (crowd := pbatch.get("crowd")) is None:
        return pbatch
    return {**pbatch, "cls": pbatch["cls"][~crowd], "bboxes": pbatch["bboxes"][~crowd]}


def _true_targets(rows: NDArray[np.float64]) -> ImageTruth:
    """Return the targets in rows of `TRUTH_COLUMNS`."""
    table = torch.from_numpy(rows)
    cls = table[:, 0].float()
    return {"bboxes": table[:, 1:5], "cls": cls, "areas": table[:, 5], "crowd": table[:, 6] > 0}


def on_device(batch: Batch, move: Callable[[Tensor], Tensor]) -> Batch:
    """Return the batch with its tensors where `move` puts them, but for `LABELS`."""
    moved = {k: move(v) if isinstance(v, Tensor) and k not in LABELS else v for k, v in batch.items()}
    return cast("Batch", moved)


def geometry_of(batch: Batch, i: int) -> RatioPad:
    """Return how image `i` of a batch was placed in the network input."""
    ratio_pad = batch.get("ratio_pad")
    if ratio_pad is None or not isinstance(ratio_pad[i][0], (tuple, list)):
        return stretch_geometry(batch["ori_shape"][i], tuple(batch["img"].shape[2:]))
    (gain_h, gain_w), (left, top) = ratio_pad[i]
    return (float(gain_h), float(gain_w)), (float(left), float(top))
