"""Set losses against the formulas written out in loops: with and without targets, on one and two processes."""

import math

import pytest
import torch
from torchvision.ops import box_convert, generalized_box_iou

from ultralytics.models.utils.denoising import get_cdn_group
from ultralytics.models.utils.loss import DETRLoss, RTDETRDetectionLoss
from ultralytics.utils.errors import ConfigError

NC, QUERIES, OUTPUTS = 4, 6, 3
NAMES = [f"loss_{term}{aux}{dn}" for dn in ("", "_dn") for aux in ("", "_aux") for term in ("class", "bbox", "giou")]


def targets(groups, seed=0):
    gen = torch.Generator().manual_seed(seed)
    n = sum(groups)
    boxes = torch.cat((torch.rand(n, 2, generator=gen), torch.rand(n, 2, generator=gen) * 0.4 + 0.05), -1)
    return {"cls": torch.randint(NC, (n,), generator=gen), "bboxes": boxes, "gt_groups": list(groups)}


def predictions(images, seed=1, outputs=OUTPUTS, queries=QUERIES):
    gen = torch.Generator().manual_seed(seed)
    boxes = torch.rand(outputs, images, queries, 4, generator=gen) * 0.5 + 0.1
    return boxes, torch.randn(outputs, images, queries, NC, generator=gen) * 2


def denoising(groups, seed=2):
    """Predictions for denoising queries, and their layout."""
    meta = get_cdn_group(targets(groups), NC, QUERIES, torch.zeros(NC, 2), num_dn=8, training=True)[3]
    boxes, scores = predictions(len(groups), seed, OUTPUTS - 1, meta["dn_num_split"][0])
    return {"dn_bboxes": boxes, "dn_scores": scores, "dn_meta": meta}


def score_loss(kind, x, y, quality):
    """One number of the classification loss; `y` is true for a matched class."""
    p = 1 / (1 + math.exp(-x))
    if kind == "vfl":
        bce = -(quality * math.log(p) + (1 - quality) * math.log(1 - p))
        return quality * bce if y else 0.25 * p**1.5 * -math.log(1 - p)
    if kind == "mal":
        t = quality**1.5
        return -(t * math.log(p) + (1 - t) * math.log(1 - p)) if y else p**1.5 * -math.log(1 - p)
    return 0.25 * (1 - p) ** 1.5 * -math.log(p) if y else 0.75 * p**1.5 * -math.log(1 - p)


def terms_by_loops(kind, boxes, scores, data, pairs):
    """Class, L1 and GIoU term of one output [B, Q, ...] for pairs (image, query, target)."""
    n = len(pairs)
    kind = kind if n else "focal"
    matched = {}
    l1 = giou = 0.0
    for b, q, t in pairs:
        corners = [box_convert(x[None].double(), "cxcywh", "xyxy") for x in (boxes[b, q], data["bboxes"][t])]
        inter = (torch.min(*(c[0, 2:] for c in corners)) - torch.max(*(c[0, :2] for c in corners))).clamp(min=0).prod()
        union = sum((c[0, 2:] - c[0, :2]).prod() for c in corners) - inter
        matched[b, q, int(data["cls"][t])] = float(inter / union)
        l1 += float((boxes[b, q] - data["bboxes"][t]).abs().sum())
        giou += 1 - float(generalized_box_iou(*corners))
    cls = 0.0
    for index in ((b, q, c) for b in range(boxes.shape[0]) for q in range(boxes.shape[1]) for c in range(NC)):
        cls += score_loss(kind, float(scores[index]), index in matched, matched.get(index, 0.0))
    return [cls / max(n, 1), 5 * l1 / max(n, 1), 2 * giou / max(n, 1)]


