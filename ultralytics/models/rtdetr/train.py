"""Training of RT-DETR (Zhao et al., "DETRs Beat YOLOs on Real-time Object Detection", CVPR 2024).

Shapes: B images in a batch, N targets of a batch, S image side in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ultralytics.cfg import Args
from ultralytics.cfg.resolution import drop_foreign
from ultralytics.cfg.schema import KEYS
from ultralytics.data.build import build_dataloader
from ultralytics.data.dataset import YOLODataset
from ultralytics.data.doctor import Finding, preflight
from ultralytics.data.labels.table import LabelTable
from ultralytics.data.types import Batch
from ultralytics.engine.class_names import as_classes
from ultralytics.engine.trainer import BaseTrainer
from ultralytics.engine.training.interface import BatchLoader, InitialWeights, ModelSource, stride_of
from ultralytics.models.rtdetr.post import check_class_filter
from ultralytics.models.rtdetr.stages import attach_stages, mixed, pasted, plan_of, planned_side
from ultralytics.models.rtdetr.val import RTDETRValidator, build_rtdetr_dataset, on_device
from ultralytics.nn.checkpoint.format import read_library_weights
from ultralytics.nn.families import FAMILIES, family_of, letterboxes
from ultralytics.nn.modules.backbones import load_row_weights
from ultralytics.nn.tasks import family_of_yaml
from ultralytics.nn.yaml_model import YamlModel
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import ConfigError, DatasetError
from ultralytics.utils.plotting.curves import plot_images, plot_labels
from ultralytics.utils.torch_utils import unwrap_model, wants_channels_last


def report_findings(findings: Sequence[Finding]) -> None:
    """Log a table of findings about the data, worst first; raises DatasetError with the first error."""
    if not findings:
        LOGGER.info("Pre-flight: nothing is wrong with the data")
        return
    counts = ", ".join(f"{sum(f.severity == s for f in findings)} {s}(s)" for s in ("error", "warning", "note"))
    LOGGER.info(f"Pre-flight: {counts}; `yolo doctor` has the details")
    for f in findings:
        LOGGER.info(f"  {f.severity:<8} {f.split:<6} {f.code:<10} {f.message}")
    errors = [f for f in findings if f.severity == "error"]
    if errors:
        worst = errors[0]
        more = f" (and {len(errors) - 1} more error(s), listed above)" if len(errors) > 1 else ""
        raise DatasetError(f"{worst.split}: {worst.message}{more}", *worst.examples[:1], worst.remedy)


class RTDETRTrainer(BaseTrainer):
    """Train a detector on square images, stretched or padded as its family wants it unless `letterbox` is given.

    trainer = RTDETRTrainer(overrides={"model": "rtdetr-l.yaml", "data": "data.yaml", "epochs": 50})
    metrics = trainer.train()
    """

    loss_names: tuple[str, ...] = ("giou_loss", "cls_loss", "l1_loss")
    shared_validation = True

    def get_dataset(self) -> dict[str, Any]:
        """Return the checked data-set description, which must have the split and the classes that are asked for."""
        data = super().get_dataset()
        if not data.get(self.args.split):
            have = ", ".join(k for k in ("train", "val", "test") if data.get(k))
            raise ConfigError(f"split={self.args.split}: the data set has no such split", f"it has: {have}")
        check_class_filter(as_classes(self.args.classes, data["names"]), data["nc"])
        return data

    def get_model(self, cfg: ModelSource = None, weights: InitialWeights = None, verbose: bool = True) -> YamlModel:
        """Build a network for the data set's classes, of the family of the YAML's head (RT-DETR where none owns it).

        Its first weights depend on the run's seed alone.
        """
        cfg = cfg or str(self.args.model)
        family = family_of_yaml(cfg, self.args.model_scale) or FAMILIES.named("rtdetr")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.args.seed)
            model = family.network(
                cfg,
                ch=self.data["channels"],
                nc=self.data["nc"],
                scale=self.args.model_scale,
                verbose=verbose,
            )
        model.names = dict(self.data["names"])
        if weights is not None:
            model.load(weights)
        elif not self.args.resume:
            load_row_weights(model, read_library_weights)
        return model

    def set_model_attributes(self) -> None:
        """Settle the arguments by the network's family, and give them to the network.

        Those that do not act in the family are reported and left out, which a resumed run has done already; what the
        family does in another way than most is set where neither user nor recipe did.
        """
        family = family_of(unwrap_model(self.model), "rtdetr")
        args = drop_foreign(self.args, family.arguments) if self.resume_from is None else self.args
        plain = {k: v for k, v in family.defaults.items() if k not in args.user_keys and args.get(k) == KEYS[k].default}
        self.args = args.replace(**plain, letterbox=letterboxes(self.model, args.letterbox))
        super().set_model_attributes()

    def _setup_optimizer(self) -> None:
        """Optimizer, rates and average; with a `plan`, its stages."""
        super()._setup_optimizer()
        attach_stages(self)

    def get_validator(self) -> RTDETRValidator:
        """Return a validator on the loader of the evaluated split; the parts of the loss get the family's names."""
        self.loss_names = family_of(unwrap_model(self.model), "rtdetr").loss_names
        return RTDETRValidator(self.test_loader, save_dir=self.save_dir, args=self.args, _callbacks=self.callbacks)

    def build_dataset(self, img_path: str | list[str], mode: str = "train", batch: int | None = None) -> YOLODataset:
        """Return the data set of a split; augmented in mode "train"."""
        stride = stride_of(self.model) if isinstance(self.model, nn.Module) else 32
        return build_rtdetr_dataset(self.dataset_args(mode), img_path, self.data, batch or 16, mode=mode, stride=stride)

    def dataset_args(self, mode: str) -> Args:
        """Return the arguments of a data set in mode "train" or "val"."""
        return self.args

    def get_dataloader(
        self, dataset_path: str | list[str], batch_size: int = 16, rank: int = -1, mode: str = "train"
    ) -> BatchLoader:
        """Return the loader of a split; shuffled in mode "train"; those of one process unless `rank` is -1."""
        dataset = self.build_dataset(dataset_path, mode, batch_size)
        train = mode == "train"
        return build_dataloader(
            dataset,
            batch_size,
            self.args.workers,
            shuffle=train,
            seed=self.args.seed,
            rank=rank,
            modules=self.args.modules,
        )

    def check_data(self) -> None:
        """Log the findings of the quick checks of the data, a line for each kind; errors stop the run.

        A data set whose training and validation images are the same is a deliberate trial, so it only gets a warning.
        """
        train, test = self.train_loader.dataset, self.test_loader.dataset
        if not (isinstance(train, YOLODataset) and isinstance(test, YOLODataset)):
            return  # a data set of the user's own
        same = self._is_trial()
        if same:
            LOGGER.warning("training and validation images are the same: the metrics do not apply to other images")
        queries = getattr(self.model.model[-1], "num_queries", None)  # heads that ask every place have none
        report_findings(preflight(train, None if same else test, queries=queries, imgsz=self.imgsz))

    def _is_trial(self) -> bool:
        """Return whether both splits are one folder or list, and in COCO's form annotations of the same images too."""
        split = self.args.split if self.data.get(self.args.split) else "val"
        if self.data["train"] != self.data[split]:
            return False
        files = (self.data.get("annotations") if self.data.get("format") == "coco" else None) or {}
        if files.get("train") == files.get(split):
            return True
        datasets: list[Any] = [self.train_loader.dataset, self.test_loader.dataset]
        train, val = ({label["im_file"] for label in dataset.labels} for dataset in datasets)
        return train == val

    def preprocess_batch(self, batch: Batch) -> Batch:
        """Move images to the device; they become floats (B, 3, S, S) in 0..1, S random if asked for."""
        moved = on_device(batch, self.feed)
        moved["img"] = moved["img"].float() / 255
        plan = plan_of(self)
        if plan is not None and plan.is_dense(self.progress.epoch):
            moved = self._dense(moved)
        moved["img"] = self._rescaled(moved["img"])
        if wants_channels_last(self.args.channels_last, self.device):
            moved["img"] = moved["img"].to(memory_format=torch.channels_last)
        return moved

    def _dense(self, batch: Batch) -> Batch:
        """Mix the images of a batch, or paste objects into them where it stays as it is."""
        args, place = self.args, (int(self.args.seed), self.progress.step)
        changed = mixed(batch, float(args.mixup), *place)
        if changed is batch and args.copy_paste_mode == "blend":
            changed = pasted(batch, float(args.copy_paste), *place)
        return changed

    def _rescaled(self, images: torch.Tensor) -> torch.Tensor:
        """Resize to a random multiple of the stride near imgsz * (1 +- multi_scale); a function of seed and step."""
        spread = float(self.args.multi_scale)
        if not spread:
            return images
        stride, plan = stride_of(self.model), plan_of(self)
        if plan is not None:
            place = (int(self.args.seed), self.progress.epoch, self.progress.step)
            size = planned_side(plan, self.imgsz, stride, *place)
            return images if size == images.shape[-1] else F.interpolate(images, size=(size, size), mode="nearest")
        rng = np.random.default_rng((self.args.seed, self.progress.step))
        low, high = self.imgsz * (1 - spread), self.imgsz * (1 + spread) + stride
        least = stride * (2 if len(images) == 1 else 1)  # one image of one stride has no batch statistics
        size = max(int(rng.uniform(low, high)) // stride * stride, least)
        longest = max(images.shape[2:])
        if size == longest:
            return images
        sides = [max(math.ceil(side * size / longest / stride), 1) * stride for side in images.shape[2:]]
        return F.interpolate(images, size=sides, mode="bilinear", align_corners=False)  # (B, 3, height, width)

    def plot_training_samples(self, batch: Batch, ni: int) -> None:
        """Draw the batch of step `ni`, as the network saw it, with its labels."""
        path = self.save_dir / f"train_batch{ni}.jpg"
        plot_images(
            batch["img"],
            batch["batch_idx"],
            batch["cls"].flatten(),
            batch["bboxes"],
            paths=batch["im_file"],
            fname=path,
            names=self.data["names"],
        )
        self.on_plot(path)

    def plot_training_labels(self) -> None:
        """Draw the distribution of the training labels."""
        dataset = self.train_loader.dataset
        if isinstance(dataset, YOLODataset):
            labels = LabelTable.from_dicts(dataset.labels)
            plot_labels(labels.bboxes.values, labels.cls.values[:, 0], self.data["names"], self.save_dir)
            self.on_plot(self.save_dir / "labels.jpg")
