"""Every form of attention against a loop over tokens, its gradients, what it keeps, and which form is chosen."""

import math
import warnings

import pytest
import torch
from torch import nn

from tests.golden.fill import tensor
from ultralytics.nn.modules import attention
from ultralytics.nn.modules.attention import (
    SelfAttention,
    attend,
    attend_fused,
    attend_in_blocks,
    attend_plain,
    multi_head_attention,
    single_head_attention,
)

FORMS = {"plain": attend_plain, "fused": attend_fused, "blocks": attend_in_blocks, "chosen": single_head_attention}


def qkv(n, k=4, p=6, b=2, dtype=torch.float64):
    return tuple(tensor(name, (b, n, d)).to(dtype) for name, d in (("q", k), ("k", k), ("v", p)))


def reference(q, k, v, scale):
    """Token by token, with an explicit softmax."""
    out = torch.zeros_like(v)
    for b in range(v.shape[0]):
        for i in range(v.shape[1]):
            weight = torch.exp(scale * (k[b] @ q[b, i]))
            out[b, i] = (weight[:, None] / weight.sum() * v[b]).sum(0)
    return out


@pytest.fixture(params=[1, 20, 4000], ids=lambda size: f"block{size}")
def block(request, monkeypatch):
    """Blocks of single queries, of a few, which do not divide N, and one for all."""
    monkeypatch.setattr(attention, "BLOCK", request.param)


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("n", "k", "p"), [(1, 4, 6), (5, 4, 6), (7, 6, 6), (9, 8, 3), (6, 1, 1), (45, 4, 6)])
def test_attention_against_a_loop(form, n, k, p):
    q, k, v = qkv(n, k, p)
    torch.testing.assert_close(FORMS[form](q, k, v, 0.7), reference(q, k, v, 0.7))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("n", "b"), [(9, 0), (0, 2)])
