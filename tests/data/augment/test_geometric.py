"""Warps and flips: boxes against the pixels that were warped with them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tests.data.augment.scenes import SIDE, Scenes, frames, iou
from ultralytics.data.augment import LetterBox, RandomFlip, RandomPerspective
from ultralytics.data.augment.geometric import box_candidates, clip_polygon, warp_points
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.instance import Instances


def mask_frame(corners: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, bool]:
    """Warp a filled quadrilateral's mask, 4 times enlarged; return its frame and whether it is away from the rim."""
    zoom = 4
    big = np.diag([zoom, zoom, 1.0]) @ matrix
    points = corners @ big[:, :2].T + big[:, 2]
    points = points[:, :2] / points[:, 2:]
    mask = np.zeros((size[1] * zoom, size[0] * zoom), np.uint8)
    cv2.fillPoly(mask, [np.round(points * 256).astype(np.int64).astype(np.int32)], 1, shift=8)
    ys, xs = np.nonzero(mask)
    if not len(xs):
        return np.full(4, np.nan), False
    frame = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]) / zoom
    inside = frame[0] > 1 and frame[1] > 1 and frame[2] < size[0] - 1 and frame[3] < size[1] - 1
    return frame, bool(inside)


@pytest.mark.parametrize(
    "options",
    [
        {"translate": 0.1, "scale": 0.5},
        {"degrees": 45.0, "translate": 0.0, "scale": 0.3},
        {"shear": 15.0, "translate": 0.05, "scale": (0.6, 1.2)},
        {"perspective": 0.0008, "translate": 0.0, "scale": 0.3},
        {"degrees": 20.0, "shear": 8.0, "perspective": 0.0004, "translate": 0.1, "scale": 0.4},
    ],
    ids=["affine", "rotation", "shear", "perspective", "all"],
)
@pytest.mark.parametrize("polygons", [False, True])
def test_boxes_frame_the_warped_mask(options: dict, polygons: bool) -> None:
    """A box is the frame of its warped corners: IoU with the mask warped the same way is at least 0.95."""
    source, warp, seen = Scenes(polygons=polygons), RandomPerspective(**options), 0
    size = (SIDE, SIDE)
    for seed in range(60):
        sample = source.get_image_and_label(seed % 8, np.random.default_rng(seed))
        corners = sample["instances"].bboxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
        matrix, _ = warp.matrix(np.random.default_rng(seed), size, size)
        classes = sample["cls"].ravel().tolist()
        out = warp(sample)
        for box, cls in zip(out["instances"].bboxes, out["cls"].ravel().tolist(), strict=True):
            want, inside = mask_frame(corners[classes.index(cls)], matrix, size)
            big = min(want[2] - want[0], want[3] - want[1]) > 16
            if inside and big:
                assert iou(box[None], want[None])[0] >= 0.95
                seen += 1
    assert seen > 20


def test_pixels_move_with_the_boxes() -> None:
    """Without rotation, the pixels of each object fill its moved box."""
    warp, seen = RandomPerspective(translate=0.1, scale=0.3), 0
    for seed in range(40):
        out = warp(Scenes().get_image_and_label(seed % 8, np.random.default_rng(seed)))
        shown = frames(out["img"], out["cls"].ravel())
        good = iou(out["instances"].bboxes, shown)
        good = good[~np.isnan(good)]
        assert (good > 0.85).all()
        seen += len(good)
    assert seen > 40


def test_the_matrix_keeps_the_centre_near_the_middle_and_its_parts_in_bounds() -> None:
    """Turning and scaling are about the centre; shift, gain and angle stay within what was asked for, and vary."""
    warp = RandomPerspective(degrees=30.0, translate=0.1, scale=0.4)
    rows = []
    for seed in range(200):
        matrix, gain = warp.matrix(np.random.default_rng(seed), (200, 100), (80, 60))
        x, y = warp_points(np.array([[100, 50]], np.float32), matrix)[0] / (80, 60)
        linear = matrix[:2, :2].astype(float)
        np.testing.assert_allclose(linear @ linear.T, gain**2 * np.eye(2), atol=1e-4)
        rows.append((x, y, gain, np.degrees(np.arctan2(linear[1, 0], linear[0, 0]))))
    low, high = np.min(rows, 0), np.max(rows, 0)
    assert (low >= (0.4, 0.4, 0.6, -30)).all() and (high <= (0.6, 0.6, 1.4, 30)).all()
    assert (low < (0.42, 0.42, 0.65, -25)).all() and (high > (0.58, 0.58, 1.35, 25)).all()


def test_objects_that_leave_the_frame_are_dropped() -> None:
    sample = Scenes().get_image_and_label(0)
    far = RandomPerspective(translate=0.0, scale=(8.0, 8.0))
    out = far(sample)
    assert len(out["instances"]) == len(out["cls"]) and "ratio_pad" not in out
    b = out["instances"].bboxes
    assert (b >= 0).all() and (b <= SIDE).all()


def test_no_strength_is_the_identity() -> None:
    sample = Scenes().get_image_and_label(3)
    image, boxes = sample["img"].copy(), sample["instances"].bboxes.copy()
    out = RandomPerspective(translate=0.0, scale=0.0)(sample)
    np.testing.assert_array_equal(out["img"], image)
    np.testing.assert_allclose(out["instances"].bboxes, boxes, atol=1e-4)


