"""Rows of published blocks through the builder: the dry run's channels agree with every rule, on a real image too."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.golden.blocks.fill import fill_
from ultralytics.nn.build.builder import parse_model
from ultralytics.utils.errors import ModelYAMLError

BACKBONE: list[list[Any]] = [
    [-1, 1, "ConvNormLayer", [32, 3, 2, None, False, "relu"]],  # 0, stride 2
    [-1, 1, "Blocks", [64, "BasicBlock", 1, 3, "relu"]],  # 1, stride 4
    [-1, 1, "Blocks", [64, "BasicBlock", 1, 3, "relu"]],  # 2, stride 8
    [-1, 1, "Blocks", [64, "BasicBlock", 1, 4, "relu"]],  # 3, stride 16
    [-1, 1, "Blocks", [64, "BasicBlock", 1, 5, "relu"]],  # 4, stride 32
]
ROWS: dict[str, tuple[list[Any], tuple[int, int]]] = {  # row after the backbone, channels and stride of its output
    "AConv": ([-1, 1, "AConv", [128]], (64, 64)),
    "ADown": ([2, 1, "ADown", [128]], (64, 16)),
    "Add": ([[1, 1, 1], 1, "Add", []], (64, 4)),
    "Bi_FPN": ([[2, 2], 1, "Bi_FPN", []], (64, 8)),
    "C2f_ContextGuided": ([2, 2, "C2f_ContextGuided", [128]], (64, 8)),
    "CAFMFusion": ([[2, 2], 1, "CAFMFusion", []], (64, 8)),
    "CARAFE": ([3, 1, "CARAFE", []], (64, 8)),
    "CGAFusion": ([[2, 2], 1, "CGAFusion", []], (64, 8)),
    "CSPOmniKernel": ([2, 1, "CSPOmniKernel", []], (64, 8)),
    "ChannelAttention_HSFPN": ([2, 1, "ChannelAttention_HSFPN", []], (64, 8)),
    "ContextGuideFusionModule": ([[2, 2], 1, "ContextGuideFusionModule", []], (128, 8)),
    "ContextGuidedBlock_Down": ([2, 1, "ContextGuidedBlock_Down", []], (128, 16)),
    "DRFD": ([2, 1, "DRFD", [256]], (128, 16)),
    "DySample": ([3, 1, "DySample", [2, "pl"]], (64, 8)),
    "DynamicScalSeq": ([[2, 3, 4], 1, "DynamicScalSeq", [128]], (64, 8)),
    "EUCB": ([3, 1, "EUCB", []], (64, 8)),
    "FocusFeature": ([[4, 3, 2], 1, "FocusFeature", []], (96, 16)),
    "Fusion": ([[2, 3, 4], 1, "Fusion", ["SDI"]], (64, 8)),
    "GLSA": ([2, 1, "GLSA", [128]], (64, 8)),
    "GSConv": ([2, 1, "GSConv", [128, 3, 2]], (64, 16)),
    "HWD": ([2, 1, "HWD", [128]], (64, 16)),
    "LAWDS": ([2, 1, "LAWDS", []], (64, 16)),
    "Multiply": ([[2, 2], 1, "Multiply", []], (64, 8)),
    "OmniKernel": ([2, 1, "OmniKernel", [7]], (64, 8)),
    "RepNCSPELAN4": ([2, 1, "RepNCSPELAN4", [128, 128, 64, 1]], (64, 8)),
    "SBA": ([[2, 3], 1, "SBA", []], (64, 16)),
    "SDI": ([[2, 3, 4], 1, "SDI", []], (64, 8)),
    "SPDConv": ([2, 1, "SPDConv", [128]], (64, 16)),
    "SRFD": ([2, 1, "SRFD", [128]], (64, 32)),
    "ScalSeq": ([[2, 3, 4], 1, "ScalSeq", [128]], (64, 8)),
    "SimFusion_3in": ([[2, 3, 4], 1, "SimFusion_3in", [128]], (64, 16)),
    "SimFusion_4in": ([[1, 2, 3, 4], 1, "SimFusion_4in", []], (256, 16)),
    "VoVGSCSP": ([2, 4, "VoVGSCSP", [128]], (64, 8)),
    "VoVGSCSPC": ([2, 4, "VoVGSCSPC", [128]], (64, 8)),
    "Zoom_cat": ([[2, 3, 4], 1, "Zoom_cat", []], (192, 16)),
    "asf_attention_model": ([[2, 2], 1, "asf_attention_model", []], (64, 8)),
}


def config(*rows: list[Any]) -> dict[str, Any]:
    return {
        "nc": 4,
        "depth_multiple": 0.5,
        "width_multiple": 0.5,
        "backbone": BACKBONE,
        "head": [list(r) for r in rows],
    }


@pytest.mark.parametrize("name", ROWS)
def test_rows_build_and_run(name: str) -> None:
    row, (channels, stride) = ROWS[name]
    layers, _ = parse_model(config(row), verbose=False)
    fill_(layers.eval())
    with torch.no_grad():
        maps = [torch.linspace(-1, 1, 3 * 128 * 192).view(1, 3, 128, 192)]
        for layer in layers[:-1]:
            maps.append(layer(maps[-1]))
        source = row[0]
        inputs = [maps[i + 1] for i in source] if isinstance(source, list) else maps[source + 1 if source >= 0 else -1]
        out = layers[-1](inputs)
    less = 1 if name in {"AConv", "ADown"} else 0
    want = [-(-(n - less) // (stride // 8)) if less else n * 8 // stride for n in (16, 24)]
    if name == "AConv":  # of the coarsest map, 4 x 6
        want = [2, 3]
    assert out.shape == (1, channels, *want) and out.isfinite().all()


@pytest.mark.parametrize(
    ("row", "messages"),
    [
        ([2, 1, "RepNCSPELAN4", [128, 128, 64]], ["RepNCSPELAN4", "fourth number"]),
        ([2, 1, "Blocks", [64, "BasicBlock_DCNv7", 1, 3, "relu"]], ["DCNv7", "not registered"]),
        ([2, 1, "Fusion", ["bifpn"]], ["Fusion", "list of inputs"]),
        ([[2, 3], 1, "Fusion", ["bifpn"]], ["Fusion", "resize"]),
        ([[2, 3], 1, "ScalSeq", [64]], ["ScalSeq", "three inputs"]),
        ([2, 1, "GetIndexOutput", [0]], ["GetIndexOutput", "one map"]),
        ([2, 1, "DySample", [2, "up"]], ["DySample", "'lp' or 'pl'"]),
        ([2, 1, "ADown", []], ["ADown", "too few"]),
    ],
)
def test_wrong_rows_name_the_layer_and_the_remedy(row: list[Any], messages: list[str]) -> None:
    with pytest.raises(ModelYAMLError) as e:
        parse_model(config(row), verbose=False)
    assert all(m in str(e.value) for m in ["layer 5", *messages]), str(e.value)
