"""Prediction with the YOLO family."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ultralytics.data.augment import LetterBox
from ultralytics.engine.predictor import Image
from ultralytics.models.rtdetr.predict import RTDETRPredictor
from ultralytics.models.yolo.detect.val import takes_any_shape
from ultralytics.nn.yolo import head_options


class DetectionPredictor(RTDETRPredictor):
    """Detect objects; `iou` and `agnostic_nms` steer the suppression, `nms=False` asks for NMS-free rows.

    Images are letterboxed; those of a batch that have one shape only as far as the stride needs it, unless
    `rect=False` is given or an exported file takes one shape.

    predictor = DetectionPredictor(overrides={"model": "best.pt", "iou": 0.5})
    for result in predictor("photos/", stream=True): ...
    """

    @contextmanager
    def class_filter(self) -> Iterator[None]:
        """Let an NMS-free head select its rows among the classes asked for, `max_det` of them if that is more."""
        conf = self.conf if self._keeps_stages() and not (self.args.augment or self.args.compile) else None
        with super().class_filter(), head_options(self.model, self.args.max_det, self.args.agnostic_nms, conf):
            yield

    def _keeps_stages(self) -> bool:
        """Whether nothing sees the head's output but the methods here, which need no anchors below `conf`."""
        own, network = type(self), getattr(self.model, "model", None)
        kept = (own.postprocess, own.inference) == (RTDETRPredictor.postprocess, RTDETRPredictor.inference)
        return (
            kept
            and not {"postprocess", "inference"} & vars(self).keys()
            and not getattr(network, "_forward_hooks", None)
        )

    def pre_transform(self, im: list[Image]) -> list[Image]:
        """Letterbox images to the network input, which is no larger than images of one shape need."""
        same_shape = len({image.shape for image in im}) == 1
        if (
            not (same_shape and takes_any_shape(self.model, self.args))
            or self.args.letterbox is False
            or self.channels == 1
        ):
            return super().pre_transform(im)
        fit = LetterBox(self.input_size, auto=True, stride=max(int(self.model.stride), 32))
        return [fit(image=image) for image in im]
