"""Constructor arguments under the names of published code, in Python and in rows."""

from __future__ import annotations

from typing import Any

import pytest

from ultralytics.nn import modules
from ultralytics.nn.argument_names import by_own_names, other_names, own_name
from ultralytics.nn.build.builder import parse_model
from ultralytics.nn.modules import Conv, Faster_Block, RFAConv
from ultralytics.nn.registry import REGISTRY
from ultralytics.utils.errors import ModelYAMLError


@pytest.mark.parametrize(
    ("name", "parameters", "want"),
    [
        ("kernel_size", ["c1", "c2", "k"], "k"),
        ("k", ["kernel_size"], "kernel_size"),
        ("k", ["k", "kernel_size"], "k"),
        ("c", ["inc", "channel"], "channel"),
        ("c", ["c1", "c2"], "c"),  # both could be meant
        ("colour", ["k"], "colour"),
        ("kernel_size", [], "kernel_size"),
    ],
)
def test_a_name_stands_for_one_parameter(name: str, parameters: list[str], want: str) -> None:
    assert own_name(name, parameters) == want


def test_names_that_are_given() -> None:
    assert by_own_names(Conv, {}) == {}
    assert by_own_names(Faster_Block, {"c_in": 8, "c": 16}) == {"c1": 8, "c2": 16}
    with pytest.raises(TypeError, match="kernel_size= is another name of k=; give one of them"):
        by_own_names(Conv, {"k": 3, "kernel_size": 5})
    assert "kernel_size" in other_names("k", ["c1", "c2", "k"]) and other_names("dyscope", ["dyscope"]) == []


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("RFAConv", {"in_channel": 8, "out_channel": 16, "kernel_size": 3, "stride": 2}),
        ("RepNCSPELAN4", {"c1": 8, "c2": 16, "c3": 8, "c4": 8, "c5": 2}),
        ("WTConv2d", {"in_channels": 8, "out_channels": 8, "kernel_size": 5, "stride": 2, "wt_levels": 2}),
        ("DCNv2", {"in_channels": 8, "out_channels": 8, "kernel_size": 3, "padding": 1, "groups": 1, "dilation": 1}),
        ("DiverseBranchBlock", {"c1": 8, "c2": 8, "k": 3, "s": 1, "p": None, "d": 1, "g": 1, "internal": None}),
        ("DilatedReparamBlock", {"c": 8, "k": 7}),
        ("UniRepLKNetBlock", {"c": 8, "k": 7, "layer_scale": 1e-6}),
        ("PKIModule", {"inc": 8, "ouc": 8, "kernels": (3, 5), "caa_kernel": 7}),
        ("ScalSeq", {"inc": [8, 8, 8], "c": 8}),
        ("Fusion", {"inc": [8, 8], "mode": "bifpn"}),
        ("SBA", {"inc": [8, 8], "d": 8}),
        ("SimFusion_3in", {"inc": [8, 8, 8], "c": 8}),
        ("GLSA", {"c1": 8, "c2": 8}),
        ("ACmix", {"in_planes": 8, "out_planes": 8, "k_att": 3, "heads": 2, "k_conv": 3}),
        ("BiLevelRoutingAttention_nchw", {"c": 8, "heads": 4, "n_win": 2, "topk": 1}),
        ("LocalWindowAttention", {"dim": 16, "num_heads": 2, "window": 5}),
        ("CPCA", {"c": 8, "reduction": 2}),
        ("AIFI", {"c": 16, "cm": 16, "heads": 2}),
    ],
)
def test_blocks_take_the_names_of_published_code(name: str, given: dict[str, Any]) -> None:
    entry = REGISTRY.get(name)
    assert entry is not None and isinstance(getattr(modules, name)(**given), entry.cls)


def test_a_block_is_the_same_under_each_name() -> None:
    with pytest.raises(TypeError, match="multiple values"):
        RFAConv(8, 16, 3, kernel_size=5)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'kernels_size'"):
        RFAConv(8, 16, kernels_size=5)  # type: ignore[call-arg]
    assert RFAConv(8, 16, kernel_size=5, stride=2).conv.conv.stride == (5, 5)  # type: ignore[call-arg]


def test_rows_take_the_names() -> None:
    rows = [[-1, 1, "RFAConv", [16, "kernel_size=5", "stride=2"]], [-1, 1, "RepNCSPELAN4", [16, 8, 8, "c5=2"]]]
    layers, _ = parse_model({"nc": 1, "backbone": rows[:1], "head": rows[1:]}, verbose=False)
    assert len(layers[1].cv2[0].m) == 2
    rows[0][3] = [16, "k=3", "kernel_size=5"]
    with pytest.raises(ModelYAMLError, match="another name of k="):
        parse_model({"nc": 1, "backbone": rows[:1], "head": rows[1:]}, verbose=False)