def all_terms_by_loops(loss, kind, boxes, scores, data, dn):
    want = dict.fromkeys(NAMES, 0.0)
    for k in range(OUTPUTS):
        found = loss.matcher(boxes[k], scores[k], data["bboxes"], data["cls"], data["gt_groups"])
        pairs = [(b, q, t) for b, pair in enumerate(found) for q, t in zip(*(i.tolist() for i in pair), strict=True)]
        for term, value in zip(NAMES[:3], terms_by_loops(kind, boxes[k], scores[k], data, pairs), strict=True):
            want[term + ("" if k == OUTPUTS - 1 else "_aux")] += value
    for k in range(OUTPUTS - 1) if dn else ():
        meta = dn["dn_meta"]
        pairs = [
            (b, q, t)
            for b, (slots, gt) in enumerate(zip(meta["dn_pos_idx"], meta["dn_gt_idx"], strict=True))
            for q, t in zip(slots.tolist(), gt.tolist() * meta["dn_num_group"], strict=True)
        ]
        values = terms_by_loops(kind, dn["dn_bboxes"][k], dn["dn_scores"][k], data, pairs)
        for term, value in zip(NAMES[:3], values, strict=True):
            want[term + ("_dn" if k == OUTPUTS - 2 else "_aux_dn")] += value
    return want


@pytest.mark.parametrize("kind", ["vfl", "mal", "focal"])
@pytest.mark.parametrize(
    ("groups", "with_dn"), [((0, 0), False), ((2, 0, 3), False), ((2, 0, 3), True), ((8, 1), True), ((9, 1), False)]
)
def test_terms_equal_loops(kind, groups, with_dn):
    loss = RTDETRDetectionLoss(NC, loss=kind)
    boxes, scores = predictions(len(groups))
    dn = denoising(groups) if with_dn else {}
    got = loss((boxes, scores), targets(groups), **dn)
    want = all_terms_by_loops(loss, kind, boxes, scores, targets(groups), dn)
    assert list(got) == NAMES
    assert {k: float(v) for k, v in got.items()} == pytest.approx(want, rel=2e-5, abs=1e-6)


@pytest.mark.parametrize("kind", ["vfl", "mal", "focal"])
@pytest.mark.parametrize("groups", [(0, 0), (1, 2)])
def test_gradients_are_finite_and_reach_the_boxes(kind, groups):
    boxes, scores = (t.requires_grad_() for t in predictions(len(groups)))
    sum(RTDETRDetectionLoss(NC, loss=kind)((boxes, scores), targets(groups)).values()).backward()
    assert boxes.grad is not None and bool(boxes.grad.isfinite().all()) and bool(boxes.grad.any()) == (sum(groups) > 0)
    assert bool(scores.grad.isfinite().all()) and bool(scores.grad.any())


def test_gradcheck():
    boxes, scores = (t.double().requires_grad_() for t in predictions(2, outputs=2, queries=3))
    data = targets((1, 2))
    data["bboxes"] = data["bboxes"].double()
    loss = DETRLoss(NC)  # varifocal weights hold the overlap fixed, so only the focal form has a true gradient
    assert torch.autograd.gradcheck(lambda b, s: sum(loss(b, s, data).values()), (boxes, scores))


def test_overlap_is_a_target_not_a_way_for_gradient():
    """With VFL and no box terms, boxes receive nothing."""
    loss = RTDETRDetectionLoss(NC, use_vfl=True, loss_gain={"class": 1, "bbox": 0, "giou": 0})
    boxes, scores = (t.requires_grad_() for t in predictions(2))
    sum(loss((boxes, scores), targets((1, 2))).values()).backward()
    assert not boxes.grad.any()


def test_order_of_images_does_not_matter():
    boxes, scores = predictions(2)
    data = targets((1, 2))
    order = [1, 2, 0]
    swapped = {"cls": data["cls"][order], "bboxes": data["bboxes"][order], "gt_groups": [2, 1]}
    loss = RTDETRDetectionLoss(NC, use_vfl=True)
    got, want = loss((boxes[:, [1, 0]], scores[:, [1, 0]]), swapped), loss((boxes, scores), data)
    for name in NAMES:
        torch.testing.assert_close(got[name], want[name])


def test_without_auxiliary_outputs_only_the_last_counts():
    boxes, scores = predictions(2)
    data, dn = targets((1, 2)), denoising((1, 2))
    got = RTDETRDetectionLoss(NC, use_vfl=True, aux_loss=False)((boxes, scores), data, **dn)
    want = RTDETRDetectionLoss(NC, use_vfl=True)((boxes, scores), data, **dn)
    assert list(got) == [n for n in NAMES if "aux" not in n]
    for name in got:
        torch.testing.assert_close(got[name], want[name])


