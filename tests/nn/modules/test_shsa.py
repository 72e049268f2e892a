"""SHSA and SHViT: attention against einsum, residuals, folding, whole networks.

Exact numbers of the official code: tests/test_golden.py.
"""

import copy
import io

import pytest
import torch
from torch import nn

from tests.golden.fill import fill_, tensor
from ultralytics.nn.modules import attention
from ultralytics.nn.modules.conv import fuse_children
from ultralytics.nn.modules.shsa import (
    FFN,
    SHSA,
    BasicBlock,
    BN_Linear,
    Conv2d_BN,
    PatchMerging,
    Residual,
    SHViT,
    SHViTStage,
    SHViTStem,
    SqueezeExcite,
    shvit_s1,
    shvit_s2,
    shvit_s3,
    shvit_s4,
)
from ultralytics.nn.registry import REGISTRY, RowContext, Scale
from ultralytics.utils.errors import ConfigError

TINY = {"embed_dim": (16, 24, 32), "partial_dim": (8, 8, 8), "depth": (1, 1, 1), "types": ("i", "s", "s")}


# ------------------------------------------------------------------------------------------------------------- SHSA
def filled(dim=24, qk_dim=16, pdim=8, residual=False):
    return fill_(SHSA(dim, qk_dim, pdim, residual)).eval()


@pytest.mark.parametrize("size", [(6, 6), (24, 20)])  # below and above the threshold of the plain form
@pytest.mark.parametrize("pdim", [8, 24])
def test_shsa_against_einsum(size, pdim):
    block = filled(pdim=pdim).double()
    x = tensor("x", (2, 24, *size)).double()
    with torch.no_grad():
        x1, x2 = x[:, :pdim], x[:, pdim:]
        mean, var = x1.mean((1, 2, 3), keepdim=True), x1.var((1, 2, 3), keepdim=True, unbiased=False)
        weight, bias = (t.view(-1, 1, 1) for t in (block.pre_norm.weight, block.pre_norm.bias))
        normed = (x1 - mean) / (var + block.pre_norm.eps).sqrt() * weight + bias
        q, k, v = block.qkv(normed).flatten(2).split([16, 16, pdim], 1)
        weight = torch.einsum("bci,bcj->bij", q, k).mul(16**-0.5).softmax(2)
        mixed = torch.einsum("bij,bcj->bci", weight, v).reshape(x1.shape)
        want = block.proj(torch.cat((mixed, x2), 1))
        torch.testing.assert_close(block(x), want)
        block.residual = True
        torch.testing.assert_close(block(x), x + want)


@pytest.mark.parametrize("train", [True, False])
def test_a_new_block_is_zero_and_with_the_residual_the_identity(train):
    x = tensor("x", (2, 32, 5, 4))
    with torch.no_grad():
        assert not SHSA(32).train(train)(x).any()
        assert torch.equal(SHSA(32, residual=True).train(train)(x), x)


@pytest.mark.parametrize(
    ("dim", "pdim"), [(4, 4), (8, 8), (32, 8), (64, 16), (128, 24), (224, 48), (256, 56), (512, 112)]
)
def test_default_pdim_is_three_fourteenths(dim, pdim):
    assert SHSA(dim).pdim == pdim


@pytest.mark.parametrize("args", [(16, 16, 17), (16, 16, 0), (16, 0, 8), (16, 16, -1)])
def test_refused_widths(args):
    with pytest.raises(ConfigError, match=r"pdim <= 16"):
        SHSA(*args)


@pytest.mark.parametrize(
    ("args", "want"),
    [
        ((), (64, 16, None, True)),
        ((8,), (64, 8, None, True)),
        ((16, 48), (64, 16, 48, True)),
        ((16, None), (64, 16, None, True)),
        ((16, 48, False), (64, 16, 48, False)),
    ],
)
def test_rule_keeps_channels_and_turns_the_residual_on(args, want):
    plan = REGISTRY.get("SHSA").rule(RowContext((64,), args, scale=Scale(1, 0.25, 32)))
    assert plan.args == want and plan.out_channels == 64
    assert isinstance(SHSA(*plan.args), SHSA)


def test_channels_last_gives_the_same():
    block, x = filled(), tensor("x", (2, 24, 9, 7))
    with torch.no_grad():
        want = block(x)
        torch.testing.assert_close(block(x.to(memory_format=torch.channels_last)), want, rtol=1e-4, atol=1e-5)


def test_the_choice_is_made_once_for_a_traced_graph():
    """Traced at a small map, the graph is right for a large one."""
    block = filled()
    traced = torch.jit.trace(block, tensor("x", (1, 24, 4, 4)))
    x = tensor("y", (2, 24, 22, 20))
    with torch.no_grad():
        torch.testing.assert_close(traced(x), block(x), rtol=1e-4, atol=1e-5)


