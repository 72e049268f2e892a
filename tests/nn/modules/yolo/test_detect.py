"""Detect and v10Detect: decoding against a loop, branches, start values, rows without NMS, towers of another width."""

from __future__ import annotations

import copy
import logging
import math

import pytest
import torch
from torch import Tensor, nn

from tests.golden.fill import fill_
from ultralytics.nn.modules import DFL, Detect, v10Detect
from ultralytics.nn.registry import REGISTRY, RowContext
from ultralytics.utils.metrics import box_iou

CH, NC = (16, 24), 3


def head(**kwargs: object) -> Detect:
    made = Detect(NC, ch=CH, **{"reg_max": 4, **kwargs})  # type: ignore[arg-type]
    made.stride = torch.tensor([8.0, 16.0])
    return fill_(made).eval()


def maps(images: int = 2, wide: bool = True) -> list[Tensor]:
    g = torch.Generator().manual_seed(0)
    sizes = ((4, 6), (2, 3)) if wide else ((4, 4), (2, 2))
    return [torch.randn(images, c, h, w, generator=g) for c, (h, w) in zip(CH, sizes, strict=True)]


@torch.no_grad()
def test_boxes_of_a_wide_map_equal_the_loop() -> None:
    detect = head()
    y, raw = detect(maps(1))
    want, a = [], 0
    for (h, w), stride in zip(((4, 6), (2, 3)), (8, 16), strict=True):
        for i in range(h):
            for j in range(w):
                p = raw["boxes"][0, :, a].view(4, 4).softmax(1) @ torch.arange(4.0)
                x1, y1, x2, y2 = j + 0.5 - p[0], i + 0.5 - p[1], j + 0.5 + p[2], i + 0.5 + p[3]
                want.append(torch.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]) * stride)
                a += 1
    torch.testing.assert_close(y[0, :4].T, torch.stack(want))
    torch.testing.assert_close(y[:, 4:], raw["scores"].sigmoid())


@torch.no_grad()
def test_maps_with_an_equal_first_level_are_distinguished() -> None:
    """The kept anchors belong to all levels, not to the first one's shape alone."""
    detect = head()
    detect(maps(1))
    a, b = maps(1)
    other = [a, torch.cat((b, b), 2)]
    fresh = copy.deepcopy(detect)
    fresh._grid = None
    torch.testing.assert_close(detect(other)[0], fresh(other)[0])


def test_anchors_kept_from_inference_mode_can_be_trained_through() -> None:
    detect = head()
    with torch.inference_mode():
        detect(maps())
    x = [m.requires_grad_() for m in maps()]
    detect(x)[0].sum().backward()
    assert x[0].grad is not None and x[0].grad.any()


def test_half_maps_are_decoded_in_full() -> None:
    detect = head().bfloat16()
    y, _ = detect([m.bfloat16() for m in maps()])
    assert y.dtype is torch.float32


@torch.no_grad()
def test_a_dual_head_answers_without_nms_only_when_switched_on() -> None:
    detect = head(end2end=True)
    y, raw = detect(maps())
    assert y.shape == (2, 4 + NC, 30) and set(raw) == {"one2many", "one2one"} and not detect.end2end
    detect.end2end, detect.max_det = True, 10
    rows, _ = detect(maps())
    assert rows.shape == (2, 10, 6) and bool((rows[..., 4].diff(dim=1) <= 0).all())
    corners = detect.decode(raw["one2one"], xywh=False).transpose(1, 2)
    assert bool((box_iou(rows[0, :, :4], corners[0]).max(1).values > 0.999).all())


def test_the_one_to_one_branch_sends_no_gradient_back() -> None:
    detect = head(end2end=True).train()
    x = [m.requires_grad_() for m in maps()]
    out = detect(x)
    (out["one2one"]["boxes"].sum() + out["one2one"]["scores"].sum()).backward()
    assert all(m.grad is None for m in x)
    assert detect.one2one_cv2 is not None and detect.one2one_cv2[0][2].weight.grad is not None  # type: ignore[index]


@torch.no_grad()
@pytest.mark.parametrize("end2end", [False, True])
def test_fusing_keeps_the_chosen_branch(end2end: bool) -> None:
    detect = head(end2end=True)
    detect.end2end, detect.max_det = end2end, 10
    want, _ = detect(maps())
    fused = copy.deepcopy(detect).fuse()
    got, raw = fused(maps())
    torch.testing.assert_close(got, want, atol=1e-3, rtol=1e-4)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fused.modules())
    kept = "one2one_cv2" if end2end else "cv2"
    assert {k.split(".")[0] for k in fused.state_dict()} == {kept, kept.replace("cv2", "cv3"), "dfl"}
    assert ("boxes" in raw) is not end2end


