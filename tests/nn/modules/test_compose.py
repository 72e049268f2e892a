"""The cross-stage row of named parts, and AIFI with a named attention."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ultralytics.nn.build.builder import plan_model
from ultralytics.nn.build.spec import load_model_yaml
from ultralytics.nn.modules import (
    CSP,
    AttentionEncoderLayer,
    C2f,
    C2f_Faster,
    C2f_Faster_CGLU,
    C2f_Faster_EMA,
    C2f_SHSA,
    C2f_SHSA_CGLU,
    C2f_Star,
    TransformerEncoderLayer_SHSA,
)
from ultralytics.nn.modules.compose import BLOCK_NAMES, same_width_block
from ultralytics.nn.registry import REGISTRY
from ultralytics.utils.errors import ConfigError, ModelYAMLError


@pytest.mark.parametrize(
    ("parts", "named"),
    [
        ({"block": "Bottleneck"}, None),
        ({"block": "Faster"}, C2f_Faster),
        ({"block": "Faster", "attention": "EMA"}, C2f_Faster_EMA),
        ({"block": "Faster", "mlp": "CGLU"}, C2f_Faster_CGLU),
        ({"block": "SHSA"}, C2f_SHSA),
        ({"block": "SHSA", "mlp": "CGLU"}, C2f_SHSA_CGLU),
        ({"block": "Star"}, C2f_Star),
    ],
)
def test_composed_rows_are_the_named_ones(parts: dict[str, str], named: type[nn.Module] | None) -> None:
    """Equal tensors in equal order, and the same function of them."""
    ours = CSP(64, 128, 2, **parts).eval()
    other = (C2f(64, 128, 2, True) if named is None else named(64, 128, 2)).eval()
    if named is not None:
        shapes = [tuple(v.shape) for v in ours.state_dict().values()]
        assert shapes == [tuple(v.shape) for v in other.state_dict().values()]
        other.load_state_dict(dict(zip(other.state_dict(), ours.state_dict().values(), strict=True)))
        x = torch.rand(2, 64, 9, 7)
        torch.testing.assert_close(ours(x), other(x), rtol=0, atol=1e-6)
    else:
        assert ours(torch.rand(1, 64, 8, 8)).shape == other(torch.rand(1, 64, 8, 8)).shape


def test_parts_behind_other_blocks_follow_in_order() -> None:
    row = CSP(32, 64, 1, block="DWR", attention="SimAM", mlp="FFN")
    assert [type(part).__name__ for part in row.m[0]] == ["DWR", "SimAM", "_FeedForward"]
    y = row(torch.rand(2, 32, 10, 6))
    y.square().mean().backward()
    assert y.shape == (2, 64, 10, 6)
    assert all(p.grad is not None for p in row.parameters())


@pytest.mark.parametrize("name", sorted(BLOCK_NAMES))
def test_every_short_name_keeps_its_channels(name: str) -> None:
    block = same_width_block(name, 64).eval()
    assert block(torch.rand(1, 64, 8, 8)).shape == (1, 64, 8, 8)
    assert BLOCK_NAMES[name] in REGISTRY


@pytest.mark.parametrize(
    ("name", "message"),
    [("Fasterr", "not registered; near"), ("Concat", "one input"), ("HWD_", "not registered"), ("LightConv", "")],
)
def test_unfit_blocks(name: str, message: str) -> None:
    if not message:
        assert isinstance(same_width_block(name, 16), nn.Module)
        return
    with pytest.raises(ConfigError, match=message):
        same_width_block(name, 64)


# ------------------------------------------------------------------------------------------------------------- rows
def rows(*last: object) -> dict[str, object]:
    return {"nc": 2, "backbone": [[-1, 1, "Conv", [64, 3, 2]]], "head": [list(last)]}


def test_row_takes_named_parts_and_a_count() -> None:
    row = [256, "block=Faster", "attention=EMA", "n=3", "e=0.25"]
    plan = plan_model(load_model_yaml(rows(-1, 1, "CSP", row)))[1]
    block = plan.construct()
    assert isinstance(block, CSP)
    assert len(block.m) == 3
    assert block.c == 64
    assert plan_model(load_model_yaml(rows(-1, 4, "CSP", [256])))[1].copies[0][2] == 4


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([256, "blok=Faster"], r"unexpected keyword argument 'blok'"),
        ([256, "block=Fastr"], "not registered"),
        ([256, "attention=Nothing"], "attention='Nothing' is not known"),
        ([256, "mlp=Nothing"], "mlp='Nothing' is not known"),
    ],
)
def test_wrong_parts_are_named_with_the_signature(args: list[object], message: str) -> None:
    with pytest.raises(ModelYAMLError, match=message) as caught:
        plan_model(load_model_yaml(rows(-1, 1, "CSP", args)))
    assert "signature: CSP(c1, c2, n=1, block='Bottleneck'" in str(caught.value)


@pytest.mark.parametrize("attention", ["SHSA", "DAttention", "EfficientAdditiveAttention", "EMA"])
def test_aifi_with_a_named_attention(attention: str) -> None:
    plan = plan_model(load_model_yaml(rows(-1, 1, "AIFI", [128, 8, f"attention={attention}"])))[1]
    layer = plan.construct().eval()
    assert isinstance(layer, AttentionEncoderLayer)
    assert layer(torch.rand(1, 64, 8, 8)).shape == (1, 64, 8, 8)


def test_aifi_with_the_forks_attention_is_the_forks_row() -> None:
    plan = plan_model(load_model_yaml(rows(-1, 1, "AIFI", [128, 8, "attention=ForkSHSA"])))[1]
    other = TransformerEncoderLayer_SHSA(64, 128, 8)
    assert plan.construct().state_dict().keys() == other.state_dict().keys()
