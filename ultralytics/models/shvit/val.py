"""Validation of classifiers: top-1 and top-5 accuracy, accuracy per class, confusion matrix, plots.

Shapes: B images in a batch, N images in the split, nc classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ultralytics.data.classify import ClassificationDataset, build_classify_loader, check_cls_dataset
from ultralytics.data.types import Batch
from ultralytics.engine.validator import BaseValidator, Module, Prediction, RawOutput, first_tensor
from ultralytics.models.shvit.pre import normalize, to_bytes
from ultralytics.utils import LOGGER
from ultralytics.utils.callbacks import Callback, Callbacks
from ultralytics.utils.errors import ConfigError, DatasetError
from ultralytics.utils.metrics import ClassifyMetrics, ConfusionMatrix
from ultralytics.utils.plotting.classes import plot_class_images


class ClassificationValidator(BaseValidator):
    """Evaluate a classifier on a folder of class folders.

    Classes of the data set and of the model are matched by name. `teacher` turns images into the logits that the
    distillation loss of a training run compares with.
    """

    metrics: ClassifyMetrics  # type: ignore[assignment]  # figures of another task
    confusion_matrix: ConfusionMatrix

    def __init__(
        self,
        dataloader: DataLoader[Batch] | None = None,
        save_dir: str | Path | None = None,
        args: SimpleNamespace | Mapping[str, Any] | None = None,
        _callbacks: Callbacks | Mapping[str, list[Callback]] | None = None,
        teacher: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__(dataloader, save_dir, args, _callbacks)
        if self.args.save_txt:
            raise ConfigError("save_txt: validation of a classifier writes no label files", "predict does")
        self.teacher = teacher
        self.index: list[int] = []

    def get_dataset(self, data: str | Path | dict[str, Any]) -> dict[str, Any]:
        """Return the checked description of the folder."""
        return data if isinstance(data, dict) else check_cls_dataset(data, self.args.split)

    def build_dataset(
        self, img_path: str | list[str], mode: str = "val", batch: int | None = None
    ) -> ClassificationDataset:
        """Return the data set of the evaluated split."""
        return ClassificationDataset(str(img_path), self.args, self.data["names"], mode)

    def get_dataloader(self, dataset_path: str | list[str], batch_size: int) -> DataLoader[Batch]:
        """Return the loader of the evaluated split: never shuffled, never augmented."""
        dataset = self.build_dataset(dataset_path)
        return build_classify_loader(dataset, batch_size, self.args.workers, shuffle=False)

    def _set_names(self, model_names: Mapping[int, str]) -> None:
        """Take the model's names, and find the model's class of each class of the data set."""
        data_names: dict[int, str] = self.data["names"]
        self.names, self.nc = dict(model_names), len(model_names)
        by_name = {name: i for i, name in model_names.items()}
        if set(data_names.values()) <= set(by_name):
            self.index = [by_name[data_names[i]] for i in range(len(data_names))]
        elif len(data_names) == len(model_names):
            LOGGER.warning("the classes of model and data set have different names; they are compared by their order")
            self.index, self.names = list(range(len(data_names))), dict(data_names)
        else:
            unknown = sorted(set(data_names.values()) - set(by_name))
            raise DatasetError(
                f"the model has {len(model_names)} classes and none is named {', '.join(unknown[:3])}",
                "validate on a data set with the classes that it was trained on",
            )

    def preprocess(self, batch: Batch) -> Batch:
        """Move a batch to the device, normalise its images, and run the teacher if there is one."""
        img = normalize(batch["img"].to(self.device, non_blocking=True).float() / 255)
        img = img.half() if bool(getattr(self.model, "fp16", False)) else img
        cls = torch.tensor([self.index[int(c)] for c in batch["cls"]]).to(self.device, non_blocking=True)
        moved: dict[str, Any] = {**batch, "img": img, "cls": cls}
        if self.training and self.teacher is not None:
            moved["teacher"] = self.teacher(img)
        return cast("Batch", moved)

    def postprocess(self, preds: RawOutput) -> list[Prediction]:
        """Return the probabilities (nc,) of each image, on the CPU."""
        return [{"probs": row} for row in first_tensor(preds).float().softmax(1).cpu()]

    def init_metrics(self, model: Module) -> None:
        """Start with empty statistics."""
        self.metrics = ClassifyMetrics(self.names)
        self.confusion_matrix = ConfusionMatrix(self.names, background=False)
        self._scores: list[npt.NDArray[np.float32]] = []
        self._targets: list[int] = []

    def update_metrics(self, preds: list[Prediction], batch: Batch) -> None:
        """Keep the probabilities and the true classes."""
        self._scores += [pred["probs"].numpy() for pred in preds]
        self._targets += batch["cls"].tolist()
        self.seen += len(preds)

    def get_stats(self) -> dict[str, float]:
        """Compute the accuracies, fitness included."""
        targets, scores = np.asarray(self._targets, np.int64), np.asarray(self._scores)
        self.metrics.process(targets, scores)
        if len(targets):
            self.confusion_matrix.process_cls_preds(scores.argmax(1), targets)
        self.metrics.speed, self.metrics.confusion_matrix = self.speed, self.confusion_matrix
        return dict(self.metrics.results_dict)

    def print_results(self) -> None:
        """Log the accuracies and, in a stand-alone run, those of each class."""
        LOGGER.info(("%22s" + "%11s" * 3) % ("Class", "Images", "top1", "top5"))
        row = "%22s%11i%11.4g"
        top1, top5 = self.metrics.mean_results()
        LOGGER.info((row + "%11.4g") % ("all", self.seen, top1, top5))
        if self.args.verbose and not self.training and len(self.names) <= 100:
            for i, name in self.names.items():
                LOGGER.info(row % (name, *self.metrics.class_result(i)))

    def plot_val_samples(self, batch: Batch, ni: int) -> None:
        """Draw the batch with its true classes."""
        path = self.folder / f"val_batch{ni}_labels.jpg"
        plot_class_images(to_bytes(batch["img"]), [self.names[c] for c in batch["cls"].tolist()], path)
        self.on_plot(path)

    def plot_predictions(self, batch: Batch, preds: list[Prediction], ni: int) -> None:
        """Draw the batch with the predicted classes."""
        images, true = to_bytes(batch["img"]), batch["cls"].tolist()
        path = self.folder / f"val_batch{ni}_pred.jpg"
        best = [int(pred["probs"].argmax()) for pred in preds]
        texts = [f"{self.names[c]} {float(pred['probs'][c]):.2f}" for c, pred in zip(best, preds, strict=True)]
        right = [a == b for a, b in zip(best, true, strict=True)]
        plot_class_images(images, texts, path, right)
        self.on_plot(path)

    def finalize_metrics(self) -> None:
        """Draw the confusion matrices when plots are on."""
        if self.drawing and not self.training:
            for normalize in (True, False):
                self.confusion_matrix.plot(normalize=normalize, save_dir=self.folder, on_plot=self.on_plot)
