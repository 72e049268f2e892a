"""Letterbox, colours, the conversion to tensors, chains and their order."""

from __future__ import annotations

import colorsys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.data.augment.scenes import Scenes, frames
from ultralytics.data.augment import (
    AugmentParams,
    Compose,
    Format,
    LetterBox,
    RandomHSV,
    train_transforms,
    v8_transforms,
    val_transforms,
)
from ultralytics.utils.instance import Instances
from ultralytics.utils.ops import scale_boxes


@pytest.mark.parametrize(
    "shape, options, want, offset",
    [
        ((60, 120), {"new_shape": 64}, (64, 64), (0, 16)),
        ((120, 60), {"new_shape": 64}, (64, 64), (16, 0)),
        ((30, 40), {"new_shape": 64, "scaleup": False}, (64, 64), (12, 17)),
        ((60, 120), {"new_shape": 128, "auto": True}, (64, 128), (0, 0)),
        ((50, 120), {"new_shape": 128, "auto": True}, (64, 128), (0, 5)),
        ((60, 120), {"new_shape": (64, 96), "scale_fill": True}, (64, 96), (0, 0)),
        ((60, 120), {"new_shape": 64, "center": False}, (64, 64), (0, 0)),
        ((61, 120), {"new_shape": 64}, (64, 64), (0, 15)),
        ((64, 64), {"new_shape": 64}, (64, 64), (0, 0)),
    ],
)
def test_letterbox(shape, options, want, offset) -> None:
    """The image gets the wanted shape; boxes go with it, and come back through `scale_boxes` and `ratio_pad`."""
    sample = Scenes(2, *shape).get_image_and_label(0) if shape[0] >= 60 and shape[1] >= 90 else None
    image = np.full((*shape, 3), 30, np.uint8)
    out = LetterBox(**options)(image=image)
    assert out.shape == (*want, 3)
    ys, xs = np.nonzero(out[..., 0] == 30)
    assert (xs.min(), ys.min()) == offset
    if sample is not None:
        before = sample["instances"].bboxes.copy()
        sample = LetterBox(**options)(sample)
        gains, pad = sample["ratio_pad"]
        assert sample["resized_shape"] == want and pad == offset
        back = (sample["instances"].bboxes - np.tile(pad, 2)) / np.tile(gains[::-1], 2)
        np.testing.assert_allclose(back, before, atol=1e-3)
        if not options.get("scale_fill"):
            again = scale_boxes(want, sample["instances"].bboxes.copy(), shape, ratio_pad=sample["ratio_pad"])
            np.testing.assert_allclose(again, before, atol=1e-3)


def test_letterbox_pixels_follow_boxes() -> None:
    sample = LetterBox(320)(Scenes(2, 80, 160).get_image_and_label(0))
    np.testing.assert_allclose(sample["instances"].bboxes, frames(sample["img"], sample["cls"].ravel()), atol=2)


@pytest.mark.parametrize(
    "shape, inside, full",
    [
        ((2000, 3), (64, 1), [31, 0, 32, 64]),  # 3 px times 64/2000 are 0.1 px
        ((3, 2000), (1, 64), [0, 31, 64, 32]),
        ((2000, 1), (64, 1), [31, 0, 32, 64]),
        ((2000, 20), (64, 1), [31, 0, 32, 64]),  # 0.64 px are rounded to one, and so are boxes
    ],
)
@pytest.mark.parametrize("scaleup", [True, False])
def test_letterbox_leaves_a_pixel_of_narrow_images(shape, inside, full, scaleup) -> None:
    out = LetterBox(64, scaleup=scaleup)(image=np.full((*shape, 3), 30, np.uint8))
    ys, xs = np.nonzero(out[..., 0] == 30)
    assert out.shape == (64, 64, 3) and (np.ptp(ys) + 1, np.ptp(xs) + 1) == inside
    h, w = shape
    instances = Instances(np.array([[0, 0, w, h]], np.float32), bbox_format="xyxy", normalized=False)
    sample = {"img": np.zeros((*shape, 3), np.uint8), "instances": instances, "ratio_pad": (1.0, 1.0)}
    sample = LetterBox(64, scaleup=scaleup)(sample)
    np.testing.assert_allclose(sample["instances"].bboxes, [full], atol=1e-4)
    gains, pad = sample["ratio_pad"]
    back = (sample["instances"].bboxes - np.tile(pad, 2)) / np.tile(gains[::-1], 2)
    np.testing.assert_allclose(back, [[0, 0, w, h]], rtol=1e-5)


def test_letterbox_of_grey_images_and_nothing() -> None:
    assert LetterBox(64)(image=np.zeros((30, 40, 1), np.uint8)).shape == (64, 64, 1)
    with pytest.raises(ValueError):
        LetterBox(64)()


def test_hsv_agrees_with_colorsys() -> None:
    """Each pixel moves in HSV by the drawn gains, within the rounding of 8 bits (hue in steps of 2 degrees)."""
    rng = np.random.default_rng(0)
    image = rng.integers(60, 200, (4, 4, 3), np.uint8)
    gains = np.random.default_rng(5).uniform(-1, 1, 3) * (0.1, 0.3, 0.2)
    out = RandomHSV(0.1, 0.3, 0.2)({"img": image.copy(), "rng": np.random.default_rng(5)})["img"]
    for before, after in zip(image.reshape(-1, 3) / 255, out.reshape(-1, 3), strict=True):
        h, s, v = colorsys.rgb_to_hsv(*before[::-1])
        want = colorsys.hsv_to_rgb((h + gains[0]) % 1, min(s * (1 + gains[1]), 1), min(v * (1 + gains[2]), 1))
        np.testing.assert_allclose(after[::-1], np.array(want) * 255, atol=9)
    assert not np.array_equal(out, image)


