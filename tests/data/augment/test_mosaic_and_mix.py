"""Transforms that join several images: pixels and boxes stay together, partners come from the sample's generator."""

from __future__ import annotations

import numpy as np
import pytest

from tests.data.augment.scenes import SIDE, Scenes, frames, iou
from ultralytics.data.augment import CopyPaste, CutMix, MixUp, Mosaic
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.instance import Instances


def sample_of(source: Scenes, seed: int):
    return source.get_image_and_label(seed % len(source), np.random.default_rng(seed))


class Recorder(Scenes):
    """Scenes that remember which images were asked for."""

    def __init__(self, *args: int) -> None:
        super().__init__(*args)
        self.used: list[int] = []

    def get_image_and_label(self, index: int, rng: np.random.Generator | None = None):
        self.used.append(index)
        return super().get_image_and_label(index, rng)


@pytest.mark.parametrize("n", [4, 9])
@pytest.mark.parametrize("h, w", [(SIDE, SIDE), (100, SIDE), (SIDE, 90)])
def test_mosaic_boxes_frame_their_pixels(n: int, h: int, w: int) -> None:
    """On the joined canvas, each object's box is the frame of that object's pixels."""
    source, seen = Recorder(24, h, w), 0
    for seed in range(20):
        source.used.clear()
        out = Mosaic(source, SIDE, 1.0, n)(sample_of(source, seed))
        assert out["img"].shape == (2 * SIDE, 2 * SIDE, 3) and len(out["cls"]) == len(out["instances"])
        values = out["cls"].ravel()
        unique = np.array([source.used.count(int(v - 1) // 2) == 1 for v in values], bool)
        shown = frames(out["img"], values[unique])
        assert (iou(out["instances"].bboxes[unique], shown) > 0.98).all()
        seen += int(unique.sum())
    assert seen > 30


def test_mosaic_centre_covers_the_middle_half() -> None:
    source, centres = Scenes(1), []
    for seed in range(100):
        filled = np.flatnonzero((Mosaic(source, SIDE)(sample_of(source, seed))["img"][..., 0] != 114).any(0))
        centres.append(filled[0] + SIDE if filled[0] else filled[-1] + 1 - SIDE)
    assert min(centres) >= SIDE / 2 and max(centres) <= SIDE * 3 / 2 + 1 and np.ptp(centres) > SIDE * 0.8


def test_partners_follow_the_generator_alone() -> None:
    source = Scenes(8)
    first = [Mosaic(source, SIDE)(sample_of(source, s)) for s in (1, 2, 3)]
    second = [Mosaic(source, SIDE)(sample_of(source, s)) for s in (3, 2, 1)][::-1]
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a["img"], b["img"])
        np.testing.assert_array_equal(a["instances"].bboxes, b["instances"].bboxes)


def test_probability_zero_and_wrong_arguments() -> None:
    source = Scenes()
    for transform in (Mosaic(source, SIDE, 0.0), MixUp(source, None, 0.0), CutMix(source), CopyPaste(source, p=0.0)):
        sample = sample_of(source, 0)
        image = sample["img"].copy()
        np.testing.assert_array_equal(transform(sample)["img"], image)
    for wrong in (lambda: Mosaic(source, n=5), lambda: MixUp(source, p=2.0), lambda: CopyPaste(source, mode="x")):
        with pytest.raises(ConfigError):
            wrong()


def test_mixup_blends_and_keeps_all_objects() -> None:
    source = Scenes(4)
    sample = sample_of(source, 1)
    own = sample["img"].astype(float)
    out = MixUp(source, None, 1.0)(sample)
    assert len(out["cls"]) == len(out["instances"]) == 4
    other = int(out["cls"][2, 0] - 1) // 2
    partner = source.get_image_and_label(other)["img"].astype(float)
    if other != 1:
        r = np.linalg.lstsq((own - partner).reshape(-1, 1), (out["img"] - partner).ravel(), rcond=None)[0][0]
        assert 0.2 < r < 0.8
        np.testing.assert_allclose(out["img"], r * own + (1 - r) * partner, atol=1.0)


def test_mixup_brings_a_partner_to_the_images_size() -> None:
    source, sample = Scenes(4, 80, 120), sample_of(Scenes(4), 1)
    out = MixUp(source, None, 1.0)(sample)
    assert out["img"].shape == (SIDE, SIDE, 3) and (out["instances"].bboxes[2:] <= SIDE).all()
    assert out["instances"].bboxes[2:, 3].max() > 80 or out["instances"].bboxes[2:, 2].max() > 120


def test_cutmix_touches_no_object_and_brings_cut_boxes() -> None:
    source, added = Scenes(8), 0
    for seed in range(200):
        sample = sample_of(source, seed)
        own, image = sample["instances"].bboxes.copy(), sample["img"].copy()
        out = CutMix(source, None, 1.0)(sample)
        np.testing.assert_array_equal(out["instances"].bboxes[:2], own)
        for x1, y1, x2, y2 in own.astype(int):
            np.testing.assert_array_equal(out["img"][y1:y2, x1:x2], image[y1:y2, x1:x2])
        for box, cls in zip(out["instances"].bboxes[2:], out["cls"][2:, 0], strict=True):
            x1, y1, x2, y2 = box.astype(int)
            assert (out["img"][y1:y2, x1:x2, 0] == cls).all()
            added += 1
    assert added > 3


def test_copy_paste_mirrors_polygon_objects() -> None:
    source, pasted = Scenes(8, polygons=True), 0
    for seed in range(8):
        sample = sample_of(source, seed)
        out = CopyPaste(source, p=1.0)(sample)
        new = out["instances"].bboxes[2:]
        own = source.boxes(seed)
        for box, cls in zip(new, out["cls"][2:, 0], strict=True):
            original = own[int(cls - 1) % 2]
            np.testing.assert_allclose(box, [SIDE - original[2], original[1], SIDE - original[0], original[3]])
            x1, y1, x2, y2 = (box + np.array([1, 1, -1, -1])).astype(int)
            assert (out["img"][y1:y2, x1:x2, 0] == cls).all()
            pasted += 1
    assert pasted >= 2
    plain = Scenes(8)
    assert len(CopyPaste(plain, p=1.0)(sample_of(plain, 0))["cls"]) == 2, "boxes alone are not cut out"


def test_copy_paste_from_another_image() -> None:
    source = Scenes(8, polygons=True)
    counts = [len(CopyPaste(source, None, 1.0, "mixup")(sample_of(source, s))["cls"]) for s in range(8)]
    assert min(counts) >= 2 and max(counts) > 2


@pytest.mark.parametrize(("left", "pasted", "hidden"), [(70, 0, 0), (52, 0, 0), (47, 1, 2), (46, 1, 1)])
def test_copy_paste_hides_no_object(left: int, pasted: int, hidden: int) -> None:
    """The mirrored large object, at 55 to 95, may not land on a small one: its label would stay."""
    boxes = np.array([[5, 20, 45, 80], [left, 45, left + 10, 55]], np.float32)
    image = np.zeros((100, 100, 3), np.uint8)
    image[20:80, 5:45], image[45:55, left : left + 10] = 60, 250
    polygons = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    sample = {"img": image, "cls": np.array([[0.0], [1.0]], np.float32), "rng": np.random.default_rng(0)}
    sample["instances"] = Instances(boxes, polygons, "xyxy", normalized=False)
    out = CopyPaste(Scenes(), p=1.0)(sample)
    assert len(out["cls"]) == len(out["instances"]) == 2 + pasted
    assert (out["img"][45:55, left : left + 10] == 250).all(2).sum() == 10 * (10 - hidden)
