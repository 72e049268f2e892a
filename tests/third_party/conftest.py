"""A small model in a file, and a picture, for the snippets of other projects."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.engine.tiny import spread_network
from ultralytics.data.demo import draw_scene
from ultralytics.nn.checkpoint.format import pack_model, save_checkpoint


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A detector of three classes that was made for 96 px."""
    record = {"model": pack_model(spread_network()), "train_args": {"imgsz": 96}}
    return str(save_checkpoint(tmp_path_factory.mktemp("third_party") / "best.pt", record))


@pytest.fixture(scope="session")
def picture(weights: str) -> str:
    """A JPEG of 160 x 240 px."""
    path = Path(weights).with_name("photo.jpg")
    cv2.imwrite(str(path), draw_scene(np.random.default_rng(1), 160, 240)[0])
    return str(path)
