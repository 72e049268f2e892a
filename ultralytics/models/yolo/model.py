"""`YOLO(...)`: the front door that scripts of the `ultralytics` interface use, for detectors of every family."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ultralytics.cfg.schema import MODES
from ultralytics.engine.model import Model
from ultralytics.engine.tuner import search_arguments
from ultralytics.models.rtdetr import RTDETR
from ultralytics.models.rtdetr.heatmap import heatmap as explain_images
from ultralytics.models.shvit import SHViTClassifier
from ultralytics.nn.families import FAMILIES, Family
from ultralytics.utils.config.absent import ABSENT_TASKS
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.user_modules import Files

_ABSENT_FORMS: Mapping[str, str] = MappingProxyType(
    {
        "-seg": "instance segmentation",
        "-pose": "pose estimation",
        "-obb": "detection of rotated boxes",
        "-depth": "depth estimation",
        "-sem": "semantic segmentation",
        "-cls": "classification with YOLO",
        "-world": "detection by text prompts",
        "yoloe": "detection by text prompts",
    }
)
"""Parts of the names of models that are not here, and what they do."""

HERE = "here are: detect, for detectors of every family, and classify, for SHViT"


class YOLO(Model):
    """A detector of any family, found by the head of its YAML or weights; a classifier opens as well.

    What is not of the YOLO family becomes an object of its own class: `RTDETR`, or `SHViTClassifier`.

        model = YOLO("yolo11n.yaml")                    # new; YOLO("yolov8n.pt") reads weights of the interface
        model.train(data="data.yaml", epochs=50)        # afterwards it holds the best weights
        for result in model.predict("photos/", stream=True):
            print(result.path, result.boxes.xyxy)

    Args:
        model: model YAML (file, name or dict), weights file, exported file, or another `Model`.
        task: detect or classify; by default the model's.
        verbose: log the layer table when a YAML is built.
        scale: letter of the compound scale of a model YAML; by default the letter in its name, or the YAML decides.
        modules: Python file, or list of files, with registered blocks of your own; they are run.

    Raises ConfigError for a task that is not here, or not the model's.
    """

    default_family = "yolo"
    _asked: str | None = None

    def __init__(
        self,
        model: str | Path | dict[str, Any] | Model = "yolo26n.yaml",
        task: str | None = None,
        verbose: bool = False,
        scale: str | None = None,
        modules: Files | None = None,
    ) -> None:
        refuse_absent(task, model)
        self._asked = task
        super().__init__(model, task=task, verbose=verbose, scale=scale, modules=modules)
        family = FAMILIES.named(self.family_name)
        if family.task == "classify":
            self.__class__ = SHViTClassifier  # type: ignore[assignment]
        elif family.package != FAMILIES.named("yolo").package:
            self.__class__ = RTDETR  # type: ignore[assignment]

    heatmap = explain_images
    tune = search_arguments

    @property
    def task_map(self) -> dict[str, dict[str, type[Any]]]:
        """The classes of each task; those of the head's family where it is known."""
        found = {}
        for family in (*map(FAMILIES.named, ("yolo", "shvit")), FAMILIES.named(self.family_name)):
            found[family.task] = {"model": family.network, **family.classes()}
        return found

    def _take_family(self, family: Family | None) -> None:
        """Use the classes, and unless another task was asked for the task, of the family of a head."""
        if family is not None and self._asked is None:
            self.task = family.task
        super()._take_family(family)

    def _check_task(self, path: str) -> None:
        """Take the task of a file, unless one was asked for."""
        if self._asked is None and self.model.task in self.task_map:
            self.task = self.model.task
        super()._check_task(path)


def refuse_absent(task: str | None, model: Any) -> None:
    """Raise ConfigError for a task, or for the name of a model, of the interface that is not here."""
    if task is not None and task in ABSENT_TASKS:
        raise ConfigError(f"task={task}: {ABSENT_TASKS[task]} is not part of this package", HERE)
    if task in MODES:
        raise ConfigError(f"task={task} is a mode, not a task", "leave task out and call the method of that name")
    if not isinstance(model, (str, Path)) or Path(model).exists():
        return
    stem = Path(model).stem.lower()
    for part, what in _ABSENT_FORMS.items():
        if part in stem:
            raise ConfigError(f"{model}: {what} is not part of this package", HERE)
