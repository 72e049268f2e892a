"""Training of classifiers, from scratch, from loaded weights, or by distillation from a teacher.

Shapes: B images in a batch, nc classes, S side of the input.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from ultralytics.data.classify import ClassificationDataset, build_classify_loader, check_cls_dataset
from ultralytics.data.types import Batch
from ultralytics.engine.trainer import BaseTrainer
from ultralytics.engine.training.interface import BatchLoader, InitialWeights, ModelSource
from ultralytics.models.shvit.pre import normalize, to_bytes
from ultralytics.models.shvit.val import ClassificationValidator
from ultralytics.nn.classify import class_weights
from ultralytics.nn.tasks import ClassificationModel, load_checkpoint
from ultralytics.utils import LOGGER, IterableSimpleNamespace, colorstr
from ultralytics.utils.callbacks import Callback, Callbacks
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.metrics import ClassifyMetrics
from ultralytics.utils.plotting.classes import plot_class_counts, plot_class_images
from ultralytics.utils.torch_utils import amp_dtype, autocast


class Teacher:
    """A trained classifier in inference mode: images of the network's input to logits in the order of `names`.

    Raises:
        ConfigError: it does not know all the classes.
    """

    def __init__(self, weights: str, names: dict[int, str], device: torch.device, dtype: torch.dtype | None) -> None:
        model, _ = load_checkpoint(weights)
        if model.task != "classify":
            raise ConfigError(
                f"distill_model={weights}: a model of task {model.task}", "give the weights of a classifier"
            )
        by_name = {name: i for i, name in model.names.items()}
        unknown = [name for name in names.values() if name not in by_name]
        if unknown:
            raise ConfigError(
                f"distill_model={weights}: does not know the class {unknown[0]}",
                "train the teacher on the same classes first",
            )
        self.model = model.to(device).eval().requires_grad_(False)
        self.order = torch.tensor([by_name[names[i]] for i in range(len(names))], device=device)  # (nc,)
        self.device, self.dtype = device, dtype
        LOGGER.info(f"{colorstr('teacher:')} {weights}, {sum(p.numel() for p in model.parameters()):,} parameters")

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits (B, nc) of normalised images (B, 3, S, S)."""
        with autocast(self.dtype is not None, self.device, self.dtype):
            logits: torch.Tensor = self.model(images)
        return logits[:, self.order].float()


class ClassificationTrainer(BaseTrainer):
    """Train a classifier on a folder of class folders.

    trainer = ClassificationTrainer(overrides={"task": "classify", "model": "shvit_s1.yaml", "data": "cells"})
    metrics = trainer.train()
    """

    loss_names: tuple[str, ...] = ("cls_loss",)
    teacher: Teacher | None = None
    weights: torch.Tensor | None = None

    def __init__(
        self,
        cfg: str | Path | dict[str, Any] | IterableSimpleNamespace | None = None,
        overrides: Mapping[str, Any] | None = None,
        _callbacks: Callbacks | Mapping[str, Iterable[Callback]] | None = None,
    ) -> None:
        super().__init__(cfg, {**(overrides or {}), "task": "classify"}, _callbacks)

    def get_dataset(self) -> dict[str, Any]:
        """Return the checked description of the folder."""
        if not self.args.data:
            raise ConfigError(
                "no data set to train on", "pass data=folder, which holds train/<class>/ and val/<class>/"
            )
        return check_cls_dataset(self.args.data, self.args.split)

    def auto_recipe(self, images: int) -> tuple[str, str]:
        """There is one recipe for classifiers."""
        return "classify", f"{images} training images"

    def metric_names(self) -> list[str]:
        """Return the columns of results.csv that validation fills."""
        return ClassifyMetrics(self.data["names"]).keys

    def get_model(
        self, cfg: ModelSource = None, weights: InitialWeights = None, verbose: bool = True
    ) -> ClassificationModel:
        """Build a network for the data set's classes; its first weights depend on the run's seed alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.args.seed)
            source = cfg or str(self.args.model)
            model = ClassificationModel(source, nc=self.data["nc"], scale=self.args.model_scale, verbose=verbose)
        if weights is not None:
            model.load(weights)
        model.names = dict(self.data["names"])
        return model

    def set_model_attributes(self) -> None:
        """Give the network its arguments and its dropout, and load the teacher."""
        super().set_model_attributes()
        for module in self.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = float(self.args.dropout)
        if self.args.distill_model:
            dtype = amp_dtype(self.args.amp, self.device)
            self.teacher = Teacher(self.args.distill_model, self.data["names"], self.device, dtype)
            self.loss_names = ("cls_loss", "dis_loss")

    def get_validator(self) -> ClassificationValidator:
        """Return a validator on the loader of the evaluated split."""
        return ClassificationValidator(
            self.test_loader, self.save_dir, self.args, _callbacks=self.callbacks, teacher=self.teacher
        )

    def build_dataset(
        self, img_path: str | list[str], mode: str = "train", batch: int | None = None
    ) -> ClassificationDataset:
        """Return the data set of a split; augmented in mode "train"."""
        return ClassificationDataset(str(img_path), self.args, self.data["names"], mode)

    def get_dataloader(
        self, dataset_path: str | list[str], batch_size: int = 16, rank: int = -1, mode: str = "train"
    ) -> BatchLoader:
        """Return the loader of a split; shuffled and split among the processes in mode "train"."""
        dataset = self.build_dataset(dataset_path, mode)
        train = mode == "train"
        if train:
            weights = class_weights(dataset.counts, self.args.cls_pw)
            self.weights = None if weights is None else weights.to(self.device)
        return build_classify_loader(
            dataset, batch_size, self.args.workers, train, self.args.seed, rank if train else -1
        )

    def preprocess_batch(self, batch: Batch) -> Batch:
        """Move a batch to the device, normalise its images (B, 3, S, S), and run the teacher if there is one."""
        img = normalize(self.feed(batch["img"]).float() / 255)
        moved: dict[str, Any] = {**batch, "img": img, "cls": self.feed(batch["cls"])}
        if self.weights is not None:
            moved["class_weights"] = self.weights
        if self.teacher is not None:
            moved["teacher"] = self.teacher(img)
        return cast("Batch", moved)

    def _close_dataloader_mosaic(self) -> None:
        """Classification has no mosaic."""

    def plot_training_samples(self, batch: Batch, ni: int) -> None:
        """Draw the batch of step `ni`, as the network saw it, with its classes."""
        texts = [self.data["names"][int(c)] for c in batch["cls"]]
        path = self.save_dir / f"train_batch{ni}.jpg"
        plot_class_images(to_bytes(batch["img"]), texts, path)
        self.on_plot(path)

    def plot_training_labels(self) -> None:
        """Draw the number of images of each class."""
        dataset = self.train_loader.dataset
        if isinstance(dataset, ClassificationDataset):
            plot_class_counts(dataset.counts, self.data["names"], self.save_dir)
            self.on_plot(self.save_dir / "labels.jpg")
