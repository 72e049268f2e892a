"""Blocks of the YOLO family: channel rules by scale, folding, area attention against a loop, refusals."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from tests.golden.fill import fill_
from ultralytics.nn.build.builder import build_model
from ultralytics.nn.build.spec import load_model_yaml
from ultralytics.nn.modules import (
    SPPF,
    A2C2f,
    AAttn,
    BottleneckCSP,
    C2fCIB,
    C2fPSA,
    C3k,
    C3k2,
    GhostBottleneck,
    MaxSigmoidAttnBlock,
    Proto26,
    RepCSP,
    RepVGGDW,
    TransformerBlock,
)
from ultralytics.nn.modules.conv import fuse_children
from ultralytics.nn.registry import REGISTRY, Plan, RowContext, Scale
from ultralytics.utils.errors import ConfigError


def rule(name: str, row: RowContext) -> Plan:
    entry = REGISTRY.get(name)
    assert entry is not None and entry.rule is not None
    return entry.rule(row)


@pytest.mark.parametrize(("letter", "c3k"), [("n", False), ("s", False), ("m", True), ("l", True), ("x", True)])
def test_large_scales_take_the_deeper_inner_blocks(letter: str, c3k: bool) -> None:
    plan = rule("C3k2", RowContext((16,), (32, False, 0.25), 2, scale_name=letter))
    assert plan == Plan((16, 32, 2, c3k, 0.25), 32, repeats_inside=True)
    bare = rule("C3k2", RowContext((16,), (32,), 1, scale_name=letter))
    assert bare.args == ((16, 32, 1, True) if c3k else (16, 32, 1))


def test_largest_scales_take_the_residual_form_unless_the_row_says_otherwise() -> None:
    row = RowContext((64,), (64, True, 4), 2, scale_name="x")
    assert rule("A2C2f", row).args == (64, 64, 2, True, 4, True, 1.2)
    stated = RowContext((64,), (64, True, 4, False), 2, scale_name="x")
    assert rule("A2C2f", stated).args == (64, 64, 2, True, 4, False)
    assert rule("A2C2f", RowContext((64,), (64, True, 4), 2, scale_name="m")).args == (64, 64, 2, True, 4)


def test_only_the_short_row_of_sppf_has_an_activation() -> None:
    assert rule("SPPF", RowContext((8,), (32, 5))).args == (8, 32, 5, 3, False, True)
    assert rule("SPPF", RowContext((8,), (32, 5, 3, True))).args == (8, 32, 5, 3, True)
    assert isinstance(SPPF(8, 8).cv1.act, nn.Identity)


@pytest.mark.parametrize(
    ("name", "row", "args"),
    [
        ("GhostBottleneck", RowContext((8,), (16, 3, 2)), (8, 16, 3, 2)),
        ("C3Ghost", RowContext((8,), (16, True), 2), (8, 16, 2, True)),
        ("C2fCIB", RowContext((8,), (16, True, True), 2), (8, 16, 2, True, True)),
        ("C2fPSA", RowContext((16,), (16,), 2), (16, 16, 2)),
        ("BottleneckCSP", RowContext((8,), (16,), 2), (8, 16, 2)),
        ("ELAN1", RowContext((8,), (32, 32, 16), 1, Scale(1, 0.5)), (8, 16, 32, 16)),
        ("SPPELAN", RowContext((8,), (32, 16)), (8, 32, 16)),
        ("RepNCSPELAN4", RowContext((8,), (32, 20, 12, 2), 1, Scale(1, 0.5)), (8, 16, 20, 12, 2)),
    ],
)
def test_rules(name: str, row: RowContext, args: tuple[object, ...]) -> None:
    plan = rule(name, row)
    assert plan.args == args and plan.out_channels == args[1]


def slow_area_attention(block: AAttn, x: Tensor) -> Tensor:
    """Token by token: each looks at those of its own run."""
    b, c, h, w = x.shape
    d, n = block.head_dim, h * w
    qkv = block.qkv(x).flatten(2).view(b, block.num_heads, 3 * d, n)
    out = torch.zeros(b, block.num_heads, d, n)
    run = n // block.area
    for image in range(b):
        for head in range(block.num_heads):
            q, k, v = qkv[image, head].split(d)
            for i in range(n):
                keys = slice(i // run * run, i // run * run + run)
                weights = torch.softmax((q[:, i] @ k[:, keys]) / d**0.5, 0)
                out[image, head, :, i] = v[:, keys] @ weights
    values = qkv[:, :, 2 * d :].reshape(b, c, h, w)
    return block.proj(out.reshape(b, c, h, w) + block.pe(values))


@pytest.mark.parametrize("area", [1, 3])
def test_area_attention_equals_the_loop(area: int) -> None:
    block = fill_(AAttn(16, 2, area)).eval()
    x = torch.randn(2, 16, 4, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(block(x), slow_area_attention(block, x), atol=1e-5, rtol=1e-4)


FOLDED = {
    "RepVGGDW": lambda: RepVGGDW(8),
    "C2fCIB": lambda: C2fCIB(8, 8, 2, True, True),
    "BottleneckCSP": lambda: BottleneckCSP(8, 12, 2),
    "RepCSP": lambda: RepCSP(8, 8, 2),
    "GhostBottleneck": lambda: GhostBottleneck(8, 8, 3, 2),
    "C3k2": lambda: C3k2(8, 128, 1, True, 0.5, True),
    "C3k": lambda: C3k(8, 8, 1, True, 1, 0.5, 5),
    "A2C2f": lambda: A2C2f(64, 64, 1, True, 2, True),
}


@pytest.mark.parametrize("name", FOLDED)
def test_folding_keeps_the_output_and_leaves_no_batch_norm(name: str) -> None:
    block = fill_(FOLDED[name]()).eval()
    x = torch.randn(2, block_width(block), 6, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        want = block(x)
        folded = fuse_children(nn.Sequential(copy.deepcopy(block)))
        torch.testing.assert_close(folded(x), want, atol=1e-4, rtol=1e-4)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    assert not any(p.requires_grad for n, p in folded.named_parameters() if "gamma" not in n)


def block_width(block: nn.Module) -> int:
    """Input channels of the first convolution."""
    width = next(m.in_channels for m in block.modules() if isinstance(m, nn.Conv2d))
    return width if not isinstance(block, RepVGGDW) else block.dim


def test_the_layer_scale_starts_small_and_only_with_attention() -> None:
    assert A2C2f(64, 64, 1, True, 1, True).gamma is not None
    assert A2C2f(64, 64, 1, False, 1, True).gamma is None
    assert A2C2f(64, 64, 1).gamma is None
    weights = A2C2f(256, 256, 1).m[0][0].attn.qkv.conv.weight  # type: ignore[index, union-attr]
    assert float(weights.detach().std()) == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: A2C2f(8, 48), "24 is not divisible by 32"),
        (lambda: AAttn(30, 4), "30 is not divisible"),
        (lambda: C2fPSA(8, 16), "keeps its channels"),
    ],
)
def test_widths_that_do_not_fit_are_refused(make: object, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        make()  # type: ignore[operator]


def test_tokens_of_a_wide_map_stay_in_place() -> None:
    """A transformer whose layers are the identity gives x + linear(x) at each place."""
    block = TransformerBlock(8, 8, 2, 1).eval()
    for p in (block.tr[0].ma.out_proj.weight, block.tr[0].ma.out_proj.bias, block.tr[0].fc2.weight):  # type: ignore[union-attr]
        nn.init.zeros_(p)  # type: ignore[arg-type]
    x = torch.randn(1, 8, 2, 5)
    want = x + torch.einsum("oc,bchw->bohw", block.linear.weight, x) + block.linear.bias.view(1, -1, 1, 1)
    torch.testing.assert_close(block(x), want)


def test_prototypes_come_with_class_logits_in_training() -> None:
    block = Proto26([8, 12], 8, 4, 3)
    maps = [torch.randn(1, 8, 8, 6), torch.randn(1, 12, 4, 3)]
    protos, logits = block(maps)
    assert protos.shape == (1, 4, 16, 12) and logits.shape == (1, 3, 8, 6)
    assert block.eval()(maps).shape == (1, 4, 16, 12)


def test_the_activation_of_a_yaml_does_not_reach_the_next_model() -> None:
    """Elsewhere a build that fails leaves the activation behind."""
    rows = {"nc": 2, "backbone": [[-1, 1, "Conv", [8]]], "head": [[-1, 1, "Conv", [8]]]}
    build_model(load_model_yaml({**rows, "activation": "nn.ReLU()"}))
    layers, _ = build_model(load_model_yaml(rows))
    assert isinstance(layers[0].act, nn.SiLU)


def test_text_parts_refuse_heads_that_do_not_divide_their_width() -> None:
    with pytest.raises(ConfigError, match="3 heads"):
        MaxSigmoidAttnBlock(16, 16, 3, 16, 12)


def test_the_best_text_opens_the_gate() -> None:
    """A string more can only raise the gate, and one that repeats another changes nothing."""
    block = fill_(MaxSigmoidAttnBlock(8, 8, 2, 8, 5)).eval()
    x, texts = torch.randn(1, 8, 3, 4), torch.randn(1, 2, 5)
    with torch.no_grad():
        one, both = block(x, texts[:, :1]), block(x, texts)
        torch.testing.assert_close(block(x, torch.cat((texts, texts), 1)), both)
    assert bool((both.abs() >= one.abs() - 1e-6).all())
