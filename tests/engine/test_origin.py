"""Where weights come from: untrained ones are named once, stored precision and stored data paths are used and named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.engine.tiny import TINY, spread_network
from ultralytics import RTDETR
from ultralytics.engine.origin import UNTRAINED, naming_stored_data, stored_precision
from ultralytics.utils.errors import NotFoundError

IMAGE = np.zeros((32, 32, 3), np.uint8)


def test_untrained_weights_are_named_once(capsys: pytest.CaptureFixture[str]) -> None:
    model = RTDETR(TINY)
    for _ in range(2):
        model.predict(IMAGE, imgsz=32, verbose=False)
    assert capsys.readouterr().out.count(UNTRAINED) == 1


@pytest.mark.parametrize("way", ["load", "load_state_dict"])
def test_weights_from_elsewhere_are_not_untrained(way: str, capsys: pytest.CaptureFixture[str]) -> None:
    model = RTDETR(TINY)
    if way == "load":
        model.load(spread_network())
    else:
        model.model.load_state_dict(spread_network().state_dict())
    model.predict(IMAGE, imgsz=32, verbose=False)
    assert UNTRAINED not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("ckpt", "mode", "want"),
    [
        (None, "val", {}),
        ({}, "val", {}),
        ({"train_args": {"amp": True}}, "val", {}),
        ({"train_args": {"amp": False}}, "val", {"amp": False}),
        ({"train_args": {"amp": "fp32"}}, "predict", {"amp": False}),
        ({"train_args": {"amp": False}}, "train", {}),
    ],
)
def test_stored_precision(ckpt: dict[str, object] | None, mode: str, want: dict[str, bool]) -> None:
    assert stored_precision(ckpt, mode) == want


@pytest.mark.parametrize(("given", "named"), [({}, True), ({"data": "x.yaml"}, False), ({"resume": True}, False)])
def test_a_stored_path_is_named(given: dict[str, object], named: bool) -> None:
    with pytest.raises(NotFoundError) as e, naming_stored_data("d/data.yaml", given, "best.pt"):
        raise NotFoundError("d/data.yaml: no such file", "a hint")
    assert ("was stored in best.pt: pass data=" in str(e.value)) is named


def test_the_path_of_weights_in_val(tmp_path: Path) -> None:
    model = RTDETR(TINY)
    model.ckpt = {"train_args": {"data": "elsewhere/data.yaml"}}
    file = model.save(tmp_path / "w.pt")
    with pytest.raises(NotFoundError, match=r"stored in .*w\.pt: pass data="):
        RTDETR(str(file)).val(imgsz=32)