def test_what_cannot_be_switched_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    plain = head()
    with caplog.at_level(logging.WARNING):
        plain.end2end = True
    assert not plain.end2end and "no one-to-one branch" in caplog.text
    dual = head(end2end=True)
    dual.end2end = True
    dual.fuse()
    with caplog.at_level(logging.WARNING):
        dual.end2end = False
    assert dual.end2end and "one-to-one branch only" in caplog.text


@pytest.mark.parametrize("cls", [Detect, v10Detect])
def test_start_values(cls: type[Detect]) -> None:
    detect = cls(80, ch=(64, 128)) if cls is v10Detect else cls(80, 16, True, (64, 128))
    detect.stride = torch.tensor([8.0, 16.0])
    detect.bias_init()
    for boxes, scores in detect.branches():
        for level, stride in enumerate((8, 16)):
            assert bool((boxes[level][2].bias == 2).all())  # type: ignore[index, union-attr]
            want = math.log(5 / 80 / (640 / stride) ** 2)
            assert scores[level][2].bias.tolist() == pytest.approx([want] * 80)  # type: ignore[index, union-attr]
    assert len(detect.branches()) == 2


def test_a_reset_keeps_the_fixed_bins_and_the_prior() -> None:
    """Elsewhere a reset draws the bins at random and lets them train."""
    detect = head(end2end=True)
    detect.reset_parameters()
    assert isinstance(detect.dfl, DFL) and detect.dfl.conv.weight.flatten().tolist() == [0, 1, 2, 3]
    assert not detect.dfl.conv.weight.requires_grad
    assert detect.branches()[1][1][0][2].bias.tolist()[0] < -5  # type: ignore[index, union-attr]


def test_the_form_of_the_class_towers_belongs_to_the_object() -> None:
    """Elsewhere the last YAML that was built decides for heads made by hand."""
    counts = []
    for legacy in (False, True, None):
        counts.append(sum(p.numel() for p in Detect(80, 16, False, (64, 128, 256), legacy).parameters()))
    assert counts == [464912, 897664, 464912]


def test_the_rule_reads_the_yaml() -> None:
    rule = REGISTRY.get("Detect").rule  # type: ignore[union-attr]
    assert rule is not None
    old = rule(RowContext((16, 24), (5,), above=("Conv", "C2f")))
    assert old.args == (5, 16, False, [16, 24], True)
    new = rule(RowContext((16, 24), (5,), options={"reg_max": 1, "end2end": True}, above=("C3k2",)))
    assert new.args == (5, 1, True, [16, 24], False)


@pytest.mark.parametrize("legacy", [False, True])
def test_class_towers_are_rebuilt_at_another_width(legacy: bool) -> None:
    wide = Detect(60, 4, True, CH, legacy)
    mine = Detect(2, 4, True, CH, legacy)
    assert mine.match_class_towers(wide.state_dict())
    shapes = {k: v.shape for k, v in wide.state_dict().items() if ".2." not in k}
    assert {k: v.shape for k, v in mine.state_dict().items() if ".2." not in k} == shapes
    assert mine.cv3 is not None and mine.cv3[0][2].out_channels == 2  # type: ignore[index, union-attr]
    assert not mine.match_class_towers(wide.state_dict())  # nothing is left to do
    assert not mine.match_class_towers(Detect(60, 4, True, CH, not legacy).state_dict())  # another form


@pytest.mark.parametrize(("conf", "images"), [(0.0, 1), (0.4, 2), (0.6, 2), (1.0, 1)])
@torch.no_grad()
def test_anchors_above_a_score_are_those_of_all(conf: float, images: int) -> None:
    detect, x = head(), maps(images)
    whole, _ = detect(x)
    with detect.scoring_above(conf):
        few, raw = detect(x)
    assert raw == {} and few.shape[:2] == whole.shape[:2] and min(16, whole.shape[2]) <= few.shape[2]
    columns = [int((whole[0] - column[:, None]).abs().sum(0).argmin()) for column in few[0].T]
    assert columns == sorted(set(columns))  # in their order, each once
    torch.testing.assert_close(few, whole[:, :, columns])
    wanted = (whole[:, 4:].amax((0, 1)) > conf).nonzero().flatten().tolist()
    assert set(wanted) <= set(columns)
    assert len(columns) == max(len(wanted), min(16, whole.shape[2]))
    assert detect(x)[0].shape == whole.shape  # the block has ended


def test_a_head_without_nms_and_a_graph_decode_all() -> None:
    detect, x = head(end2end=True), maps(1)
    with torch.no_grad(), detect.scoring_above(0.9):
        assert detect(x)[0].shape == (1, 4 + NC, 30)
    detect = head()
    detect.export = True
    with torch.no_grad(), detect.scoring_above(0.9):
        assert detect(x).shape == (1, 4 + NC, 30)
