"""Logits, initial values, and sampling for deformable attention against a loop over single points."""

import math

import pytest
import torch
from torch import nn

from tests.nn.modules.sampling import sample_by_loops
from ultralytics.nn.modules import deformable as D
from ultralytics.nn.modules import utils as U

SHAPES = [(4, 5), (3, 3), (1, 2)]
TOKENS = 20 + 9 + 2
PATHS = {"gather": D._sample_by_gather, "grid": D._sample_by_grid}


def sampling_inputs(b=2, q=3, heads=2, d=4, points=2, shapes=SHAPES, dtype=torch.float64, margin=0.3):
    """Random values, locations (some outside of the map) and weights."""
    gen = torch.Generator().manual_seed(3)
    n = sum(h * w for h, w in shapes)
    value = torch.randn(b, n, heads, d, generator=gen, dtype=torch.float64)
    places = torch.rand(b, q, heads, len(shapes) * points, 2, generator=gen, dtype=torch.float64)
    weights = torch.rand(b, q, heads, len(shapes) * points, generator=gen, dtype=torch.float64)
    return value.to(dtype), (places * (1 + 2 * margin) - margin).to(dtype), weights.to(dtype)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("q", "heads", "d", "points", "shapes"),
    [(0, 2, 4, 2, SHAPES), (3, 2, 4, 2, SHAPES), (1, 1, 1, 1, [(1, 1)]), (2, 3, 2, 4, [(2, 7), (5, 1)])],
)
def test_sampling_equals_loops(path, q, heads, d, points, shapes):
    inputs = sampling_inputs(q=q, heads=heads, d=d, points=points, shapes=shapes)
    got = PATHS[path](inputs[0], shapes, *inputs[1:])
    torch.testing.assert_close(got, sample_by_loops(inputs[0], shapes, *inputs[1:]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("path", PATHS)
def test_sampling_gradients(path):
    value, places, weights = (t.requires_grad_() for t in sampling_inputs(b=1, q=2, points=1, margin=0.1))
    assert torch.autograd.gradcheck(lambda v, p, w: PATHS[path](v, SHAPES, p, w), (value, places, weights))


def test_sampling_paths_have_equal_gradients():
    grads = []
    for path in PATHS.values():
        inputs = [t.requires_grad_() for t in sampling_inputs(dtype=torch.float32)]
        path(inputs[0], SHAPES, *inputs[1:]).square().sum().backward()
        grads.append([t.grad for t in inputs])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("threads", [1, D.SERIAL_THREADS + 1])
def test_sums_of_rows_and_their_gradients(threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    table, weight = torch.randn(7, 3, dtype=torch.float64), torch.randn(4, 5, dtype=torch.float64)
    index = torch.randint(0, 6, (4, 5), dtype=torch.int32)  # rows repeat, the last row is in no bag
    index[2] = 1
    want = torch.stack([(table[rows] * w[:, None]).sum(0) for rows, w in zip(index.long(), weight, strict=True)])
    torch.testing.assert_close(D.sum_rows(table, index, weight), want)
    leaves = table.requires_grad_(), weight.requires_grad_()
    assert torch.autograd.gradcheck(lambda t, w: D.sum_rows(t, index, w), leaves)
    D.sum_rows(table, index, weight).sum().backward()
    assert table.grad is not None and not bool(table.grad[6].any()) and bool(table.grad[1].all())


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sampling_in_half_precision_keeps_the_places(path, dtype):
    """On a wide map, a place rounded to the dtype of the values would be off by more than a cell."""
    shapes = [(1, 500)]
    value = torch.arange(500.0).view(1, 500, 1, 1) / 512
    places = torch.tensor([0.9013, 0.5]).view(1, 1, 1, 1, 2)
    got = PATHS[path](value.to(dtype), shapes, places, torch.ones(1, 1, 1, 1))
    assert got.dtype == dtype
    assert abs(float(got) - (0.9013 * 500 - 0.5) / 512) < 2 * torch.finfo(dtype).eps


def test_sampling_at_centres_has_the_slope_to_the_right():
    """Where a point lies on a cell's centre, as anchors do, it may go either way; both paths take the same."""
    shapes = [(4, 8), (2, 2)]
    value, _, weights = sampling_inputs(b=1, q=12, heads=1, points=1, shapes=shapes)
    cells = torch.tensor([(x, y) for y in (-1, 0, 1) for x in (-1, 0, 1, 7)])  # some are beside the map
    places = (cells[:, None] + 0.5) / torch.tensor([(8.0, 4.0), (2.0, 2.0)], dtype=torch.float64)  # [Q, L, 2]
    grads = []
    for path in PATHS.values():
        at = places.reshape(1, 12, 1, 2, 2).clone().requires_grad_()
        path(value, shapes, at, weights).square().sum().backward()
        grads.append(at.grad)
    torch.testing.assert_close(*grads)
    assert bool(grads[0][0, 5].all())  # inside of the map


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30])
def test_sampling_survives_places_that_are_no_numbers(bad):
    """A diverged model must show NaN (or nothing there), not an index error."""
    value, places, weights = sampling_inputs(heads=3, dtype=torch.float32)
    places[0, 0] = bad
    got = D.multi_scale_deformable_attn_pytorch(value, SHAPES, places, weights)
    assert bool(got[0, 1:].isfinite().all()) and bool(got[1].isfinite().all())
    if math.isnan(bad):
        assert bool(got[0, 0].isnan().all())


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_sampling_is_exported_with_standard_operators():
    value, places, weights = sampling_inputs(dtype=torch.float32)

    def run(v, p, w):
        return D.multi_scale_deformable_attn_pytorch(v, SHAPES, p, w)

    graph = str(torch.jit.trace(run, (value, places, weights)).graph)
    assert "grid_sampler" in graph and "embedding_bag" not in graph


@pytest.mark.parametrize(("q", "heads", "d", "shapes"), [(0, 2, 4, SHAPES), (3, 2, 4, SHAPES), (2, 3, 2, [(2, 7)])])
def test_projecting_samples_equals_sampling_projected_tokens(q, heads, d, shapes):
    """Points outside of the map also lose their part of the bias."""
    tokens, places, weights = sampling_inputs(q=q, heads=heads, d=d, shapes=shapes)
    tokens = tokens.flatten(2)  # [B, N, M*d]
    projection = nn.Linear(heads * d, heads * d).double()
    want = sample_by_loops(projection(tokens).unflatten(2, (heads, d)), shapes, places, weights)
    got = D.sample_and_project(tokens, shapes, places, weights, projection)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)


