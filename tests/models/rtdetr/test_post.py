"""Rows of the head -> boxes in the user's image."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.engine.tiny import TINY
from ultralytics.data.augment import LetterBox
from ultralytics.models.rtdetr.post import (
    check_class_filter,
    class_filter,
    network_to_original,
    output_rows,
    report_unknown_classes,
    select_rows,
    stretch_geometry,
    to_network_xywhn,
    to_original_xyxy,
)
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.ops import letterbox_geometry

ROWS = [[0.5, 0.5, 0.2, 0.2, s, c] for s, c in ((0.9, 0), (0.8, 2), (0.5, 1), (0.25, 2), (0.1, 0))]


@pytest.mark.parametrize(
    ("rows", "conf", "max_det", "classes", "want"),
    [
        ([], 0.25, 300, None, []),
        (ROWS, 0.25, 300, None, [0, 1, 2]),  # strictly above
        (ROWS, 0.0, 300, None, [0, 1, 2, 3, 4]),
        (ROWS, 0.0, 2, None, [0, 1]),
        (ROWS, 0.0, 300, [2], [1, 3]),
        (ROWS, 0.0, 1, [1], [2]),  # the filter acts before max_det
        (ROWS, 0.0, 300, [], []),
        (ROWS, 0.95, 300, None, []),
        ([[float("nan"), 0.5, 0.1, 0.1, 0.9, 0], [0.5, 0.5, float("inf"), 0.1, 0.8, 0], ROWS[2]], 0.0, 9, None, [2]),
    ],
)
def test_select_rows(rows: list[list[float]], conf: float, max_det: int, classes: list[int] | None, want: list[int]):
    batch = torch.tensor([rows, rows]).reshape(2, len(rows), 6)
    got = select_rows(batch, conf, max_det, classes)
    assert len(got) == 2
    for one in got:
        assert torch.equal(one, batch[0][want])


def test_output_rows_takes_the_tensor_or_the_pair():
    rows = torch.rand(1, 2, 6, dtype=torch.float16)
    for preds in (rows, (rows, None), [rows, None]):
        assert output_rows(preds).dtype == torch.float32
        assert output_rows(preds).shape == (1, 2, 6)


@pytest.mark.parametrize("original", [(96, 96), (90, 120), (121, 83), (33, 700), (640, 480), (2000, 3), (1, 2000)])
@pytest.mark.parametrize("network", [(96, 96), (64, 128), (640, 640)])
@pytest.mark.parametrize("geometry", [stretch_geometry, letterbox_geometry])
def test_to_original_undoes_to_network(original, network, geometry):
    h, w = original
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(20, 2, 2, generator=generator).sort(1).values * torch.tensor([w, h])  # (20, 2 corners, xy)
    boxes = corners.reshape(-1, 4)
    there = to_network_xywhn(boxes, network, geometry(original, network))
    assert float(there.min()) >= 0 and float(there.max()) <= 1
    back = to_original_xyxy(there, network, original, geometry(original, network))
    torch.testing.assert_close(back, boxes, atol=1e-2, rtol=1e-4)


@pytest.mark.parametrize("original", [(96, 96), (90, 120), (121, 83), (33, 700), (480, 640), (77, 78)])
@pytest.mark.parametrize("network", [(96, 96), (64, 128), (640, 640)])
def test_letterbox_geometry_is_where_letterbox_puts_the_image(original, network):
    image = np.zeros((*original, 3), np.uint8)
    boxed = LetterBox(network)(image=image)
    inside = np.argwhere(boxed[..., 0] == 0)
    (top, left), (bottom, right) = inside.min(0), inside.max(0) + 1
    (gain_h, gain_w), (pad_x, pad_y) = letterbox_geometry(original, network)
    assert (left, top) == (pad_x, pad_y)
    assert (bottom - top, right - left) == (round(original[0] * gain_h), round(original[1] * gain_w))


@pytest.mark.parametrize(("original", "middle"), [((2000, 3), [31.5, 32]), ((3, 2000), [32, 31.5])])
def test_a_box_around_the_one_pixel_of_a_narrow_image_is_the_image(original, middle):
    image = np.zeros((*original, 3), np.uint8)
    inside = np.argwhere(LetterBox(64)(image=image)[..., 0] == 0)
    (top, left), (bottom, right) = inside.min(0), inside.max(0) + 1
    box = torch.tensor([[left + right, top + bottom, 2 * (right - left), 2 * (bottom - top)]]) / 128
    assert (box[0, :2] * 64).tolist() == middle
    out = to_original_xyxy(box, (64, 64), original, letterbox_geometry(original, (64, 64)))
    torch.testing.assert_close(out, torch.tensor([[0.0, 0.0, original[1], original[0]]]))


@pytest.mark.parametrize("geometry", [stretch_geometry, letterbox_geometry])
def test_boxes_are_clipped_to_the_image(geometry):
    boxes = torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.9, 0.9, 0.9, 0.9], [0.5, 0.5, 3.0, 3.0]])
    out = to_original_xyxy(boxes, (96, 96), (40, 70), geometry((40, 70), (96, 96)))
    assert float(out.min()) == 0
    assert float(out[:, [0, 2]].max()) == 70
    assert float(out[:, [1, 3]].max()) == 40


@pytest.mark.parametrize("geometry", [stretch_geometry, letterbox_geometry])
def test_what_validation_compares_is_not_clipped(geometry):
    """The boxes of the network input come back from the image, those beyond it too."""
    boxes, place = torch.tensor([[-9.0, 3.0, 40.0, 120.0]]), geometry((40, 70), (96, 96))
    (gain_h, gain_w), (left, top) = place
    back = network_to_original(boxes, place) * torch.tensor([gain_w, gain_h] * 2) + torch.tensor([left, top] * 2)
    torch.testing.assert_close(back, boxes)


def test_class_filter_acts_before_the_top_k():
    torch.manual_seed(0)
    model = RTDETRDetectionModel(TINY, verbose=False).eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        free = output_rows(model(image))
        with class_filter(model, [2]):
            only = output_rows(model(image))
        again = output_rows(model(image))
    assert set(free[0, :, 5].tolist()) != {2.0}
    assert set(only[0, :, 5].tolist()) == {2.0}
    assert only.shape == free.shape  # as many rows as without the filter: nothing was crowded out
    assert torch.equal(free, again)


@pytest.mark.parametrize(
    ("classes", "nc", "message"),
    [
        (None, 3, ""),
        (2, 3, ""),
        ([0, 2], 3, ""),
        ([], 3, "0 to 2"),
        ([0, 3], 3, ""),
        ([3, 4], 3, "0 to 2"),
        (-1, 3, "0 to 2"),
        (1, 1, "0"),
    ],
)
def test_classes_that_do_not_exist_are_refused(classes, nc, message):
    if not message:
        return check_class_filter(classes, nc)
    with pytest.raises(ConfigError, match=f"classes=.*{message}"):
        check_class_filter(classes, nc)


def test_unknown_ids_beside_known_ones_are_reported_and_have_no_effect(capsys):
    model = RTDETRDetectionModel(TINY, verbose=False)
    with class_filter(model, [0, 79]):
        assert model.model[-1]._classes == (0,)
    report_unknown_classes([0, 79], 3)
    report_unknown_classes([0, 2], 3)
    report_unknown_classes(None, 3)
    out = capsys.readouterr().out
    assert out.count("no effect") == 1 and "[79]" in out and "0 to 2" in out


def test_class_filter_refuses_before_the_first_image():
    model = RTDETRDetectionModel(TINY, verbose=False)
    with pytest.raises(ConfigError, match=r"classes=\[7\]"), class_filter(model, [7]):
        raise AssertionError("never reached")
    assert model.model[-1].classes is None


@pytest.mark.parametrize(
    ("names", "fits"), [({0: "a", 1: "b"}, False), ({i: str(i) for i in range(8)}, True), (None, True)]
)
def test_class_filter_without_a_head_goes_by_the_names(names, fits):
    """An exported file has no head that could be asked; one that says nothing of its classes is believed."""
    file = SimpleNamespace() if names is None else SimpleNamespace(names=names)
    with contextlib.nullcontext() if fits else pytest.raises(ConfigError, match=r"classes=\[7\].*0 to 1"):
        with class_filter(file, [7]):
            assert fits


def test_class_filter_is_lifted_after_an_error():
    model = RTDETRDetectionModel(TINY, verbose=False).eval()
    with pytest.raises(RuntimeError, match="stop"), class_filter(model, [1]):
        assert model.model[-1].classes == (1,)
        raise RuntimeError("stop")
    assert model.model[-1].classes is None
