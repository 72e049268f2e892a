"""AIFI, deformable attention and decoder: against the framework, against plain loops, and by their rules."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.nn.modules.sampling import sample_by_loops
from ultralytics.nn.modules import transformer as T
from ultralytics.nn.modules.deformable import PointReading
from ultralytics.nn.registry import REGISTRY, RowContext

FACTS = json.loads((Path(__file__).parents[2] / "golden" / "facts.json").read_text())
SHAPES = [(4, 5), (2, 2)]


def feats(b=2, d=16, shapes=SHAPES):
    return torch.randn(b, sum(h * w for h, w in shapes), d)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_mlp_refuses_a_residual_between_unequal_widths():
    with pytest.raises(ValueError, match="8 in and 4 out"):
        T.MLP(8, 8, 4, 2, residual=True)


@pytest.mark.parametrize("act", [None, nn.SiLU, nn.SiLU()])
def test_activation_as_none_class_or_module(act):
    layer = T.TransformerEncoderLayer(8, 8, 2, act=act)
    assert isinstance(layer.act, nn.GELU if act is None else nn.SiLU)


# ------------------------------------------------------------------------------------------------------- AIFI
def test_aifi_in_a_yaml_keeps_the_channels_of_its_own_input():
    entry = REGISTRY.get("AIFI")
    plan = entry.rule(RowContext(in_channels=(48,), args=(64, 4)))
    assert (plan.args, plan.out_channels) == ((48, 64, 4), 48)


def test_position_embedding_equals_loops():
    h, w, dim, base = 3, 4, 8, 10000.0
    got = T.AIFI.build_2d_sincos_position_embedding(w, h, dim)
    for row, col in ((r, c) for r in range(h) for c in range(w)):
        angles = [[p / base ** (k / 2) for k in range(2)] for p in (row, col)]
        want = [f(a) for p in angles for f in (math.sin, math.cos) for a in p]
        torch.testing.assert_close(got[0, row * w + col], torch.tensor(want))


def test_position_embedding_needs_a_width_divisible_by_four():
    with pytest.raises(ValueError, match="divisible by 4, got 10"):
        T.AIFI.build_2d_sincos_position_embedding(2, 2, 10)


def test_aifi_remembers_positions_without_mixing_up_sizes():
    layer = T.AIFI(16, 32, 4).eval()
    maps = [torch.randn(1, 16, *size) for size in ((3, 4), (4, 3), (3, 4))]
    got = [layer(x) for x in maps]
    for x, y in zip(maps, got, strict=True):
        fresh = T.AIFI(16, 32, 4).eval()
        fresh.load_state_dict(layer.state_dict())
        torch.testing.assert_close(y, fresh(x), rtol=0, atol=0)
    assert "_position" not in "".join(layer.state_dict())


def test_aifi_batch_equals_single_images():
    layer = T.AIFI(16, 32, 4).eval()
    x = torch.randn(3, 16, 4, 5)
    torch.testing.assert_close(layer(x), torch.cat([layer(x[i : i + 1]) for i in range(3)]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_aifi_keeps_the_layout_of_its_map(layout: torch.memory_format) -> None:
    layer, x = T.AIFI(16, 32, 4).eval(), torch.randn(2, 16, 3, 5)
    with torch.no_grad():
        got, want = layer(x.to(memory_format=layout)), layer(x)
    assert got.is_contiguous(memory_format=layout)
    torch.testing.assert_close(got, want)


def test_aifi_trains_after_inference_mode():
    layer = T.AIFI(16, 32, 4)
    x = torch.randn(1, 16, 3, 3)
    with torch.inference_mode():
        layer(x)
    assert not layer._position[1].is_inference()
    layer(x).sum().backward()


# ------------------------------------------------------------------------------------------- deformable attention
def test_deformable_attention_starts_as_the_reference_does():
    golden = FACTS["msdeform_init"]
    layer = T.MSDeformAttn(32, 3, 4, 2)
    bias = layer.sampling_offsets.bias
    torch.testing.assert_close(bias, torch.tensor(golden["sampling_offsets.bias"]), rtol=0, atol=1e-6)
    for name in golden["zero"]:
        assert not layer.get_parameter(name).any(), name
    for name in golden["xavier_uniform"]:
        assert (
            0.9 * golden["xavier_bound"]
            < float(layer.get_parameter(name).detach().abs().max())
            <= golden["xavier_bound"]
        )


@pytest.mark.parametrize("numbers", [4, 2])
def test_deformable_attention_equals_loops(numbers):
    """Projections by hand, locations by the formulas of the paper, sampling by the loops of `test_utils`."""
    heads, points, d = 2, 3, 8
    layer = T.MSDeformAttn(d, len(SHAPES), heads, points).double()
    for p in layer.parameters():
        nn.init.normal_(p, std=0.5)
    query, value = torch.randn(2, 3, d).double(), feats(2, d).double()
    ref = torch.rand(2, 3, 1, numbers).double()
    offsets = layer.sampling_offsets(query).view(2, 3, heads, len(SHAPES), points, 2)
    places = torch.empty_like(offsets)
    for level, (h, w) in enumerate(SHAPES):
        for axis, cells in ((0, w), (1, h)):
            unit = ref[..., 2 + axis] / points / 2 if numbers == 4 else torch.ones(2, 3, 1).double() / cells
            at = ref[..., axis, None] + offsets[:, :, :, level, :, axis] * unit[..., None]
            places[:, :, :, level, :, axis] = at
    weights = layer.attention_weights(query).view(2, 3, heads, -1).softmax(-1)
    values = layer.value_proj(value).view(2, -1, heads, d // heads)
    sampled = sample_by_loops(values, SHAPES, places.flatten(3, 4), weights)
    torch.testing.assert_close(layer(query, ref, value, SHAPES), layer.output_proj(sampled), rtol=0, atol=1e-10)


def test_deformable_attention_gradients():
    layer = T.MSDeformAttn(4, 2, 2, 1).double()
    nn.init.normal_(layer.sampling_offsets.weight, std=0.1)
    query, value = torch.randn(1, 2, 4).double().requires_grad_(), feats(1, 4).double().requires_grad_()
    ref = (torch.rand(1, 2, 1, 4) * 0.4 + 0.3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda q, r, v: layer(q, r, v, SHAPES), (query, ref, value))


def test_masked_tokens_do_not_count():
    layer = T.MSDeformAttn(16, 2, 4, 2)
    query, value, ref = torch.randn(2, 3, 16), feats(), torch.rand(2, 3, 1, 4)
    mask = torch.rand(2, value.shape[1]) < 0.4
    other = torch.where(mask[..., None], torch.full_like(value, 1e3), value)
    torch.testing.assert_close(layer(query, ref, value, SHAPES, mask), layer(query, ref, other, SHAPES, mask))
    assert not torch.allclose(layer(query, ref, value, SHAPES, mask), layer(query, ref, value, SHAPES))


@pytest.mark.parametrize("discrete", [False, True])
def test_deformable_attention_is_the_same_in_inference_on_a_large_map(discrete):
    """There it projects what is sampled, not all tokens; with a mask, or where a gradient is wanted, all tokens."""
    layer, shapes = T.MSDeformAttn(16, 2, 4, 2, reading=PointReading(discrete)), [(20, 30), (10, 15)]
    for p in layer.parameters():
        nn.init.normal_(p, std=0.3)
    ran = []
    layer.value_proj.register_forward_hook(lambda *_: ran.append(1))
    query, ref, value = torch.randn(2, 3, 16), torch.rand(2, 3, 1, 4), torch.randn(2, 750, 16)
    want = layer(query, ref, value, shapes)
    with torch.no_grad():
        got = layer(query, ref, value, shapes)
        assert len(ran) == 1
        layer(query, ref, value, shapes, torch.zeros(2, 750, dtype=torch.bool))
    assert len(ran) == 2
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def run_attention(numbers, shapes):
    return T.MSDeformAttn(16, 2, 4, 2)(torch.zeros(1, 1, 16), torch.zeros(1, 1, 1, numbers), feats(1), shapes)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: T.MSDeformAttn(10, n_heads=4), "width 10 is not divisible by 4"),
        (lambda: run_attention(4, [(4, 5)]), "24 tokens do not fill"),
        (lambda: run_attention(3, SHAPES), "2 or 4 numbers, got 3"),
    ],
)
def test_deformable_attention_says_what_does_not_fit(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_offsets_stay_in_float32_under_autocast():
    layer = T.MSDeformAttn(16, 2, 4, 2)
    seen = {}
    layer.sampling_offsets.register_forward_hook(lambda m, i, out: seen.update(offsets=out.dtype))
    layer.value_proj.register_forward_hook(lambda m, i, out: seen.update(values=out.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        layer(torch.randn(1, 3, 16), torch.rand(1, 3, 1, 4), feats(1), SHAPES)
    assert seen == {"offsets": torch.float32, "values": torch.bfloat16}


# ---------------------------------------------------------------------------------------------------- decoder
def decoder(layers=3, eval_idx=-1, nc=5, d=16):
    layer = T.DeformableTransformerDecoderLayer(d, 4, 24, 0.0, None, len(SHAPES), 2)
    boxes = nn.ModuleList(T.MLP(d, d, 4, 2) for _ in range(layers))
    scores = nn.ModuleList(nn.Linear(d, nc) for _ in range(layers))
    return T.DeformableTransformerDecoder(d, layer, layers, eval_idx), boxes, scores, T.MLP(4, d, d, 2)


def test_decoder_eval_runs_no_layer_beyond_the_chosen_one():
    dec, boxes, scores, pos = decoder(eval_idx=1)
    calls = []
    for i, layer in enumerate(dec.layers):
        layer.register_forward_hook(lambda m, a, out, i=i: calls.append(i))
    out = dec.eval()(torch.randn(2, 4, 16), torch.randn(2, 4, 4), feats(), SHAPES, boxes, scores, pos)
    assert calls == [0, 1]
    assert [tuple(t.shape) for t in out] == [(1, 2, 4, 4), (1, 2, 4, 5)]


def test_decoder_training_and_evaluation_agree_on_the_last_layer():
    """The extra gradient path of training must not change values."""
    dec, boxes, scores, pos = decoder()
    args = (torch.randn(2, 4, 16), torch.randn(2, 4, 4), feats(), SHAPES, boxes, scores, pos)
    train, last = dec.train()(*args), dec.eval()(*args)
    for a, b in zip(train, last, strict=True):
        torch.testing.assert_close(a[-1], b[0], rtol=1e-5, atol=1e-6)


def test_decoder_mask_hides_queries():
    """Query 0 may not see the others, so changing them changes nothing for it."""
    dec, boxes, scores, pos = decoder()
    embed, refer, tokens = torch.randn(1, 4, 16), torch.randn(1, 4, 4), feats(1)
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[0, 1:] = True
    other = embed.clone()
    other[:, 1:] += 1
    a, b = (dec.eval()(e, refer, tokens, SHAPES, boxes, scores, pos, mask)[1][0] for e in (embed, other))
    torch.testing.assert_close(a[:, 0], b[:, 0])
    assert not torch.allclose(a[:, 1:], b[:, 1:])


def test_decoder_does_not_overflow_in_float16():
    """The feed-forward residual passes 65504 in trained models (the NaN of mixed-precision RT-DETR)."""
    dec, boxes, scores, pos = decoder(layers=2)
    for layer in dec.layers:
        nn.init.constant_(layer.linear2.bias, 6e4)
        nn.init.constant_(layer.linear2.weight, 1e3)
    parts = [m.half().eval() for m in (boxes, scores, pos)]
    args = (torch.randn(1, 4, 16).half(), torch.randn(1, 4, 4).half(), feats(1).half(), SHAPES)
    out = dec.half().eval()(*args, *parts)
    assert all(bool(t.isfinite().all()) for t in out)


def test_decoder_keeps_boxes_in_float32_under_autocast():
    dec, boxes, scores, pos = decoder()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = dec.train()(torch.randn(2, 4, 16), torch.randn(2, 4, 4), feats(), SHAPES, boxes, scores, pos)
    assert out[0].dtype == torch.float32
    out[0].sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in dec.parameters())