def test_given_pairs_are_used():
    boxes, scores = predictions(2)
    data = targets((1, 2))
    pairs = [(torch.tensor([5]), torch.tensor([0])), (torch.tensor([4, 0]), torch.tensor([1, 2]))]
    got = DETRLoss(NC, use_vfl=True)(boxes, scores, data, postfix="_x", match_indices=pairs)
    flat = [(0, 5, 0), (1, 4, 1), (1, 0, 2)]
    want = terms_by_loops("vfl", boxes[-1], scores[-1], data, flat)
    assert [float(got[f"loss_{t}_x"]) for t in ("class", "bbox", "giou")] == pytest.approx(want, rel=2e-5)


def test_half_precision_predictions_give_float32_terms():
    boxes, scores = predictions(2)
    got = RTDETRDetectionLoss(NC, use_vfl=True)((boxes, scores.bfloat16()), targets((1, 2)))
    want = RTDETRDetectionLoss(NC, use_vfl=True)((boxes, scores.bfloat16().float()), targets((1, 2)))
    for name in NAMES:
        assert got[name].dtype == torch.float32
        torch.testing.assert_close(got[name], want[name])


def test_a_diverged_model_gives_nan_not_an_exception():
    boxes, scores = predictions(2)
    scores[-1] = math.nan
    terms = RTDETRDetectionLoss(NC, use_vfl=True)((boxes, scores), targets((1, 2)))
    assert math.isnan(float(terms["loss_class"])) and math.isfinite(float(terms["loss_class_aux"]))


def test_unknown_loss_names_the_choices():
    with pytest.raises(ConfigError, match="vfl, mal or focal"):
        RTDETRDetectionLoss(NC, loss="vlf")


@pytest.mark.parametrize("groups", [(2, 0, 3, 1), (3, 2, 0, 0), (0, 0, 0, 0), (1, 0, 0, 0)])
@pytest.mark.parametrize("kwargs", [{"use_vfl": True}, {"loss": "mal"}, {"use_fl": False}])
def test_two_processes_equal_one(monkeypatch, groups, kwargs):
    """Terms and gradients, averaged over two processes with half of the images each, are those of the whole batch."""
    data = targets(groups)
    whole = [t.requires_grad_() for t in predictions(4)]
    want = RTDETRDetectionLoss(NC, **kwargs)(tuple(whole), data)
    sum(want.values()).backward()

    cut = sum(groups[:2])
    parts = [
        {"cls": data["cls"][s], "bboxes": data["bboxes"][s], "gt_groups": list(g)}
        for s, g in ((slice(cut), groups[:2]), (slice(cut, None), groups[2:]))
    ]
    pairs = [float(sum(min(g, QUERIES) for g in part["gt_groups"])) for part in parts]
    calls = []

    def all_reduce(tensor, op=None):  # adds what the other process would bring
        tensor += torch.tensor([pairs[1 - len(calls)], 0.0])
        calls.append(1)

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    mean = dict.fromkeys(NAMES, 0.0)
    halves = [[t.detach()[:, s].requires_grad_() for t in whole] for s in (slice(2), slice(2, None))]
    for half, part in zip(halves, parts, strict=True):
        terms = RTDETRDetectionLoss(NC, **kwargs)(tuple(half), part)
        (sum(terms.values()) / 2).backward()
        mean = {k: mean[k] + float(v.detach()) / 2 for k, v in terms.items()}
    assert len(calls) == 2, "each process joins once, also the one without targets"
    assert mean == pytest.approx({k: float(v.detach()) for k, v in want.items()}, rel=1e-5, abs=1e-6)
    for i, t in enumerate(whole):
        torch.testing.assert_close(torch.cat([half[i].grad for half in halves], 1), t.grad, rtol=1e-4, atol=1e-6)


def test_validation_exchanges_nothing_between_processes(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(
        torch.distributed, "all_reduce", lambda *args, **kwargs: pytest.fail("would wait for the other process")
    )
    with torch.no_grad():
        RTDETRDetectionLoss(NC, use_vfl=True)(predictions(2), targets((1, 2)))
