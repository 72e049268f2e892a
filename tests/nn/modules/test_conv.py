"""Conv family: padding, build context, folding, re-parameterisation, lists. Exact numbers: tests/test_golden.py."""

import copy

import pytest
import torch
from torch import nn

from tests.golden.fill import fill_, tensor
from ultralytics.nn.modules import (
    CBAM,
    ChannelAttention,
    Concat,
    Conv,
    Conv2,
    ConvTranspose,
    DWConv,
    DWConvTranspose2d,
    Focus,
    GhostConv,
    HGBlock,
    Index,
    LightConv,
    RepC3,
    RepConv,
    SpatialAttention,
)
from ultralytics.nn.modules.conv import autopad, default_activation, fuse_children
from ultralytics.nn.registry import REGISTRY, RowContext, Scale
from ultralytics.utils.errors import ConfigError


def norms(module):
    return [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


@pytest.mark.parametrize(
    ("args", "want"),
    [((1,), 0), ((3,), 1), ((4,), 2), ((3, None, 2), 2), ((3, 0), 0), (((1, 5),), [0, 2]), (((3, 3), (2, 1)), (2, 1))],
)
def test_autopad(args, want):
    assert autopad(*args) == want


BLOCKS = {
    "conv": (lambda: Conv(6, 8, 3, 2), (8, 4, 3)),
    "conv_tuple": (lambda: Conv(6, 8, (1, 3), (2, 1)), (8, 4, 5)),
    "conv2": (lambda: Conv2(6, 8, 3, 2), (8, 4, 3)),
    "conv2_dilated": (lambda: Conv2(6, 6, 3, d=2, g=3), (6, 7, 5)),
    "dwconv": (lambda: DWConv(6, 9, 5), (9, 7, 5)),
    "lightconv": (lambda: LightConv(6, 8, 5), (8, 7, 5)),
    "repconv": (lambda: RepConv(6, 8, s=2), (8, 4, 3)),
    "repconv_bn_groups": (lambda: RepConv(6, 6, g=3, bn=True), (6, 7, 5)),
    "convtranspose": (lambda: ConvTranspose(6, 8), (8, 14, 10)),
    "convtranspose_bias": (lambda: ConvTranspose(6, 8, bn=False), (8, 14, 10)),
    "ghost": (lambda: GhostConv(6, 8, 3), (8, 7, 5)),
    "cbam": (lambda: CBAM(6), (6, 7, 5)),
    "hgblock": (lambda: HGBlock(6, 4, 8, n=2, lightconv=True), (8, 7, 5)),
    "repc3": (lambda: RepC3(6, 8, n=2, e=0.5), (8, 7, 5)),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_shape_empty_batch_and_folding(name):
    """An empty batch gives an empty result; folded equals unfolded, holds no batch norm, is frozen, can be copied."""
    make, shape = BLOCKS[name]
    block = fill_(make()).eval()
    x = tensor("x", (2, 6, 7, 5))
    with torch.no_grad():
        want = block(x)
        assert want.shape == (2, *shape)
        assert block(x[:0]).shape == (0, *shape)
        net = fuse_children(nn.Sequential(block))
        torch.testing.assert_close(net(x), want, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(copy.deepcopy(net)(x), want, rtol=1e-5, atol=1e-5)
    assert norms(net) == []
    convs = [m for m in net.modules() if isinstance(m, nn.Conv2d) and m.bias is not None]
    assert name == "cbam" or not any(p.requires_grad for m in convs for p in m.parameters())
    keys = set(net.state_dict())
    fuse_children(net)  # a second time changes nothing
    assert set(net.state_dict()) == keys


def test_fold_can_fail():
    """The comparison above would see a batch norm that was dropped instead of folded."""
    block = fill_(Conv(6, 8, 3)).eval()
    x = tensor("x", (2, 6, 7, 5))
    with torch.no_grad():
        assert not torch.allclose(block(x), block.forward_fuse(x), atol=1e-2)


def test_repconv_matches_the_sum_of_branches_in_float64():
    block = fill_(RepConv(4, 4, bn=True)).double().eval()
    x = tensor("x", (1, 4, 5, 6)).double()

    def branch(conv, bn, t):
        y = t if conv is None else conv(t)
        scale = bn.weight / (bn.running_var + bn.eps).sqrt()
        return (y - bn.running_mean.view(-1, 1, 1)) * scale.view(-1, 1, 1) + bn.bias.view(-1, 1, 1)

    with torch.no_grad():
        y = branch(block.conv1.conv, block.conv1.bn, x) + branch(block.conv2.conv, block.conv2.bn, x)
        want = nn.functional.silu(y + branch(None, block.bn, x))
        torch.testing.assert_close(block(x), want)
        block.fuse()
        torch.testing.assert_close(block(x), want)
    assert set(block.state_dict()) == {"conv.weight", "conv.bias"}


@pytest.mark.parametrize("kwargs", [{"k": 5}, {"p": 0}, {"d": 2}])
def test_repconv_refuses_what_it_cannot_fold(kwargs):
    with pytest.raises(ConfigError, match="use Conv instead"):
        RepConv(4, 4, **kwargs)


def test_activation_argument():
    relu = nn.ReLU()
    assert Conv(2, 2, act=relu).act is relu
    assert isinstance(Conv(2, 2).act, nn.SiLU)
    for off in (False, None, 0):
        assert isinstance(Conv(2, 2, act=off).act, nn.Identity)
    a, b = Conv(2, 2, act=nn.ReLU), RepConv(2, 2, act=nn.GELU)  # a class makes an own object
    assert type(a.act) is nn.ReLU and type(b.act) is nn.GELU and Conv(2, 2, act=nn.ReLU).act is not a.act


@pytest.mark.parametrize("act", ["relu", "nn.ReLU", "True", 1, 2, 0.5, int, nn.functional.relu, ["nn.ReLU"]])
@pytest.mark.parametrize("block", [Conv, RepConv, ConvTranspose])
def test_what_is_no_activation_is_refused(act, block):
    with pytest.raises(TypeError, match=r"act=.*True.*False.*nn\.ReLU\(\)"):
        block(2, 2, act=act)


def test_default_activation_is_shared_inside_and_gone_outside():
    gelu = nn.GELU()
    with default_activation(gelu):
        a, b, rep = Conv(2, 2), DWConv(2, 2), RepConv(2, 2)
        with default_activation():
            inner, inner_rep = Conv(2, 2), RepConv(2, 2)
        again = Conv(2, 2)
    assert a.act is b.act is again.act is gelu
    assert isinstance(rep.act, nn.SiLU) and isinstance(inner.act, nn.SiLU) and inner.act is not inner_rep.act
    assert isinstance(Conv(2, 2).act, nn.SiLU) and Conv(2, 2).act is not Conv(2, 2).act


def test_default_activation_is_restored_after_an_error():
    with pytest.raises(RuntimeError, match="stop"), default_activation(nn.GELU()):
        raise RuntimeError("stop")
    assert isinstance(Conv(2, 2).act, nn.SiLU)


def test_focus_keeps_every_pixel():
    """With the identity in place of its Conv, the output is a permutation of the input."""
    focus = Focus(2, 8)
    focus.conv = nn.Identity()
    x = torch.arange(2 * 4 * 6.0).view(1, 2, 4, 6)
    y = focus(x)
    assert y.shape == (1, 8, 2, 3)
    assert torch.equal(y.flatten().sort().values, x.flatten().sort().values)
    assert y[0, 0::2, 0, 0].tolist() == [x[0, 0, i, j].item() for j in (0, 1) for i in (0, 1)]


def test_transposed_depthwise_groups():
    block = DWConvTranspose2d(6, 9, 2, 2)
    assert block.groups == 3 and block(torch.zeros(1, 6, 3, 4)).shape == (1, 9, 6, 8)


def test_gates_scale_by_a_number_between_zero_and_one():
    x = tensor("x", (2, 6, 7, 5))
    with torch.no_grad():
        channel = fill_(ChannelAttention(6))(x) / x
        place = fill_(SpatialAttention(3))(x) / x
    assert ((channel > 0) & (channel < 1)).all() and ((place > 0) & (place < 1)).all()
    torch.testing.assert_close(channel, channel[..., :1, :1].expand_as(channel), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(place, place[:, :1].expand_as(place), rtol=1e-4, atol=1e-5)
    with pytest.raises(ConfigError, match="3 or 7"):
        SpatialAttention(5)


def test_concat_and_index():
    a, b = torch.zeros(0, 2, 3, 3), torch.zeros(0, 5, 3, 3)
    assert Concat()([a, b]).shape == (0, 7, 3, 3)
    assert Index(1)([a, b]) is b
    with pytest.raises(ConfigError, match="one map"):
        Index(1)(torch.zeros(2, 2, 3, 3))


@pytest.mark.parametrize(
    ("name", "row", "args", "channels"),
    [
        ("Conv", RowContext((3,), (64, 3, 2)), (3, 64, 3, 2), 64),
        ("Conv", RowContext((3,), (100, 3), scale=Scale(1, 0.25, 64)), (3, 16, 3), 16),
        ("CBAM", RowContext((32,), ()), (32,), 32),
        ("CBAM", RowContext((32,), (3,)), (32, 3), 32),
        ("CBAM", RowContext((32,), (128, 7)), (32, 7), 32),
        ("Concat", RowContext((32, 16), (1,)), (1,), 48),
        ("Index", RowContext((1024,), (512, 2)), (2,), 512),
    ],
)
def test_rules(name, row, args, channels):
    plan = REGISTRY.get(name).rule(row)
    assert plan.args == args and plan.out_channels == channels
