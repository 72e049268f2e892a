"""Boxes: formats, moving, indexing, refusals."""

import numpy as np
import pytest
import torch

from ultralytics.engine.results.boxes import BaseTensor, Boxes
from ultralytics.utils.errors import ConfigError

SHAPE = (100, 200)
ROWS = np.array([[0, 0, 50, 20, 0.9, 2], [10, 30, 110, 90, 0.5, 0]], dtype=np.float32)
TRACKED = np.insert(ROWS, 4, [7, 8], axis=1)


@pytest.mark.parametrize("make", [np.array, torch.tensor])
@pytest.mark.parametrize("rows", [ROWS[:0], ROWS, TRACKED[:0], TRACKED], ids=["none", "two", "none tracked", "tracked"])
def test_formats(make, rows):
    data = make(rows)
    boxes = Boxes(data, SHAPE)
    size, n = np.array([200, 100, 200, 100]), len(rows)
    assert len(boxes) == n and boxes.shape == rows.shape and type(boxes.xyxy) is type(data)
    want = rows[:, :4]
    np.testing.assert_array_equal(boxes.xyxy, want)
    xywh = np.concatenate([(want[:, :2] + want[:, 2:]) / 2, want[:, 2:] - want[:, :2]], 1)
    np.testing.assert_allclose(boxes.xywh, xywh)
    np.testing.assert_allclose(boxes.xyxyn, want / size, rtol=1e-6)
    np.testing.assert_allclose(boxes.xywhn, xywh / size, rtol=1e-6)
    assert np.asarray(boxes.xywhn).dtype == np.float32
    np.testing.assert_array_equal(boxes.conf, rows[:, -2])
    np.testing.assert_array_equal(boxes.cls, rows[:, -1])
    if rows.shape[1] == 7:
        assert boxes.is_track
        np.testing.assert_array_equal(boxes.id, rows[:, 4])
    else:
        assert boxes.id is None and not boxes.is_track


@pytest.mark.parametrize("shape", [(5,), (8,), (2, 5), (2, 8), (1, 2, 6)])
def test_refuses_other_widths(shape):
    with pytest.raises(ConfigError, match="6 or 7 values"):
        Boxes(np.zeros(shape), SHAPE)


@pytest.mark.parametrize("data", [[[0, 0, 1, 1, 0.5, 0]], None, 3])
def test_refuses_other_types(data):
    with pytest.raises(TypeError, match="tensor or an array"):
        BaseTensor(data, SHAPE)
    with pytest.raises(TypeError, match="tensor or an array"):
        Boxes(data, SHAPE)


@pytest.mark.parametrize("index, count", [(0, 1), (-1, 1), (slice(0, 0), 0), ([1, 0], 2), (ROWS[:, 4] > 0.6, 1)])
def test_indexing(index, count):
    part = Boxes(ROWS, SHAPE)[index]
    assert isinstance(part, Boxes) and len(part) == count and part.orig_shape == SHAPE
    np.testing.assert_array_equal(part.data, ROWS[index].reshape(-1, 6))


def test_out_of_range_and_iteration():
    boxes = Boxes(torch.from_numpy(ROWS), SHAPE)
    with pytest.raises(IndexError):
        boxes[2]
    assert [b.cls.item() for b in boxes] == [2, 0]


def test_moving():
    boxes = Boxes(torch.from_numpy(ROWS).requires_grad_(), SHAPE)
    assert isinstance(boxes.numpy().data, np.ndarray)
    assert boxes.numpy().numpy().cpu().data is not None
    assert boxes.to(torch.float64).data.dtype == torch.float64
    assert isinstance(boxes.numpy().to("cpu").data, torch.Tensor)
    assert boxes.cpu().orig_shape == SHAPE
    assert "Boxes" in repr(boxes) and "(2, 6)" in repr(boxes)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda():
    assert Boxes(ROWS, SHAPE).cuda().xyxyn.is_cuda
