"""The order of the transforms in training and in validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import SimpleNamespace
from typing import Any

from ultralytics.cfg.schema import defaults
from ultralytics.data.augment.base import Compose, SampleSource, Transform
from ultralytics.data.augment.erase import RandomErasing
from ultralytics.data.augment.format import Format
from ultralytics.data.augment.geometric import RandomFlip, RandomPerspective
from ultralytics.data.augment.letterbox import LetterBox
from ultralytics.data.augment.mix import CopyPaste, CutMix, MixUp
from ultralytics.data.augment.mosaic import Mosaic
from ultralytics.data.augment.official import RandomIoUCrop, RandomPhotometricDistort, RandomZoomOut
from ultralytics.data.augment.photometric import RandomHSV

_DEFAULTS = defaults()


@dataclass(frozen=True)
class AugmentParams:
    """The arguments that augmentation reads; names and meanings are those of `cfg/default.yaml`."""

    hsv_h: float = _DEFAULTS["hsv_h"]
    hsv_s: float = _DEFAULTS["hsv_s"]
    hsv_v: float = _DEFAULTS["hsv_v"]
    degrees: float = _DEFAULTS["degrees"]
    translate: float = _DEFAULTS["translate"]
    scale: float | tuple[float, float] = _DEFAULTS["scale"]
    shear: float = _DEFAULTS["shear"]
    perspective: float = _DEFAULTS["perspective"]
    flipud: float = _DEFAULTS["flipud"]
    fliplr: float = _DEFAULTS["fliplr"]
    bgr: float = _DEFAULTS["bgr"]
    erasing: float = 0.0  # as the recipes of detection set it; the interface's default is one of classification
    photometric: float = _DEFAULTS["photometric"]
    zoom_out: float = _DEFAULTS["zoom_out"]
    iou_crop: float = _DEFAULTS["iou_crop"]
    mosaic: float = _DEFAULTS["mosaic"]
    mosaic_n: int = _DEFAULTS["mosaic_n"]
    mixup: float = _DEFAULTS["mixup"]
    cutmix: float = _DEFAULTS["cutmix"]
    copy_paste: float = _DEFAULTS["copy_paste"]
    copy_paste_mode: str = _DEFAULTS["copy_paste_mode"]

    @classmethod
    def from_args(cls, hyp: object = None) -> AugmentParams:
        """Take the fields from a namespace or mapping; what it lacks keeps its default, True and False are 1 and 0."""
        if isinstance(hyp, cls):
            return hyp
        args: Mapping[str, Any] = hyp if isinstance(hyp, Mapping) else vars(hyp) if hyp is not None else {}
        values = {f.name: args[f.name] for f in fields(cls) if args.get(f.name) is not None}
        for name, value in values.items():
            number = isinstance(value, (bool, int)) and name != "mosaic_n"
            values[name] = float(value) if number else value
        return cls(**values)

    @property
    def crops(self) -> bool:
        """Whether a step cuts into the image as it is on disk, which is brought to the network's size only then."""
        return bool(self.zoom_out or self.iou_crop)

    def without_mixing(self) -> AugmentParams:
        """Return a copy for the last epochs: nothing from other images, no zoom-out, no IoU crop, no distortion.

        RT-DETR's last epoch is clean of these (arXiv 2304.08069, official configuration), as DEIM's last ones are.
        """
        unmixed = replace(self, mosaic=0.0, mixup=0.0, cutmix=0.0, copy_paste=0.0)
        return replace(unmixed, photometric=0.0, zoom_out=0.0, iou_crop=0.0)

    def closed_names(self) -> list[str]:
        """Return the names of the steps that are on and that `without_mixing` leaves out."""
        closed = self.without_mixing()
        return [f.name for f in fields(self) if getattr(self, f.name) != getattr(closed, f.name)]


def without_mixing(hyp: object = None) -> SimpleNamespace:
    """Return the arguments with the rates at 0 that the last epochs leave out, see `AugmentParams.without_mixing`."""
    given: Mapping[str, Any] = hyp if isinstance(hyp, Mapping) else vars(hyp) if hyp is not None else {}
    return SimpleNamespace(**{**given, **vars(AugmentParams.from_args(hyp).without_mixing())})


def train_transforms(dataset: SampleSource, imgsz: int, hyp: object = None, fit: Transform | None = None) -> Compose:
    """Build the training chain: zoom-out, crop, mosaic, copy-paste, perspective, mixup, cutmix, colours, flips.

    `fit` brings an image that is not a mosaic to the network's size (a `LetterBox`); None where images come stretched.
    Steps that cannot change anything are left out. Partners in mixing are neither zoomed nor cropped.
    """
    p = AugmentParams.from_args(hyp)
    whole: list[Transform] = [RandomZoomOut(p.zoom_out, limit=4 * imgsz)] if p.zoom_out else []
    whole += [RandomIoUCrop(p.iou_crop)] if p.iou_crop else []
    whole += [LetterBox(imgsz, scale_fill=fit is None)] if whole else []
    warp = RandomPerspective(
        p.degrees, p.translate, p.scale, p.shear, p.perspective, size=(imgsz, imgsz), pre_transform=fit
    )
    first: list[Transform] = []
    if p.mosaic:
        first.append(Mosaic(dataset, imgsz, p.mosaic, p.mosaic_n))
    if p.copy_paste and p.copy_paste_mode == "flip":
        first.append(CopyPaste(dataset, p=p.copy_paste))
    pre = Compose([*first, warp])
    chain: list[Transform] = [pre]
    if p.copy_paste and p.copy_paste_mode == "mixup":
        chain.append(CopyPaste(dataset, pre, p.copy_paste, p.copy_paste_mode))
    chain += [t(dataset, pre, rate) for t, rate in ((MixUp, p.mixup), (CutMix, p.cutmix)) if rate]
    return Compose([*whole, *chain, *colour_and_flips(p), Format(bgr=p.bgr)])


def colour_and_flips(hyp: object = None) -> list[Transform]:
    """Return the steps that keep an image's size: colours, the two flips, erasing, those that are on."""
    p = AugmentParams.from_args(hyp)
    steps: list[Transform] = [RandomPhotometricDistort(p.photometric)] if p.photometric else []
    if p.hsv_h or p.hsv_s or p.hsv_v:
        steps.append(RandomHSV(p.hsv_h, p.hsv_s, p.hsv_v))
    steps += [RandomFlip(rate, axis) for rate, axis in ((p.flipud, "vertical"), (p.fliplr, "horizontal")) if rate]
    return [*steps, RandomErasing(p.erasing)] if p.erasing else steps


def val_transforms(imgsz: int | tuple[int, int]) -> Compose:
    """Build the deterministic chain: fit into the network's size (never enlarging), tensors."""
    return Compose([LetterBox(imgsz, scaleup=False), Format()])


def v8_transforms(dataset: SampleSource, imgsz: int, hyp: object = None, stretch: bool = False) -> Compose:
    """Build the training chain under upstream's name; `stretch` says that images come at their final size."""
    return train_transforms(dataset, imgsz, hyp, fit=None if stretch else LetterBox(imgsz))