def test_attention_of_nothing(form, n, b):
    assert FORMS[form](*qkv(n, b=b), 0.5).shape == (b, n, 6)


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_blocks_are_shared_out_among_any_number_of_threads(threads, monkeypatch):
    """45 queries of each image: a last block with as many for each thread, with fewer, or with less than one each."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    inputs = [t.requires_grad_() for t in qkv(45, 4, 6)]
    for size in (1, 45, 45 * 6, 45 * 14, 45 * 100):
        monkeypatch.setattr(attention, "BLOCK", size)
        found, wanted = attend_in_blocks(*inputs, 0.7), attend_plain(*inputs, 0.7)
        torch.testing.assert_close(found, wanted)
        for a, b in zip(*(torch.autograd.grad(y.square().sum(), inputs) for y in (found, wanted)), strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("form", FORMS)
def test_attention_gradients(form):
    inputs = [t.requires_grad_() for t in qkv(7, 2, 3)]
    assert torch.autograd.gradcheck(lambda *x: FORMS[form](*x, 0.5), inputs)


@pytest.mark.parametrize("form", ["fused", "blocks"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_forms_and_their_gradients_agree_with_the_plain_one_in_fp32(monkeypatch, form, dtype, tolerance):
    monkeypatch.setattr(attention, "BLOCK", 1000)
    results = []
    for name, kind in (("plain", torch.float32), (form, dtype)):
        inputs = [t.to(kind).requires_grad_() for t in qkv(64, 16, 24, dtype=dtype)]
        y = FORMS[name](*inputs, 0.25)
        grads = torch.autograd.grad(y, inputs, tensor("g", y.shape).to(kind))
        assert {t.dtype for t in (y, *grads)} == {kind}
        results.append([t.float() for t in (y, *grads)])
    for got, wanted in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(got, wanted, rtol=tolerance, atol=tolerance * float(wanted.detach().abs().max()))


def test_many_blocks_lose_no_digits_of_bfloat16_sums(monkeypatch):
    """Gradients of keys and values are sums over all blocks; in bfloat16 itself small terms would be lost."""
    n = 512
    inputs = qkv(n, 16, 24, b=1, dtype=torch.bfloat16)
    exact = [t.float().requires_grad_() for t in inputs]
    wanted = torch.autograd.grad(attend_plain(*exact, 0.25).square().sum(), exact)
    monkeypatch.setattr(attention, "BLOCK", n)  # one query each
    rounded = [t.requires_grad_() for t in inputs]
    got = torch.autograd.grad(attend_in_blocks(*rounded, 0.25).float().square().sum(), rounded)
    for g, w in zip(got, wanted, strict=True):
        assert float((g - w).norm() / w.norm()) < 0.02


def test_a_second_derivative_is_refused():
    inputs = [t.requires_grad_() for t in qkv(5)]
    y = attend_in_blocks(*inputs, 0.5)
    difference = torch.ones_like(y, requires_grad=True)
    (grad,) = torch.autograd.grad(y, inputs[:1], difference, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@pytest.mark.parametrize(
    ("n", "amx", "form"),
    [(4, False, "attend_plain"), (5, False, "attend_in_blocks"), (4, True, "attend_fused"), (5, True, "attend_fused")],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_choice(monkeypatch, n, amx, form, dtype):
    monkeypatch.setattr(attention, "BLOCK", 2 * 4 * 4)
    monkeypatch.setattr(attention, "cpu_has_amx", lambda: amx)
    monkeypatch.setattr(attention, form, lambda *_args: "taken")
    assert single_head_attention(*qkv(n, dtype=dtype), 1.0) == "taken"


@pytest.mark.parametrize(
    ("n", "dtype", "grad", "form"),
    [
        (4, torch.float32, True, "attend_plain"),
        (5, torch.float32, True, "attend_in_blocks"),
        (5, torch.bfloat16, False, "attend_in_blocks"),
        (6, torch.bfloat16, True, "attend_plain"),
        (7, torch.bfloat16, True, "attend_in_blocks"),
    ],
)
def test_bfloat16_holds_larger_maps_for_a_gradient(monkeypatch, n, dtype, grad, form):
    monkeypatch.setattr(attention, "cpu_has_amx", lambda: False)
    monkeypatch.setattr(attention, "BLOCK", 2 * 4 * 4)
    monkeypatch.setattr(attention, "MAX_WHOLE_MAP", 2 * 6 * 6)
    monkeypatch.setattr(attention, form, lambda *_args: "taken")
    assert single_head_attention(*(t.requires_grad_(grad) for t in qkv(n, dtype=dtype)), 1.0) == "taken"


@pytest.mark.parametrize(("n", "form"), [(4, "attend_plain"), (5, "attend_fused")])
def test_a_traced_graph_holds_what_fits_its_example_and_is_right_for_other_sizes(monkeypatch, n, form):
    monkeypatch.setattr(attention, "cpu_has_amx", lambda: False)
    monkeypatch.setattr(attention, "BLOCK", 2 * 4 * 4)
    used, chosen = [], getattr(attention, form)
    monkeypatch.setattr(attention, form, lambda *args: used.append(form) or chosen(*args))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(lambda q, k, v: single_head_attention(q, k, v, 0.7), qkv(n), check_trace=False)
    assert used == [form]
    torch.testing.assert_close(traced(*qkv(9, b=3)), reference(*qkv(9, b=3), 0.7))


@pytest.mark.parametrize(("form", "kept"), [("fused", False), ("blocks", False), ("plain", True)])
def test_no_map_of_n_by_n_is_kept(form, kept):
    """No tensor of N x N is saved for the backward pass; the plain form saves some."""
    n, sizes = 500, []
    inputs = [t.requires_grad_() for t in qkv(n, b=1, dtype=torch.float32)]
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        FORMS[form](*inputs, 0.5)
    assert (max(sizes) >= n * n) is kept


# ---------------------------------------------------------------------------------------------------------- more heads
def heads(n=7, dtype=torch.float32, values=5):
    widths = (("q", 4), ("k", 4), ("v", values))
    return tuple(tensor(name, (2, 3, n, d)).to(dtype).requires_grad_() for name, d in widths)


MASKS = {
    "none": lambda n: None,
    "causal": lambda n: torch.ones(n, n).tril().bool(),
    "term": lambda n: tensor("mask", (n, n)),
    "padding": lambda n: torch.arange(n)[None, None, None] < torch.tensor([n, n - 2])[:, None, None, None],
}


@pytest.mark.parametrize("amx", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("scale", [None, 0.3])
def test_heads_against_the_formula(monkeypatch, amx, dtype, mask, scale):
    monkeypatch.setattr(attention, "cpu_has_amx", lambda: amx)
    q, k, v = heads(dtype=dtype)
    given = MASKS[mask](q.shape[2])
    term = given.to(dtype) if given is not None and given.is_floating_point() else given
    y = multi_head_attention(q, k, v, term, scale)
    grads = torch.autograd.grad(y.float().square().sum(), (q, k, v))
    a, b, c = (t.detach().double().requires_grad_() for t in (q, k, v))
    scores = torch.einsum("bmid,bmjd->bmij", a, b) * (1 / math.sqrt(4) if scale is None else scale)
    if given is not None:
        scores = scores.masked_fill(~given, -math.inf) if given.dtype is torch.bool else scores + given
    wanted = torch.einsum("bmij,bmjd->bmid", scores.softmax(-1), c)
    tolerance = 1e-5 if dtype is torch.float32 else 5e-2
    close = {"rtol": tolerance, "atol": tolerance, "check_dtype": False}
    torch.testing.assert_close(y, wanted, **close)
    torch.testing.assert_close(grads, torch.autograd.grad(wanted.square().sum(), (a, b, c)), **close)


@pytest.mark.parametrize("kind", ["rows", "columns", "image", "term"])
def test_tokens_that_see_nothing_get_what_the_fused_kernel_gives_them(monkeypatch, kind):
    monkeypatch.setattr(attention, "cpu_has_amx", lambda: False)
    q, k, v = heads(dtype=torch.bfloat16)
    n = q.shape[2]
    allowed = torch.ones(n, n).tril(-1).bool()  # the first token sees nothing
    if kind == "columns":  # for all tokens equally
        allowed = torch.zeros(1, n, dtype=torch.bool)
    if kind == "image":
        allowed = torch.tensor([True, False])[:, None, None, None].expand(2, 1, 1, n)
    mask = torch.zeros(n, n).masked_fill(~allowed, -math.inf) if kind == "term" else allowed
    y = multi_head_attention(q, k, v, mask)
    grads = torch.autograd.grad(y.float().square().sum(), (q, k, v))
    exact = [t.detach().float().requires_grad_() for t in (q, k, v)]
    wanted = torch.nn.functional.scaled_dot_product_attention(*exact, attn_mask=mask)
    assert y.dtype is torch.bfloat16
    assert bool((wanted == 0).all(-1).any())
    assert torch.equal((y == 0).all(-1), (wanted == 0).all(-1))
    close = {"rtol": 5e-2, "atol": 5e-2, "check_dtype": False}
    torch.testing.assert_close(y, wanted, **close)
    torch.testing.assert_close(grads, torch.autograd.grad(wanted.square().sum(), exact), **close)


@pytest.mark.parametrize(
    ("dtype", "amx", "limit", "values", "fused"),
    [
        (torch.float32, False, 1 << 24, 4, True),
        (torch.bfloat16, False, 1 << 24, 4, False),
        (torch.bfloat16, True, 1 << 24, 4, True),
        (torch.bfloat16, False, 2 * 3 * 7 * 7 - 1, 4, True),
        (torch.float32, True, 1 << 24, 5, False),  # a width that the fused kernel of a CPU does not take
        (torch.float32, True, 2 * 3 * 7 * 7 - 1, 5, True),
    ],
)
def test_the_choice_for_heads(monkeypatch, dtype, amx, limit, values, fused):
    monkeypatch.setattr(attention, "cpu_has_amx", lambda: amx)
    monkeypatch.setattr(attention, "MAX_WHOLE_MAP", limit)
    monkeypatch.setattr(attention.F, "scaled_dot_product_attention", lambda *_args, **_kwargs: "fused")
    assert (multi_head_attention(*heads(dtype=dtype, values=values)) == "fused") is fused


def test_dropout_of_the_plain_heads_keeps_the_mean(monkeypatch):
    monkeypatch.setattr(attention, "cpu_has_amx", lambda: False)
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, 64, d).bfloat16() for d in (4, 4, 5))
    whole = multi_head_attention(q, k, v.abs()).float()
    thinned = multi_head_attention(q, k, v.abs(), dropout=0.5).float()
    assert not torch.equal(whole, thinned)
    assert float(thinned.mean()) == pytest.approx(float(whole.mean()), rel=0.05)


@pytest.mark.parametrize("mask", ["none", "boolean", "float", "padding", "boolean and padding", "float and padding"])
def test_attention_equals_the_framework_module(mask):
    torch.manual_seed(0)
    mha = SelfAttention(16, 4, batch_first=True)
    nn.init.normal_(mha.in_proj_bias)
    x, pos = torch.randn(2, 6, 16), torch.randn(1, 6, 16)
    blocked = (torch.rand(6, 6) < 0.3) & ~torch.eye(6, dtype=torch.bool)
    attn = {"boolean": blocked, "float": torch.randn(6, 6)}.get(mask.split(" ")[0])
    padding = torch.zeros(2, 6, dtype=torch.bool) if "padding" in mask else None
    if padding is not None:
        padding[1, 4:] = True
        blocked[:, :3] = False
    plain = padding
    if padding is not None and mask.startswith("float"):  # the framework wants both masks of one kind
        plain = torch.zeros(2, 6).masked_fill(padding, -math.inf)
    want = mha(x + pos, x + pos, x, attn_mask=attn, key_padding_mask=plain, need_weights=False)[0]
    torch.testing.assert_close(attend(mha, x + pos, x, attn, padding), want, rtol=1e-5, atol=1e-6)


def test_attention_drops_out_in_training_only():
    mha = SelfAttention(8, 2, dropout=0.5, batch_first=True)
    x = torch.randn(1, 5, 8)
    assert not torch.equal(attend(mha.train(), x, x), attend(mha, x, x))
    assert torch.equal(attend(mha.eval(), x, x), attend(mha, x, x))
