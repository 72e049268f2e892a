"""Conversions against hand-made numbers and each other, in NumPy and torch; scaling against a moved picture."""

import cv2
import numpy as np
import pytest
import torch

from ultralytics.data.augment import LetterBox
from ultralytics.utils import ops
from ultralytics.utils.instance import Instances

PAIRS = [
    (ops.xyxy2xywh, ops.xywh2xyxy),
    (ops.xywh2ltwh, ops.ltwh2xywh),
    (ops.xyxy2ltwh, ops.ltwh2xyxy),
    (lambda x: ops.xyxy2xywhn(x, 50, 40), lambda x: ops.xywhn2xyxy(x, 50, 40)),
]
# (function, input, output): boxes of an image 50 wide and 40 high
EXAMPLES = [
    (ops.xyxy2xywh, [10, 4, 30, 20], [20, 12, 20, 16]),
    (ops.xywh2xyxy, [20, 12, 20, 16], [10, 4, 30, 20]),
    (ops.xywh2ltwh, [20, 12, 20, 16], [10, 4, 20, 16]),
    (ops.ltwh2xywh, [10, 4, 20, 16], [20, 12, 20, 16]),
    (ops.xyxy2ltwh, [10, 4, 30, 20], [10, 4, 20, 16]),
    (ops.ltwh2xyxy, [10, 4, 20, 16], [10, 4, 30, 20]),
    (lambda x: ops.xyxy2xywhn(x, 50, 40), [10, 4, 30, 20], [0.4, 0.3, 0.4, 0.4]),
    (lambda x: ops.xyxy2xywhn(x, 50, 40, clip=True), [-10, 4, 30, 60], [0.3, 0.55, 0.6, 0.9]),
    (lambda x: ops.xyxy2xywhn(x, 50, 40, clip=True, eps=1.0), [40, 30, 60, 60], [0.89, 0.8625, 0.18, 0.225]),
    (lambda x: ops.xywhn2xyxy(x, 50, 40, padw=3, padh=5), [0.4, 0.3, 0.4, 0.4], [13, 9, 33, 25]),
    (lambda x: ops.clip_boxes(x, (40, 50)), [-3, 5, 70, 90], [0, 5, 50, 40]),
]


@pytest.mark.parametrize("as_tensor", [False, True])
@pytest.mark.parametrize("shape", [(0, 4), (4,), (1, 4), (3, 5, 4)])
@pytest.mark.parametrize("there, back", PAIRS)
def test_round_trip(there, back, shape, as_tensor):
    x = np.random.default_rng(0).random(shape).astype(np.float64) * 20
    x[..., 2:] += x[..., :2]
    data = torch.from_numpy(x) if as_tensor else x
    before = data.clone() if as_tensor else data.copy()
    result = back(there(data))
    assert type(result) is type(data) and result.shape == data.shape
    np.testing.assert_allclose(np.asarray(result), x, atol=1e-12)
    np.testing.assert_array_equal(np.asarray(data), np.asarray(before))  # pure


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, None])
@pytest.mark.parametrize("function, given, wanted", EXAMPLES)
def test_examples(function, given, wanted, dtype):
    data = np.array([given], dtype=np.float64) if dtype is None else torch.tensor([given], dtype=dtype)
    result = function(data)
    np.testing.assert_allclose(np.asarray(result)[0], wanted, rtol=1e-6)
    assert result.dtype == data.dtype


def test_integers_are_not_truncated():
    assert ops.xyxy2xywh(torch.tensor([0, 0, 3, 5])).tolist() == [1.5, 2.5, 3, 5]
    assert ops.xyxy2xywh(np.array([0, 0, 3, 5])).tolist() == [1.5, 2.5, 3, 5]


@pytest.mark.parametrize("shape", [(3,), (2, 5), (4, 3)])
def test_wrong_width(shape):
    with pytest.raises(ValueError, match="4 values"):
        ops.xyxy2xywh(np.zeros(shape))


def test_gradient_flows():
    x = torch.rand(3, 4, dtype=torch.float64, requires_grad=True)
    for function in (ops.xyxy2xywh, ops.xywh2xyxy, ops.xywhn2xyxy):
        assert torch.autograd.gradcheck(function, x)


def _dot(shape, at):
    """An image that is black but for a 5 x 5 square about `at` (x, y)."""
    image = np.zeros(shape, np.uint8)
    image[at[1] - 2 : at[1] + 3, at[0] - 2 : at[0] + 3] = 255
    return image


def _box_of(image):
    """The xyxy box around the bright pixels."""
    y, x = np.nonzero(image > 127)
    return np.array([[x.min(), y.min(), x.max() + 1, y.max() + 1]], dtype=np.float64)


