"""Views of an image and their fusion, against a plain loop and networks whose answer is known."""

from __future__ import annotations

import pytest
import torch
from torchvision.ops import box_iou

from ultralytics.models.rtdetr.tta import FUSE_IOU, VIEWS, View, apply_view, augmented_rows, fuse_views
from ultralytics.utils.ops import xywh2xyxy


def by_loops(views: list[torch.Tensor]) -> torch.Tensor:
    """Heads by falling score; every box joins the head of its class that it overlaps most; then the means."""
    rows = [(float(row[4]), v, row) for v, view in enumerate(views) for row in view if row[4] > 0]
    rows.sort(key=lambda x: -x[0])

    def iou(a: torch.Tensor, b: torch.Tensor) -> float:
        return float(box_iou(xywh2xyxy(a[None, :4]), xywh2xyxy(b[None, :4])))

    heads: list[torch.Tensor] = []
    for _, _, row in rows:
        if not any(h[5] == row[5] and iou(h, row) > FUSE_IOU for h in heads):
            heads.append(row)
    members: list[list[tuple[float, int, torch.Tensor]]] = [[] for _ in heads]
    for item in rows:
        row = item[2]
        overlap = [2.0 if h is row else iou(h, row) * (h[5] == row[5]) for h in heads]
        members[max(range(len(heads)), key=lambda k: float(overlap[k]))].append(item)
    out = []
    for head, group in zip(heads, members, strict=True):
        weight = sum(score for score, _, _ in group)
        corners = sum(score * xywh2xyxy(row[:4]) for score, _, row in group) / weight
        best = [max((s for s, v, _ in group if v == n), default=0.0) for n in range(len(views))]
        centre, size = (corners[:2] + corners[2:]) / 2, corners[2:] - corners[:2]
        out.append(torch.cat([centre, size, torch.tensor([sum(best) / len(views), float(head[5])])]))
    out.sort(key=lambda r: -float(r[4]))
    return torch.stack(out) if out else torch.zeros(0, 6)


def random_views(seed: int, n: int = 3) -> list[torch.Tensor]:
    """The same objects in each view, a little moved, and a few boxes that only one view has."""
    g = torch.Generator().manual_seed(seed)
    objects = torch.rand(8, 4, generator=g) * 0.4 + 0.25
    out = []
    for _ in range(n):
        boxes = torch.cat([objects + torch.randn(8, 4, generator=g) * 0.01, torch.rand(4, 4, generator=g) * 0.4 + 0.2])
        scores = torch.rand(12, 1, generator=g)
        classes = torch.cat([torch.arange(8) % 3, torch.randint(0, 3, (4,), generator=g)])[:, None].float()
        rows = torch.cat([boxes, scores, classes], 1)
        out.append(rows[rows[:, 4].argsort(descending=True)])
    return out


@pytest.mark.parametrize("seed", range(6))
def test_fusion_is_the_plain_loop(seed: int) -> None:
    views = random_views(seed)
    torch.testing.assert_close(fuse_views(views), by_loops(views), atol=1e-5, rtol=1e-5)


def test_nothing_and_nonsense() -> None:
    assert fuse_views([torch.zeros(0, 6), torch.zeros(5, 6)]).shape == (0, 6)
    bad = torch.tensor([[torch.nan, 0.5, 0.1, 0.1, 0.9, 0.0], [0.5, 0.5, 0.1, 0.1, 0.8, 0.0]])
    assert fuse_views([bad])[:, 4].tolist() == pytest.approx([0.8])


def test_agreement_keeps_the_score_and_a_lone_view_loses() -> None:
    row = torch.tensor([[0.5, 0.5, 0.2, 0.2, 0.9, 1.0]])
    other = torch.tensor([[0.1, 0.1, 0.1, 0.1, 0.6, 1.0]])
    fused = fuse_views([torch.cat([row, other]), row, row])
    torch.testing.assert_close(fused[0], row[0])
    assert float(fused[1, 4]) == pytest.approx(0.2)


def test_classes_stay_apart() -> None:
    a = torch.tensor([[0.5, 0.5, 0.2, 0.2, 0.9, 0.0]])
    b = torch.tensor([[0.5, 0.5, 0.2, 0.2, 0.8, 1.0]])
    assert fuse_views([a, b])[:, 5].tolist() == [0.0, 1.0]


def brightest(im: torch.Tensor) -> torch.Tensor:
    """A network that answers with a box around what is bright, in whatever view."""
    out = torch.zeros(len(im), 2, 6)
    for row, image in zip(out, im, strict=True):
        y, x = torch.nonzero(image[0] > 0.5, as_tuple=True)
        h, w = image.shape[1:]
        if len(x):
            x1, x2, y1, y2 = x.min() / w, (x.max() + 1) / w, y.min() / h, (y.max() + 1) / h
            row[0] = torch.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, torch.tensor(0.8), torch.tensor(1.0)])
    return out


@pytest.mark.parametrize("any_size", [True, False])
def test_every_view_is_brought_back(any_size: bool) -> None:
    im = torch.zeros(2, 3, 64, 128)
    im[0, :, 8:24, 16:48] = 1.0
    sizes: list[tuple[int, ...]] = []

    def run(x: torch.Tensor) -> torch.Tensor:
        sizes.append(tuple(x.shape[2:]))
        return brightest(x)

    rows = augmented_rows(run, im, 32, any_size)
    assert sizes == [(64, 128), (64, 128), *([(64, 160)] if any_size else [])]
    assert rows.shape == (2, 1, 6)
    torch.testing.assert_close(rows[0, 0], torch.tensor([0.25, 0.25, 0.25, 0.25, 0.8, 1.0]), atol=0.02, rtol=0)
    assert not rows[1].any()
    assert torch.equal(im[0, :, 8:24, 16:48], torch.ones(3, 16, 32))  # the input is left as it was


def test_views_are_whole_strides() -> None:
    assert View(1.0, False) == VIEWS[0]
    im = torch.arange(2 * 32 * 128, dtype=torch.float32).view(1, 2, 32, 128)
    assert torch.equal(apply_view(im, View(1.0, True), 32), im.flip(3))
    assert apply_view(im, View(1.25, False), 32).shape == (1, 2, 32, 160)
    assert apply_view(im, View(0.1, False), 32).shape == (1, 2, 32, 32)
