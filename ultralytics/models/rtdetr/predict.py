"""Prediction of boxes: stretch or letterbox in, at most `max_det` boxes per image out, by the family's post-process."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from ultralytics.cfg.resolution import drop_foreign
from ultralytics.cfg.schema import Trait
from ultralytics.engine.predictor import BasePredictor, Image, Images
from ultralytics.engine.results.results import Results
from ultralytics.engine.validator import RawOutput
from ultralytics.models.rtdetr.post import (
    class_filter,
    image_rows,
    report_unknown_classes,
    stretch_geometry,
    to_original_xyxy,
)
from ultralytics.models.rtdetr.tta import augmented_output
from ultralytics.nn.families import PostOptions, find_family, letterboxes
from ultralytics.utils.ops import letterbox_geometry


class RTDETRPredictor(BasePredictor):
    """Detect objects with RT-DETR or a detector of another family, whose post-process is used.

    Class filters act before the head selects its top rows, so an asked-for class cannot be crowded out; boxes are
    clipped to the image. With `augment` an image is also seen mirrored and enlarged, see `tta.py`.

        predictor = RTDETRPredictor(overrides={"model": "best.pt", "conf": 0.4})
        for result in predictor("photos/", stream=True): ...
    """

    def setup_source(self, source: object, stride: int | None = None) -> Any:
        """Open the source; arguments that do not act in the model's family are reported and left out."""
        family = find_family(self.model)
        self.args = drop_foreign(self.args, family.arguments if family else Trait.NONE)
        report_unknown_classes(self.classes, len(self.model.names))
        return super().setup_source(source, stride)

    def class_filter(self) -> AbstractContextManager[None]:
        """Let the head select its top rows among the classes asked for."""
        return class_filter(self.model, self.classes)

    def inference(self, im: Tensor, *args: object, **kwargs: object) -> RawOutput:
        """Run the network, with `augment` on several views."""
        if not self.args.augment:
            return super().inference(im, *args, **kwargs)
        return augmented_output(self.model, im, int(self.model.stride))

    def postprocess(self, preds: RawOutput, img: Tensor, orig_imgs: Images) -> list[Results]:
        """Return one `Results` per image, boxes best first, xyxy in pixels of the original image."""
        args, classes = self.args, None if self.classes is None else tuple(self.classes)
        options = PostOptions(self.conf, args.max_det, classes, args.iou, args.agnostic_nms)
        kept = image_rows(find_family(self.model), preds, (img.shape[2], img.shape[3]), options)
        return self.construct_results(kept, img, orig_imgs)

    def construct_result(self, pred: Tensor, img: Tensor, orig_img: Image, img_path: str) -> Results:
        """Return the `Results` of one image; `pred` (N, 6): cx, cy, w, h in 0..1 of the network input, score, class."""
        network, shape = tuple(img.shape[2:]), orig_img.shape[:2]
        geometry = letterbox_geometry if letterboxes(self.model, self.args.letterbox) else stretch_geometry
        boxes = to_original_xyxy(pred[:, :4], network, shape, geometry(shape, network))
        data = torch.cat([boxes, pred[:, 4:6]], 1)  # (N, 6)
        return Results(orig_img, path=img_path, names=self.model.names, boxes=data)
