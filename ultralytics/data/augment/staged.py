"""Augmentation in stages over a run: D-FINE (arXiv 2410.13842) and DEIM's Dense O2O (arXiv 2412.04234, section 3.2).

An image of a dense epoch is either joined with others to a mosaic, or zoomed and cropped like those of other epochs.
"""

from __future__ import annotations

from typing import NamedTuple

from ultralytics.data.augment.base import Compose, SampleSource, Transform, chance
from ultralytics.data.augment.format import Format
from ultralytics.data.augment.geometric import RandomPerspective
from ultralytics.data.augment.letterbox import LetterBox
from ultralytics.data.augment.mosaic import Mosaic
from ultralytics.data.augment.official import RandomIoUCrop, RandomPhotometricDistort, RandomZoomOut
from ultralytics.data.augment.pipeline import AugmentParams, colour_and_flips
from ultralytics.data.types import Sample
from ultralytics.utils.torch_tools.training_plans import RunPlan

__all__ = ("OneOf", "StagedChains", "staged_chains")


class OneOf:
    """Apply `first` with probability `p`, else `second`."""

    def __init__(self, p: float, first: Transform, second: Transform) -> None:
        self.p, self.first, self.second = p, first, second

    def __call__(self, labels: Sample) -> Sample:
        """Return what the drawn transform makes of the sample."""
        changed: Sample = (self.first if chance(labels["rng"], self.p) else self.second)(labels)
        return changed


class StagedChains(NamedTuple):
    """The chains of a run by stage, and the plan that says when each acts."""

    plan: RunPlan
    clean: Compose
    strong: Compose
    dense: Compose

    def at(self, epoch: int) -> Compose:
        """Return the chain of an epoch, from 0."""
        if self.plan.is_dense(epoch):
            return self.dense
        return self.strong if self.plan.is_strong(epoch) else self.clean


def _forget_placing(labels: Sample) -> Sample:
    """Leave out how the image was placed: mosaics have none, and all samples of a batch have the same keys."""
    labels.pop("ratio_pad", None)
    return labels


def staged_chains(
    dataset: SampleSource, imgsz: int, params: AugmentParams, plan: RunPlan, keep_aspect: bool
) -> StagedChains:
    """Build the chains of a plan from the rates of the arguments.

    Rotation, shift and zoom act on mosaics alone; `mixup` acts on whole batches, after the images are made.

    Args:
        dataset: Where the other images of a mosaic come from.
        imgsz: Side of the network's input in pixels.
        params: Rates of the transforms.
        plan: When they act.
        keep_aspect: Images are letterboxed, not stretched.
    """
    fit = LetterBox(imgsz, scale_fill=not keep_aspect)
    warp = RandomPerspective(
        params.degrees, params.translate, params.scale, params.shear, params.perspective, size=(imgsz, imgsz)
    )
    distort: list[Transform] = [RandomPhotometricDistort(params.photometric)] if params.photometric else []
    ending: list[Transform] = [*colour_and_flips(params.without_mixing()), Format(bgr=params.bgr)]
    cut: list[Transform] = [RandomZoomOut(params.zoom_out, limit=4 * imgsz)] if params.zoom_out else []
    cut += [RandomIoUCrop(params.iou_crop)] if params.iou_crop else []
    alone = Compose([*cut, fit, _forget_placing])
    joined = Compose([fit, Mosaic(dataset, imgsz, 1.0, params.mosaic_n), warp])
    dense: Transform = OneOf(params.mosaic, joined, alone) if params.mosaic else alone
    fitted: list[Transform] = [fit]
    chains: tuple[list[Transform], ...] = (fitted, [alone, *distort], [dense, *distort])
    clean, strong, dense_chain = (Compose([*first, *ending]) for first in chains)
    return StagedChains(plan, clean, strong, dense_chain)
