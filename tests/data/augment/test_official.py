"""RT-DETR's own augmentations and erasing: bounds, chance, determinism."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.data.augment.scenes import Scenes, frames, iou
from ultralytics.data.augment import (
    AugmentParams,
    RandomErasing,
    RandomIoUCrop,
    RandomPhotometricDistort,
    RandomZoomOut,
    train_transforms,
)
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.instance import Instances

STEPS = [RandomPhotometricDistort(0.5), RandomZoomOut(1.0), RandomIoUCrop(1.0), RandomErasing(1.0)]


def sample(seed: int = 0, **shape: int):
    return Scenes(**shape).get_image_and_label(seed % 8, np.random.default_rng(seed))


@pytest.mark.parametrize("step", STEPS, ids=lambda s: type(s).__name__)
def test_the_samples_own_generator_decides(step) -> None:
    """Whatever torch's state, the same seed gives the same sample, and torch's state stays as it was."""
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = [step(sample(s)) for s in range(6)]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    again = [step(sample(s)) for s in range(6)]
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a["img"], b["img"])
        np.testing.assert_array_equal(a["instances"].bboxes, b["instances"].bboxes)
    assert len({a["img"].tobytes() for a in first}) == 6


@pytest.mark.parametrize("step", STEPS, ids=lambda s: type(s).__name__)
def test_images_without_objects_and_grey_ones(step) -> None:
    for channels in (3, 1):
        empty = sample()
        empty["img"] = np.ascontiguousarray(empty["img"][..., :channels])
        empty["instances"], empty["cls"] = Instances(np.zeros((0, 4))), np.zeros((0, 1), np.float32)
        out = step(empty)
        assert out["img"].shape[2] == channels and out["img"].dtype == np.uint8
        assert len(out["instances"]) == len(out["cls"]) == 0


@pytest.mark.parametrize("step", STEPS[1:], ids=lambda s: type(s).__name__)
def test_never(step) -> None:
    never = type(step)(p=0.0)
    before, after = sample(3), never(sample(3))
    np.testing.assert_array_equal(before["img"], after["img"])
    assert RandomPhotometricDistort(0.0)(sample(3))["img"].tobytes() == before["img"].tobytes()


@pytest.mark.parametrize("kind", [RandomPhotometricDistort, RandomZoomOut, RandomIoUCrop, RandomErasing])
@pytest.mark.parametrize("p", [-0.1, 1.1])
def test_probabilities_have_bounds(kind: type, p: float) -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        kind(p)


def test_zoom_out_keeps_all_objects_on_a_larger_canvas() -> None:
    for seed in range(30):
        out = RandomZoomOut(1.0)(sample(seed))
        h, w = out["img"].shape[:2]
        assert 160 <= h <= 640 and 160 <= w <= 640 and len(out["cls"]) == 2 and "ratio_pad" not in out
        np.testing.assert_allclose(iou(out["instances"].bboxes, frames(out["img"], out["cls"].ravel())), 1.0)
    sizes = [max(RandomZoomOut(1.0, limit=200)(sample(s))["img"].shape) for s in range(30)]
    assert max(sizes) in {200, 201} and min(sizes) > 160


def test_iou_crops_keep_objects_whose_centre_is_inside() -> None:
    kept = []
    for seed in range(20):
        before = sample(seed)["instances"].bboxes
        out = RandomIoUCrop(1.0)(sample(seed))
        h, w = out["img"].shape[:2]
        assert h >= 0.3 * 160 - 1 and w >= 0.3 * 160 - 1 and 0.5 <= w / h * 160 / 160 <= 2.05
        assert len(out["cls"]) >= 1 and len(out["cls"]) == len(out["instances"])
        boxes = out["instances"].bboxes
        assert (boxes >= 0).all() and (boxes[:, 2] <= w).all() and (boxes[:, 3] <= h).all()
        shown = frames(out["img"], out["cls"].ravel())
        np.testing.assert_allclose(boxes, shown, atol=1e-4)
        kept.append(len(boxes) / len(before))
    assert 0.5 < np.mean(kept) < 1.0


def test_photometric_changes_colours_alone() -> None:
    out = [RandomPhotometricDistort(1.0)(sample(s)) for s in range(8)]
    for s, o in enumerate(out):
        assert o["img"].shape == (160, 160, 3) and (o["img"] != sample(s)["img"]).any()
        np.testing.assert_array_equal(o["instances"].bboxes, sample(s)["instances"].bboxes)


def test_erasing_fills_a_patch_and_drops_hidden_objects() -> None:
    parts, dropped = [], 0
    for seed in range(150):
        plain, out = sample(seed), RandomErasing(1.0)(sample(seed))
        changed = (plain["img"] != out["img"]).any(2)
        ys, xs = np.nonzero(changed)
        patch = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
        parts.append((patch[2] - patch[0]) * (patch[3] - patch[1]) / 160**2)
        kept = out["cls"].ravel().tolist()
        for box, c in zip(plain["instances"].bboxes, plain["cls"].ravel().tolist(), strict=True):
            low, high = np.maximum(box[:2], patch[:2]), np.minimum(box[2:], patch[2:])
            hidden = np.clip(high - low, 0, None).prod() / (box[2:] - box[:2]).prod()
            if abs(hidden - 0.7) > 0.05:
                assert (c in kept) == (hidden < 0.7)
            dropped += c not in kept
    assert 0.01 < min(parts) and max(parts) < 0.16 and dropped > 0


def test_the_chain_cuts_whole_images_before_it_fits_them() -> None:
    """A tall image, zoomed and cropped, comes out at the network's size with boxes inside."""
    rates = AugmentParams(
        zoom_out=0.5, iou_crop=0.8, photometric=0.5, mosaic=0.0, scale=0.0, translate=0.0, erasing=0.2
    )
    assert rates.crops and not AugmentParams().crops
    seen = set()
    for seed in range(25):
        out = train_transforms(Scenes(h=300, w=200), 96, rates)(sample(seed, h=300, w=200))
        assert out["img"].shape == (3, 96, 96)
        corners = torch.cat(
            [out["bboxes"][:, :2] - out["bboxes"][:, 2:] / 2, out["bboxes"][:, :2] + out["bboxes"][:, 2:] / 2]
        )
        assert (corners > -1e-5).all() and (corners < 1 + 1e-5).all()
        seen.add(len(out["cls"]))
    assert seen >= {1, 2}
