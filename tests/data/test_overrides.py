"""What a data set of one's own may replace, with the arguments of the interface."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch

from tests.engine.tiny import IMAGES, write_dataset
from ultralytics.data.augment import v8_transforms
from ultralytics.data.base import DATASET_NOT_CALLED
from ultralytics.data.types import EpochIndex
from ultralytics.data.utils import check_det_dataset
from ultralytics.models.rtdetr.val import RTDETRDataset
from ultralytics.utils.errors import ConfigError


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return check_det_dataset(write_dataset(tmp_path_factory.mktemp("set")))


class Mine(RTDETRDataset):
    """Replaces the methods by the signatures that scripts write."""

    def get_labels(self) -> list[Any]:
        return [label for label in super().get_labels() if len(label["cls"])]

    def load_image(self, i: int, rect_mode: bool | None = None) -> Any:
        image, original, present = super().load_image(i, rect_mode)
        return np.full_like(image, 7), original, present

    def get_image_and_label(self, index: int) -> Any:
        sample = super().get_image_and_label(index)
        sample["cls"] = np.full_like(sample["cls"], 2)
        return sample

    def build_transforms(self, hyp: Any = None) -> Any:
        self.rates = [*getattr(self, "rates", []), hyp.mosaic]
        hyp.hsv_h = hyp.hsv_s = hyp.hsv_v = 0.0
        return v8_transforms(self, self.imgsz, hyp, stretch=True)


class Rates:
    """Rates that a script may write to."""

    def __init__(self, **rates: float) -> None:
        self.__dict__.update({"photometric": 0.0, **rates})


@pytest.mark.parametrize("crop", [0.0, 1.0])
def test_methods_are_called(data: dict[str, Any], crop: float) -> None:
    """Also for the images of a mosaic, for those that are cut into, and once mosaics are off."""
    hyp = Rates(mosaic=1.0, iou_crop=crop, degrees=0.0, translate=0.0, scale=0.0, fliplr=0.0)
    dataset = Mine(img_path=data["train"], imgsz=64, data=data, hyp=hyp, augment=True)
    assert len(dataset) == sum(bool(rows) for _, rows in IMAGES) and dataset.rates == [1.0, 0.0]
    for _ in range(2):
        sample = dataset[0]
        assert set(sample["img"].unique().tolist()) <= {7, 114} and sample["img"].shape == (3, 64, 64)
        assert set(sample["cls"].unique().tolist()) <= {2.0}
        dataset.close_mosaic(hyp)
    assert torch.equal(dataset[0]["img"], torch.full((3, 64, 64), 7, dtype=torch.uint8))


class ByIndex(RTDETRDataset):
    """Draws samples by a rule of its own, as scripts for rare classes do: from any key the second image."""

    def __getitem__(self, key: Any) -> Any:
        return self.transforms(self.get_image_and_label(key if key == 2 else 1))


def test_a_sample_by_its_index_follows_the_epoch(data: dict[str, Any]) -> None:
    """Indices of a plain sampler are augmented otherwise in each epoch, in worker processes that already run too."""
    hyp = Rates(mosaic=0.0, iou_crop=0.0, degrees=0.0, translate=0.0, scale=0.9, fliplr=0.5)
    plain, mine = (
        cls(img_path=data["train"], imgsz=64, data=data, hyp=hyp, augment=True) for cls in (RTDETRDataset, ByIndex)
    )
    pictures = []
    for epoch in range(3):
        plain.set_epoch(epoch)
        mine.set_epoch(epoch)
        want = plain[(epoch, 1)]["img"]
        assert torch.equal(plain[1]["img"], want) and torch.equal(mine[0]["img"], want)
        assert torch.equal(plain[EpochIndex(1, epoch)]["img"], want)
        assert torch.equal(mine[EpochIndex(2, 7)]["img"], plain[(7, 2)]["img"]), "an index knows its own epoch"
        pictures.append(want)
    assert not torch.equal(pictures[0], pictures[1]) and not torch.equal(pictures[1], pictures[2])
    index = pickle.loads(pickle.dumps(EpochIndex(5, 3)))
    assert index == 5 and index.epoch == 3 and [7, 8][EpochIndex(1, 9)] == 8


@pytest.mark.parametrize("name", DATASET_NOT_CALLED)
def test_methods_that_are_never_called_are_refused(data: dict[str, Any], name: str) -> None:
    cls = type("Mine", (RTDETRDataset,), {name: lambda self, *args: None})
    with pytest.raises(ConfigError, match=rf"{name} is never called here\nreplace \w+"):
        cls(img_path=data["train"], imgsz=64, data=data)