def test_exported_graph_takes_any_size():
    block = filled()
    dims = {0: torch.export.Dim("b", min=1, max=4), 2: torch.export.Dim("h", min=2, max=64)}
    program = torch.export.export(block, (tensor("x", (2, 24, 4, 4)),), dynamic_shapes=(dims,))
    x = tensor("y", (3, 24, 30, 4))
    with torch.no_grad():
        torch.testing.assert_close(program.module()(x), block(x), rtol=1e-4, atol=1e-5)


def test_onnx_export_stays_plain(monkeypatch):
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    monkeypatch.setattr(attention, "attend_fused", None)
    monkeypatch.setattr(attention, "attend_in_blocks", None)
    with torch.no_grad():
        assert filled()(tensor("x", (1, 24, 22, 20))).isfinite().all()


# ------------------------------------------------------------------------------------------------- the parts of SHViT
PARTS = {
    "conv_bn": (lambda: Conv2d_BN(12, 8, 3, 2, 1), (8, 4, 3)),
    "ffn": (lambda: FFN(12, 20), (12, 7, 5)),
    "se": (lambda: SqueezeExcite(12), (12, 7, 5)),
    "merge": (lambda: PatchMerging(12, 16), (16, 4, 3)),
    "shsa": (lambda: SHSA(12, 4, 4), (12, 7, 5)),
    "block_s": (lambda: BasicBlock(12, 4, 4, "s"), (12, 7, 5)),
    "block_i": (lambda: BasicBlock(12, 4, 4, "i"), (12, 7, 5)),
    "stem": (lambda: SHViTStem(12, 16), (16, 1, 1)),
    "stage_i": (lambda: SHViTStage(12, 16, 2, 8, "i"), (16, 4, 3)),
    "stage_s": (lambda: SHViTStage(12, 16, 2, 8), (16, 4, 3)),
}


@pytest.mark.parametrize("name", PARTS)
def test_part_shape_folding_and_gradients(name):
    make, shape = PARTS[name]
    part, x = fill_(make()), tensor("x", (2, 12, 7, 5))
    part.train()(x).square().sum().backward()
    assert [n for n, p in part.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    part.eval()
    with torch.no_grad():
        want = part(x)
        assert want.shape == (2, *shape)
        assert part(x[:0]).shape == (0, *shape)
        net = fuse_children(nn.Sequential(copy.deepcopy(part)))
        kept = x.clone()
        torch.testing.assert_close(net(x), want, rtol=1e-4, atol=1e-4)
        assert torch.equal(x, kept)  # what a block is given is not written to
    assert [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)] == []