@pytest.mark.parametrize("shape", [(100, 200), (300, 130), (64, 64), (37, 91)])
def test_scale_boxes_undoes_letterbox(shape):
    h, w = shape
    gain = min(256 / h, 256 / w)
    small = cv2.resize(
        _dot(shape, (w // 3, h // 2)), (round(w * gain), round(h * gain)), interpolation=cv2.INTER_NEAREST
    )
    left, top = round((256 - small.shape[1]) / 2 - 0.1), round((256 - small.shape[0]) / 2 - 0.1)
    canvas = np.zeros((256, 256), np.uint8)
    canvas[top : top + small.shape[0], left : left + small.shape[1]] = small
    found = _box_of(canvas)
    want = _box_of(_dot(shape, (w // 3, h // 2)))
    for ratio_pad in (None, ((gain, gain), (left, top))):
        got = ops.scale_boxes((256, 256), found, shape, ratio_pad)
        assert np.abs(got - want).max() <= 1.5 / min(gain, 1)  # the square was moved by whole pixels


@pytest.mark.parametrize("shape", [(100, 200), (61, 120), (1001, 753), (2000, 3), (3, 2000)])
@pytest.mark.parametrize("scaleup", [True, False])
def test_scale_boxes_undoes_what_a_letterbox_does_to_labels(shape, scaleup):
    """Without `ratio_pad`, too: both have the geometry of the resized pixels, so that the whole image comes back."""
    h, w = shape
    whole = np.array([[0.0, 0.0, w, h], [w / 4, h / 3, w / 2, h]], np.float32)
    sample = {
        "img": np.zeros((h, w, 3), np.uint8),
        "instances": Instances(whole.copy(), bbox_format="xyxy", normalized=False),
        "ratio_pad": (1.0, 1.0),
    }
    fitted = LetterBox((64, 96), scaleup=scaleup)(sample)
    inside = np.argwhere(LetterBox((64, 96), scaleup=scaleup)(image=np.zeros((h, w, 3), np.uint8))[..., 0] == 0)
    (top, left), (bottom, right) = inside.min(0), inside.max(0) + 1
    boxes = fitted["instances"].bboxes
    np.testing.assert_allclose(boxes[0], [left, top, right, bottom], atol=1e-4)
    np.testing.assert_allclose(ops.scale_boxes((64, 96), boxes, shape, fitted["ratio_pad"]), whole, atol=1e-2)
    np.testing.assert_allclose(ops.scale_boxes((64, 96), boxes, shape), whole, atol=1e-2)


@pytest.mark.parametrize("shape", [(100, 200), (300, 130)])
def test_scale_boxes_undoes_stretch(shape):
    h, w = shape
    box = np.array([[10.0, 20.0, 60.0, 90.0]])
    stretched = box * np.tile([256 / w, 256 / h], 2)
    got = ops.scale_boxes((256, 256), torch.from_numpy(stretched), shape, ((256 / h, 256 / w), (0, 0)))
    np.testing.assert_allclose(got, box)


def test_scale_boxes_options():
    ratio_pad = ((2.0, 2.0), (10, 30))
    box = np.array([[30.0, 50.0, 20.0, 40.0]])
    np.testing.assert_allclose(ops.scale_boxes((0, 0), box, (99, 99), ratio_pad, xywh=True), [[10, 10, 10, 20]])
    np.testing.assert_allclose(ops.scale_boxes((0, 0), box, (99, 99), ratio_pad, padding=False), [[15, 25, 10, 20]])
    np.testing.assert_allclose(ops.scale_boxes((0, 0), box, (15, 5), ratio_pad), [[5, 10, 5, 5]])  # clipped
    assert ops.scale_boxes((64, 64), np.zeros((0, 4)), (10, 10)).shape == (0, 4)


def test_segment2box_outside_and_partly():
    assert ops.segment2box(np.array([[-5.0, -5.0], [-1.0, -3.0]]), 10, 10).tolist() == [0, 0, 0, 0]
    assert ops.segment2box(np.array([[-5.0, 2.0], [1.0, 3.0], [4.0, 9.0]]), 10, 10).tolist() == [1, 3, 4, 9]


@pytest.mark.parametrize("n", [1, 3, 4, 5, 9, 1000])
def test_resample_segments(n):
    square = np.array([[0.0, 0.0], [8.0, 0.0], [8.0, 8.0], [0.0, 8.0]])
    out = ops.resample_segments([square], n)[0]
    assert out.shape == (n, 2)
    on_edge = (np.isin(out, (0, 8))).any(1)
    assert on_edge.all()
    if n > 4:  # all corners are kept
        assert {tuple(p) for p in square.tolist()} <= {tuple(p) for p in out.tolist()}
    np.testing.assert_array_equal(ops.resample_segments([], n), [])


@pytest.mark.parametrize("x, divisor, want", [(0, 8, 0), (1, 8, 8), (8, 8, 8), (64.1, 32, 96)])
def test_make_divisible(x, divisor, want):
    assert ops.make_divisible(x, divisor) == want


def test_profile_adds_up(monkeypatch):
    clock = iter([1.0, 1.5, 10.0, 12.0])
    monkeypatch.setattr(ops.time, "perf_counter", lambda: next(clock))
    profile = ops.Profile(t=3.0)
    with profile:
        pass
    assert profile.dt == 0.5
    with profile:
        pass
    assert (profile.dt, profile.t) == (2.0, 5.5)
    assert "5.5" in str(profile)
