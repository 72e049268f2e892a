"""Denoising queries: layout against plain loops, noise by its bounds and shares, mask by its rule."""

import json
from pathlib import Path

import pytest
import torch

from ultralytics.models.utils.denoising import DenoisingForm, DenoisingNoise, get_cdn_group

FACTS = json.loads((Path(__file__).parents[2] / "golden" / "facts.json").read_text())["cdn_noise"]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def batch(groups, nc=4):
    n = sum(groups)
    boxes = torch.cat((torch.rand(n, 2) * 0.4 + 0.3, torch.rand(n, 2) * 0.2 + 0.05), -1)
    return {"cls": torch.arange(n) % nc, "bboxes": boxes, "gt_groups": list(groups)}


def make(groups, nc=4, queries=6, dim=8, embed=None, **kwargs):
    embed = torch.randn(nc, dim) if embed is None else embed
    return get_cdn_group(batch(groups, nc), nc, queries, embed, training=True, **kwargs)


@pytest.mark.parametrize(
    ("groups", "kwargs"),
    [
        ((), {}),
        ((0, 0), {}),
        ((2, 1), {"num_dn": 0}),
        ((2, 1), {"num_dn": -1}),
        ((2, 1), {"training": False}),
    ],
)
def test_no_group(groups, kwargs):
    out = get_cdn_group(batch(groups), 4, 6, torch.randn(4, 8), **({"training": True} | kwargs))
    assert out == (None, None, None, None)
    assert get_cdn_group(None, 4, 6, torch.randn(4, 8), training=True) == (None, None, None, None)


@pytest.mark.parametrize("groups", [(1,), (2, 1), (0, 3, 1), (5, 5), (9, 0)])
@pytest.mark.parametrize("num_dn", [9, 10, 20])
def test_layout_without_noise_equals_loops(groups, num_dn):
    """Every slot by hand: content is the embedding of its target, the box its logit; empty slots are zero."""
    data, embed = batch(groups), torch.randn(4, 8)
    content, logits, _, meta = get_cdn_group(data, 4, 6, embed, num_dn, 0.0, 0.0, training=True)
    m = max(groups)
    count = num_dn // m
    assert content.shape == (len(groups), 2 * m * count, 8) and logits.shape == (len(groups), 2 * m * count, 4)
    for b, n in enumerate(groups):
        start = sum(groups[:b])
        for half in range(2 * count):
            for t in range(m):
                slot = half * m + t
                if t < n:
                    assert torch.equal(content[b, slot], embed[data["cls"][start + t]])
                    torch.testing.assert_close(logits[b, slot].sigmoid(), data["bboxes"][start + t])
                else:
                    assert not content[b, slot].any() and not logits[b, slot].any()
        assert meta["dn_pos_idx"][b].tolist() == [t + 2 * m * g for g in range(count) for t in range(n)]
        assert meta["dn_gt_idx"][b].tolist() == list(range(start, start + n))
    assert meta["dn_num_group"] == count and meta["dn_num_split"] == [2 * m * count, 6]


@pytest.mark.parametrize(("groups", "num_dn"), [((1,), 3), ((3, 1), 7), ((2, 2), 100)])
def test_mask_equals_its_rule(groups, num_dn):
    _, _, mask, meta = make(groups, num_dn=num_dn)
    slots, queries = meta["dn_num_split"]
    size = 2 * max(groups)
    for i in range(slots + queries):
        for j in range(slots + queries):
            key_is_denoising = j < slots
            own = i < slots and key_is_denoising and i // size == j // size
            assert bool(mask[i, j]) == (key_is_denoising and not own)


def test_more_boxes_than_slots_take_a_sorted_random_subset():
    data = batch((30, 2, 4))
    drawn = set()
    for _ in range(4):
        meta = get_cdn_group(data, 4, 6, torch.randn(4, 8), num_dn=5, training=True)[3]
        first, second, third = (i.tolist() for i in meta["dn_gt_idx"])
        assert len(first) == 5 and first == sorted(set(first)) and 0 <= first[0] and first[-1] < 30
        assert second == [30, 31] and third == [32, 33, 34, 35]
        drawn.add(tuple(first))
    assert len(drawn) > 1


def corners(logits):
    x, y, w, h = logits.double().sigmoid().unbind(-1)
    return torch.stack((x - w / 2, y - h / 2, x + w / 2, y + h / 2), -1)