def test_empty_samples_and_other_sizes() -> None:
    sample = Scenes(h=60, w=100).get_image_and_label(0)
    sample["instances"], sample["cls"] = Instances(np.zeros((0, 4))), np.zeros((0, 1), np.float32)
    out = RandomPerspective(size=(64, 48), degrees=10)(sample)
    assert out["img"].shape == (48, 64, 3) and len(out["instances"]) == 0 and out["resized_shape"] == (48, 64)


def test_the_fitting_step_is_skipped_after_a_mosaic() -> None:
    warp = RandomPerspective(translate=0.0, scale=0.0, size=(64, 64), pre_transform=LetterBox(64))
    sample = Scenes(h=60, w=120).get_image_and_label(0)
    assert (warp(sample)["img"][0] == 114).all(), "letterboxed"
    sample = Scenes(h=128, w=128).get_image_and_label(0)
    sample["mosaic"] = True
    out = warp(sample)
    assert out["img"].shape == (64, 64, 3) and "mosaic" not in out


def test_warped_points_equal_the_homogeneous_product() -> None:
    rng = np.random.default_rng(0)
    matrix, points = rng.normal(size=(3, 3)).astype(np.float32), rng.normal(size=(2, 5, 2)).astype(np.float32)
    for i in range(2):
        for j in range(5):
            x, y, z = matrix.astype(float) @ [*points[i, j], 1]
            np.testing.assert_allclose(warp_points(points, matrix)[i, j], [x / z, y / z], rtol=1e-3)


@pytest.mark.parametrize(
    "polygon, want",
    [
        (np.zeros((0, 2)), None),
        ([[1, 1], [5, 1], [5, 5]], (1, 1, 5, 5)),
        ([[-5, 2], [5, 2], [5, 8], [-5, 8]], (0, 2, 5, 8)),
        ([[-5, -5], [-1, -5], [-1, -1]], None),
        ([[-5, 5], [5, -5], [15, 5], [5, 15]], (0, 0, 10, 10)),
        ([[2, -8], [8, 5], [2, 5]], (2, 0, 8, 5)),
    ],
)
def test_cutting_polygons(polygon, want) -> None:
    out = clip_polygon(np.asarray(polygon, np.float32), 10, 10)
    if want is None:
        assert len(out) == 0
    else:
        np.testing.assert_allclose([*out.min(0), *out.max(0)], want, atol=1e-5)


def test_cut_polygons_have_the_area_that_a_raster_shows() -> None:
    rng = np.random.default_rng(1)
    for _ in range(30):
        angles = np.sort(rng.uniform(0, 2 * np.pi, 7))
        polygon = (rng.uniform(-20, 120, 2) + 60 * np.stack([np.cos(angles), np.sin(angles)], 1)).astype(np.float32)
        out = clip_polygon(polygon, 100, 100)
        mask = np.zeros((400, 400), np.uint8)
        shifted = polygon + 150
        cv2.fillPoly(mask, [np.round(shifted * 256).astype(np.int32)], 1, shift=8)
        want = mask[150:250, 150:250].sum()
        x, y = (out[:, 0], out[:, 1]) if len(out) else (np.zeros(1), np.zeros(1))
        area = abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
        assert abs(area - want) < 0.02 * want + 230, "equal up to the raster's rim"


def test_candidates() -> None:
    before = np.array([[0, 0, 10, 10]] * 5, np.float32)
    after = np.array([[0, 0, 10, 10], [0, 0, 2, 9], [0, 0, 3, 3], [0, 0, 10, 0], [0, 0, 10, 3]], np.float32)
    assert box_candidates(before, after).tolist() == [True, False, False, False, True]
    assert box_candidates(np.zeros((0, 4), np.float32), np.zeros((0, 4), np.float32)).shape == (0,)


@pytest.mark.parametrize("direction, axis", [("horizontal", 1), ("vertical", 0)])
@pytest.mark.parametrize("normalised", [False, True])
def test_flips(direction: str, axis: int, normalised: bool) -> None:
    sample = Scenes(h=80, w=160).get_image_and_label(1)
    image = sample["img"].copy()
    if normalised:
        sample["instances"].normalize(160, 80)
    out = RandomFlip(1.0, direction)(sample)
    np.testing.assert_array_equal(out["img"], np.flip(image, axis))
    out["instances"].denormalize(160, 80)
    np.testing.assert_allclose(out["instances"].bboxes, frames(out["img"], out["cls"].ravel()), atol=1e-3)
    assert out["img"].flags.c_contiguous


def test_flip_rates() -> None:
    flips = [
        bool((RandomFlip(0.3)(Scenes().get_image_and_label(0, np.random.default_rng(s)))["img"][:, :80, 0] == 2).any())
        for s in range(300)
    ]
    assert 0.2 < np.mean(flips) < 0.4
    for wrong in ((1.5, "horizontal"), (0.5, "diagonal")):
        with pytest.raises(ConfigError):
            RandomFlip(*wrong)
