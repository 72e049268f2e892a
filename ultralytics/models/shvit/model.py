"""SHViT as users hold it: an image classifier (CVPR 2024, arXiv 2401.16456)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ultralytics.engine.model import Model
from ultralytics.utils.user_modules import Files

DEFAULT_IMGSZ = 224


class SHViTClassifier(Model):
    """An image classifier.

        model = SHViTClassifier("shvit_s1.yaml")
        model.load("shvit_s1.pth")                        # official weights, if you have them
        model.train(data="cells", imgsz=96, epochs=40)    # cells/train/<class>/*.jpg and cells/val/<class>/*.jpg
        for result in model.predict("photos/", stream=True):
            print(result.path, result.names[result.probs.top1], float(result.probs.top1conf))

    Args:
        model: model YAML (file, name or dict), weights file of ours, or another `Model`.
        scale: letter of the compound scale of a model YAML that has scales.
        verbose: log the layer table when a YAML is built.
        modules: Python file, or list of files, with your registered blocks; they are executed.
    """

    default_family = "shvit"

    def __init__(
        self,
        model: str | Path | dict[str, Any] | Model = "shvit_s1.yaml",
        scale: str | None = None,
        verbose: bool = False,
        modules: Files | None = None,
    ) -> None:
        super().__init__(model, task="classify", verbose=verbose, scale=scale, modules=modules)

    @property
    def task_map(self) -> dict[str, dict[str, type[Any]]]:
        """The classes of the head's family."""
        return self.family_classes()

    def _args(self, mode: str, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the overrides of one call; the image size is 224 unless the weights or the caller say otherwise."""
        overrides = super()._args(mode, kwargs)
        return {"imgsz": DEFAULT_IMGSZ, **overrides} if not overrides.get("cfg") else overrides
