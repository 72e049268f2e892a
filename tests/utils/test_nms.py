"""NMS against a slow loop; classes that never meet, rows of NMS-free heads, class filters before the choice."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ultralytics.utils.errors import ConfigError
from ultralytics.utils.metrics import box_iou
from ultralytics.utils.nms import nms_free_rows, non_max_suppression
from ultralytics.utils.ops import xywh2xyxy


def prediction(anchors: int = 60, nc: int = 4, seed: int = 0, images: int = 2) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    boxes = torch.rand(images, 4, anchors, generator=g) * torch.tensor([300.0, 200, 80, 80]).view(1, 4, 1) + 5
    return torch.cat((boxes, torch.rand(images, nc, anchors, generator=g)), 1)


def slow(image: Tensor, conf: float, iou: float) -> list[tuple[float, ...]]:
    """Greedy suppression within a class, best class of each anchor only."""
    rows = []
    for a in range(image.shape[1]):
        score, label = image[4:, a].max(0)
        if score > conf:
            rows.append((*xywh2xyxy(image[:4, a]).tolist(), float(score), float(label)))
    rows.sort(key=lambda r: -r[4])
    kept: list[tuple[float, ...]] = []
    for row in rows:
        box = torch.tensor([row[:4]])
        same = [k for k in kept if k[5] == row[5]]
        if not same or float(box_iou(box, torch.tensor(same)[:, :4]).max()) <= iou:
            kept.append(row)
    return kept


@pytest.mark.parametrize("seed", range(3))
def test_equals_the_loop(seed: int) -> None:
    y = prediction(seed=seed)
    for image, got in zip(y, non_max_suppression(y, 0.6, 0.4), strict=True):
        want = torch.tensor(slow(image, 0.6, 0.4))
        torch.testing.assert_close(got, want)


def test_classes_never_meet_however_far_a_box_lies() -> None:
    """An offset of 7680 px, as elsewhere, lets a box beyond it suppress one of the next class."""
    y = torch.zeros(1, 6, 2)
    y[0, :4, 0] = torch.tensor([7700.0, 7700, 20, 20])
    y[0, :4, 1] = torch.tensor([20.0, 20, 20, 20])
    y[0, 4, 0], y[0, 5, 1] = 0.9, 0.8
    assert len(non_max_suppression(y, 0.1)[0]) == 2
    assert len(non_max_suppression(y, 0.1, max_wh=7680)[0]) == 1  # when it is asked for


def test_small_boxes_of_a_late_class_keep_their_precision() -> None:
    a, b = [100.0, 100.0, 3.0, 3.0], [101.0, 100.0, 3.0, 3.0]  # IoU 0.5
    kept = []
    for label in (0, 79):
        y = torch.zeros(1, 84, 2)
        y[0, :4, 0], y[0, :4, 1] = torch.tensor(a), torch.tensor(b)
        y[0, 4 + label] = torch.tensor([0.9, 0.8])
        kept.append(len(non_max_suppression(y, 0.1, 0.4999)[0]))
    assert kept == [1, 1]


def test_no_image_is_left_out_for_lack_of_time() -> None:
    y = prediction(400, 8, images=4)
    rows = non_max_suppression(y, 0.001, 0.7, multi_label=True, max_time_img=0.0)
    assert all(len(r) for r in rows)


def test_six_raw_anchors_are_not_rows() -> None:
    y = prediction(6, 4, images=1)
    got = non_max_suppression(y, 0.3, 0.9)[0]
    torch.testing.assert_close(got, torch.tensor(slow(y[0], 0.3, 0.9)))


def test_rows_of_an_nms_free_head_are_only_filtered() -> None:
    rows = torch.tensor([[[0.0, 0, 5, 5, 0.9, 1], [0.0, 0, 5, 5, 0.8, 0], [0.0, 0, 5, 5, 0.2, 1]]])
    got, index = non_max_suppression(rows, 0.25, classes=[1], end2end=True, return_idxs=True)
    assert torch.equal(got[0], rows[0, :1]) and index[0].tolist() == [0]


def test_an_image_without_detections_has_integer_indices() -> None:
    rows, index = non_max_suppression(prediction(), 0.9999, return_idxs=True)
    assert [tuple(r.shape) for r in rows] == [(0, 6)] * 2
    assert all(i.dtype is torch.int64 and i.shape == (0,) for i in index)


def test_best_candidates_survive_the_limit() -> None:
    y = prediction(200, 4)
    few = non_max_suppression(y, 0.0, 1.0, multi_label=True, max_nms=10)
    for image, rows in zip(y, few, strict=True):
        torch.testing.assert_close(rows[:, 4], image[4:].flatten().sort(descending=True).values[:10])


@pytest.mark.parametrize("bad", [{"conf_thres": 1.5}, {"iou_thres": -0.1}, {"rotated": True}])
def test_wrong_options_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        non_max_suppression(prediction(), **bad)  # type: ignore[arg-type]


def test_nms_free_rows_are_the_best_pairs() -> None:
    boxes = torch.arange(12.0).view(1, 3, 4)
    scores = torch.tensor([[[0.1, 0.2], [0.9, 0.8], [0.3, 0.05]]])
    rows = nms_free_rows(boxes, scores, max_det=2)
    assert rows[0, :, 4].tolist() == pytest.approx([0.9, 0.8]) and rows[0, :, 5].tolist() == [0, 1]
    assert torch.equal(rows[0, 0, :4], rows[0, 1, :4])  # one anchor under both classes
    single = nms_free_rows(boxes, scores, max_det=2, agnostic=True)
    assert single[0, :, 4].tolist() == pytest.approx([0.9, 0.3])
    assert nms_free_rows(boxes, scores, max_det=9).shape == (1, 3, 6)


def test_a_wanted_class_is_chosen_before_the_best_rows() -> None:
    """Filtering the kept rows only, as elsewhere, finds nothing of a class that never is the best."""
    scores = torch.tensor([[[0.9, 0.4], [0.8, 0.3], [0.7, 0.2]]])
    rows = nms_free_rows(torch.zeros(1, 3, 4), scores, max_det=2, classes=[1])
    assert rows[0, :, 5].tolist() == [1, 1] and rows[0, :, 4].tolist() == pytest.approx([0.4, 0.3])
