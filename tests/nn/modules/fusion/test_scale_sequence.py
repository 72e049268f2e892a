"""Scale sequences and their attention: slow references, folds, sizes off by one, rows without the cap, counts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.golden.blocks.fill import fill_, tensor
from tests.nn.modules.block_checks import check_block, inputs_of, parameters_of, parameters_without_gradient, plan_of
from ultralytics.nn.build.builder import set_batch_norm
from ultralytics.nn.modules.fusion.scale_sequence import DynamicScalSeq, ScalSeq, asf_attention_model
from ultralytics.utils.errors import ConfigError

CHANNELS = [8, 12, 16]


@pytest.mark.parametrize("sizes", [((8, 12), (4, 6), (2, 3)), ((7, 5), (4, 3), (2, 2))])
@pytest.mark.parametrize("cls", [ScalSeq, DynamicScalSeq])
def test_shapes_batch_and_folds(cls: type[ScalSeq], sizes: tuple[tuple[int, int], ...]) -> None:
    shapes = [(c, *s) for c, s in zip(CHANNELS, sizes, strict=True)]
    check_block(cls(CHANNELS, 12), shapes, (12, *sizes[0]))
    assert parameters_without_gradient(cls(CHANNELS, 12), shapes) <= {"conv3d.bias"}  # before a batch norm


def test_largest_over_scales() -> None:
    block, x = fill_(ScalSeq(CHANNELS, 8)).eval(), inputs_of([(8, 8, 4), (12, 4, 2), (16, 2, 1)])
    assert isinstance(block.conv0, nn.Identity)
    bn, kernel = block.bn, block.conv3d.weight[..., 0, 0, 0]
    with torch.no_grad():
        levels = [x[0], block.conv1(x[1]), block.conv2(x[2])]
        mixed = []
        for level, times in zip(levels, (1, 2, 4), strict=True):
            large = level.repeat_interleave(times, 2).repeat_interleave(times, 3)
            y = torch.einsum("oc,bchw->bohw", kernel, large) + block.conv3d.bias.view(-1, 1, 1)
            y = F.batch_norm(y, bn.running_mean, bn.running_var, bn.weight, bn.bias, eps=bn.eps)
            mixed.append(F.leaky_relu(y, 0.1))
        torch.testing.assert_close(block(x), torch.stack(mixed).amax(0), rtol=1e-4, atol=1e-5)


def test_fold_and_epsilon_of_the_third_dimension() -> None:
    block = ScalSeq(CHANNELS, 8)
    set_batch_norm([block])
    assert (block.bn.eps, block.conv1.bn.eps) == (1e-5, 1e-3)
    block.eval().fuse()
    assert isinstance(block.bn, nn.Identity) and not block.conv3d.weight.requires_grad
    assert block.fuse() is block


def test_dynamic_upsampling_starts_as_bilinear() -> None:
    block = DynamicScalSeq(CHANNELS, 12)
    nn.init.zeros_(block.dysample2.offset.weight)
    x = tensor("x", (1, 12, 2, 3))
    want = F.interpolate(x, scale_factor=4, mode="bilinear", align_corners=False)
    torch.testing.assert_close(block.dysample2(x), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(6, 5), (1, 4)])
def test_attention(size: tuple[int, int]) -> None:
    check_block(asf_attention_model(32), [(32, *size)] * 2, (32, *size))
    block, x = fill_(asf_attention_model(32)).eval(), inputs_of([(32, *size)] * 2)
    assert block.channel_att.conv.kernel_size == (3,)
    with torch.no_grad():
        w = block.channel_att.conv.weight.flatten()
        mean = F.pad(x[0].mean((2, 3)), (1, 1))
        gate = torch.sigmoid(sum(w[i] * mean[:, i : i + 32] for i in range(3)))
        total = x[0] * gate[..., None, None] + x[1]
        local, y = block.local_att, torch.ones(2, 32, *size)
        for axis, conv in ((3, local.F_h), (2, local.F_w)):
            pooled = F.relu(local.bn(local.conv_1x1(total.mean(axis, keepdim=True))))
            y = y * conv(pooled).sigmoid()
        torch.testing.assert_close(block(x), total * y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("c", "k"), [(16, 3), (32, 3), (64, 3), (128, 5), (256, 5), (512, 5)])
def test_kernel_over_channels(c: int, k: int) -> None:
    assert asf_attention_model(c).channel_att.conv.kernel_size == (k,)


def test_rows_counts_and_refusals() -> None:
    plan = plan_of("ScalSeq", [512], [128, 256, 512], width=0.5, max_channels=256)
    assert (plan.args, plan.out_channels) == (([128, 256, 512], 256), 256)
    assert parameters_of("ScalSeq", [256], [128, 256, 512]) == 297_216
    assert parameters_of("DynamicScalSeq", [256], [128, 256, 512]) == 338_336
    assert plan_of("asf_attention_model", [], [64, 32]).args == (32,)
    refused: list[tuple[Any, str]] = [
        (lambda: ScalSeq([8, 8], 8), "three inputs"),
        (lambda: plan_of("ScalSeq", [64], [8, 8]), "the row has 2"),
        (lambda: plan_of("ScalSeq", [0], [8, 8, 8]), "at least 1"),
        (lambda: asf_attention_model(8), "reduced by 16"),
    ]
    for make, message in refused:
        with pytest.raises((ConfigError, ValueError), match=message):
            make()