def test_hsv_leaves_grey_grey_and_other_channel_counts_alone() -> None:
    grey = np.full((4, 4, 3), 90, np.uint8)
    out = RandomHSV(0.5, 0.9, 0.0)({"img": grey, "rng": np.random.default_rng(1)})["img"]
    assert (out == 90).all()
    one = np.zeros((4, 4, 1), np.uint8)
    assert RandomHSV()({"img": one, "rng": np.random.default_rng(1)})["img"] is one


def test_format_gives_rgb_tensors_and_normalised_boxes() -> None:
    sample = Scenes(2, 80, 160).get_image_and_label(1)
    sample["img"][0, 0] = (1, 2, 3)
    boxes = sample["instances"].bboxes.copy()
    out = Format()(sample)
    assert out["img"].dtype == torch.uint8 and out["img"].shape == (3, 80, 160) and out["img"].is_contiguous()
    assert out["img"][:, 0, 0].tolist() == [3, 2, 1]
    want = torch.tensor((boxes[:, :2] + boxes[:, 2:]) / 2 / [160, 80])
    torch.testing.assert_close(out["bboxes"][:, :2], want.float())
    assert out["cls"].shape == (2, 1) and out["batch_idx"].tolist() == [0, 0]
    assert set(out) == {"img", "cls", "bboxes", "batch_idx", "im_file", "ori_shape", "resized_shape", "ratio_pad"}


def test_format_without_objects_in_bgr_and_pixels() -> None:
    sample = Scenes(2).get_image_and_label(1)
    sample["img"][0, 0] = (1, 2, 3)
    sample["instances"], sample["cls"] = Instances(np.zeros((0, 4))), np.zeros((0, 1), np.float32)
    out = Format(bgr=1.0)(sample)
    assert out["img"][:, 0, 0].tolist() == [1, 2, 3]
    assert out["cls"].shape == (0, 1) and out["bboxes"].shape == (0, 4) and out["batch_idx"].shape == (0,)
    pixels = Format("xyxy", normalize=False)(Scenes(2).get_image_and_label(1))["bboxes"]
    np.testing.assert_allclose(pixels, Scenes(2).boxes(1))


def test_chains_can_be_edited() -> None:
    chain = Compose([lambda x: x + 1])
    chain.append(lambda x: x * 10)
    chain.insert(0, lambda x: x - 5)
    assert chain(7) == 30 and len(chain) == 3 and len(chain.tolist()) == 3
    assert chain[[0, 2]](7) == 20 and chain[1:](7) == 80 and chain[0](7) == 2
    chain[2] = lambda x: x
    assert chain(7) == 3 and Compose(abs)(-2) == 2


def names(chain: Compose) -> list[str]:
    flat: list[str] = []
    for step in chain:
        flat += names(step) if isinstance(step, Compose) else [type(step).__name__]
    return flat


def test_order_of_the_training_chain() -> None:
    source = Scenes()
    everything = {"mosaic": True, "copy_paste": 0.1, "mixup": 0.1, "cutmix": 0.1, "flipud": 0.1}
    expected = "Mosaic CopyPaste RandomPerspective MixUp CutMix RandomHSV RandomFlip RandomFlip Format"
    assert names(v8_transforms(source, 64, everything)) == expected.split()
    mixed = {**everything, "copy_paste_mode": "mixup"}
    assert names(v8_transforms(source, 64, mixed))[:3] == ["Mosaic", "RandomPerspective", "CopyPaste"]
    off = SimpleNamespace(mosaic=False, hsv_h=0, hsv_s=0, hsv_v=0, fliplr=0)
    assert names(train_transforms(source, 64, off)) == ["RandomPerspective", "Format"]
    assert names(val_transforms(64)) == ["LetterBox", "Format"]


def test_arguments_may_be_booleans_missing_or_null() -> None:
    p = AugmentParams.from_args({"mosaic": False, "fliplr": True, "scale": [0.5, 2.0], "degrees": None, "other": 1})
    assert (p.mosaic, p.fliplr, p.scale, p.degrees) == (0.0, 1.0, [0.5, 2.0], 0.0)
    assert AugmentParams.from_args() == AugmentParams() and AugmentParams.from_args(p) is p
    assert p.without_mixing().mosaic == 0 and p.without_mixing().fliplr == 1


@pytest.mark.parametrize("seed", range(5))
def test_the_whole_chain_keeps_objects_and_classes_paired(seed: int) -> None:
    source = Scenes(8)
    rates = {"mosaic": 1.0, "mixup": 0.5, "cutmix": 0.5, "degrees": 5.0}
    out = v8_transforms(source, 96, rates)(source.get_image_and_label(0, np.random.default_rng(seed)))
    assert out["img"].shape == (3, 96, 96) and len(out["cls"]) == len(out["bboxes"]) == len(out["batch_idx"])
    x1y1, x2y2 = out["bboxes"][:, :2] - out["bboxes"][:, 2:] / 2, out["bboxes"][:, :2] + out["bboxes"][:, 2:] / 2
    assert (x1y1 > -1e-5).all() and (x2y2 < 1 + 1e-5).all() and (x2y2 > x1y1).all()
