"""Prediction of the class of whole images."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ultralytics.data.classify import eval_transforms, to_image, to_tensor
from ultralytics.engine.predictor import BasePredictor, Image, Images
from ultralytics.engine.results.results import Results
from ultralytics.engine.validator import RawOutput, first_tensor
from ultralytics.models.shvit.pre import normalize
from ultralytics.utils.errors import ConfigError


class ClassificationPredictor(BasePredictor):
    """Classify images: the shorter side is resized to the network's input and the middle is seen, as in validation.

    predictor = ClassificationPredictor(overrides={"model": "best.pt", "task": "classify", "imgsz": 224})
    for result in predictor("photos/", stream=True): ...
    """

    def preprocess(self, im: Images) -> Tensor:
        """Return the network input (B, 3, S, S); a tensor in 0..1 keeps its size."""
        normalized = normalize(super().preprocess(im).float())
        return normalized.half() if self.model.fp16 else normalized

    def pre_transform(self, im: list[Image]) -> list[Image]:
        """Resize and crop images to the network's input."""
        if self.imgsz[0] != self.imgsz[1]:
            raise ConfigError(f"imgsz={list(self.imgsz)}: a classifier takes squares", f"use imgsz={self.imgsz[0]}")
        resize = eval_transforms(self.imgsz[0])
        return [to_image(resize(to_tensor(np.asarray(image)))) for image in im]

    def postprocess(self, preds: RawOutput, img: Tensor, orig_imgs: Images) -> list[Results]:
        """Return one `Results` with `probs` per image."""
        probs = first_tensor(preds).float().softmax(1).cpu()  # (B, nc)
        return self.construct_results(list(probs), img, orig_imgs)

    def construct_result(self, pred: Tensor, img: Tensor, orig_img: Image, img_path: str) -> Results:
        """Return the `Results` of one image; `pred` (nc,) are its probabilities."""
        return Results(orig_img, path=img_path, names=self.model.names, probs=pred)
