"""Boxes against masks under every transform; `properties.py` runs the same by hand, a thousand times each."""

from __future__ import annotations

import numpy as np
import pytest

from tests.data.augment.properties import CASES, Shapes, run_case, white_frame
from ultralytics.data.augment import RandomPerspective

SEEDS = 12


@pytest.mark.parametrize("name", CASES)
def test_boxes_frame_the_mask(name: str) -> None:
    found = run_case(name, SEEDS)
    assert len(found) >= 2 and (found >= 0.95).all()


def test_frames_are_measured_to_parts_of_a_pixel() -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    assert np.isnan(white_frame(image, 127.5)).all()
    image[10:30, 5:25] = 255
    np.testing.assert_allclose(white_frame(image, 127.5), [5, 10, 25, 30])
    image[10:30, 25] = 64  # a quarter of the next column
    np.testing.assert_allclose(white_frame(image, 127.5), [5, 10, 25.167, 30], atol=1e-3)


def test_a_wrong_box_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The judge can fail: boxes that are moved by two pixels do not pass."""
    move = RandomPerspective.move

    def shifted(*args):
        moved = move(*args)
        moved.add_padding(2, 0)
        return moved

    monkeypatch.setattr(RandomPerspective, "move", staticmethod(shifted))
    assert (run_case("scale and shift", 6) < 0.95).any()


def test_the_pictures_are_what_the_judge_believes() -> None:
    source = Shapes(polygons=True)
    for k in range(3):
        source.only = (2, k)
        sample = source.get_image_and_label(2)
        frame = white_frame(sample["img"], 127.5)
        np.testing.assert_allclose(frame, sample["instances"].bboxes[k], atol=0.6)
