"""Fusion of the boxes of views, against loops over plain numbers and drawn cases whose answer is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ultralytics.utils.tiles.fusion import MATCH_IOU, ViewBoxes, common_iou, cut_sides, fuse_boxes


def detections(rows: list[tuple[list[float], float, int, int, str]]) -> ViewBoxes:
    """Return boxes from rows of corners, score, class, view, and the cut sides as letters of `ltrb`."""
    cut = np.array([[side in r[4] for side in "ltrb"] for r in rows], bool).reshape(-1, 4)
    boxes = np.array([r[0] for r in rows], np.float64).reshape(-1, 4)
    scores, classes, views = (np.array([r[i] for r in rows]) for i in (1, 2, 3))
    return ViewBoxes(boxes, scores.astype(float), classes.astype(np.int64), views.astype(np.int64), cut)


def iou_where_both_see(a: list[float], cut_a: list[bool], b: list[float], cut_b: list[bool]) -> float:
    """IoU of two boxes, each limited at the sides where the other is cut; one number at a time."""
    low, high = (max, max, min, min), range(4)
    a, b = ([low[s](x[s], y[s]) if cut[s] else x[s] for s in high] for x, y, cut in ((a, b, cut_b), (b, a, cut_a)))
    area = lambda x: max(x[2] - x[0], 0) * max(x[3] - x[1], 0)  # noqa: E731
    inter = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    union = area(a) + area(b) - inter
    return inter / union if union > 0 else 0.0


def by_loops(found: ViewBoxes) -> list[tuple[int, float, list[float]]]:
    """The clusters as class, score and box; every fused box is computed again from its members."""
    rows = [tuple(column[i].tolist() for column in found) for i in range(len(found.boxes))]
    rows.sort(key=lambda r: -r[1])
    clusters: list[list[Any]] = []

    def fused(members: list[Any]) -> tuple[list[float], list[bool]]:
        box, cut = [], []
        for side in range(4):
            whole = [(m[1], m[0][side]) for m in members if not m[4][side]]
            outermost = (min if side < 2 else max)(m[0][side] for m in members)
            box.append(sum(w * x for w, x in whole) / sum(w for w, _ in whole) if whole else outermost)
            cut.append(not whole)
        return box, cut

    for row in rows:
        best, target = MATCH_IOU, None
        for members in clusters:
            if members[0][2] == row[2] and all(m[3] != row[3] for m in members):
                box, cut = fused(members)
                overlap = iou_where_both_see(row[0], row[4], box, cut)
                if overlap > best:
                    best, target = overlap, members
        if target is None:
            clusters.append([row])
        else:
            target.append(row)
    return sorted(((m[0][2], max(r[1] for r in m), fused(m)[0]) for m in clusters), key=lambda c: -c[1])


@pytest.mark.parametrize("seed", range(4))
def test_it_is_what_loops_give(seed: int) -> None:
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0, 300, (12, 2))[rng.integers(0, 12, 150)] + rng.normal(0, 4, (150, 2))
    sides = rng.uniform(20, 60, (150, 2))
    boxes = np.concatenate([centres - sides / 2, centres + sides / 2], 1)
    cut = rng.random((150, 4)) < 0.15
    found = ViewBoxes(boxes, rng.random(150), rng.integers(0, 3, 150), rng.integers(0, 5, 150), cut)
    want, got = by_loops(found), fuse_boxes(found)
    assert len(want) == len(got.scores) < 150
    np.testing.assert_allclose(got.scores, [s for _, s, _ in want])
    assert got.classes.tolist() == [c for c, _, _ in want]
    np.testing.assert_allclose(got.boxes, [b for _, _, b in want])


def test_nothing() -> None:
    fused = fuse_boxes(detections([]))
    assert fused.boxes.shape == (0, 4) and len(fused.scores) == len(fused.classes) == 0


@pytest.mark.parametrize(
    ("rows", "want"),
    [
        # one object whole in two views: the mean by score, the best score
        ([([10, 10, 50, 50], 0.9, 0, 0, ""), ([14, 10, 54, 50], 0.3, 0, 1, "")], [[11, 10, 51, 50]]),
        # another class, or the same view: two objects
        ([([10, 10, 50, 50], 0.9, 0, 0, ""), ([10, 10, 50, 50], 0.8, 1, 1, "")], [[10, 10, 50, 50]] * 2),
        ([([10, 10, 50, 50], 0.9, 0, 0, ""), ([10, 10, 50, 50], 0.8, 0, 0, "")], [[10, 10, 50, 50]] * 2),
        # a quarter of it at the edge of the second tile: the whole box stays as it is
        ([([90, 10, 130, 50], 0.6, 0, 0, ""), ([120, 10, 130, 50], 0.9, 0, 1, "l")], [[90, 10, 130, 50]]),
        # cut in both tiles: they agree where both see, 100 to 140
        ([([20, 10, 140, 50], 0.9, 0, 0, "r"), ([100, 10, 260, 50], 0.7, 0, 1, "l")], [[20, 10, 260, 50]]),
        # two objects, each cut, that do not agree there
        (
            [([20, 10, 140, 50], 0.9, 0, 0, "r"), ([100, 60, 260, 90], 0.7, 0, 1, "l")],
            [[20, 10, 140, 50], [100, 60, 260, 90]],
        ),
    ],
)  # fmt: skip
def test_cases_with_a_known_answer(rows: list[Any], want: list[list[float]]) -> None:
    fused = fuse_boxes(detections(rows))
    np.testing.assert_allclose(fused.boxes, want)
    assert fused.scores[0] == max(r[1] for r in rows)


def test_a_box_that_lies_elsewhere_has_no_common_part() -> None:
    box, others = np.array([0.0, 0, 10, 10]), np.array([[20.0, 20, 30, 30]])
    assert common_iou(box, np.array([False, False, True, False]), others, np.zeros((1, 4), bool)).tolist() == [0.0]


def test_sides_at_inner_edges_are_cut() -> None:
    boxes = np.array([[0.0, 20, 30, 62.5], [10, 10, 20, 20]])
    assert cut_sides(boxes, (0, 0, 64, 64), (True, True, True, True), 2.0).tolist() == [
        [True, False, False, True],
        [False] * 4,
    ]
    assert not cut_sides(boxes, (0, 0, 64, 64), (False,) * 4, 2.0).any()