@pytest.mark.parametrize("branch", [lambda: FFN(8, 16), lambda: SHSA(8, 4, 4), lambda: SHSA(8, 4, 4, residual=True)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_folded_residual_adds_in_the_branch_as_it_did_beside_it(branch, dtype):
    """Also where autocast gives the branch another type than its input: then the sum keeps the wider one."""
    torch.manual_seed(0)
    block, x = fill_(Residual(branch())).eval(), tensor("x", (2, 8, 5, 3))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
        want, kept = block(x), x.clone()
        fuse_children(nn.Sequential(block))
        assert block.in_place and block(x).dtype is want.dtype is torch.float32
        torch.testing.assert_close(block(x), want, rtol=1e-5, atol=1e-5 if dtype is torch.float32 else 0.05)
    assert torch.equal(x, kept)


@pytest.mark.parametrize("m", [nn.Identity(), nn.Sequential(nn.Identity())])
def test_a_residual_of_something_unknown_never_adds_in_place(m):
    x = torch.ones(1, 2, 3, 3)
    block = fuse_children(nn.Sequential(Residual(m).eval()))
    assert torch.equal(block(x), torch.full_like(x, 2)) and torch.equal(x, torch.ones_like(x))


def test_residual_folds_a_depthwise_kernel_only():
    depthwise = Residual(Conv2d_BN(8, 8, 3, 1, 1, groups=8))
    assert isinstance(depthwise.eval().fuse(), nn.Conv2d)
    for other in (Conv2d_BN(8, 8, 3, 1, 1), Conv2d_BN(8, 8, 5, 1, 2, groups=8), FFN(8, 16)):
        residual = Residual(other).eval()
        assert residual.fuse() is residual


def test_stochastic_depth_drops_samples_and_keeps_the_mean():
    torch.manual_seed(0)
    block, x = Residual(nn.Identity(), drop=0.25), torch.ones(4000, 2, 1, 1)
    y = block.train()(x)[:, 0, 0, 0] - 1
    kept = (y > 0).float().mean().item()
    assert {round(v, 4) for v in y.tolist()} == {0.0, 1.3333}
    assert abs(kept - 0.75) < 0.03 and abs(y.mean().item() - 1) < 0.04
    assert torch.equal(block.eval()(x), 2 * x)


def test_bn_linear_start_and_folding():
    torch.manual_seed(0)
    block = BN_Linear(400, 50)
    assert not block.l.bias.any() and abs(block.l.weight.std().item() - 0.02) < 0.001
    block, x = fill_(BN_Linear(16, 5, bias=False)).eval(), tensor("x", (4, 16))
    with torch.no_grad():
        fused = block.fuse()
        torch.testing.assert_close(fused(x), block(x), rtol=1e-5, atol=1e-5)
    assert fused.bias is not None and not fused.weight.requires_grad


def test_basic_block_refuses_an_unknown_type():
    with pytest.raises(ConfigError, match="must be 's'"):
        BasicBlock(8, 4, 4, "x")


@pytest.mark.parametrize(
    ("name", "row", "args", "channels", "inside"),
    [
        ("BasicBlock", RowContext((64,), (16, 48)), (64, 16, 48), 64, False),
        ("PatchMerging", RowContext((64,), (128,), scale=Scale(1, 0.5)), (64, 64), 64, False),
        ("SHViTStem", RowContext((3,), (64,), scale=Scale(1, 0.5)), (3, 64), 64, False),
        ("SHViTStage", RowContext((64,), (308, 66, "s"), 4, Scale(1, 0.5)), (64, 308, 4, 66, "s"), 308, True),
    ],
)
def test_rules(name, row, args, channels, inside):
    plan = REGISTRY.get(name).rule(row)
    assert (plan.args, plan.out_channels, plan.repeats_inside) == (args, channels, inside)


# ------------------------------------------------------------------------------------------------------ whole networks
@pytest.mark.parametrize(
    ("make", "params"),
    [(shvit_s1, 6330808), (shvit_s2, 11483072), (shvit_s3, 14245273), (shvit_s4, 16588484)],
)
def test_official_sizes(make, params):
    with torch.device("meta"):
        assert sum(p.numel() for p in make().parameters()) == params


def test_heads():
    x = tensor("x", (2, 3, 32, 32))
    with torch.no_grad():
        assert SHViT(num_classes=0, **TINY).eval()(x).shape == (2, 32)
        net = fill_(SHViT(num_classes=5, distillation=True, **TINY))
        pair = net.train()(x)
        assert [t.shape for t in pair] == [(2, 5), (2, 5)] and not torch.equal(*pair)
        net.eval()
        features = net.blocks3(net.blocks2(net.blocks1(net.patch_embed(x)))).mean((2, 3))
        torch.testing.assert_close(net(x), (net.head(features) + net.head_dist(features)) / 2)


def test_whole_network_folds_and_saves():
    net, x = fill_(SHViT(num_classes=5, **TINY)).eval(), tensor("x", (2, 3, 64, 48))
    with torch.no_grad():
        want = net(x)
        net.fuse()
        torch.testing.assert_close(net(x), want, rtol=1e-4, atol=1e-4)
    assert [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)] == []
    buffer = io.BytesIO()
    torch.save(net.state_dict(), buffer)
    buffer.seek(0)
    assert torch.load(buffer, weights_only=True).keys() == net.state_dict().keys()


def test_detection_rows_are_the_official_backbone():
    """Stem and stages, fed with the weights of SHViT, give its feature maps."""
    net = fill_(SHViT(num_classes=0, **TINY)).eval()
    stem, one = SHViTStem(3, 8).eval(), SHViTStage(8, 16, 1, 8, "i").eval()
    two, three = SHViTStage(16, 24, 1, 8).eval(), SHViTStage(24, 32, 1, 8).eval()
    stem.layers[:6].load_state_dict(net.patch_embed[:6].state_dict())
    one.down[0].load_state_dict(net.patch_embed[6].state_dict())
    one.blocks.load_state_dict(net.blocks1.state_dict())
    for stage, official in ((two, net.blocks2), (three, net.blocks3)):
        stage.down.load_state_dict(official[:3].state_dict())
        stage.blocks.load_state_dict(nn.Sequential(*official[3:]).state_dict())  # numbered from 0
    x = tensor("x", (2, 3, 64, 64))
    with torch.no_grad():
        p16 = one(stem(x))
        assert [stem(x).shape[2], p16.shape[2], two(p16).shape[2]] == [8, 4, 2]
        want = net.blocks3(net.blocks2(net.blocks1(net.patch_embed(x))))
        torch.testing.assert_close(three(two(p16)), want)
