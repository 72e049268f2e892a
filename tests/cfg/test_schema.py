from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ultralytics.cfg.schema import KEYS, Trait, keys_with
from ultralytics.utils.errors import ConfigError, ConfigTypeError


@pytest.mark.parametrize(
    ("name", "value", "want"),
    [
        ("model", None, None),
        ("epochs", 3, 3),
        ("epochs", 3.0, 3),
        ("time", 0.5, 0.5),
        ("batch", -1, -1),
        ("batch", 0.6, 0.6),
        ("imgsz", 640, 640),
        ("imgsz", (480, 640), [480, 640]),
        ("imgsz", "640", 640),
        ("imgsz", "(480, 640)", [480, 640]),
        ("mosaic", False, 0.0),
        ("mosaic", True, 1.0),
        ("mosaic", 1, 1.0),
        ("lr0", 0.5, 0.5),
        ("degrees", -45, -45.0),
        ("plots", False, False),
        ("channels_last", None, None),
        ("cache", "RAM", "ram"),
        ("cache", True, True),
        ("amp", "BF16", "bf16"),
        ("optimizer", "adamw", "AdamW"),
        ("device", [0, 1], [0, 1]),
        ("device", (0, 1), [0, 1]),
        ("device", "cuda:1", "cuda:1"),
        ("device", torch.device("cpu"), "cpu"),
        ("fraction", 1, 1.0),
        ("fraction", 100, 100),
        ("fraction", [0.5, 20], [0.5, 20]),
        ("scale", 0.5, 0.5),
        ("scale", (0.5, 1.5), [0.5, 1.5]),
        ("freeze", 3, 3),
        ("freeze", [0, "model.1"], [0, "model.1"]),
        ("freeze", "encoder", ["encoder"]),
        ("freeze", "[0, encoder]", [0, "encoder"]),
        ("freeze", "model.0.,'model.6.'", ["model.0.", "model.6."]),
        ("classes", [0, 2.0], [0, 2]),
        ("quantize", "fp16", 16),
        ("quantize", 8, 8),
        ("quantize", "w8a16", "w8a16"),
        ("name", 7, "7"),
        ("project", Path("a") / "b", str(Path("a") / "b")),
        ("data", Path("a.yaml"), "a.yaml"),
        ("resume", True, True),
        ("resume", "last.pt", "last.pt"),
        ("compile", "reduce-overhead", "reduce-overhead"),
        ("lr_schedule", "Cosine", "cosine"),
        ("modules", ["a.py"], ["a.py"]),
        ("modules", "[a.py, 'b.py']", ["a.py", "b.py"]),
        ("source", Path("a.jpg"), "a.jpg"),
        ("box", 7.5, 7.5),
        ("epochs", np.int64(3), 3),
        ("lr0", np.float32(0.5), 0.5),
        ("lr0", torch.tensor(0.5), 0.5),
        ("plots", np.bool_(False), False),
        ("classes", np.array([0, 2]), [0, 2]),
        ("classes", range(2), [0, 1]),
        ("lr0", Fraction(1, 2), 0.5),
        ("close_mosaic", True, 1),
        ("close_mosaic", False, 0),
        ("rect", False, False),
    ],
)
def test_values_in_their_stored_form(name: str, value: Any, want: Any) -> None:
    got = KEYS[name].check(value)
    assert got == want and type(got) is type(want)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", None),
        ("epochs", "3"),
        ("epochs", 3.5),
        ("epochs", True),
        ("epochs", [3]),
        ("lr0", "fast"),
        ("lr0", None),
        ("plots", 1),
        ("plots", "true"),
        ("imgsz", "640px"),
        ("imgsz", [640, 0.5]),
        ("optimizer", 3),
        ("classes", {"a": 0}),
        ("classes", [0.5]),
        ("amp", None),
        ("fraction", True),
        ("device", 0.5),
        ("model", 3),
        ("name", True),
        ("cache", 1),
    ],
)
def test_wrong_types(name: str, value: Any) -> None:
    with pytest.raises(ConfigTypeError, match=f"{name}") as e:
        KEYS[name].check(value, "my.yaml:3")
    assert isinstance(e.value, TypeError) and "use " in str(e.value)
    assert str(e.value).endswith("(from my.yaml:3)") and len(str(e.value).splitlines()) <= 3


@pytest.mark.parametrize(
    ("name", "value", "bound"),
    [
        ("epochs", 0, "at least 1"),
        ("patience", -1, "at least 0"),
        ("save_period", -2, "at least -1"),
        ("lr0", 1.5, "from 0 to 1"),
        ("lr0", float("nan"), "from 0 to 1"),
        ("mosaic", -0.1, "from 0 to 1"),
        ("batch", 0, "an integer"),
        ("batch", 1.5, "an integer"),
        ("imgsz", 0, "pixels"),
        ("imgsz", [], "pixels"),
        ("imgsz", [1, 2, 3], "pixels"),
        ("fraction", 0, "ratio"),
        ("fraction", 1.5, "ratio"),
        ("fraction", [0.5], "ratio"),
        ("freeze", -1, "layer indices"),
        ("freeze", "0,", "layer indices"),
        ("scale", 1.5, "0 to 1"),
        ("scale", [1.5, 0.5], "pair"),
        ("scale", [0.5, 1, 2], "pair"),
        ("optimizer", "Lion", "one of SGD"),
        ("split", "training", "one of train"),
        ("cache", "tape", "'disk'"),
        ("amp", "fp8", "'bf16'"),
        ("quantize", 4, "int8"),
        ("task", "segment", "detect"),
        ("loss", "", "one of vfl"),
    ],
)
def test_values_outside_their_bounds(name: str, value: Any, bound: str) -> None:
    with pytest.raises(ConfigError, match=name) as e:
        KEYS[name].check(value)
    assert bound in str(e.value) and isinstance(e.value, ValueError)


def test_an_operator_set_below_the_lowest_is_raised(capsys: pytest.CaptureFixture[str]) -> None:
    assert [KEYS["opset"].check(v) for v in (12, 16, 18, None)] == [16, 16, 18, None]
    assert capsys.readouterr().out.count("opset=12 is raised to 16") == 1


@pytest.mark.parametrize("value", [True, "other", 0.5, [1], None])
def test_any_value_of_an_inert_argument_is_taken(value: Any) -> None:
    assert KEYS["pose"].check(value) == value


def test_keys_with_a_trait_and_a_task() -> None:
    assert keys_with(Trait.PLACE) == ("project", "name", "exist_ok", "save_dir")
    assert keys_with(Trait.EXPORT_VAL, task="classify") == ("data", "workers", "split")
    assert set(keys_with(Trait.EXPORT_VAL)) - set(keys_with(Trait.EXPORT_VAL, task="classify")) == {
        "iou",
        "agnostic_nms",
        "single_cls",
        "max_det",
        "letterbox",
    }
