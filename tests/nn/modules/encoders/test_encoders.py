"""Encoder layers on maps and tokens: golden numbers, injected parts, map sizes, refusals, and the norms that fuse."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.golden.blocks.cases import load_block_cases
from tests.golden.comparison import check
from tests.golden.fill import fill_, tensor
from tests.nn.modules.finite_differences import assert_gradient
from ultralytics.nn.modules import (
    AIFI_LPE,
    CBAM,
    SHSA,
    AIFI_RepBN,
    AttentionEncoderLayer,
    PolaAttention,
    SiLUSHSA,
    TransformerEncoderLayer_DHSA,
    TransformerEncoderLayer_SHSA,
)
from ultralytics.nn.modules.conv import fuse_children
from ultralytics.nn.modules.encoders.forms import ATTENTIONS
from ultralytics.nn.modules.encoders.tokens import LinearNorm, TokenAffine
from ultralytics.nn.registry import REGISTRY, RowContext
from ultralytics.nn.tasks import parse_model
from ultralytics.utils.errors import ConfigError, ModelYAMLError

CASES = [case for case in load_block_cases("c") if case["id"].startswith("aifi_")]
PREFIX = "TransformerEncoderLayer_"
ROWS = sorted(name for name in REGISTRY if name.startswith(PREFIX))
AT_256 = {  # parameters with 256 channels, hidden width 1024 and 8 heads (4 for windows)
    "DAttention": 793_216,
    "EfficientAdditiveAttnetion": 790_016,
    "DHSA": 931_336,
    "HiLo": 756_224,
    "Pola": 958_272,
    "SHSA": 613_888,
    "LocalWindowAttention": 619_908,
    "EPGO": 760_577,
}


def make(name: str, c: int = 32, cm: int = 48, heads: int = 4) -> nn.Module:
    entry = REGISTRY.get(name)
    assert entry is not None
    torch.manual_seed(0)
    return fill_(entry.cls(c, cm, heads)).eval()


@pytest.mark.parametrize("case", CASES, ids=lambda c: c["id"])
def test_golden(case: Mapping[str, Any]) -> None:
    assert check(case) == []


def test_nine_rows_of_forks() -> None:
    assert len(ROWS) == 9 and {name.removeprefix(PREFIX) for name in ROWS} > set(AT_256)


@pytest.mark.parametrize(("name", "count"), AT_256.items())
def test_parameters(name: str, count: int) -> None:
    entry = REGISTRY.get(PREFIX + name)
    assert entry is not None
    with torch.device("meta"):
        layer = entry.cls(256, 1024, 4 if name in {"LocalWindowAttention", "EPGO"} else 8)
    assert sum(p.numel() for p in layer.parameters()) == count


@pytest.mark.parametrize("name", [*ROWS, "AttentionEncoderLayer", "AIFI_LPE", "AIFI_RepBN"])
@pytest.mark.parametrize("size", [(5, 7), (20, 20), (7, 4)])
def test_batch_equals_singles_on_any_map(name: str, size: tuple[int, int]) -> None:
    layer, x = make(name), tensor(name, (2, 32, *size))
    with torch.no_grad():
        y = layer(x)
        alone = torch.cat([layer(image[None]) for image in x])
    assert y.shape == x.shape and y.isfinite().all()
    torch.testing.assert_close(y, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [*ROWS, "AIFI_LPE", "AIFI_RepBN"])
@pytest.mark.parametrize("training", [False, True])
def test_gradient_of_one_image_equals_finite_differences(name: str, training: bool) -> None:
    assert_gradient(make(name), training)


@pytest.mark.parametrize("name", [*ROWS, "AIFI_LPE", "AIFI_RepBN"])
def test_rows_build_from_yaml(name: str) -> None:
    rows = {"nc": 2, "backbone": [[-1, 1, "Conv", [32, 3, 32]]], "head": [[-1, 1, name, [64, 4]]]}
    net, _ = parse_model(rows, verbose=False)
    assert net.eval()(torch.rand(1, 3, 320, 256)).shape == (1, 32, 10, 8)


# ----------------------------------------------------------------------------------------------------- injected parts
@pytest.mark.parametrize("attention", [*ATTENTIONS, "CBAM", "EMA"])
def test_any_attention_by_name(attention: str) -> None:
    layer = AttentionEncoderLayer(32, 48, 4, attention=attention).train()
    x = torch.randn(2, 32, 6, 5, requires_grad=True)
    layer(x).square().sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()


def test_the_official_block_is_the_one_of_that_name() -> None:
    """`SHSA` and `DHSA` are the authors' blocks; the rows of forks have their own forms."""
    assert type(AttentionEncoderLayer(32, 48, attention="SHSA").attn) is SHSA
    assert type(TransformerEncoderLayer_SHSA(32, 48).attn) is SiLUSHSA
    assert isinstance(TransformerEncoderLayer_SHSA(32, 48, attention="Pola").pola_attention, PolaAttention)
    assert AttentionEncoderLayer(32, 48, attention="DHSA").additivetoken.sorted_shortcut is False
    assert TransformerEncoderLayer_DHSA(32, 48).additivetoken.sorted_shortcut is True


