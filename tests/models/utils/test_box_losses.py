"""Box losses: golden values and gradients, finite differences, degenerate and empty pairs; their place in DETRLoss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.golden.blocks.cases import BOX_LOSS, load_block_cases
from tests.golden.comparison import check
from ultralytics.cfg import get_cfg
from ultralytics.cfg.box_loss_names import BOX_LOSSES, IOU_LOSSES, parse_box_loss
from ultralytics.models.utils.box_losses import LOSSES, BoxLossOptions, box_loss, updated_iou_mean
from ultralytics.models.utils.loss import DETRLoss, RTDETRDetectionLoss
from ultralytics.models.utils.ops import iou_and_giou
from ultralytics.utils.errors import ConfigError, UnknownArgumentError

NAMES = [*BOX_LOSSES, *(f"{prefix}-{name}" for prefix in ("inner", "focaler", "inner-focaler") for name in IOU_LOSSES)]
DETACHED = ("ciou", "wiou", "wiou1", "wiou2", "wiou3")  # parts without a gradient: finite differences see them


def pairs(n: int = 6, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Overlapping boxes of different sizes and centres."""
    generator = torch.Generator().manual_seed(5)
    target = torch.rand(n, 4, generator=generator, dtype=dtype) * 0.2 + 0.3
    return target + torch.rand(n, 4, generator=generator, dtype=dtype) * 0.06 + 0.02, target


@pytest.mark.parametrize("case", [c for c in load_block_cases("c") if c["class"] == BOX_LOSS], ids=lambda c: c["id"])
def test_golden(case: Mapping[str, Any]) -> None:
    assert check(case) == []


def test_every_name_has_a_formula() -> None:
    assert set(LOSSES) == set(BOX_LOSSES)


@pytest.mark.parametrize("name", [n for n in NAMES if n.split("-")[-1] not in DETACHED])
def test_gradient_equals_finite_differences(name: str) -> None:
    a, b = (box.requires_grad_() for box in pairs())
    assert torch.autograd.gradcheck(lambda p, t: box_loss(name, p, t, scale=1.0, u=1.0), (a, b), atol=1e-6)


def test_detached_parts_get_no_gradient() -> None:
    """ciou: the weight of the aspect term; wiou: the enclosing box and the factor of the running mean."""
    pred, target = pairs()
    pred.requires_grad_()
    (grad,) = torch.autograd.grad(box_loss("ciou", pred, target).sum(), pred)
    (base,) = torch.autograd.grad(box_loss("diou", pred, target).sum(), pred)
    w, h = pred[:, 2], pred[:, 3]
    v = (4 / math.pi**2) * (torch.atan(target[:, 2] / target[:, 3]) - torch.atan(w / h)) ** 2
    alpha = (v / (v - iou_and_giou(pred.T, target.T)[0] + 1 + 1e-7)).detach()
    (aspect,) = torch.autograd.grad((alpha * v).sum(), pred)
    torch.testing.assert_close(grad, base + aspect)

    first, third = (torch.autograd.grad(box_loss(n, pred, target).sum(), pred)[0] for n in ("wiou1", "wiou3"))
    beta = 1 - iou_and_giou(pred.T, target.T)[0].detach()
    torch.testing.assert_close(third, first * (beta / (2.7 * 1.7 ** (beta - 2.7)))[:, None])