def test_noise_of_boxes_is_bounded_as_the_paper_says():
    """Corners of positives move by 0..1 half sides, those of negatives by 1..2, whichever way, also when they cross."""
    data = {"cls": torch.zeros(1), "bboxes": torch.tensor([[0.5, 0.5, 0.2, 0.2]]), "gt_groups": [1]}
    _, logits, _, _ = get_cdn_group(data, 50, 1, torch.zeros(50, 2), num_dn=4000, training=True)
    moved = corners(logits[0]).view(4000, 2, 4)
    edges = torch.tensor([0.4, 0.4, 0.6, 0.6]).double()
    positive = ((moved[:, 0] - edges) / 0.1).abs()
    assert float(positive.max()) < 1 + 1e-4
    assert float(positive.mean()) == pytest.approx(FACTS["u_positive_mean"], abs=0.02)
    low, high = moved[:, 1, :2], moved[:, 1, 2:]
    assert bool((high - low > 1e-4).all()), "a box is what its corners span, also when they pass each other"
    # of two moved corners, the lower is 0.2..0.3 or 0.5..0.6, or the (crossed) upper one's 0.4..0.5
    assert float(low.min()) >= 0.2 - 1e-4 and float(high.max()) <= 0.8 + 1e-4
    crossed = (low > 0.4 - 1e-4) & (high < 0.6 + 1e-4)
    assert float(crossed.any(-1).double().mean()) == pytest.approx(
        FACTS["share_of_negatives_with_crossed_corners"], abs=0.03
    )


def test_noised_boxes_stay_inside_the_image():
    data = {
        "cls": torch.zeros(2),
        "bboxes": torch.tensor([[0.05, 0.95, 0.1, 0.1], [0.5, 0.5, 1.0, 1.0]]),
        "gt_groups": [2],
    }
    _, logits, _, _ = get_cdn_group(data, 3, 1, torch.zeros(3, 2), num_dn=500, training=True)
    moved = corners(logits)
    assert float(moved.min()) > -1e-4 and float(moved.max()) < 1 + 1e-4 and bool(logits.isfinite().all())


@pytest.mark.parametrize(("ratio", "fraction"), [(0.0, 0.0), (0.5, FACTS["expected_share"]), (2.0, 0.98)])
def test_fraction_of_changed_labels(ratio, fraction):
    embed = torch.arange(50.0)[:, None]
    data = {"cls": torch.tensor([7, 8]), "bboxes": torch.full((2, 4), 0.3), "gt_groups": [2]}
    content = get_cdn_group(data, 50, 1, embed, num_dn=8000, cls_noise_ratio=ratio, training=True)[0]
    labels = content.view(-1, 2)
    assert float((labels != torch.tensor([7.0, 8.0])).double().mean()) == pytest.approx(fraction, abs=0.015)
    assert 0 <= float(labels.min()) and float(labels.max()) <= 49


def test_gradient_reaches_the_used_rows_of_the_embedding():
    embed = torch.randn(4, 8, requires_grad=True)
    content = get_cdn_group(batch((2, 1)), 4, 6, embed, cls_noise_ratio=0.0, training=True)[0]
    content.sum().backward()
    assert embed.grad[:3].all() and not embed.grad[3].any()


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_labels_as_float_or_column(shape):
    data = batch((2, 1))
    data["cls"] = data["cls"].float().view(shape)
    assert get_cdn_group(data, 4, 6, torch.randn(4, 8), training=True)[0].shape == (2, 200, 8)


# ------------------------------------------------------------------------------------ forms of the newer DETR families
def _group(form, *counts, slots=4):
    n = sum(counts)
    torch.manual_seed(0)
    targets = {"cls": torch.arange(n) % 3, "bboxes": torch.rand(n, 4) * 0.3 + 0.3, "gt_groups": list(counts)}
    return get_cdn_group(targets, 3, 5, torch.randn(4, 2), slots, training=True, form=form)


def test_padding_slots_hold_the_last_row_and_an_empty_box():
    content, logits, _, meta = _group(DenoisingForm(padded=True), 1, 3)
    assert [len(p) for p in meta["dn_pos_idx"]] == [1, 3]
    empty = content[0, 1:3]
    assert torch.equal(empty[0], empty[1]) and bool((logits[0, 1:3] == logits[0, 1, 0]).all())


def test_an_empty_batch_gets_one_pair_that_matches_nothing():
    content, logits, mask, meta = _group(DenoisingForm(padded=True, dummy=True), 0, 0)
    assert content.shape == (2, 2, 2) and bool(logits.isfinite().all()) and mask.shape == (7, 7)
    assert meta["dn_num_split"] == [2, 5] and not any(len(p) for p in meta["dn_pos_idx"])
    assert _group(DenoisingForm(padded=True), 0, 0) == (None, None, None, None)


def test_slots_grow_with_the_targets_unless_capped():
    assert _group(DenoisingForm(capped=False), 9, 1)[3]["dn_num_split"] == [18, 5]
    assert _group(DenoisingForm(), 9, 1)[3]["dn_num_split"] == [8, 5]


def test_crossed_corners_span_a_box_or_collapse():
    def noise(images, slots):
        one = torch.ones(images, slots)
        sign = torch.tensor([1.0, 1.0, 0.0, 0.0]).expand(images, slots, 4)  # corners move towards each other
        return DenoisingNoise(one, one * 0.5, sign, torch.ones(images, slots, 4))

    for spanned in (True, False):
        _, logits, _, _ = _group(DenoisingForm(padded=True, spanned=spanned, noise=noise), 1, slots=1)
        size = logits.sigmoid()[0, 1, 2:]  # the negative: both corners by a whole side
        assert bool((size > 0.2).all()) if spanned else bool((size < 1e-4).all())
