"""Losses of the YOLO family: order and absence of targets, weights of two branches, padding of targets."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ultralytics.utils.losses.yolo import DFLoss, E2ELoss, class_frequency_weights, pad_targets, v8DetectionLoss

NC, SHAPES, STRIDES = 3, ((8, 12), (4, 6)), (8.0, 16.0)  # an image of 96 x 64 px


def model(reg_max: int = 16, **args: float) -> Any:
    head = SimpleNamespace(nc=NC, reg_max=reg_max, stride=torch.tensor(STRIDES))
    return SimpleNamespace(model=[head], args=SimpleNamespace(box=7.5, cls=0.5, dfl=1.5, **args))


def raw(images: int, reg_max: int = 16, seed: int = 0) -> dict[str, Any]:
    g = torch.Generator().manual_seed(seed)
    anchors = sum(h * w for h, w in SHAPES)
    boxes = torch.rand(images, 4 * reg_max, anchors, generator=g).requires_grad_()
    scores = torch.randn(images, NC, anchors, generator=g).requires_grad_()
    return {"boxes": boxes, "scores": scores, "feats": [torch.zeros(images, 1, h, w) for h, w in SHAPES]}


def batch(index: list[int], seed: int = 0) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    n = len(index)
    boxes = torch.cat((0.2 + 0.6 * torch.rand(n, 2, generator=g), 0.1 + 0.4 * torch.rand(n, 2, generator=g)), 1)
    return {
        "batch_idx": torch.tensor(index, dtype=torch.float32),
        "cls": torch.randint(0, NC, (n, 1), generator=g).float(),
        "bboxes": boxes,
    }


def test_targets_may_come_in_any_order() -> None:
    """Elsewhere targets of an image overwrite one another when they are not sorted."""
    loss, preds, targets = v8DetectionLoss(model()), raw(3), batch([0, 0, 1, 2, 2])
    order = torch.tensor([3, 0, 2, 4, 1])
    shuffled = {k: v[order] for k, v in targets.items()}
    torch.testing.assert_close(loss(preds, targets)[0], loss(preds, shuffled)[0])


def test_padding_keeps_each_target_with_its_image() -> None:
    targets = batch([2, 0, 2])
    labels, boxes, real = pad_targets(targets, 4, torch.zeros(()))
    assert real.squeeze(-1).tolist() == [[True, False], [False, False], [True, True], [False, False]]
    assert torch.equal(boxes[2], targets["bboxes"][[0, 2]]) and torch.equal(boxes[0, 0], targets["bboxes"][1])
    assert labels[2].flatten().tolist() == targets["cls"][[0, 2]].flatten().tolist()


def test_a_target_at_the_origin_counts_and_one_without_area_does_not() -> None:
    targets = {
        "batch_idx": torch.tensor([0.0, 0.0]),
        "cls": torch.zeros(2),
        "bboxes": torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 0.0, 0.3]]),
    }
    assert pad_targets(targets, 1, torch.zeros(()))[2].flatten().tolist() == [True, False]


@pytest.mark.parametrize("reg_max", [1, 16])
def test_a_batch_without_targets_trains_the_scores_only(reg_max: int) -> None:
    preds = raw(2, reg_max)
    total, items = v8DetectionLoss(model(reg_max))(preds, batch([]))
    total.sum().backward()
    assert items["box_loss"] == 0 and items["dfl_loss" if reg_max > 1 else "l1_loss"] == 0
    want = 0.5 * F.binary_cross_entropy_with_logits(preds["scores"], torch.zeros_like(preds["scores"]), reduction="sum")
    torch.testing.assert_close(items["cls_loss"], want.detach())
    assert preds["scores"].grad.abs().sum() > 0 and not preds["boxes"].grad.any()


def test_gradients_reach_boxes_and_scores() -> None:
    preds = raw(2)
    v8DetectionLoss(model())(preds, batch([0, 1]))[0].sum().backward()
    assert preds["boxes"].grad.isfinite().all() and preds["boxes"].grad.any() and preds["scores"].grad.any()


def test_the_total_is_multiplied_by_the_batch_and_the_items_are_not() -> None:
    total, items = v8DetectionLoss(model())(raw(4), batch([0, 3]))
    torch.testing.assert_close(total.detach(), 4 * torch.stack(list(items.values())))


def test_half_predictions_are_computed_in_full() -> None:
    preds = raw(2)
    half = {**preds, "boxes": preds["boxes"].bfloat16(), "scores": preds["scores"].bfloat16()}
    total, _ = v8DetectionLoss(model())(half, batch([0, 1]))
    assert total.dtype is torch.float32 and total.isfinite().all()


def test_dfl_is_the_weighted_cross_entropy_of_both_bins() -> None:
    logits, target = torch.randn(8, 5), torch.tensor([[0.0, 1.25, 3.5, 9.0], [2.0, 0.75, -1.0, 3.99]])
    got = DFLoss(5)(logits, target)
    want = []
    for n in range(2):
        sides = []
        for side in range(4):
            d = min(max(float(target[n, side]), 0.0), 3.99)
            low, part = int(d), d - int(d)
            p = logits[4 * n + side].log_softmax(0)
            sides.append(-(1 - part) * p[low] - part * p[low + 1])
        want.append(torch.stack(sides).mean())
    torch.testing.assert_close(got.squeeze(1), torch.stack(want))


def test_the_weight_moves_to_the_one_to_one_branch() -> None:
    loss = E2ELoss(model(epochs=5))
    seen = []
    for _ in range(7):
        seen.append(round(loss.o2m, 4))
        loss.update()
    assert seen == [0.8, 0.625, 0.45, 0.275, 0.1, 0.1, 0.1]
    resumed = E2ELoss(model(epochs=5))
    resumed.update(3)
    assert (round(resumed.o2m, 4), round(resumed.o2o, 4)) == (0.275, 0.725)


def test_both_branches_are_weighted() -> None:
    loss = E2ELoss(model(epochs=5))
    many, one, targets = raw(2, seed=1), raw(2, seed=2), batch([0, 1])
    total, items = loss({"one2many": many, "one2one": one}, targets)
    want = 0.8 * loss.one2many(many, targets)[0] + 0.2 * loss.one2one(one, targets)[0]
    torch.testing.assert_close(total, want)
    assert items == loss.one2one(one, targets)[1]


def test_a_fused_head_has_the_loss_of_its_branch() -> None:
    loss = E2ELoss(model(epochs=5))
    only, targets = raw(2, seed=1), batch([0, 1])
    for preds, criterion in ((only, loss.one2many), ({"one2many": {}, "one2one": only}, loss.one2one)):
        total, items = loss((None, preds), targets)
        torch.testing.assert_close(total, criterion(only, targets)[0])
        assert items == criterion(only, targets)[1]


def test_class_weights_fall_with_the_count() -> None:
    weights = class_frequency_weights(torch.tensor([1, 4, 0]), 0.5)
    assert weights.tolist() == pytest.approx([4 / 3, 2 / 3, 1.0])
    assert class_frequency_weights(torch.zeros(2), 1.0).tolist() == [1.0, 1.0]


def test_class_weights_scale_their_class() -> None:
    stub = model()
    stub.class_weights = torch.tensor([0.0, 0.0, 3.0])
    preds = raw(1)
    _, items = v8DetectionLoss(stub)(preds, batch([]))
    want = 0.5 * 3 * F.softplus(preds["scores"][:, 2]).sum()
    torch.testing.assert_close(items["cls_loss"], want.detach())
