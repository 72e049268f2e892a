"""Mixing of finished batches: pixels against slices written out, empty images, and refused places."""

from __future__ import annotations

import pytest
import torch

from ultralytics.data.augment.batch_mix import ImageLabels, Paste, mix_batch, paste_objects, paste_sources
from ultralytics.utils.errors import ConfigError


def labels(*counts: int) -> list[ImageLabels]:
    box = torch.tensor([0.5, 0.5, 0.25, 0.5])  # 10 x 10 px of an image of 20 x 40
    return [ImageLabels(torch.arange(n), box.expand(n, 4), torch.ones(n)) for n in counts]


def test_mixing_keeps_the_objects_of_both() -> None:
    images = torch.rand(3, 3, 4, 6)
    mixed, found = mix_batch(images, labels(2, 0, 1), 0.75)
    torch.testing.assert_close(mixed[0], 0.75 * images[0] + 0.25 * images[2])
    assert [t.cls.tolist() for t in found] == [[0, 1, 0], [0, 1], [0]]
    assert [t.weight.tolist() for t in found] == [[0.75, 0.75, 0.25], [0.25, 0.25], [0.75]]


def test_one_image_alone_mixes_with_itself() -> None:
    images = torch.rand(1, 3, 4, 6)
    mixed, found = mix_batch(images, labels(0), 0.5)
    torch.testing.assert_close(mixed, images)
    assert len(found[0].cls) == 0


def test_a_pasted_object_of_an_image_that_is_not_square() -> None:
    images = torch.rand(2, 3, 20, 40)
    sources = paste_sources(labels(1, 0), 20, 40)
    assert [s.corners for s in sources] == [(15, 5, 25, 15)]
    out, found = paste_objects(images, labels(1, 0), sources, [[], [Paste(0, 2, 8, 0.2)]], 0.4)
    want = images[1].clone()
    want[:, 6:20, 0:14] = 0.4 * want[:, 6:20, 0:14] + 0.6 * images[0][:, 3:17, 13:27]  # two pixels more at each border
    torch.testing.assert_close(out[1], want)
    assert torch.equal(out[0], images[0])
    torch.testing.assert_close(found[1].bboxes, torch.tensor([[7 / 40, 13 / 20, 10 / 40, 10 / 20]]))
    assert found[1].weight.tolist() == pytest.approx([0.6])


def test_small_objects_are_not_sources() -> None:
    assert paste_sources(labels(1), 20, 40, least_area=101) == [] and paste_sources(labels(0), 20, 40) == []


@pytest.mark.parametrize("place", [(-1, 0), (31, 0), (0, 11)])
def test_places_outside_are_refused(place: tuple[int, int]) -> None:
    sources = paste_sources(labels(1), 20, 40)
    with pytest.raises(ConfigError, match="leaves the image of 40 x 20 px"):
        paste_objects(torch.rand(1, 3, 20, 40), labels(1), sources, [[Paste(0, *place, 0.1)]], 0.5)


@pytest.mark.parametrize("beta", [-0.1, 1.5])
def test_shares_outside_of_0_to_1_are_refused(beta: float) -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        mix_batch(torch.rand(1, 3, 4, 6), labels(0), beta)
