"""COCO's twelve numbers: equal to pycocotools on many made-up data sets of every awkward kind, and by hand."""

import numpy as np
import pytest

from tests.utils.metrics.coco_sets import KINDS, make_set, pycoco
from ultralytics.utils.metrics import CocoImage, coco_ap
from ultralytics.utils.metrics.coco import STAT_NAMES


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", KINDS)
def test_equals_pycocotools(name, seed):
    images = make_set(seed, KINDS[name])
    want, details = pycoco(images)
    got = coco_ap(images)
    if name == "no detections":  # sizes without a target are undefined; all else is 0
        assert set(got.stats.tolist()) <= {0.0, -1.0} and got.stats[0] == 0
        return
    np.testing.assert_allclose(got.stats, want, atol=1e-9)
    # per class, size and threshold too: sums may agree by chance
    precision = np.moveaxis(details["precision"][..., 2], 1, -1)  # (T, K, A, R)
    np.testing.assert_allclose(got.ap, np.moveaxis(precision.mean(-1), 0, -1), atol=1e-9)
    np.testing.assert_allclose(got.recall, np.moveaxis(details["recall"], 0, 2), atol=1e-9)


def test_the_comparison_can_fail():
    images = make_set(0, KINDS["plain"])
    want, _ = pycoco(images)
    wrong = [CocoImage(i.boxes + 2, i.scores, i.classes, i.target_boxes, i.target_classes) for i in images]
    assert np.abs(coco_ap(wrong).stats - want).max() > 1e-3


def test_empty():
    result = coco_ap([])
    assert result.as_dict() == dict.fromkeys(STAT_NAMES, -1.0) and result.ap.shape == (0, 4, 10)
    none = CocoImage(np.zeros((0, 4)), np.zeros(0), np.zeros(0), np.zeros((0, 4)), np.zeros(0))
    assert coco_ap([none]).as_dict() == dict.fromkeys(STAT_NAMES, -1.0)


def test_perfect_detector_gets_one():
    boxes = np.array([[0, 0, 10, 10], [20, 20, 70, 70], [100, 100, 300, 300]], float)
    result = coco_ap([CocoImage(boxes, np.array([0.9, 0.8, 0.7]), np.zeros(3), boxes, np.zeros(3))])
    assert result.stats[:6].tolist() == [1.0] * 6
    assert result.as_dict()["AR1"] == pytest.approx(1 / 3)


def test_by_hand():
    """One target found by the second detection: precision 1/2 at the thresholds that its overlap reaches."""
    target, far = [0, 0, 100, 100], [500, 500, 600, 600]
    dets = np.array([far, [0, 0, 100, 72]], float)  # IoU 0.72: 5 of the 10 thresholds
    result = coco_ap([CocoImage(dets, np.array([0.9, 0.5]), np.zeros(2), np.array([target], float), np.zeros(1))])
    np.testing.assert_allclose(result.ap[0, 0], [0.5] * 5 + [0.0] * 5)
    assert result.as_dict()["AP"] == pytest.approx(0.25)


def test_only_the_first_hundred_count():
    target = np.array([[0, 0, 50, 50]], float)
    far = np.tile([[200.0, 200.0, 250.0, 250.0]], (100, 1))
    scores = np.linspace(1, 0.5, 101)
    image = CocoImage(np.concatenate([far, target]), scores, np.zeros(101), target, np.zeros(1))
    assert coco_ap([image]).stats[0] == 0
    image = CocoImage(np.concatenate([far[1:], target]), scores[1:], np.zeros(100), target, np.zeros(1))
    assert coco_ap([image]).stats[0] == pytest.approx(0.01)


def test_image_order_follows_the_ids():
    images = make_set(3, KINDS["ties"])
    order = np.random.default_rng(0).permutation(len(images))
    np.testing.assert_array_equal(coco_ap(images).stats, coco_ap([images[i] for i in order]).stats)


def test_mixed_ids_keep_the_given_order():
    images = make_set(3, KINDS["ties"])
    mixed = [CocoImage(**{**vars(i), "image_id": n if n % 2 else f"im{n}"}) for n, i in enumerate(images)]
    np.testing.assert_array_equal(coco_ap(mixed).stats, coco_ap(images).stats)


def test_more_boxes_of_a_large_image_count() -> None:
    """An image with the targets of two, of which each has 80, has their AP where 200 boxes count."""
    boxes = np.array([[i * 50.0, 0, i * 50 + 40, 40] for i in range(160)])
    scores = np.linspace(0.9, 0.1, 160)

    def image(part: slice, **more: int) -> CocoImage:
        n = len(scores[part])
        return CocoImage(boxes[part], scores[part], np.zeros(n), boxes[part], np.zeros(n), **more)

    halves = [image(slice(0, 160, 2), image_id=0), image(slice(1, 160, 2), image_id=1)]
    assert coco_ap(halves).stats[0] == pytest.approx(1)
    assert coco_ap([image(slice(None))]).stats[0] == pytest.approx(63 / 101)  # recall up to 100 / 160
    large = coco_ap([image(slice(None), max_dets=200)])
    assert large.stats[0] == large.stats[8] == pytest.approx(1)  # AP, and the last AR: of all that count