DEGENERATE = {
    "zero size inside": ((0.5, 0.5, 0, 0), (0.5, 0.5, 0.4, 0.2)),
    "zero size beside": ((0.1, 0.1, 0, 0), (0.5, 0.5, 0.4, 0.2)),
    "zero width": ((0.5, 0.5, 0, 0.1), (0.5, 0.5, 0.4, 0.2)),
    "zero target": ((0.5, 0.5, 0.3, 0.2), (0.5, 0.5, 0, 0)),
    "both zero, same place": ((0.5, 0.5, 0, 0), (0.5, 0.5, 0, 0)),
    "both zero, one column": ((0.5, 0.1, 0, 0), (0.5, 0.9, 0, 0)),
    "same box": ((0.5, 0.5, 0.3, 0.2), (0.5, 0.5, 0.3, 0.2)),
    "touching": ((0.2, 0.5, 0.2, 0.2), (0.4, 0.5, 0.2, 0.2)),
    "thin, crossed": ((0.5, 0.5, 1, 1e-7), (0.5, 0.5, 1e-7, 1)),
    "tiny": ((0.5, 0.5, 1e-6, 1e-6), (0.50001, 0.5, 1e-6, 1e-6)),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_finite_on_degenerate_boxes(name: str, dtype: torch.dtype) -> None:
    pred, target = (torch.tensor([p[i] for p in DEGENERATE.values()], dtype=dtype) for i in (0, 1))
    for options in ({}, {"scale": 1.0, "nwd_weight": 0.5}, {"iou_mean": 0.0}):
        a, b = pred.clone().requires_grad_(), target.clone().requires_grad_()
        loss = box_loss(name, a, b, **options)
        loss.sum().backward()
        assert a.grad is not None and b.grad is not None
        assert loss.isfinite().all() and a.grad.isfinite().all() and b.grad.isfinite().all(), options


@pytest.mark.parametrize("name", NAMES)
def test_empty_and_shapes(name: str) -> None:
    none = torch.zeros(0, 4, requires_grad=True)
    loss = box_loss(name, none, torch.zeros(0, 4), training=True)
    loss.sum().backward()
    assert loss.shape == (0,) and none.grad is not None and none.grad.shape == (0, 4)
    pred, target = pairs()
    flat = box_loss(name, pred, target)
    torch.testing.assert_close(box_loss(name, pred.reshape(2, 3, 4), target.reshape(2, 3, 4)), flat.reshape(2, 3))
    torch.testing.assert_close(box_loss(name, pred[:1], target[:1]), flat[:1])  # a pair alone is a pair among others


def test_float32_under_autocast() -> None:
    pred, target = (box.bfloat16() for box in pairs(dtype=torch.float32))
    with torch.autocast("cpu", torch.bfloat16):
        got = box_loss("siou", pred, target)
    assert got.dtype is torch.float32
    torch.testing.assert_close(got, box_loss("siou", pred.float(), target.float()), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "want"),
    [("giou", "giou"), ("Inner_CIoU", "inner-ciou"), ("focaler-inner-siou", "inner-focaler-siou"), ("NWD", "nwd")],
)
def test_spelling(name: str, want: str) -> None:
    assert str(parse_box_loss(name)) == want
    assert get_cfg(overrides={"box_loss": name}).box_loss == want


@pytest.mark.parametrize(
    "name", ["", "iou", "inner", "inner-", "inner-nwd", "focaler-gcd", "inner-inner-ciou", "x-ciou"]
)
def test_unknown_names_are_refused_with_the_list(name: str) -> None:
    for build in (
        lambda: box_loss(name, *pairs()),
        lambda: DETRLoss(box_loss=name),
        lambda: get_cfg(overrides={"box_loss": name}),
    ):
        with pytest.raises(ConfigError, match=r"box_loss=.*(?:give|use) one of giou, diou, .*inner- and focaler-"):
            build()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"ratio": 0.0}, "ratio=0.0 must be above 0"),
        ({"d": 0.5, "u": 0.5}, "u=0.5 must be above d=0.5"),
        ({"constant": -1.0}, "constant=-1.0 must be above 0"),
        ({"mpdiou_hw": 0.0}, "mpdiou_hw=0.0 must be above 0"),
        ({"nwd_weight": 1.5}, "nwd_weight=1.5 must be in 0..1"),
    ],
)
def test_options_outside_their_bounds(options: dict[str, float], text: str) -> None:
    with pytest.raises(ConfigError, match=text.replace(".", r"\.")):
        BoxLossOptions(**options)  # type: ignore[arg-type]
    with pytest.raises(UnknownArgumentError, match="no option rato; choose from ratio"):
        box_loss("giou", *pairs(), rato=1.0)


