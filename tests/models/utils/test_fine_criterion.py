"""Criterion of D-FINE and its kin: against slow references, without targets, with wrong labels, in half precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ultralytics.models.utils.fine_criterion import FineCriterion, FinePredictions, MatcherPlan
from ultralytics.models.utils.fine_grained_loss import FineGrainedLoss
from ultralytics.models.utils.ops import HungarianMatcher
from ultralytics.models.utils.union_matching import unite_pairs
from ultralytics.utils.errors import ConfigError, DatasetError
from ultralytics.utils.loss import MatchabilityAwareLoss

NC, QUERIES = 4, 7


def criterion(**options: Any) -> FineCriterion:
    return FineCriterion(NC, MatchabilityAwareLoss(1.5, detached=True), "mal", local=FineGrainedLoss(8), **options)


def predictions(images: int = 2, dtype: torch.dtype = torch.float32) -> FinePredictions:
    torch.manual_seed(0)
    boxes = torch.rand(5, images, QUERIES, 4) * 0.3 + 0.2
    logits = torch.randn(5, images, QUERIES, NC)
    corners = torch.randn(3, images, QUERIES, 4 * 9)
    parts = (logits[:3], boxes[:3], corners, boxes[3], logits[3], boxes[3], logits[4], boxes[4])
    return FinePredictions(*(p.to(dtype).requires_grad_() for p in parts))


def batch(*groups: int) -> dict[str, Any]:
    torch.manual_seed(1)
    n = sum(groups)
    return {"cls": torch.arange(n) % NC, "bboxes": torch.rand(n, 4) * 0.3 + 0.2, "gt_groups": list(groups)}


def meta(*groups: int) -> dict[str, Any]:
    most = max(*groups, 1)
    ends = np.cumsum(groups) - groups
    return {
        "dn_num_group": 1,
        "dn_pos_idx": [torch.arange(n) for n in groups],
        "dn_gt_idx": [torch.arange(n) + int(e) for n, e in zip(groups, ends, strict=True)],
        "dn_num_split": [2 * most, QUERIES],
    }


@pytest.mark.parametrize("union", [True, False])
def test_names_do_not_depend_on_the_targets(union: bool) -> None:
    names = []
    for groups in ((2, 1), (0, 0), (0, 3)):
        preds = predictions()
        terms = criterion(union=union)(preds, batch(*groups), preds._replace(enc_logits=None), meta(*groups))
        assert all(bool(value.isfinite()) for value in terms.values())
        torch.stack(list(terms.values())).sum().backward()
        assert all(p is None or p.grad is None or bool(p.grad.isfinite().all()) for p in preds)
        names.append(list(terms))
    assert names[0] == names[1] == names[2]


def test_without_a_target_boxes_and_denoising_cost_nothing() -> None:
    preds = predictions()
    terms = criterion()(preds, batch(0, 0), preds, meta(0, 0))
    still = [k for k, v in terms.items() if ("bbox" in k or "giou" in k or "fgl" in k or "_dn" in k) and float(v)]
    assert not still and float(terms["loss_mal"]) > 0


@pytest.mark.parametrize("label", [-1, NC, 255])
def test_labels_without_a_logit_are_refused(label: int) -> None:
    wrong = batch(2, 1)
    wrong["cls"][1] = label
    with pytest.raises(DatasetError, match=f"classes 0 to {NC - 1}"):
        criterion()(predictions(), wrong)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_finite_and_near(dtype: torch.dtype) -> None:
    want = criterion()(predictions(), batch(2, 3))
    terms = criterion()(predictions(dtype=dtype), batch(2, 3))
    assert all(bool(value.isfinite()) and value.dtype == torch.float32 for value in terms.values())
    torch.testing.assert_close(terms["loss_mal"], want["loss_mal"], rtol=0.05, atol=0.05)


def test_localisation_in_a_loop() -> None:
    torch.manual_seed(0)
    loss, corners, quality = FineGrainedLoss(8), torch.randn(1, 3, 36), torch.rand(1, 3)
    refs, boxes = torch.rand(3, 4) * 0.3 + 0.3, torch.rand(3, 4) * 0.3 + 0.3
    target = loss.targets(refs, boxes)
    want = 0.0
    for pair in range(3):
        for edge in range(4):
            fractions = F.log_softmax(corners[0, pair].view(4, 9)[edge], 0)
            left = int(target.bin[pair, edge])
            entropy = -(target.left[pair, edge] * fractions[left] + target.right[pair, edge] * fractions[left + 1])
            want += float(entropy * quality[0, pair])
    assert float(loss.localisation(corners, target, quality)) == pytest.approx(want, rel=1e-5)


def test_distillation_in_a_loop_and_zero_for_the_teacher() -> None:
    torch.manual_seed(0)
    loss, corners, teacher = FineGrainedLoss(8), torch.randn(1, 2, 3, 36), torch.randn(2, 3, 36)
    weight, matched = torch.rand(1, 2, 3), torch.tensor([[[True, False, False], [True, True, False]]])
    sums = {True: [0.0, 0], False: [0.0, 0]}
    for image in range(2):
        for query in range(3):
            key = bool(matched[0, image, query])
            for edge in range(4):
                own = F.log_softmax(corners[0, image, query].view(4, 9)[edge] / 5, 0)
                goal = F.softmax(teacher[image, query].view(4, 9)[edge] / 5, 0)
                sums[key][0] += float((goal * (goal.log() - own)).sum() * 25 * weight[0, image, query])
                sums[key][1] += 1
    roots = {key: count**0.5 for key, (_, count) in sums.items()}
    want = sum(total / count * roots[key] for key, (total, count) in sums.items()) / sum(roots.values())
    fraction = loss.balance(matched)
    assert float(loss.distillation(corners, teacher, weight, matched, fraction)) == pytest.approx(want, rel=1e-5)
    assert abs(float(loss.distillation(teacher[None], teacher, weight, matched, fraction))) < 1e-6


@pytest.mark.parametrize(
    ("slots", "targets", "want"),
    [
        ([[]], [[]], ([], [])),
        ([[1, 4], [1, 5], [1, 5]], [[0, 1], [1, 0], [1, 0]], ([1, 4, 5], [1, 1, 0])),
        ([[3], [3]], [[2], [0]], ([3], [0])),  # a tie: the lowest target
        ([[0], [1], [2]], [[0], [0], [0]], ([0, 1, 2], [0, 0, 0])),
    ],
)
def test_union(slots: list[list[int]], targets: list[list[int]], want: tuple[list[int], list[int]]) -> None:
    sides = ([np.array(x, np.int64) for x in side] for side in (slots, targets))
    found = unite_pairs(*sides)
    assert (found[0].tolist(), found[1].tolist()) == want


def test_the_late_matcher_asks_for_score_and_overlap() -> None:
    plan = MatcherPlan(HungarianMatcher(), HungarianMatcher(iou_power=4.0), 10)
    assert plan.at(9) is plan.early and plan.at(10) is plan.late and MatcherPlan(plan.early).at(99) is plan.early
    boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.2], [0.5, 0.5, 0.21, 0.2]]])
    logits = torch.tensor([[[0.0], [3.0]]])
    query, _ = plan.at(10)(boxes, logits, torch.tensor([[0.5, 0.5, 0.2, 0.2]]), torch.tensor([0]), [1])[0]
    assert query.tolist() == [1]  # a little less overlap, far more score


@pytest.mark.parametrize("option", [{"box_weight": "diou"}, {"gains": {"iou": 1.0}}])
def test_unknown_options_are_refused(option: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="not known"):
        criterion(**option)


def test_a_batch_is_the_sum_of_its_images() -> None:
    """With its own divisor each: what one image costs does not depend on another one's pairs."""

    def total(preds: FinePredictions, targets: dict[str, Any]) -> Tensor:
        terms = criterion(union=False)(preds, targets)
        return torch.stack([v for k, v in terms.items() if "ddf" not in k]).sum() * max(sum(targets["gt_groups"]), 1)

    whole, targets = predictions(), batch(2, 3)
    parts = torch.zeros(())
    for image, rows in ((0, slice(0, 2)), (1, slice(2, 5))):
        one = FinePredictions(*(p.narrow(p.dim() - 3, image, 1) for p in whole if p is not None))
        own = {"cls": targets["cls"][rows], "bboxes": targets["bboxes"][rows], "gt_groups": [rows.stop - rows.start]}
        parts = parts + total(one, own)
    torch.testing.assert_close(total(whole, targets), parts, rtol=1e-4, atol=1e-4)
