"""Validation of the YOLO family."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ultralytics.cfg import Args
from ultralytics.engine.validator import Module
from ultralytics.models.rtdetr.val import RTDETRValidator
from ultralytics.nn.yolo import head_options


class DetectionValidator(RTDETRValidator):
    """Evaluate a detector as COCO does, after suppression in which a place may have several classes.

    Batches are shaped by aspect ratio, unless `rect=False` is given or an exported file takes one shape. Boxes are
    compared as the network gives them, as the `ultralytics` interface does, also where they reach into the padding.
    """

    clips_boxes = False

    @contextmanager
    def class_filter(self, model: Module) -> Iterator[None]:
        """Let an NMS-free head select its rows among the classes asked for, `max_det` of them if that is more."""
        agnostic = bool(self.args.agnostic_nms or self.args.single_cls)
        with super().class_filter(model), head_options(model, self.args.max_det, agnostic):
            yield

    def dataset_args(self) -> Args:
        """Return the arguments of the data set: batches of one aspect ratio where the model takes them."""
        args = super().dataset_args()
        return args.replace(rect=takes_any_shape(getattr(self, "model", None), args))


def takes_any_shape(model: object, args: Args) -> bool:
    """Whether batches may have the shape that their images need: unless `rect=False` is given, or a file has one size.

    Args:
        model: A network, or what runs one.
        args: Arguments of the run.
    """
    metadata = getattr(model, "metadata", None)
    fixed = metadata is not None and not metadata.dynamic
    refused = "rect" in args.user_keys and not args.rect
    return not (fixed or refused or args.letterbox is False)
