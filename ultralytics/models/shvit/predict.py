"""Prediction of the class of whole images."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ultralytics.data.classify import eval_transforms, to_image, to_tensor
from ultralytics.engine.predictor import BasePredictor, Image
from ultralytics.engine.results.results import Results
from ultralytics.models.shvit.pre import normalize
from ultralytics.utils.errors import ConfigError


class ClassificationPredictor(BasePredictor):
    """Classify images: the shorter side is resized to the network's input and the middle is seen, as in validation.

    predictor = ClassificationPredictor(overrides={"model": "best.pt", "task": "classify", "imgsz": 224})
    for result in predictor("photos/", stream=True): ...
    """

    def preprocess(self, images: list[Image] | torch.Tensor) -> torch.Tensor:
        """Return the network input (B, 3, S, S); a tensor in 0..1 keeps its size."""
        im = normalize(super().preprocess(images).float())
        return im.half() if self.model.fp16 else im

    def pre_transform(self, image: Image) -> Image:
        """Resize and crop one image to the network's input."""
        if self.imgsz[0] != self.imgsz[1]:
            raise ConfigError(f"imgsz={list(self.imgsz)}: a classifier takes squares", f"use imgsz={self.imgsz[0]}")
        return to_image(eval_transforms(self.imgsz[0])(to_tensor(np.asarray(image))))

    def postprocess(self, preds: Any, im: torch.Tensor, originals: list[Image], paths: list[str]) -> list[Results]:
        """Return one `Results` with `probs` per image."""
        probs = preds.float().softmax(1).cpu()  # (B, classes)
        rows = zip(probs, originals, paths, strict=True)
        return [Results(original, path=path, names=self.model.names, probs=row) for row, original, path in rows]
