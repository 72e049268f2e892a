"""Boxes against masks that go through the same augmentation.

For each object of the result, the same augmentation (same seed) is applied once more to pictures in which that object
alone is white; its box must frame what is white then. Run by hand with as many seeds as wanted:

    python -m tests.data.augment.properties 1000
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tests.data.augment.scenes import iou
from ultralytics.data.augment import (
    Compose,
    CopyPaste,
    CutMix,
    LetterBox,
    MixUp,
    Mosaic,
    RandomErasing,
    RandomFlip,
    RandomHSV,
    RandomIoUCrop,
    RandomPerspective,
    RandomPhotometricDistort,
    RandomZoomOut,
    Sample,
    train_transforms,
)
from ultralytics.utils.instance import Instances

SIDE = 192
BIG = 16.0  # pixels: smaller results are not judged
JUDGED = 5  # objects of one augmentation, drawn at random
GREY = 50  # the border has 114, all but the white object is black
RIM = 1.5  # pixels: objects nearer to the frame are not fully inside


class Shapes:
    """A stand-in for a data set: ellipses and rectangles as polygons, or rectangles as boxes, in disjoint cells.

    `only` (image, object) paints that object white and all else black; None paints each in a colour of its own.
    """

    def __init__(self, polygons: bool, h: int = SIDE, w: int = SIDE, n: int = 6) -> None:
        self.polygons, self.h, self.w, self.n = polygons, h, w, n
        self.only: tuple[int, int] | None = None
        self._pictures: dict[tuple[int, tuple[int, int] | None], np.ndarray] = {}

    def __len__(self) -> int:
        return self.n

    def outlines(self, index: int) -> np.ndarray:
        """Return three outlines (3, 64, 2) in pixels."""
        rng = np.random.default_rng((17, index))
        found = []
        for k in range(3):
            cell = np.array([self.w / 3, self.h])
            size = rng.uniform(0.35, 0.8, 2) * cell
            corner = np.array([k * cell[0], 0]) + rng.uniform(0.05, 0.95, 2) * (cell - size)
            if self.polygons and k % 2:
                angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
                unit = (np.stack([np.cos(angle), np.sin(angle)], 1) + 1) / 2
            else:
                side = np.linspace(0, 1, 16, endpoint=False)
                zero, one = np.zeros(16), np.ones(16)
                edges = [(side, zero), (one, side), (1 - side, one), (zero, 1 - side)]
                unit = np.concatenate([np.stack(e, 1) for e in edges])
            found.append(corner + unit * size)
        return np.stack(found).astype(np.float32)

    def _picture(self, index: int, only: tuple[int, int] | None) -> np.ndarray:
        """Return the picture with all objects in colours, with one in white, or (another image's turn) all black."""
        if self.only is not None and only is None:
            return np.zeros((self.h, self.w, 3), np.uint8)
        if (index, only) not in self._pictures:
            image = np.zeros((self.h, self.w, 3), np.uint8)
            for k, outline in enumerate(self.outlines(index)):
                mask = coverage(outline, self.h, self.w)[..., None]
                colour = (60 + 60 * k, 20 * index, 200) if only is None else (255 * (only == (index, k)),) * 3
                image = np.maximum(image, (mask * colour).astype(np.uint8))
            self._pictures[index, only] = image
        return self._pictures[index, only].copy()

    def get_image_and_label(self, index: int, rng: np.random.Generator | None = None) -> Sample:
        """Return the sample; object k of image i has the class 3 * i + k."""
        outlines = self.outlines(index)
        image = self._picture(index, self.only if self.only is not None and self.only[0] == index else None)
        boxes = np.concatenate([outlines.min(1), outlines.max(1)], 1)
        return {
            "im_file": f"{index}.jpg",
            "index": index,
            "img": image,
            "cls": (3 * index + np.arange(3, dtype=np.float32))[:, None],
            "instances": Instances(boxes, outlines if self.polygons else None, "xyxy", normalized=False),
            "ori_shape": (self.h, self.w),
            "resized_shape": (self.h, self.w),
            "ratio_pad": (1.0, 1.0),
            "rng": np.random.default_rng((1, index)) if rng is None else rng,
        }


def coverage(outline: np.ndarray, h: int, w: int, zoom: int = 4) -> np.ndarray:
    """Return the part (h, w) of each pixel that an outline covers."""
    import cv2

    mask = np.zeros((h * zoom, w * zoom), np.uint8)
    cv2.fillPoly(mask, [np.round((outline * zoom - 0.5) * 256).astype(np.int32)], 255, shift=8)
    return cv2.resize(mask, (w, h), interpolation=cv2.INTER_AREA) / 255


def white_frame(image: np.ndarray, level: float) -> np.ndarray:
    """Return the frame (4,) of what is brighter than `level`, to parts of a pixel; NaN when nothing is."""
    shade = image[..., 0].astype(np.float64)
    ys, xs = np.nonzero(shade > level)
    if not len(xs):
        return np.full(4, np.nan)
    left, top, right, bottom = xs.min(), ys.min(), xs.max(), ys.max()
    across = shade[top : bottom + 1].max(0)  # only the object's rows: elsewhere the border is as grey as an edge
    down = shade[:, left : right + 1].max(1)
    return np.array(
        [
            _edge(across, left, -1, level),
            _edge(down, top, -1, level),
            _edge(across, right, 1, level),
            _edge(down, bottom, 1, level),
        ]
    )


def _edge(profile: np.ndarray, i: int, step: int, level: float) -> float:
    """Return where the profile crosses the level beyond pixel i, between the centres of two pixels, as an edge.

    NaN where the grey border comes next: then the object was cut off and is not fully inside.
    """
    j = i + step
    outside = profile[j] if 0 <= j < len(profile) else level
    if 0 <= j + step < len(profile) and profile[j + step] > GREY:
        return np.nan
    part = 0.5 if outside >= profile[i] else (profile[i] - level) / (profile[i] - outside)
    return i + 0.5 + step * min(part, 1.0)


def judged(make: Callable[[Shapes], Any], source: Shapes, seed: int, level: float = 127.5) -> list[float]:
    """Return the IoU of box and white frame for each object of one augmentation that is large and fully inside."""

    def run(only: tuple[int, int] | None) -> Sample:
        source.only = only
        transform = make(source)
        return transform(source.get_image_and_label(seed % len(source), np.random.default_rng((seed, 8))))

    result = run(None)
    boxes = result["instances"].copy()
    h, w = result["img"].shape[:2]
    boxes.convert_bbox("xyxy")
    boxes.denormalize(w, h)
    found = []
    classes = result["cls"].ravel().astype(int)
    single = np.flatnonzero([(classes == c).sum() == 1 for c in classes])  # of an image that is there once
    for i in np.random.default_rng((seed, 9)).permutation(single)[:JUDGED].tolist():
        box, c = boxes.bboxes[i], classes[i]
        frame = white_frame(run((c // 3, c % 3))["img"], level)
        size = frame[2:] - frame[:2]
        inside = (frame[:2] > RIM).all() and (frame[2:] < np.array([w, h]) - RIM).all()
        if inside and (size > BIG).all():
            found.append(float(iou(box[None].astype(np.float64), frame[None])[0]))
    return found


def _fixed(transform: Any) -> Callable[[Shapes], Any]:
    return lambda source: transform


def _pasted(source: Shapes) -> Callable[[Sample], Sample]:
    """Copy-paste; only pasted objects are judged, since they hide others."""
    paste = CopyPaste(source, p=1.0, mode="mixup")

    def run(sample: Sample) -> Sample:
        sample["cls"] = sample["cls"].copy()
        own = len(sample["cls"])
        out = paste(sample)
        out["instances"], out["cls"] = out["instances"][own:], out["cls"][own:]
        return out

    return run


ALL = {
    "mosaic": 0.5,
    "cutmix": 0.3,
    "scale": 0.3,
    "translate": 0.1,
    "flipud": 0.3,
    "fliplr": 0.5,
    "zoom_out": 0.3,
    "iou_crop": 0.5,
}

CASES: Mapping[str, tuple[Callable[[Shapes], Any], bool, dict[str, Any]]] = {
    # name: (transform of a source, polygons, shape of the images and level of white)
    "letterbox": (_fixed(LetterBox(256)), False, {"h": 120, "w": 200}),
    "letterbox small": (_fixed(LetterBox(128)), True, {"h": 240, "w": 200}),
    "stretch": (_fixed(LetterBox((200, 260), scale_fill=True)), False, {}),
    "flip left-right": (_fixed(RandomFlip(0.5)), False, {"w": 150}),
    "flip up-down": (_fixed(RandomFlip(0.5, "vertical")), True, {"h": 150}),
    "scale and shift": (_fixed(RandomPerspective(translate=0.1, scale=0.5)), False, {}),
    "scale and shift, polygons": (_fixed(RandomPerspective(translate=0.1, scale=0.5)), True, {}),
    "rotation, polygons": (_fixed(RandomPerspective(degrees=45, translate=0.1, scale=0.3)), True, {}),
    "shear, polygons": (_fixed(RandomPerspective(shear=15, translate=0.1, scale=0.3)), True, {}),
    "perspective, polygons": (_fixed(RandomPerspective(perspective=0.0007, translate=0.1, scale=0.2)), True, {}),
    "mosaic 4": (lambda s: Mosaic(s, SIDE), False, {}),
    "mosaic 9": (lambda s: Mosaic(s, SIDE, n=9), True, {"n": 12}),
    "mixup": (lambda s: MixUp(s, p=1.0), False, {"level": 60.0}),
    "cutmix": (lambda s: CutMix(s, p=1.0), False, {}),
    "copy-paste": (_pasted, True, {}),
    "zoom-out": (_fixed(RandomZoomOut(1.0)), False, {}),
    "zoom-out, limited": (_fixed(RandomZoomOut(1.0, limit=300)), True, {}),
    "iou-crop": (_fixed(RandomIoUCrop(1.0)), False, {}),
    "iou-crop, polygons": (_fixed(RandomIoUCrop(1.0)), True, {}),
    "photometric": (_fixed(RandomPhotometricDistort(0.5)), False, {"level": None}),
    "hsv": (_fixed(RandomHSV(0.1, 0.5, 0.3)), False, {"level": None}),
    "erasing": (_fixed(RandomErasing(1.0, area=(0.001, 0.002))), False, {"level": None}),
    "official recipe": (
        lambda s: Compose([RandomZoomOut(0.5), RandomIoUCrop(0.8), LetterBox(SIDE, scale_fill=True), RandomFlip(0.5)]),
        False,
        {"w": 260},
    ),
    "all together": (lambda s: Compose(train_transforms(s, SIDE, ALL).tolist()[:-1]), False, {}),
}


def run_case(name: str, seeds: int) -> np.ndarray:
    """Return the IoUs of all judged objects over so many seeds."""
    make, polygons, options = CASES[name]
    options = dict(options)
    level = options.pop("level", 127.5)
    source = Shapes(polygons, **options)
    found: list[float] = []
    for seed in range(seeds):
        found += (
            judged(make, source, seed, 127.5 if level is None else level)
            if level is not None
            else _kept(make, source, seed)
        )
    return np.array(found)


def _kept(make: Callable[[Shapes], Any], source: Shapes, seed: int) -> list[float]:
    """For transforms of colour: the boxes stay what they were."""
    sample = source.get_image_and_label(seed % len(source), np.random.default_rng(seed))
    before = sample["instances"].bboxes.copy()
    out = make(source)(sample)
    after = out["instances"]
    after.convert_bbox("xyxy")
    return iou(before[: len(after)].astype(np.float64), after.bboxes.astype(np.float64)).tolist()


def main(seeds: int, names: list[str]) -> None:
    """Print one line for each transform, or for those named."""
    print(f"{'transform':<28}{'runs':>6}{'boxes':>7}{'lowest IoU':>12}{'below 0.95':>12}")
    for name in names or CASES:
        found = run_case(name, seeds)
        print(f"{name:<28}{seeds:>6}{len(found):>7}{found.min():>12.4f}{(found < 0.95).sum():>12}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000, sys.argv[2:])
