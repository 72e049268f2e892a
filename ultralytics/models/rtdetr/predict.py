"""Prediction with RT-DETR: stretch (or letterbox) in, at most `max_det` boxes per image out, no NMS."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch

from ultralytics.engine.predictor import BasePredictor, Image
from ultralytics.engine.results.results import Results
from ultralytics.models.rtdetr.post import (
    class_filter,
    letterbox_geometry,
    output_rows,
    select_rows,
    stretch_geometry,
    to_original_xyxy,
)
from ultralytics.models.rtdetr.tta import augmented_rows


class RTDETRPredictor(BasePredictor):
    """Detect objects with RT-DETR.

    Class filters act before the head selects its top rows, so an asked-for class cannot be crowded out; boxes are
    clipped to the image. With `augment` an image is also seen mirrored and enlarged, see `tta.py`.

        predictor = RTDETRPredictor(overrides={"model": "best.pt", "conf": 0.4})
        for result in predictor("photos/", stream=True): ...
    """

    def class_filter(self) -> AbstractContextManager[None]:
        """Let the head select its top rows among the classes asked for."""
        return class_filter(self.model, self.classes)

    def infer(self, im: torch.Tensor) -> Any:
        """Run the network, with `augment` on several views."""
        if not self.args.augment:
            return self.model(im)
        return augmented_rows(self.model, im, int(self.model.stride), getattr(self.model, "pt", True))

    def postprocess(self, preds: Any, im: torch.Tensor, originals: list[Image], paths: list[str]) -> list[Results]:
        """Return one `Results` per image, boxes best first, xyxy in pixels of the original image."""
        network = tuple(im.shape[2:])
        kept = select_rows(output_rows(preds).cpu(), self.conf, self.args.max_det, self.classes)
        geometry = letterbox_geometry if self.args.letterbox else stretch_geometry
        results = []
        for row, original, path in zip(kept, originals, paths, strict=True):
            shape = original.shape[:2]
            boxes = to_original_xyxy(row[:, :4], network, shape, geometry(shape, network))
            data = torch.cat([boxes, row[:, 4:6]], 1)  # (N, 6)
            results.append(Results(original, path=path, names=self.model.names, boxes=data))
        return results