def test_weight_of_nwd() -> None:
    pred, target = pairs()
    parts = [box_loss(name, pred, target, constant=0.1) for name in ("siou", "nwd")]
    got = box_loss("siou", pred, target, nwd_weight=0.25, constant=0.1)
    torch.testing.assert_close(got, 0.75 * parts[0] + 0.25 * parts[1])


def test_running_mean() -> None:
    iou = torch.tensor([0.2, 0.6])
    assert updated_iou_mean(0.5, iou) == pytest.approx(0.99 * 0.5 + 0.01 * 0.6)
    assert updated_iou_mean(0.5, iou[:0]) == 0.5


# ------------------------------------------------------------------------------------------------------ in DETRLoss
def outputs(k: int = 2) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Boxes [K, B, Q, 4], logits [K, B, Q, C] and targets."""
    generator = torch.Generator().manual_seed(2)
    boxes = torch.rand(k, 2, 5, 4, generator=generator) * 0.4 + 0.2
    scores = torch.randn(k, 2, 5, 3, generator=generator)
    targets = torch.rand(3, 4, generator=generator) * 0.4 + 0.2
    return boxes, scores, {"cls": torch.tensor([0, 2, 1]), "bboxes": targets, "gt_groups": [2, 1]}


def test_giou_stays_bit_for_bit() -> None:
    boxes, scores, batch = outputs(1)
    loss = DETRLoss(nc=3, aux_loss=False)
    slot, target = loss.matcher.match_outputs(boxes, scores, batch["bboxes"], batch["cls"], batch["gt_groups"])
    planes = boxes.flatten(1, 2)[0, slot[0]].movedim(-1, 0)[:, None]  # [4, 1, n]
    giou = iou_and_giou(planes, batch["bboxes"][target].movedim(-1, 0))[1]
    want = ((1 - giou).sum(1) * (2.0 / 3))[0]
    assert torch.equal(loss(boxes, scores, batch)["loss_giou"], want)


@pytest.mark.parametrize("name", [*BOX_LOSSES, "inner-ciou", "focaler-siou", "inner-focaler-mpdiou"])
def test_every_name_trains(name: str) -> None:
    boxes, scores, batch = outputs()
    loss = DETRLoss(nc=3, box_loss=name, nwd_weight=0.1).train()
    boxes.requires_grad_()
    terms = loss(boxes, scores, batch)
    (grad,) = torch.autograd.grad(terms["loss_giou"], boxes)
    assert terms["loss_giou"] > 0 and grad.isfinite().all() and grad[-1].abs().sum() > 0
    assert not loss.state_dict()  # nothing of it goes into a checkpoint
    none = {"cls": torch.zeros(0), "bboxes": torch.zeros(0, 4), "gt_groups": [0, 0]}
    assert loss(boxes, scores, none)["loss_giou"] == 0


def test_the_running_mean_moves_in_training_alone() -> None:
    boxes, scores, batch = outputs()
    loss = RTDETRDetectionLoss(nc=3, box_loss="wiou3").eval()
    loss((boxes, scores), batch)
    assert loss.iou_mean == 1
    loss.train()
    with torch.no_grad():
        loss((boxes, scores), batch)
    assert loss.iou_mean == 1
    loss((boxes, scores), batch)
    assert 0.99 <= loss.iou_mean < 1


def test_nwd_of_normalised_boxes_has_a_gradient() -> None:
    """The paper's 12.8 pixels would leave nearly none."""
    boxes, scores, batch = outputs(1)
    loss = DETRLoss(nc=3, aux_loss=False, box_loss="nwd")
    boxes.requires_grad_()
    assert torch.autograd.grad(loss(boxes, scores, batch)["loss_giou"], boxes)[0].abs().max() > 0.01
    with pytest.raises(ConfigError, match="nwd_weight=2"):
        DETRLoss(nwd_weight=2)
