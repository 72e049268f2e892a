"""Names that forks use and this package does not have."""

from __future__ import annotations

import pytest

import ultralytics.nn.tasks  # noqa: F401  registers every block
from ultralytics.nn.build import names
from ultralytics.nn.build.census import PUBLISHED, origin_of_name
from ultralytics.nn.build.names import find_entry
from ultralytics.nn.registry import REGISTRY
from ultralytics.utils.errors import ModelYAMLError


def test_only_names_that_are_missing_here() -> None:
    assert not [name for name in PUBLISHED if name in REGISTRY]


def test_the_message_says_where_a_name_comes_from() -> None:
    with pytest.raises(ModelYAMLError, match=r"unknown module 'XSSBlock' \(known from forks: Mamba-YOLO.*CUDA"):
        find_entry("XSSBlock")
    assert origin_of_name("Cnov") == ""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("lsknet_t", "LSKNet, a backbone that timm does not have"),
        ("CSWin_tiny", "CSWin Transformer"),
        ("C2f_RFAConv", r"also as CSP, \[c2, block=RFAConv\]"),
        ("BottleNeck", r"inside of a row: Blocks, \[64, BottleNeck, 3, 2, relu\]"),
        ("SFSFusion", "NS-FPN"),
    ],
)
def test_a_known_name_is_not_taken_for_another(name: str, text: str) -> None:
    with pytest.raises(ModelYAMLError, match=text) as caught:
        find_entry(name)
    assert "did you mean" not in str(caught.value) and "modules=FILE.py" in str(caught.value)


def test_the_beginning_of_a_name_of_timm() -> None:
    pytest.importorskip("timm")
    with pytest.raises(ModelYAMLError, match="did you mean swin_tiny_patch4_window7_224"):
        find_entry("swin_tiny")
    with pytest.raises(ModelYAMLError, match="did you mean convnextv2_atto"):
        find_entry("convnextv2_ato")


def test_a_name_of_timms_form_without_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (names, names.timm_entry.__globals__):
        if isinstance(module, dict):
            monkeypatch.setitem(module, "has_timm", lambda: False)
        else:
            monkeypatch.setattr(module, "has_timm", lambda: False)
    with pytest.raises(ModelYAMLError, match=r"a backbone of timm\? pip install rtdetr-shsa\[timm\]"):
        find_entry("fasternet_t0")
