"""Cross-stage blocks: shapes, state-dict keys, independent references, folding."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.golden.fill import fill_, tensor
from ultralytics.nn.modules import block as upstream_path
from ultralytics.nn.modules.block import (
    C1,
    C2,
    C2PSA,
    C3,
    PSA,
    SPP,
    SPPF,
    Attention,
    Bottleneck,
    C2f,
    C2fSHSA,
    CBFuse,
    CBLinear,
    RepC3,
    RepC4,
    SCDown,
)
from ultralytics.nn.modules.conv import fuse_children
from ultralytics.nn.registry import REGISTRY, RowContext, Scale
from ultralytics.utils.errors import ConfigError

BLOCKS = {  # block, output shape for an input (2, 16, 8, 6), first parts of its state-dict keys
    "bottleneck": (lambda: Bottleneck(16, 16), (16, 8, 6), {"cv1", "cv2"}),
    "c1": (lambda: C1(16, 8, 2), (8, 8, 6), {"cv1", "m"}),
    "c2": (lambda: C2(16, 8, 2), (8, 8, 6), {"cv1", "cv2", "m"}),
    "c2f": (lambda: C2f(16, 8, 2, True), (8, 8, 6), {"cv1", "cv2", "m"}),
    "c2f_shsa": (lambda: C2fSHSA(16, 24, 2), (24, 8, 6), {"cv1", "cv2", "m"}),
    "c3": (lambda: C3(16, 8, 2), (8, 8, 6), {"cv1", "cv2", "cv3", "m"}),
    "repc3": (lambda: RepC3(16, 8, 2, 0.5), (8, 8, 6), {"cv1", "cv2", "cv3", "m"}),
    "repc4": (lambda: RepC4(16, 8), (8, 8, 6), {"cv1", "cv2", "m"}),
    "spp": (lambda: SPP(16, 8), (8, 8, 6), {"cv1", "cv2"}),
    "sppf": (lambda: SPPF(16, 8), (8, 8, 6), {"cv1", "cv2"}),
    "scdown": (lambda: SCDown(16, 8, 3, 2), (8, 4, 3), {"cv1", "cv2"}),
    "psa": (lambda: PSA(16, 16), (16, 8, 6), {"cv1", "cv2", "attn", "ffn"}),
    "c2psa": (lambda: C2PSA(16, 16, 2), (16, 8, 6), {"cv1", "cv2", "m"}),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_shape_keys_batch_and_folding(name):
    make, shape, parts = BLOCKS[name]
    block = fill_(make()).eval()
    assert {k.split(".")[0] for k in block.state_dict()} == parts
    x = tensor("x", (2, 16, 8, 6))
    with torch.no_grad():
        want = block(x)
        assert want.shape == (2, *shape) and want.isfinite().all()
        torch.testing.assert_close(block(x[1:]), want[1:], rtol=1e-4, atol=1e-5)
        net = fuse_children(nn.Sequential(block))
        torch.testing.assert_close(net(x), want, rtol=1e-4, atol=1e-4)
    assert [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)] == []


@pytest.mark.parametrize("name", BLOCKS)
def test_gradient_reaches_every_parameter(name):
    block = fill_(BLOCKS[name][0]()).train()
    block(tensor("x", (2, 16, 8, 6))).square().sum().backward()
    assert [n for n, p in block.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize(("n", "branches"), [(1, 3), (2, 4), (3, 5)])
def test_repc4_joins_both_halves_and_every_step(n, branches):
    block = fill_(RepC4(12, 16, n)).eval()
    assert block.cv2.conv.in_channels == branches * 8
    x = tensor("x", (1, 12, 5, 4))
    with torch.no_grad():
        joined = list(block.cv1(x).split(8, 1))
        step = joined[1]
        for m in block.m:
            step = m(step)
            joined.append(step)
        torch.testing.assert_close(block(x), block.cv2(torch.cat(joined, 1)))


def test_sppf_pools_the_windows_of_spp():
    """Three poolings of 5 are one each of 5, 9 and 13: equal blocks once their weights are."""
    spp, sppf = fill_(SPP(8, 6)).eval(), fill_(SPPF(8, 6, act=True)).eval()
    x = tensor("x", (2, 8, 15, 11))
    with torch.no_grad():
        torch.testing.assert_close(sppf(x), spp(x))


@pytest.mark.parametrize("heads", [1, 2])
def test_attention_against_a_loop(heads):
    block = fill_(Attention(8, heads, 0.5)).double().eval()
    x = tensor("x", (2, 8, 3, 4)).double()
    with torch.no_grad():
        qkv, out, values = block.qkv(x), torch.zeros_like(x), torch.zeros_like(x)
        width, key = 8 // heads, 8 // heads // 2
        for b in range(2):
            for h in range(heads):
                part = qkv[b, h * (width + 2 * key) : (h + 1) * (width + 2 * key)].flatten(1)  # (2K + V, N)
                q, k, v = part[:key], part[key : 2 * key], part[2 * key :]
                weight = (q.T @ k / key**0.5).softmax(1)  # (N, N)
                out[b, h * width : (h + 1) * width] = (v @ weight.T).view(width, 3, 4)
                values[b, h * width : (h + 1) * width] = v.view(width, 3, 4)
        torch.testing.assert_close(block(x), block.proj(out + block.pe(values)))


@pytest.mark.parametrize("make", [lambda: PSA(16, 8), lambda: C2PSA(16, 8), lambda: Attention(10, 4)])
def test_refused_widths(make):
    with pytest.raises(ConfigError):
        make()


def test_shsa_inside_c2f_starts_as_the_identity():
    """The branches of a fresh C2fSHSA equal its second half, since every inner block starts as the identity."""
    block = C2fSHSA(16, 16, 2).eval()
    x = tensor("x", (1, 16, 4, 4))
    with torch.no_grad():
        a, b = block.cv1(x).chunk(2, 1)
        torch.testing.assert_close(block(x), block.cv2(torch.cat((a, b, b, b), 1)))


def test_cblinear_and_cbfuse():
    linear = CBLinear(6, [4, 8])
    big, small = linear(tensor("x", (1, 6, 8, 8))), linear(tensor("y", (1, 6, 4, 4)))
    assert [t.shape[1] for t in big] == [4, 8]
    target = tensor("z", (1, 8, 4, 4))
    y = CBFuse([1, 1])([big, small, target])
    want = target + F.interpolate(big[1], size=(4, 4)) + small[1]
    torch.testing.assert_close(y, want)
    assert torch.equal(CBFuse([])([target]), target)
    with pytest.raises(ConfigError, match="one output"):
        CBFuse([0])([target, big])


@pytest.mark.parametrize(
    ("name", "row", "args", "channels", "inside"),
    [
        ("C2f", RowContext((8,), (128, True), 3, Scale(1, 0.5)), (8, 64, 3, True), 64, True),
        ("C2fSHSA", RowContext((8,), (128, 0.5, 16), 3), (8, 128, 3, 0.5, 16), 128, True),
        ("RepC4", RowContext((8,), (256,), 2, Scale(1, 1, 64)), (8, 64, 2), 64, True),
        ("RepC3", RowContext((8,), (32, 0.5), 1), (8, 32, 1, 0.5), 32, True),
        ("SPPF", RowContext((8,), (32, 5)), (8, 32, 5, 3, False, True), 32, False),
        ("CBLinear", RowContext((8,), ([4, 8],)), (8, [4, 8]), 12, False),
        ("CBFuse", RowContext((12, 12, 32), ([0, 1],)), ([0, 1],), 32, False),
    ],
)
def test_rules(name, row, args, channels, inside):
    plan = REGISTRY.get(name).rule(row)
    assert (plan.args, plan.out_channels, plan.repeats_inside) == (args, channels, inside)


def test_upstream_import_path_has_every_public_name():
    for name in upstream_path.__all__:
        assert isinstance(getattr(upstream_path, name), type), name
