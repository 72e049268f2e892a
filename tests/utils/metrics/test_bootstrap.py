"""Bootstrap over images: each replicate is what COCO's metrics give on the drawn list of images."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.utils.metrics.coco_sets import KINDS, make_set
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.metrics.bootstrap import Bootstrap, bootstrap_coco, draw_weights, percentile_interval
from ultralytics.utils.metrics.coco import STAT_NAMES, CocoImage, coco_ap


def distinct_scores(images: list[CocoImage], seed: int) -> list[CocoImage]:
    """Copies of one image stay together in the order of scores only if no other image ties with them."""
    rng = np.random.default_rng(seed)
    return [replace(i, scores=rng.random(len(i.scores))) for i in images]


def listed(images: list[CocoImage], weights: Any) -> list[CocoImage]:
    """Write a replicate out: each image as often as it was drawn."""
    copies = [image for image, n in zip(images, weights, strict=True) for _ in range(n)]
    return [replace(image, image_id=i) for i, image in enumerate(copies)]


@pytest.mark.parametrize("name", ["plain", "crowds", "empty images", "above 100", "areas given", "only crowds"])
def test_a_replicate_is_the_metric_of_the_drawn_list(name: str) -> None:
    images = distinct_scores(make_set(1, KINDS[name]), 1)
    weights = draw_weights(len(images), samples=4, seed=3)
    got = bootstrap_coco(images, weights=weights)
    for row, per_class, weight in zip(got.stats, got.class_ap, weights, strict=True):
        want = coco_ap(listed(images, weight))
        np.testing.assert_allclose(np.nan_to_num(row, nan=-1), want.stats, atol=1e-12)
        for c, ap in zip(got.classes, per_class, strict=True):
            at = np.flatnonzero(want.classes == c)
            expected = want.ap[at[0], 0].mean() if len(at) else -1
            assert np.nan_to_num(ap, nan=-1) == pytest.approx(expected, abs=1e-12)


def test_every_image_once_is_the_metric_itself() -> None:
    for seed, kind in enumerate(KINDS.values()):
        images = make_set(seed, kind)
        got = bootstrap_coco(images, weights=np.ones((1, len(images)), np.int64))
        np.testing.assert_allclose(np.nan_to_num(got.stats[0], nan=-1), coco_ap(images).stats, atol=1e-12)


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    images = make_set(0, KINDS["plain"])
    whole = bootstrap_coco(images, samples=20)
    monkeypatch.setattr("ultralytics.utils.metrics.bootstrap._CHUNK", 3000)
    np.testing.assert_array_equal(bootstrap_coco(images, samples=20).stats, whole.stats)


def test_seed_decides() -> None:
    images = make_set(0, KINDS["plain"])
    a, b, c = (bootstrap_coco(images, samples=30, seed=s).stats for s in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - c).max() > 0


def test_interval_holds_the_value_and_narrows_with_images() -> None:
    few, many = make_set(0, KINDS["plain"])[:6], [i for s in range(8) for i in make_set(s, KINDS["plain"])]
    many = [replace(image, image_id=i) for i, image in enumerate(many)]
    width = []
    for images in (few, many):
        value = coco_ap(images).stats[0]
        interval = bootstrap_coco(images, samples=200).interval("AP", value)
        assert interval.low < value < interval.high
        width.append(interval.high - interval.low)
    assert width[1] < width[0]


def test_paired_difference_is_of_the_same_draws() -> None:
    """A detector and itself: every difference is 0. A worse copy: below 0, narrower than unpaired."""
    images = [replace(i, image_id=n) for n, i in enumerate(make_set(2, KINDS["plain"]) + make_set(3, KINDS["plain"]))]
    worse = [replace(i, boxes=i.boxes + 4.0) for i in images]
    a, b = bootstrap_coco(images, samples=200), bootstrap_coco(worse, samples=200)
    same = a.difference(a, "AP", 0.0)
    assert (same.low, same.high) == (0, 0)
    change = float(coco_ap(worse).stats[0] - coco_ap(images).stats[0])
    interval = b.difference(a, "AP", change)
    assert interval.low < change < interval.high < 0
    shuffled = Bootstrap(a.stats[::-1], a.class_ap, a.classes)
    unpaired = b.difference(shuffled, "AP", change)
    assert interval.high - interval.low < unpaired.high - unpaired.low


@pytest.mark.parametrize(("images", "samples"), [([], 10), (make_set(0, KINDS["plain"]), 0)])
def test_nothing_to_draw(images: list[CocoImage], samples: int) -> None:
    with pytest.raises(ConfigError, match="needs images and samples"):
        bootstrap_coco(images, samples=samples)


def test_difference_needs_equal_draws() -> None:
    images = make_set(0, KINDS["plain"])
    with pytest.raises(ConfigError, match="cannot be paired"):
        bootstrap_coco(images, samples=3).difference(bootstrap_coco(images, samples=4), "AP", 0.0)


def test_undefined_numbers_have_no_interval() -> None:
    images = make_set(0, KINDS["no targets"])
    interval = bootstrap_coco(images, samples=5).interval("AP", -1.0)
    assert np.isnan([interval.low, interval.high]).all()
    assert percentile_interval(np.array([np.nan, 1.0]), 1.0).low == 1.0
    assert len(STAT_NAMES) == 12