def test_attn_is_another_name_of_attention_in_a_row_of_aifi() -> None:
    entry = REGISTRY.get("AIFI")
    assert entry is not None and entry.rule is not None
    plan = entry.rule(RowContext((32,), (48, 4), kwargs={"attn": "Additive"}))
    assert (plan.block, plan.kwargs) == ("AttentionEncoderLayer", {"attention": "Additive"})
    with pytest.raises(ValueError, match="give one of them"):
        entry.rule(RowContext((32,), (48, 4), kwargs={"attn": "Pola", "attention": "SHSA"}))


@pytest.mark.skipif("ConvolutionalGLU" not in REGISTRY, reason="ConvolutionalGLU is not in this tree")
def test_gated_feed_forward_part() -> None:
    layer = AttentionEncoderLayer(32, 48, mlp="CGLU").train()
    layer(torch.randn(2, 32, 5, 6)).square().sum().backward()
    assert all(p.grad is not None for p in layer.mlp.parameters())


def test_any_feed_forward_part_by_name() -> None:
    layer = AttentionEncoderLayer(32, 48, mlp="CBAM")
    assert isinstance(layer.mlp, CBAM) and not hasattr(layer, "fc1")
    x = torch.randn(1, 32, 5, 6)
    want = layer.norm1(x + layer.attn(x))
    torch.testing.assert_close(layer.eval()(x), layer.norm2(want + layer.mlp(want)))


def test_frame_by_its_formula_in_both_orders() -> None:
    x = tensor("x", (2, 32, 5, 6))
    for before in (False, True):
        layer = fill_(AttentionEncoderLayer(32, 48, 4, normalize_before=before, attention="EMA")).eval()

        def norm(y: Tensor, which: nn.LayerNorm) -> Tensor:
            mean = y.mean(1, keepdim=True)
            scaled = (y - mean) / (y.var(1, keepdim=True, unbiased=False) + 1e-6).sqrt()
            return scaled * which.weight[:, None, None] + which.bias[:, None, None]

        def mlp(y: Tensor, layer: AttentionEncoderLayer = layer) -> Tensor:
            return layer.fc2(nn.functional.gelu(layer.fc1(y)))

        if before:
            y = x + layer.attn(norm(x, layer.norm1))
            want = y + mlp(norm(y, layer.norm2))
        else:
            y = norm(x + layer.attn(x), layer.norm1)
            want = norm(y + mlp(y), layer.norm2)
        torch.testing.assert_close(layer(x), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"attention": "XAttention"}, "attention='XAttention' is not known; choose DAttention"),
        ({"mlp": "XMLP"}, "mlp='XMLP' is not known; choose FFN, CGLU"),
        ({"attention": "Concat"}, "Concat cannot be a part of an encoder layer: it needs one input"),
        ({"attention": "Conv"}, "Conv cannot be a part of an encoder layer: its row needs arguments"),
        ({"mlp": "RTDETRDecoder"}, "RTDETRDecoder cannot be a part"),
        ({"attention": "DAttention", "num_heads": 5}, "32 channels are not divisible by 5 heads"),
    ],
)
def test_unknown_parts_are_refused_with_the_remedy(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as e:
        AttentionEncoderLayer(32, 48, **options)
    assert text in str(e.value)


# ------------------------------------------------------------------------------------------------- tables and norms
def test_table_of_another_map_is_refused() -> None:
    layer = AIFI_LPE(16, 24, 4, 12)
    assert layer(torch.rand(1, 16, 3, 4)).shape == (1, 16, 3, 4)
    with pytest.raises(ConfigError, match="table of 12 positions fits neither a map of 5x4"):
        layer(torch.rand(1, 16, 5, 4))
    with pytest.raises(ConfigError, match="tokens=0"):
        AIFI_LPE(16, 24, 4, 0)
    row = {"nc": 2, "backbone": [[-1, 1, "Conv", [32, 3, 32]]], "head": [[-1, 1, "AIFI_LPE", [64, 4, 12]]]}
    with pytest.raises(ModelYAMLError, match="build it with 400 positions"):
        parse_model(row, verbose=False)


def test_linear_norm_goes_from_layer_norm_to_batch_norm() -> None:
    norm, x = LinearNorm(4, warm=1, steps=2).train(), torch.randn(3, 5, 4)
    bn = copy.deepcopy(norm.norm2)
    parts = []
    for _ in range(5):
        layer, batch = norm.norm1(x), bn(x)
        y = norm(x)
        parts.append(
            round(float(((y - batch) * (layer - batch)).detach().sum() / (layer - batch).detach().square().sum()), 3)
        )
    assert parts == [1.0, 1.0, 0.5, 0.0, 0.0]
    assert int(norm.iter) == 0 and int(norm.warm) == 0 and int(norm.total_step) == 2
    norm.eval()
    torch.testing.assert_close(norm(x), norm.norm2(x))
    assert int(norm.iter) == 0


def test_rep_norms_fuse_to_a_factor_and_a_shift() -> None:
    layer = fill_(AIFI_RepBN(16, 24, 4)).eval()
    fused = fuse_children(copy.deepcopy(layer))
    assert isinstance(fused.norm1, TokenAffine) and not any(isinstance(m, nn.BatchNorm1d) for m in fused.modules())
    x = tensor("x", (2, 16, 3, 4))
    torch.testing.assert_close(fused(x), layer(x), rtol=1e-5, atol=1e-5)
