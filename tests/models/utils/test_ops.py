"""The matcher against all permutations, its costs against plain loops, and box overlap against torchvision."""

import itertools
import math

import pytest
import torch
from torchvision.ops import box_convert, box_iou, generalized_box_iou

from ultralytics.models.utils.ops import HungarianMatcher, get_cdn_group, iou_and_giou


def boxes(*shape, seed=0):
    gen = torch.Generator().manual_seed(seed)
    return torch.cat((torch.rand(*shape, 2, generator=gen), torch.rand(*shape, 2, generator=gen) * 0.5 + 0.01), -1)


def problem(groups, queries=4, nc=3, seed=0, outputs=None):
    """Predictions [(K,) B, Q, ...] and targets."""
    lead = (len(groups), queries) if outputs is None else (outputs, len(groups), queries)
    gen = torch.Generator().manual_seed(seed + 100)
    cls = torch.randint(nc, (sum(groups),), generator=gen)
    scores = torch.randn(*lead, nc, generator=gen) * 2
    return boxes(*lead, seed=seed), scores, boxes(sum(groups), seed=seed + 1), cls, list(groups)


def pair_cost(matcher, box, logits, target, label):
    """Cost of one pair, from the formulas."""
    p = float(logits.sigmoid()[label]) if matcher.use_fl else float(logits.softmax(-1)[label])
    if matcher.use_fl:
        chosen = matcher.alpha * (1 - p) ** matcher.gamma * -math.log(p + 1e-8)
        cls = chosen - (1 - matcher.alpha) * p**matcher.gamma * -math.log(1 - p + 1e-8)
    else:
        cls = -p
    l1 = float((box - target).abs().sum())
    corners = [box_convert(b[None], "cxcywh", "xyxy") for b in (box, target)]
    giou = float(generalized_box_iou(*corners))
    gain = matcher.cost_gain
    return gain["class"] * cls + gain["bbox"] * l1 + gain["giou"] * (1 - giou)


def cost_matrix(matcher, b, pred_boxes, pred_scores, gt, cls, groups):
    start = sum(groups[:b])
    return [
        [pair_cost(matcher, box, x, gt[t], int(cls[t])) for t in range(start, start + groups[b])]
        for box, x in zip(pred_boxes[b], pred_scores[b], strict=True)
    ]


def least_cost(matrix, targets):
    """Least total over all assignments."""
    queries = len(matrix)
    if targets <= queries:
        choices = itertools.permutations(range(queries), targets)
        return min(sum(matrix[q][t] for t, q in enumerate(choice)) for choice in choices)
    choices = itertools.permutations(range(targets), queries)
    return min(sum(matrix[q][t] for q, t in enumerate(choice)) for choice in choices)


@pytest.mark.parametrize("groups", [[0, 0], [2, 3], [4, 0, 1], [6, 1], [1]])
@pytest.mark.parametrize(
    "kwargs", [{}, {"cost_gain": {"class": 2, "bbox": 5, "giou": 2}, "alpha": 0.6}, {"use_fl": False}]
)
@pytest.mark.parametrize("seed", range(3))
def test_match_is_the_best_of_all_permutations(groups, kwargs, seed):
    matcher = HungarianMatcher(**kwargs)
    args = problem(groups, seed=seed)
    for b, (query, target) in enumerate(matcher(*args)):
        start, n = sum(groups[:b]), groups[b]
        assert query.dtype == target.dtype == torch.int64
        assert len(query) == len(set(query.tolist())) == len(set(target.tolist())) == min(n, 4)
        assert all(start <= t < start + n for t in target.tolist())
        matrix = cost_matrix(matcher, b, *args)
        got = sum(matrix[q][t - start] for q, t in zip(query.tolist(), target.tolist(), strict=True))
        assert got == pytest.approx(least_cost(matrix, n), abs=1e-4)


@pytest.mark.parametrize("groups", [[0], [0, 2, 3], [7, 1], [1, 0, 0]])
def test_outputs_together_equal_one_by_one(groups):
    matcher = HungarianMatcher()
    pred_boxes, pred_scores, *rest = problem(groups, outputs=3)
    slot, target = matcher.match_outputs(pred_boxes, pred_scores, *rest)
    assert slot.shape == target.shape == (3, sum(min(g, 4) for g in groups))
    for k in range(3):
        single = matcher(pred_boxes[k], pred_scores[k], *rest)
        want = {
            (b * 4 + q, t) for b, pair in enumerate(single) for q, t in zip(*(i.tolist() for i in pair), strict=True)
        }
        assert set(zip(slot[k].tolist(), target[k].tolist(), strict=True)) == want


def test_batch_equals_single_images():
    groups = [2, 0, 3]
    matcher, args = HungarianMatcher(), problem([2, 0, 3])
    for b, (query, target) in enumerate(matcher(*args)):
        part = slice(sum(groups[:b]), sum(groups[: b + 1]))
        alone = matcher(args[0][b : b + 1], args[1][b : b + 1], args[2][part], args[3][part], groups[b : b + 1])[0]
        assert torch.equal(query, alone[0]) and torch.equal(target, alone[1] + part.start)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_costs_that_are_no_numbers_do_not_stop_the_match(bad):
    pred_boxes, pred_scores, *rest = problem([2, 1])
    pred_boxes[0, 1], pred_scores[1] = bad, bad
    assert [len(q) for q, _ in HungarianMatcher()(pred_boxes, pred_scores, *rest)] == [2, 1]


def test_costs_in_half_precision_are_computed_in_float32():
    args = problem([2, 3])
    matcher = HungarianMatcher()
    cost = matcher.costs(args[0][None].bfloat16(), args[1][None].bfloat16(), *args[2:])
    want = matcher.costs(args[0][None].bfloat16().float(), args[1][None].bfloat16().float(), *args[2:])
    assert cost.dtype == torch.float32 and torch.equal(cost, want)


def test_match_takes_no_gradient():
    pred_boxes, pred_scores, *rest = problem([2, 1])
    HungarianMatcher()(pred_boxes.requires_grad_(), pred_scores.requires_grad_(), *rest)


def test_denoising_is_reachable_under_upstreams_path():
    assert get_cdn_group.__module__ == "ultralytics.models.utils.denoising"


# -------------------------------------------------------------------------------------------------------- overlap
@pytest.mark.parametrize(("a", "b"), [(0, 3), (5, 0), (1, 1), (6, 7)])
def test_overlap_equals_torchvision(a, b):
    first, second = boxes(a, seed=1), boxes(b, seed=2)
    iou, giou = iou_and_giou(first.t()[:, :, None], second.t()[:, None])
    corners = [box_convert(x, "cxcywh", "xyxy") for x in (first, second)]
    torch.testing.assert_close(iou, box_iou(*corners), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(giou, generalized_box_iou(*corners), rtol=1e-5, atol=1e-5)


def test_overlap_of_flat_boxes_is_a_number():
    flat = torch.tensor([0.5, 0.5, 0.0, 0.0], requires_grad=True)
    iou, giou = iou_and_giou(flat, flat.detach())
    (iou + giou).backward()
    assert float(iou.detach()) == 0.0 and bool(giou.isfinite()) and bool(flat.grad.isfinite().all())


def test_overlap_gradients():
    first, second = boxes(4, seed=3).double().t().requires_grad_(), boxes(4, seed=4).double().t()
    assert torch.autograd.gradcheck(lambda x: iou_and_giou(x, second), first)