def test_projecting_samples_in_bfloat16():
    tokens, places, weights = sampling_inputs(heads=2, d=8, dtype=torch.float32)
    projection = nn.Linear(16, 16)
    want = D.sample_and_project(tokens.flatten(2), SHAPES, places, weights, projection)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = D.sample_and_project(tokens.flatten(2).bfloat16(), SHAPES, places, weights, projection)
    assert got.dtype is torch.bfloat16
    torch.testing.assert_close(got.float(), want, rtol=0.02, atol=0.02)


@torch.no_grad()
def test_samples_are_projected_where_tokens_are_many_and_nothing_is_learnt():
    tokens, weights = torch.zeros(2, 480, 16), torch.zeros(2, 4, 8, 12)  # 480 * 16 = 20 * 4 * 8 * 12
    assert D.should_project_after_sampling(tokens, weights)
    assert not D.should_project_after_sampling(tokens[:, 1:], weights)
    assert not D.should_project_after_sampling(tokens.to("meta"), weights)
    with torch.enable_grad():
        assert not D.should_project_after_sampling(tokens, weights)


def test_sampling_on_the_meta_device_gives_a_shape():
    inputs = [t.to("meta") for t in sampling_inputs()]
    assert D.multi_scale_deformable_attn_pytorch(inputs[0], SHAPES, *inputs[1:]).shape == (2, 3, 8)


@pytest.mark.parametrize(
    ("x", "want"),
    [([], []), ([0.5], [0.0]), ([0.0, 1.0], [-11.512915, 11.512925]), ([-3.0, 7.0], [-11.512915, 11.512925])],
)
def test_inverse_sigmoid(x, want):
    torch.testing.assert_close(U.inverse_sigmoid(torch.tensor(x)), torch.tensor(want), rtol=0, atol=2e-5)


def test_inverse_sigmoid_undoes_sigmoid_and_has_its_gradient():
    x = torch.linspace(-9, 9, 31, dtype=torch.float64)
    torch.testing.assert_close(U.inverse_sigmoid(x.sigmoid()), x, rtol=0, atol=1e-9)
    assert torch.autograd.gradcheck(U.inverse_sigmoid, x.sigmoid().requires_grad_())


def test_inverse_sigmoid_of_bfloat16_is_float32():
    got = U.inverse_sigmoid(torch.tensor([1.0, 0.25], dtype=torch.bfloat16))
    assert got.dtype == torch.float32 and bool(got.isfinite().all())


def test_clamped_sum_stays_finite_in_float16_only():
    big = torch.tensor([6e4], dtype=torch.float16)
    assert float(U.add_clamped(big, big)) == 65504.0
    over = torch.tensor([math.inf], dtype=torch.float16)  # what a linear layer gives when it overflows
    assert bool(U.add_clamped(torch.ones(1), over).isfinite().all())
    assert float(U.add_clamped(torch.tensor([1e30]), torch.tensor([1e30]))) == pytest.approx(2e30)


def test_initial_values():
    assert U.bias_init_with_prob(0.01) == pytest.approx(-math.log(99))
    layer = nn.Linear(100, 16)
    U.linear_init(layer)
    for values in (layer.weight, layer.bias):
        assert 0.15 < float(values.detach().abs().max()) <= 0.25
    U.linear_init(nn.Linear(3, 4, bias=False))
    clones = U._get_clones(layer, 2)
    assert clones[0].weight is not clones[1].weight and torch.equal(clones[0].weight, clones[1].weight)


@pytest.mark.parametrize(("size", "parts"), [((20, 13), (5, 5)), ((5, 5), (20, 13)), ((4, 4), (4, 1))])
def test_means_of_an_export_are_the_pooling(monkeypatch, size, parts):
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    want = torch.nn.functional.adaptive_avg_pool2d(x, parts)
    assert torch.equal(U.adaptive_mean(x, *parts), want)
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    torch.testing.assert_close(U.adaptive_mean(x, *parts), want)


def test_ceil_div():
    assert [U.ceil_div(n, 7) for n in (0, 1, 7, 8, 20)] == [0, 1, 1, 2, 3]
