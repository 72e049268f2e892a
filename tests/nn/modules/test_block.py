"""Backbone blocks: shapes, rules, independent references, folding. Exact numbers: tests/test_golden.py."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.golden.fill import fill_, tensor
from ultralytics.nn.modules.block import (
    CCRI,
    HGBlock,
    HGStem,
    ResizeLike,
    ResNetDBlock,
    ResNetDLayer,
    ResNetDStem,
    ResNetLayer,
    TorchVision,
)
from ultralytics.nn.modules.conv import fuse_children
from ultralytics.nn.registry import REGISTRY, RowContext, Scale
from ultralytics.utils.errors import ConfigError, NotFoundError

BLOCKS = {
    "hgstem": (lambda: HGStem(6, 4, 8), (8, 4, 3)),
    "hgblock": (lambda: HGBlock(6, 4, 8, 3, 2), (8, 16, 12)),
    "ccri": (lambda: CCRI(6, 32, 2, 5, True), (32, 16, 12)),
    "ccri_shortcut": (lambda: CCRI(6, 6, 1, shortcut=True), (6, 16, 12)),
    "resnet_stem": (lambda: ResNetLayer(6, 8, 1, True), (8, 4, 3)),
    "resnet": (lambda: ResNetLayer(6, 4, 2, False, 2), (16, 8, 6)),
    "resnet_d_stem": (lambda: ResNetDStem(6, 8), (8, 4, 3)),
    "resnet_d": (lambda: ResNetDLayer(6, 8, 2, 2), (8, 8, 6)),
    "torchvision": (lambda: TorchVision("shufflenet_v2_x0_5"), (192, 1, 1)),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_shape_and_folding(name):
    make, shape = BLOCKS[name]
    block = fill_(make()).eval()
    x = tensor("x", (2, 3 if name == "torchvision" else 6, 16, 12))
    with torch.no_grad():
        want = block(x)
        assert want.shape == (2, *shape) and want.isfinite().all()
        net = fuse_children(nn.Sequential(block))
        torch.testing.assert_close(net(x), want, rtol=1e-4, atol=1e-4)
    ours = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert name == "torchvision" or ours == []


@pytest.mark.parametrize("name", [n for n in BLOCKS if n != "torchvision"])
def test_gradient_reaches_every_parameter(name):
    block = fill_(BLOCKS[name][0]()).train()
    block(tensor("x", (2, 6, 16, 12))).square().sum().backward()
    assert [n for n, p in block.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_ccri_is_an_hgblock_of_derived_width():
    """Same keys, same numbers as HGBlock with hidden width c2 / 4 to a multiple of 8; the squeeze is c2 / 2."""
    ours, theirs = fill_(CCRI(16, 40, 3, 5, True, False)), fill_(HGBlock(16, 16, 40, 5, 3, True, False))
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert ours.sc.conv.out_channels == 20
    x = tensor("x", (1, 16, 6, 5))
    assert torch.equal(ours.eval()(x), theirs.eval()(x))


@pytest.mark.parametrize(("shortcut", "c1", "added"), [(True, 16, True), (True, 8, False), (False, 16, False)])
def test_ccri_shortcut(shortcut, c1, added):
    block = fill_(CCRI(c1, 16, 1, shortcut=shortcut)).eval()
    x = tensor("x", (1, c1, 4, 4))
    with torch.no_grad():
        y = block(x)
        inner = block.ec(block.sc(torch.cat((x, block.m[0](x)), 1)))
    torch.testing.assert_close(y, inner + x if added else inner)


@pytest.mark.parametrize(
    ("c1", "c2", "s", "project"), [(4, 4, 1, False), (4, 4, 1, True), (4, 6, 2, True), (4, 6, 1, False)]
)
@pytest.mark.parametrize("size", [(8, 6), (7, 5)])
def test_resnet_d_block_against_the_formula(c1, c2, s, project, size):
    """Two 3x3 beside an averaged, projected shortcut; an odd map averages what is left at its edge."""
    block = fill_(ResNetDBlock(c1, c2, s, project)).eval()
    x = tensor("x", (2, c1, *size))

    def conv_bn(m, t, stride, pad):
        y = F.conv2d(t, m.conv.weight, None, stride, pad)
        return F.batch_norm(y, m.bn.running_mean, m.bn.running_var, m.bn.weight, m.bn.bias, eps=m.bn.eps)

    with torch.no_grad():
        main = conv_bn(block.cv2, conv_bn(block.cv1, x, s, 1).relu(), 1, 1)
        short = x
        if s > 1:
            h, w = -(-size[0] // s), -(-size[1] // s)
            windows = [[x[..., i * s : i * s + s, j * s : j * s + s].mean((2, 3)) for j in range(w)] for i in range(h)]
            short = torch.stack([torch.stack(row, -1) for row in windows], -2)
        if project or c1 != c2:
            short = conv_bn(block.shortcut, short, 1, 0)
        torch.testing.assert_close(block(x), (main + short).relu(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "row", "args", "channels", "inside"),
    [
        ("HGStem", RowContext((1,), (32, 48), scale=Scale(1, 0.5)), (1, 32, 48), 48, False),
        ("HGBlock", RowContext((48,), (48, 128), repeats=6), (48, 48, 128, 3, 6), 128, True),
        ("HGBlock", RowContext((48,), (48, 128, 5, True), repeats=2), (48, 48, 128, 5, 2, True), 128, True),
        ("CCRI", RowContext((64,), (128, 5, True, False), 2, Scale(1, 0.25)), (64, 32, 2, 5, True, False), 32, True),
        ("ResNetLayer", RowContext((1,), (3, 64, 1, True, 1)), (1, 64, 1, True, 1), 64, False),
        ("ResNetLayer", RowContext((64,), (64, 32, 1, False, 3)), (64, 32, 1, False, 3), 128, False),
        ("ResNetLayer", RowContext((64,), (64, 32, 1, False, 3, 2)), (64, 32, 1, False, 3, 2), 64, False),
        ("ResNetDLayer", RowContext((64,), (128, 2), 3), (64, 128, 3, 2), 128, True),
        ("ResizeLike", RowContext((8, 16), ()), (), 8, False),
        ("TorchVision", RowContext((3,), (192, "shufflenet_v2_x0_5")), ("shufflenet_v2_x0_5",), 192, False),
    ],
)
def test_rules(name, row, args, channels, inside):
    plan = REGISTRY.get(name).rule(row)
    assert (plan.args, plan.out_channels, plan.repeats_inside) == (args, channels, inside)


def test_resize_like_takes_the_size_of_the_second():
    y = ResizeLike()([torch.arange(4.0).view(1, 1, 2, 2), torch.zeros(1, 3, 3, 4)])
    assert y[0, 0].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3]]


def test_torchvision_forms():
    x = tensor("x", (1, 3, 64, 64))
    with torch.no_grad():
        steps = TorchVision("shufflenet_v2_x0_5", split=True).eval()(x)
        whole = TorchVision("shufflenet_v2_x0_5", unwrap=False).eval()(x)
    assert steps[0] is x and steps[-1].shape == (1, 192, 2, 2) and whole.shape == (1, 1024)
    with pytest.raises(NotFoundError, match="no model 'resnet19'"):
        TorchVision("resnet19")
    with pytest.raises(ConfigError, match="unwrap"):
        TorchVision("resnet18", unwrap=False, split=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [(5, 9), (2, 2)])
def test_the_stem_pools_equally_with_and_without_a_gradient(dtype, size):
    stem, x = HGStem(6, 4, 8), tensor("x", (2, 4, *size)).to(dtype)
    x[0, 1, 1, 1] = torch.nan
    with_gradient = stem._pooled(x.clone().requires_grad_())
    torch.testing.assert_close(stem._pooled(x), with_gradient, rtol=0, atol=0, equal_nan=True)
    assert stem._pooled(x).shape[2:] == (size[0] - 1, size[1] - 1)
