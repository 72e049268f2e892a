"""Boxes and polygons under the moves that augmentations make."""

from __future__ import annotations

import numpy as np
import pytest

from ultralytics.utils.errors import ConfigError
from ultralytics.utils.instance import BOX_FORMATS, Bboxes, Instances


def boxes(n: int = 5, size: float = 100.0) -> np.ndarray:
    """Return n random xyxy boxes in a square."""
    corners = np.random.default_rng(n).uniform(0, size, (n, 2, 2))
    return np.concatenate([corners.min(1), corners.max(1)], 1).astype(np.float32)


@pytest.mark.parametrize("n", [0, 1, 5])
@pytest.mark.parametrize("a", BOX_FORMATS)
@pytest.mark.parametrize("b", BOX_FORMATS)
def test_conversion_is_a_round_trip(n: int, a: str, b: str) -> None:
    box = Bboxes(boxes(n))
    box.convert(a)
    before = box.bboxes.copy()
    box.convert(b)
    assert box.format == b and box.bboxes.shape == (n, 4) and box.bboxes.dtype == np.float32
    box.convert(a)
    np.testing.assert_allclose(box.bboxes, before, atol=1e-4)


@pytest.mark.parametrize("form", BOX_FORMATS)
def test_areas_do_not_depend_on_the_format(form: str) -> None:
    box = Bboxes(boxes())
    want = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in boxes().tolist()]
    box.convert(form)
    np.testing.assert_allclose(box.areas(), want, rtol=1e-5)


@pytest.mark.parametrize("form", BOX_FORMATS)
@pytest.mark.parametrize("move", ["fliplr", "flipud", "add_padding", "scale", "clip"])
def test_moves_agree_with_corner_arithmetic(form: str, move: str) -> None:
    """Each move in each format equals what it does to the four corners of a polygon."""
    box = boxes()
    polygons = np.stack([box[:, [0, 1]], box[:, [2, 1]], box[:, [2, 3]], box[:, [0, 3]]], 1)
    inst = Instances(box, polygons, "xyxy", normalized=False)
    inst.convert_bbox(form)
    arguments = {"fliplr": (100,), "flipud": (90,), "add_padding": (7, -3), "scale": (0.5, 2), "clip": (60, 40)}[move]
    getattr(inst, move)(*arguments)
    assert inst.format == form
    inst.convert_bbox("xyxy")
    corners = inst.segments
    frame = np.concatenate([corners.min(1), corners.max(1)], 1)
    np.testing.assert_allclose(inst.bboxes, frame, atol=1e-3)
    assert not np.allclose(inst.bboxes, box)


def test_flipping_twice_changes_nothing() -> None:
    inst = Instances(boxes(), None, "xyxy", normalized=False)
    for _ in range(2):
        inst.fliplr(100)
        inst.flipud(100)
    np.testing.assert_allclose(inst.bboxes, boxes(), atol=1e-4)


def test_normalising_is_idempotent_and_undone_by_denormalising() -> None:
    inst = Instances(boxes(), None, "xyxy", normalized=False)
    inst.normalize(100, 50)
    inst.normalize(100, 50)
    assert inst.normalized and inst.bboxes[:, 2].max() <= 1
    inst.denormalize(100, 50)
    inst.denormalize(100, 50)
    np.testing.assert_allclose(inst.bboxes, boxes(), atol=1e-4)


def test_boxes_without_area_are_dropped_with_their_polygons() -> None:
    inst = Instances([[0, 0, 5, 5], [3, 3, 3, 9]], np.zeros((2, 4, 2)), "xyxy", normalized=False)
    assert inst.remove_zero_area_boxes().tolist() == [True, False]
    assert len(inst) == 1 and inst.segments.shape == (1, 4, 2)


def test_indexing_by_integer_mask_slice_and_array() -> None:
    inst = Instances(boxes(4), np.arange(4 * 6).reshape(4, 3, 2), "xyxy", normalized=False)
    mask = np.array([True, False, True, False])
    for index, want in ((1, [1]), (-1, [3]), (slice(1, 3), [1, 2]), (mask, [0, 2]), ([3, 0], [3, 0])):
        got = inst[index]
        np.testing.assert_array_equal(got.bboxes, boxes(4)[want])
        np.testing.assert_array_equal(got.segments, inst.segments[want])


def test_joining_widens_polygons_and_gives_them_up_beside_plain_boxes() -> None:
    a = Instances(boxes(2), np.ones((2, 3, 2)), "xyxy")
    b = Instances(boxes(3), np.zeros((3, 5, 2)), "xyxy")
    nothing = Instances(np.zeros((0, 4)), None, "xyxy")
    joined = Instances.concatenate([a, nothing, b])
    assert joined.bboxes.shape == (5, 4) and joined.segments.shape == (5, 5, 2)
    assert (joined.segments[:2] == 1).all()
    assert not Instances.concatenate([a, Instances(boxes(1), None, "xyxy")]).has_segments
    assert len(Instances.concatenate([])) == 0


@pytest.mark.parametrize(
    "make",
    [
        lambda: Bboxes(np.zeros((2, 5))),
        lambda: Bboxes(np.zeros((2, 4)), "yxyx"),
        lambda: Bboxes(np.zeros((2, 4))).convert("corner"),
        lambda: Instances(np.zeros((2, 4)), np.zeros((1, 3, 2))),
        lambda: Instances(np.zeros((2, 4))).add_padding(1, 1),
        lambda: Instances.concatenate([Instances(boxes(1), None, "xyxy"), Instances(boxes(1), None, "xywh")]),
        lambda: Instances.concatenate([Instances(boxes(1)), Instances(boxes(1), normalized=False)]),
    ],
)
def test_wrong_use_is_an_error(make) -> None:
    with pytest.raises(ConfigError):
        make()


def test_copies_are_independent() -> None:
    inst = Instances(boxes(), None, "xyxy", normalized=False)
    other = inst.copy()
    other.bboxes[:] = 0
    np.testing.assert_array_equal(inst.bboxes, boxes())
