"""RT-DETR as users hold it (Zhao et al., "DETRs Beat YOLOs on Real-time Object Detection", CVPR 2024)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ultralytics.engine.model import Model
from ultralytics.engine.tuner import search_arguments
from ultralytics.models.rtdetr.heatmap import heatmap as explain_images
from ultralytics.utils.user_modules import Files


class RTDETR(Model):
    """An RT-DETR detector, or a detector of another family, found by the head of its YAML or weights.

        model = RTDETR("rtdetr-l.yaml", scale="n")      # new, at scale n
        model.train(data="data.yaml", epochs=50)        # afterwards it holds the best weights
        for result in model.predict("photos/", stream=True):
            print(result.path, result.boxes.xyxy)

    Args:
        model: model YAML (file, name or dict), weights file, or another `Model`.
        scale: letter of the compound scale of a model YAML; by default the YAML decides.
        verbose: log the layer table when a YAML is built.
        modules: Python file, or list of files, with registered blocks of your own; they are run.
    """

    def __init__(
        self,
        model: str | Path | dict[str, Any] | Model = "rtdetr-l.yaml",
        scale: str | None = None,
        verbose: bool = False,
        modules: Files | None = None,
    ) -> None:
        super().__init__(model, task="detect", verbose=verbose, scale=scale, modules=modules)

    @property
    def task_map(self) -> dict[str, dict[str, type[Any]]]:
        """The classes of the head's family."""
        return self.family_classes()

    heatmap = explain_images
    tune = search_arguments
