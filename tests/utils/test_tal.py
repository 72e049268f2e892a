"""Anchors, boxes as distances, and assignment, against slow loops; chunks, few anchors, tiny and empty targets."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ultralytics.utils import tal
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.metrics import bbox_iou
from ultralytics.utils.tal import Assignment, TaskAlignedAssigner, bbox2dist, dist2bbox, make_anchors

NC = 3


def scene(images: int, targets: int, seed: int = 0) -> tuple[Tensor, ...]:
    """Predictions near their anchors and targets on a 96 x 64 px image of strides 8 and 16."""
    g = torch.Generator().manual_seed(seed)
    feats = [torch.zeros(images, 1, 8, 12), torch.zeros(images, 1, 4, 6)]
    points, strides = make_anchors(feats, [8, 16])
    points = points * strides
    sides = 4 + 24 * torch.rand(images, len(points), 4, generator=g)
    boxes = dist2bbox(sides, points, xywh=False)
    scores = torch.rand(images, len(points), NC, generator=g)
    centre = torch.rand(images, targets, 2, generator=g) * torch.tensor([96.0, 64.0])
    size = 6 + 40 * torch.rand(images, targets, 2, generator=g)
    gt = torch.cat((centre - size / 2, centre + size / 2), -1)
    labels = torch.randint(0, NC, (images, targets, 1), generator=g)
    mask = torch.ones(images, targets, 1, dtype=torch.bool)
    return scores, boxes, points, labels, gt, mask


def slow(scores: Tensor, boxes: Tensor, points: Tensor, labels: Tensor, gt: Tensor, topk: int) -> list[dict[int, int]]:
    """The target of each positive anchor of each image, by loops over targets and anchors."""
    out = []
    for image in range(len(scores)):
        metric = torch.zeros(gt.shape[1], len(points))
        overlap = torch.zeros_like(metric)
        for n, box in enumerate(gt[image]):
            grown = box.clone()
            for lo, hi in ((0, 2), (1, 3)):
                if box[hi] - box[lo] < 16:
                    middle = (box[lo] + box[hi]) / 2
                    grown[lo], grown[hi] = middle - 8, middle + 8
            for a, (x, y) in enumerate(points.tolist()):
                if grown[0] < x < grown[2] and grown[1] < y < grown[3]:
                    iou = float(bbox_iou(box, boxes[image, a], xywh=False, CIoU=True))
                    overlap[n, a] = max(iou, 0.0)
                    metric[n, a] = scores[image, a, int(labels[image, n])] ** 0.5 * overlap[n, a] ** 6
        wanted: dict[int, list[int]] = {}
        for n in range(len(metric)):
            for a in metric[n].topk(topk).indices.tolist():
                if metric[n, a] > 0:
                    wanted.setdefault(a, []).append(n)
        out.append({a: ns[0] if len(ns) == 1 else int(overlap[:, a].argmax()) for a, ns in wanted.items()})
    return out


def test_anchors_of_a_wide_map_go_row_by_row() -> None:
    points, strides = make_anchors([torch.zeros(2, 7, 2, 3), torch.zeros(2, 7, 1, 2)], torch.tensor([8.0, 16.0]))
    want = [(x + 0.5, y + 0.5) for h, w in ((2, 3), (1, 2)) for y in range(h) for x in range(w)]
    assert points.tolist() == [list(p) for p in want]
    assert strides.flatten().tolist() == [8.0] * 6 + [16.0] * 2


def test_half_maps_get_whole_anchors() -> None:
    points, _ = make_anchors([torch.zeros(1, 1, 1, 700, dtype=torch.bfloat16)], [8])
    assert points[-1].tolist() == [699.5, 0.5]


def test_distances_and_boxes_are_inverse() -> None:
    points = torch.rand(9, 2) * 10
    sides = torch.rand(2, 9, 4) * 5
    boxes = dist2bbox(sides, points, xywh=False)
    torch.testing.assert_close(bbox2dist(points, boxes), sides)
    assert bbox2dist(points, boxes, 2).max() == pytest.approx(1.99)


@pytest.mark.parametrize("seed", range(4))
def test_assignment_equals_the_loops(seed: int) -> None:
    data = scene(2, 5, seed)
    got: Assignment = TaskAlignedAssigner(4, NC, 0.5, 6.0, stride=[8, 16])(*data)
    want = slow(*data[:5], topk=4)
    for image, expected in enumerate(want):
        weight = got.scores[image].sum(-1)
        positives = (weight > 0).nonzero().flatten().tolist()
        assert {a: int(got.gt_idx[image, a]) for a in positives} == expected
        for a, n in expected.items():
            assert got.fg[image, a] and got.labels[image, a] == data[3][image, n, 0]
            assert torch.equal(got.bboxes[image, a], data[4][image, n])


def test_the_dense_path_of_other_devices_gives_the_same_overlaps() -> None:
    _, boxes, _, _, gt, _ = scene(2, 6)
    candidates = torch.rand(2, 6, boxes.shape[1]) < 0.3
    sparse = tal._overlaps(boxes, gt, candidates)
    dense = bbox_iou(gt.unsqueeze(2), boxes.unsqueeze(1), xywh=False, CIoU=True).squeeze(-1).clamp(min=0) * candidates
    torch.testing.assert_close(sparse, dense)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    data = scene(5, 7)
    assigner = TaskAlignedAssigner(6, NC, stride=[8, 16], topk2=2)
    whole = assigner(*data)
    monkeypatch.setattr(tal, "CHUNK", 2 * 7 * data[0].shape[1])
    for a, b in zip(whole, assigner(*data), strict=True):
        assert torch.equal(a, b)


def test_no_targets_are_all_background() -> None:
    scores, boxes, points, *_ = scene(2, 1)
    got = TaskAlignedAssigner(num_classes=NC)(
        scores, boxes, points, torch.zeros(2, 0, 1), torch.zeros(2, 0, 4), torch.zeros(2, 0, 1)
    )
    assert not got.fg.any() and not got.scores.any() and bool((got.labels == NC).all())


def test_padding_rows_take_nothing() -> None:
    scores, boxes, points, labels, gt, mask = scene(2, 3)
    mask[:, 1:] = False
    alone = TaskAlignedAssigner(num_classes=NC)(scores, boxes, points, labels[:, :1], gt[:, :1], mask[:, :1])
    padded = TaskAlignedAssigner(num_classes=NC)(scores, boxes, points, labels, gt, mask)
    assert torch.equal(alone.fg, padded.fg) and torch.equal(alone.scores, padded.scores)


def test_fewer_anchors_than_picks() -> None:
    """The reference raises here: a 32 px image of two levels has 5 anchors."""
    points, strides = make_anchors([torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 1, 1)], [16, 32])
    points = points * strides
    boxes = dist2bbox(torch.full((1, 5, 4), 8.0), points, xywh=False)
    gt = torch.tensor([[[0.0, 0.0, 32.0, 32.0]]])
    scores, label = torch.full((1, 5, NC), 0.5), torch.zeros(1, 1, 1)
    got = TaskAlignedAssigner(10, NC, stride=[16, 32])(scores, boxes, points, label, gt, torch.ones(1, 1, 1))
    assert bool(got.fg.all())


def test_a_tiny_target_finds_anchors() -> None:
    points, strides = make_anchors([torch.zeros(1, 1, 8, 8)], [8])
    points = points * strides
    gt = torch.tensor([[[30.0, 30.0, 33.0, 33.0]]])  # no anchor lies inside
    boxes = dist2bbox(torch.full((1, 64, 4), 4.0), points, xywh=False)
    got = TaskAlignedAssigner(10, NC, stride=[8, 16])(
        torch.full((1, 64, NC), 0.5), boxes, points, torch.zeros(1, 1, 1), gt, torch.ones(1, 1, 1)
    )
    assert got.fg.any()


@pytest.mark.parametrize("topk", [{"topk": 0}, {"topk": 3, "topk2": 0}])
def test_counts_below_one_are_refused(topk: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        TaskAlignedAssigner(**topk)
