"""Explanations against values computed by hand, or by loops, in a tiny network."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from tests.engine.tiny import NAMES, TINY
from tests.models.rtdetr.networks import WITH_SHSA
from ultralytics.models.rtdetr.explain import (
    choose,
    gradient_maps,
    module_at,
    sampling_points,
    shsa_attention,
    shsa_blocks,
)
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils.errors import ConfigError


@pytest.fixture(scope="module")
def model() -> RTDETRDetectionModel:
    torch.manual_seed(0)
    model = RTDETRDetectionModel(WITH_SHSA, verbose=False)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.15)
    for block in shsa_blocks(model).values():
        nn.init.constant_(block.proj[1].bn.weight, 0.5)  # a new block passes nothing on
    model.names = dict(NAMES)
    return model.eval().requires_grad_(False)  # as fused models are


@pytest.fixture(scope="module")
def im() -> torch.Tensor:
    return torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))


def rest_of(model: RTDETRDetectionModel, im: torch.Tensor, layer: int, value: torch.Tensor | None = None) -> Any:
    """Run the layers by hand; `value` replaces the output of `layer`. Returns (that output, head's raw output)."""
    outputs: list[Any] = []
    x: Any = im
    for i, module in enumerate(model.model):
        f = module.f
        given = (x if f == -1 else outputs[f]) if isinstance(f, int) else [x if j == -1 else outputs[j] for j in f]
        x = module(given)
        if i == layer and value is not None:
            x = value
        outputs.append(x)
    return outputs[layer], x[1]


# ----------------------------------------------------------------------------------------------------- gradient maps
@pytest.mark.parametrize("layer", [2, 4, 7])
@pytest.mark.parametrize("elementwise", [False, True])
def test_gradient_map_by_finite_differences(model: Any, im: torch.Tensor, layer: int, elementwise: bool) -> None:
    """The gradient of each channel (or place) by a small step in double precision; then the formula as it stands."""
    double = RTDETRDetectionModel(WITH_SHSA, verbose=False).double().eval()
    double.load_state_dict(model.state_dict())
    im = im.double()
    (found,), choice = gradient_maps(double, im, [layer], rank=3, elementwise=elementwise)
    with torch.no_grad():
        value, _ = rest_of(double, im, layer)

        def logit(changed: torch.Tensor) -> float:
            return float(rest_of(double, im, layer, changed)[1].dec_scores[-1, 0, choice.query, choice.cls])

        step, h, w = 1e-6, *value.shape[2:]
        places = [(0, 0), (h - 1, w // 2)]
        if elementwise:
            for y, x in places:
                total = 0.0
                for c in range(value.shape[1]):
                    up, down = value.clone(), value.clone()
                    up[0, c, y, x] += step
                    down[0, c, y, x] -= step
                    total += (logit(up) - logit(down)) / (2 * step) * float(value[0, c, y, x])
                assert float(found.map[y, x]) == pytest.approx(max(total, 0), abs=1e-5)
            return
        weights = []
        for c in range(value.shape[1]):
            up, down = value.clone(), value.clone()
            up[0, c] += step
            down[0, c] -= step
            weights.append((logit(up) - logit(down)) / (2 * step) / (h * w))
        want = sum(weight * value[0, c] for c, weight in enumerate(weights)).clamp(min=0)
    torch.testing.assert_close(found.map.double(), want, atol=1e-5, rtol=1e-3)


def test_default_layers_are_those_that_the_head_reads(model: Any, im: torch.Tensor) -> None:
    maps, _ = gradient_maps(model, im)
    assert [m.layer for m in maps] == ["3", "4", "7"]
    assert [tuple(m.map.shape) for m in maps] == [(8, 12), (4, 6), (2, 3)]
    assert all((m.map >= 0).all() for m in maps) and any(m.map.any() for m in maps)


def test_a_named_part_of_a_layer(model: Any, im: torch.Tensor) -> None:
    (part,), _ = gradient_maps(model, im, ["1.conv"])
    assert part.layer == "1.conv" and part.map.shape == (16, 24)
    assert module_at(model, -1)[0] == "8" and module_at(model, "model.3")[0] == "3"


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (9, "0 to 8"),
        (-10, "0 to 8"),
        ("1.none", "no such"),
        (8, "does not give a map"),
        ("1.act", "runs several times"),  # one activation serves all layers
    ],
)
def test_layers_that_cannot_be_mapped(model: Any, im: torch.Tensor, layer: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        gradient_maps(model, im, [layer])
    assert not any(m._forward_hooks for m in model.modules())  # hooks are gone


def test_the_model_and_its_answers_stay(model: Any, im: torch.Tensor) -> None:
    before = {k: v.clone() for k, v in model.state_dict().items()}
    rows = model(im)[0]
    gradient_maps(model, im), shsa_attention(model, im), sampling_points(model, im)
    assert torch.equal(model(im)[0], rows)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


# ------------------------------------------------------------------------------------------------------------- answers
def test_answers_are_the_rows_of_the_head(model: Any, im: torch.Tensor) -> None:
    rows, raw = model(im)
    for rank in (0, 1, 17, 29):
        choice = choose(model, rank, raw.dec_scores[-1, 0], raw.dec_bboxes[-1, 0])
        assert [*choice.box, choice.score, choice.cls] == pytest.approx(rows[0, rank].tolist(), abs=1e-6)
    with pytest.raises(ConfigError, match="0 \\(the best\\) to 89"):
        choose(model, 90, raw.dec_scores[-1, 0], raw.dec_bboxes[-1, 0])


def test_a_class_filter_counts(model: Any, im: torch.Tensor) -> None:
    head = model.model[-1]
    with head.restricted_to([2]):
        choice = gradient_maps(model, im)[1]
        assert choice.cls == 2
        assert [*choice.box, choice.score, 2] == pytest.approx(model(im)[0][0, 0].tolist(), abs=1e-6)


# ---------------------------------------------------------------------------------------------------------------- SHSA
def attention_by_loops(model: Any, im: torch.Tensor) -> list[list[float]]:
    """softmax(q k / sqrt K) of the only block, number by number, with batch norm written out."""
    block = shsa_blocks(model)["3"]
    x = im
    for layer in model.model[:3]:
        x = layer(x)
    part = x[0, : block.pdim]  # (P, h, w)
    part = (part - part.mean()) / torch.sqrt(part.var(unbiased=False) + block.pre_norm.eps)
    part = part * block.pre_norm.weight[:, None, None] + block.pre_norm.bias[:, None, None]
    conv, norm = block.qkv.c, block.qkv.bn
    mixed = torch.einsum("op,phw->ohw", conv.weight[:, :, 0, 0], part)
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    mixed = mixed * scale[:, None, None] + (norm.bias - norm.running_mean * scale)[:, None, None]
    tokens = mixed.flatten(1).T.tolist()
    size = block.qk_dim
    rows = []
    for q in tokens:
        logits = [sum(q[i] * k[size + i] for i in range(size)) / math.sqrt(size) for k in tokens]
        top = max(logits)
        weights = [math.exp(v - top) for v in logits]
        rows.append([v / sum(weights) for v in weights])
    return rows


def test_attention_from_a_place_and_on_the_whole(model: Any, im: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.tensor(attention_by_loops(model, im)).view(8, 12, 8, 12)
    for (x, y), cell in (
        ((0.0, 0.0), (0, 0)),
        ((0.51, 0.3), (2, 6)),
        ((0.999, 0.999), (7, 11)),
        ((1.5, -1), (0, 11)),
    ):
        found = shsa_attention(model, im, place=(x, y))
        assert found.cell == cell and found.layer == "3"
        torch.testing.assert_close(found.map, rows[cell], atol=1e-6, rtol=1e-4)
        assert float(found.map.sum()) == pytest.approx(1, abs=1e-5)
    monkeypatch.setattr("ultralytics.models.rtdetr.explain.ROWS_AT_ONCE", 7)
    mean = shsa_attention(model, im, layer=3)
    assert mean.cell is None
    torch.testing.assert_close(mean.map, rows.mean((0, 1)), atol=1e-6, rtol=1e-4)


def test_fused_attention_is_the_same(model: Any, im: torch.Tensor) -> None:
    want = shsa_attention(model, im, place=(0.5, 0.5)).map
    copy = RTDETRDetectionModel(WITH_SHSA, verbose=False).eval()
    copy.load_state_dict(model.state_dict())
    copy.fuse(verbose=False)
    torch.testing.assert_close(shsa_attention(copy, im, place=(0.5, 0.5)).map, want, atol=1e-5, rtol=1e-3)


def test_no_block_to_look_at(model: Any, im: torch.Tensor) -> None:
    with pytest.raises(ConfigError, match=r"layer=2: no SHSA block there\nthere are: 3"):
        shsa_attention(model, im, layer=2)
    plain = RTDETRDetectionModel(TINY, verbose=False).eval()
    with pytest.raises(ConfigError, match="no SHSA block"):
        shsa_attention(plain, im)


# ------------------------------------------------------------------------------------------------------------ sampling
def test_sampling_points_by_loops(model: Any, im: torch.Tensor) -> None:
    """Points and weights from the linear layers' numbers; then the attention's output from them, sample by sample."""
    head = model.model[-1]
    calls: list[tuple[Any, torch.Tensor]] = []
    hooks = [
        layer.cross_attn.register_forward_hook(lambda m, args, out: calls.append((args, out)))
        for layer in head.decoder.layers
    ]
    try:
        found, choice = sampling_points(model, im, rank=2)
    finally:
        for hook in hooks:
            hook.remove()
    assert found.points.shape == (2, 4, 3, 4, 2) and found.shapes == ((8, 12), (4, 6), (2, 3))
    for d, (args, out) in enumerate(calls):
        attention = head.decoder.layers[d].cross_attn
        query, refer, value = args[0][0, choice.query], args[1][0, choice.query, 0], args[2][0]
        offsets = (attention.sampling_offsets.weight @ query + attention.sampling_offsets.bias).view(4, 3, 4, 2)
        logits = (attention.attention_weights.weight @ query + attention.attention_weights.bias).view(4, 12)
        tokens = (value @ attention.value_proj.weight.T + attention.value_proj.bias).view(-1, 4, 8)  # (N, M, d)
        gathered = torch.zeros(4, 8)
        for m in range(4):
            fractions = [math.exp(v) for v in (logits[m] - logits[m].max()).tolist()]
            start = 0
            for level, (h, w) in enumerate(found.shapes):
                for p in range(4):
                    fraction = fractions[level * 4 + p] / sum(fractions)
                    x = float(refer[0] + offsets[m, level, p, 0] * refer[2] * 0.5 / 4)
                    y = float(refer[1] + offsets[m, level, p, 1] * refer[3] * 0.5 / 4)
                    assert found.points[d, m, level, p].tolist() == pytest.approx([x, y], abs=1e-5)
                    assert float(found.weights[d, m, level, p]) == pytest.approx(fraction, abs=1e-6)
                    for cy in (math.floor(y * h - 0.5), math.floor(y * h - 0.5) + 1):
                        for cx in (math.floor(x * w - 0.5), math.floor(x * w - 0.5) + 1):
                            if 0 <= cy < h and 0 <= cx < w:
                                part = (1 - abs(y * h - 0.5 - cy)) * (1 - abs(x * w - 0.5 - cx))
                                gathered[m] += fraction * part * tokens[start + cy * w + cx, m]
                start += h * w
        want = attention.output_proj.weight @ gathered.flatten() + attention.output_proj.bias
        torch.testing.assert_close(out[0, choice.query], want, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(found.references[d], refer)
    torch.testing.assert_close(found.weights.sum((2, 3)), torch.ones(2, 4))


def test_one_image_at_a_time(model: Any) -> None:
    with pytest.raises(ConfigError, match="one image"):
        gradient_maps(model, torch.zeros(2, 3, 64, 64))
