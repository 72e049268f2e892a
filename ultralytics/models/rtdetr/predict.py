"""Prediction of boxes: stretch or letterbox in, at most `max_det` boxes per image out, by the family's post-process."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from torch import Tensor

from ultralytics.cfg.resolution import drop_foreign
from ultralytics.cfg.schema import Trait
from ultralytics.engine.predictor import BasePredictor, Image, Images, to_bgr_images
from ultralytics.engine.results.results import Results
from ultralytics.engine.validator import RawOutput
from ultralytics.models.rtdetr.post import (
    class_filter,
    image_rows,
    placed_geometry,
    report_unknown_classes,
)
from ultralytics.models.rtdetr.slicing import SlicedOutput, check_slices, detect_tiles, fused_rows, pixel_rows
from ultralytics.models.rtdetr.tta import augmented_output
from ultralytics.nn.families import PostOptions, find_family, letterboxes
from ultralytics.utils.ops import RatioPad


class RTDETRPredictor(BasePredictor):
    """Detect objects with RT-DETR or a detector of another family, whose post-process is used.

    Class filters act before the head selects its top rows, so an asked-for class cannot be crowded out; boxes are
    clipped to the image. With `augment` an image is also seen mirrored and enlarged, see `tta.py`; with `slice` its
    tiles too, see `slicing.py`.

        predictor = RTDETRPredictor(overrides={"model": "best.pt", "conf": 0.4})
        for result in predictor("photos/", stream=True): ...
    """

    def setup_source(self, source: object, stride: int | None = None) -> Any:
        """Open the source; arguments that do not act in the model's family are reported and left out."""
        family = find_family(self.model)
        self.args = drop_foreign(self.args, family.arguments if family else Trait.NONE)
        check_slices(self.args, source)
        report_unknown_classes(self.classes, len(self.model.names))
        return super().setup_source(source, stride)

    @property
    def images_per_batch(self) -> int:
        """Images that are read at a time: with `slice` one, whose tiles are the batch."""
        return 1 if self.args.slice else super().images_per_batch

    def class_filter(self) -> AbstractContextManager[None]:
        """Let the head select its top rows among the classes asked for."""
        return class_filter(self.model, self.classes)

    def inference(self, im: Tensor, *args: object, **kwargs: object) -> RawOutput:
        """Run the network, with `augment` on several views, with `slice` also on the tiles of each image."""
        whole = self._forward(im, *args, **kwargs)
        if self.args.slice is None or self.batch is None:
            return whole
        images = to_bgr_images(self.batch[1])
        return SlicedOutput(whole, [detect_tiles(image, self.args, self._detect) for image in images])

    def _forward(self, im: Tensor, *args: object, **kwargs: object) -> RawOutput:
        """Run the network on an input (B, C, H, W), with `augment` on several views of it."""
        if not self.args.augment:
            return super().inference(im, *args, **kwargs)
        return augmented_output(self.model, im, int(self.model.stride))

    def _detect(self, images: list[Image]) -> list[Tensor]:
        """Return the rows (n, 6) of images (h, w, 3): xyxy in px of each, score, class."""
        im = self.preprocess(images)
        network = (im.shape[2], im.shape[3])
        kept = image_rows(find_family(self.model), self._forward(im), network, self._options)
        rows = zip(kept, (image.shape[:2] for image in images), strict=True)
        return [pixel_rows(row, network, shape, self._geometry(shape, network)) for row, shape in rows]

    @property
    def _options(self) -> PostOptions:
        """The options of the family's post-process."""
        args, classes = self.args, None if self.classes is None else tuple(self.classes)
        return PostOptions(self.conf, args.max_det, classes, args.iou, args.agnostic_nms)

    def _geometry(self, shape: Sequence[int], network: Sequence[int]) -> RatioPad:
        """Return how an image (h, w) lies in the network input (h, w)."""
        return placed_geometry(shape, network, letterboxes(self.model, self.args.letterbox))

    def postprocess(self, preds: RawOutput, img: Tensor, orig_imgs: Images) -> list[Results]:
        """Return one `Results` per image, boxes best first, xyxy in pixels of the original image."""
        network = (img.shape[2], img.shape[3])
        whole = preds.whole if isinstance(preds, SlicedOutput) else preds
        kept = image_rows(find_family(self.model), whole, network, self._options)
        if isinstance(preds, SlicedOutput):
            views = zip(kept, preds.tiles, (image.shape[:2] for image in to_bgr_images(orig_imgs)), strict=True)
            kept = [
                fused_rows(row, tiles, network, shape, self._geometry(shape, network), self.args)
                for row, tiles, shape in views
            ]
        return self.construct_results(kept, img, orig_imgs)

    def construct_result(self, pred: Tensor, img: Tensor, orig_img: Image, img_path: str) -> Results:
        """Return the `Results` of one image; `pred` (N, 6): cx, cy, w, h in 0..1 of the network input, score, class."""
        network, shape = tuple(img.shape[2:]), orig_img.shape[:2]
        data = pixel_rows(pred, network, shape, self._geometry(shape, network))  # (N, 6)
        return Results(orig_img, path=img_path, names=self.model.names, boxes=data)
