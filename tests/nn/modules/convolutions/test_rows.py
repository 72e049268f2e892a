"""Rows of model YAMLs: channels, repeats, what is refused and with which remedy; members given from outside."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from tests.golden.blocks.fill import fill_, tensor
from ultralytics.nn.modules import (
    C3,
    DRBC3,
    DWR,
    DWRC3,
    RGCSPELAN,
    C2f,
    C2f_DWR,
    C2f_Faster,
    C2f_UniRepLKNetBlock,
    ConvolutionalGLU,
    DCNv2,
    DilatedReparamBlock,
    DiverseBranchBlock,
    DSConv,
    Faster_Block,
    Faster_Block_EMA,
    HyperComputeModule,
    MANet,
    Partial_conv3,
    PKIModule,
    RepC3,
    RFAConv,
    SqueezeExcite,
    Star_Block,
    UniRepLKNetBlock,
    WTConv2d,
    iRMB,
)
from ultralytics.nn.modules.csp import registered_block
from ultralytics.nn.registry import REGISTRY, RowContext, Scale
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils.errors import ConfigError, ModelYAMLError
from ultralytics.utils.log import LOGGER


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    LOGGER.addHandler(caplog.handler)
    with caplog.at_level(logging.WARNING):
        yield caplog
    LOGGER.removeHandler(caplog.handler)


@pytest.mark.parametrize(
    ("name", "args", "plan", "out", "inside"),
    [  # 32 channels come in, 2 repeats, width 0.5: 64 in the row are 32
        ("RFAConv", (64, 3, 2), (32, 32, 3, 2), 32, False),
        ("RFCAConv", (64,), (32, 32), 32, False),
        ("DCNv2", (64, 3), (32, 32, 3), 32, False),
        ("DySnakeConv", (64, 3), (32, 32, 3), 96, False),
        ("WTConv2d", (64,), (32, 32), 32, False),
        ("DiverseBranchBlock", (64, 3, 2), (32, 32, 3, 2), 32, False),
        ("HyperComputeModule", (64, 8), (32, 32, 8), 32, False),
        ("DilatedReparamBlock", (7,), (32, 7), 32, False),
        ("DWR", (), (32,), 32, False),
        ("Star_Block", (), (32,), 32, False),
        ("ConvolutionalGLU", (), (32,), 32, False),
        ("C2f_Faster", (64, True), (32, 32, 2, True), 32, True),
        ("C2f_PKIModule", (64, [3, 5]), (32, 32, 2, [3, 5]), 32, True),
        ("C2f_UniRepLKNetBlock", (64, 7, True), (32, 32, 2, 7, True), 32, True),
        ("DRBC3", (64, 0.5), (32, 32, 2, 0.5), 32, True),
        ("MANet", (64, True, 2, 3), (32, 32, 2, True, 2, 3), 32, True),
        ("RGCSPELAN", (64, 0.5), (32, 32, 2, 0.5), 32, True),
    ],
)
def test_channel_rules(name: str, args: tuple[Any, ...], plan: tuple[Any, ...], out: int, inside: bool) -> None:
    entry = REGISTRY.get(name)
    assert entry is not None and entry.rule is not None
    got = entry.rule(RowContext((32,), args, repeats=2, scale=Scale(1.0, 0.5)))
    assert (got.args, got.out_channels, got.repeats_inside) == (plan, out, inside)


REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: RFAConv(8, 8, 4), "kernel 4.*must be odd"),
    (lambda: DCNv2(8, 8, 3, g=3), "3 groups.*divisible"),
    (lambda: DSConv(8, 8, 0, 4), "kernel 4.*odd"),
    (lambda: DSConv(8, 6, 0, 3), "6 output channels.*multiple of 4"),
    (lambda: WTConv2d(8, 16), "keeps its channels.*write 8"),
    (lambda: WTConv2d(8, 8, wt_type="db2"), "db2.*write 'db1'"),
    (lambda: WTConv2d(8, 8, wt_levels=0), "wt_levels=0.*at least 1"),
    (lambda: DiverseBranchBlock(8, 8, 3, dilation=2), "dilation 2.*dilation 1"),
    (lambda: DiverseBranchBlock(8, 8, 4), "kernel 4.*odd kernel"),
    (lambda: DiverseBranchBlock(16, 8, 3, groups=8), "8 groups.*equal channels"),
    (lambda: DilatedReparamBlock(8, 3), "kernel 3.*one of 5, 7"),
    (lambda: UniRepLKNetBlock(8, 4), "kernel 4.*odd"),
    (lambda: Partial_conv3(8, 9), "n_div=9.*1 to 8"),
    (lambda: Partial_conv3(8, 4, "cat"), "forward='cat'.*split_cat"),
    (lambda: Faster_Block(8, 8, drop_path=1), "drop_path=1.*below 1"),
    (lambda: ConvolutionalGLU(8, 1), "hidden=1.*at least 2"),
    (lambda: DWR(9), "9 channels.*even"),
    (lambda: DWRC3(8, 8, 1, 3), "stride 3.*1 or 2"),
    (lambda: iRMB(24, 24), "24 channels.*multiples of 16"),
    (lambda: iRMB(16, 16, window_size=0), "window_size=0.*at least 1"),
    (lambda: PKIModule(8, 8, (3, 4)), r"\[3, 4\].*odd"),
    (lambda: HyperComputeModule(8, 16, 4), "keeps its channels.*write 8"),
    (lambda: HyperComputeModule(8, 8, 0), "threshold=0.*above 0"),
    (lambda: RGCSPELAN(8, 2, 1, 0.5), "c2=2.*larger"),
    (lambda: C2f_DWR(16, 16, 1, True, 2), "g=2.*write 1"),
    (lambda: registered_block("Fastr_Block", 8, 8), "Fastr_Block.*Faster_Block"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED, ids=[m for _, m in REFUSED])
def test_refused_arguments(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_arguments_without_effect_are_reported(warnings: pytest.LogCaptureFixture) -> None:
    C2f_Faster(16, 16, 1, True)
    assert warnings.text == ""
    C2f_Faster(16, 16, 1, False)
    C2f_UniRepLKNetBlock(16, 16, 1, 7, False)
    assert warnings.text.count("shortcut=False has no effect") == 2
    block = DWRC3(16, 16, 1, 1, 1.0, "relu")
    assert "act='relu' has no effect" in warnings.text and "nn.ReLU()" in warnings.text
    assert isinstance(block.m[0].conv_1x1.act, nn.Identity)


def _model(*rows: list[Any]) -> RTDETRDetectionModel:
    head = [[[-3, -2, -1], 1, "RTDETRDecoder", ["nc", 16, 5, 2, 2, 1, 32]]]
    down = [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [32, 3, 2]], [-1, 1, "Conv", [32, 3, 2]]]
    tail = [[-1, 1, "Conv", [32, 3, 2]], [-1, 1, "Conv", [32, 3, 2]]]
    cfg = {"nc": 3, "backbone": [*down, *rows], "head": [*tail, *head]}
    return RTDETRDetectionModel(cfg, verbose=False)


@pytest.mark.parametrize(
    "row",
    [
        ["C2f_Faster", [32]],
        ["C2f_DCNv2", [32, True]],
        ["C2f_DySnakeConv", [32]],
        ["C2f_iRMB", [32]],
        ["C2f_Star_CAA", [32]],
        ["C2f_PKIModule", [32, [3, 5, 7, 9, 11], 1.0, True, 11, True]],
        ["DBBC3", [32, 0.5]],
        ["DilatedReparamBlock", [7]],
        ["WTConv2d", [32]],
        ["MANet", [32, True, 2, 3]],
        ["HyperComputeModule", [32, 6]],
        ["RFAConv", [32, 3, 1]],
    ],
    ids=lambda row: row[0],
)
def test_rows_build_run_and_fold(row: list[Any]) -> None:
    model = _model([-1, 2, *row]).eval()
    x = tensor("image", (1, 3, 64, 96), "image")
    with torch.no_grad():
        want = model(x)[0]
        model.fuse(verbose=False)
        torch.testing.assert_close(model(x)[0], want, rtol=1e-3, atol=1e-3)
    assert want.isfinite().all() and not [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (["WTConv2d", [64]], "keeps its channels: the input has 32, the row asks for 64; write 32"),
        (["HyperComputeModule", [32]], "threshold is missing"),
        (["C2f_iRMB", [40]], "20 channels.*multiples of 16"),
        (["C2f_Faster", [32, True, 4]], "g=4.*write 1"),
    ],
)
def test_wrong_rows_name_the_layer_and_the_remedy(row: list[Any], message: str) -> None:
    with pytest.raises(ModelYAMLError, match=f"(?s)layer 3.*{message}"):
        _model([-1, 1, *row])


def test_any_member_in_a_cross_stage_block() -> None:
    """C2f, C3 and RepC3 chain what a function of the width returns."""
    x = tensor("x", (2, 16, 6, 5))
    for block, width in (
        (C2f(16, 24, 2, member=DWR), 12),
        (C3(16, 24, 2, member=DWR), 12),
        (RepC3(16, 24, 2, 0.5, DWR), 12),
    ):
        assert [type(m) for m in block.m] == [DWR, DWR] and block.m[0].conv_3x3.conv.in_channels == width
        assert fill_(block).eval()(x).shape == (2, 24, 6, 5)
    named = fill_(C2f_DWR(16, 24, 2)).eval()
    same = C2f(16, 24, 2, member=DWR).eval()
    same.load_state_dict(named.state_dict())
    torch.testing.assert_close(same(x), named(x))


def test_mlp_and_attention_are_injected() -> None:
    gate = lambda c: SqueezeExcite(c, 4)  # noqa: E731
    block = fill_(Faster_Block(16, 16, mlp=DWR, attention=gate)).eval()
    x = tensor("x", (2, 16, 6, 5))
    with torch.no_grad():
        want = x + block.attention(block.mlp(block.spatial_mixing(x)))
        torch.testing.assert_close(block(x), want)
    assert isinstance(block.mlp, DWR) and isinstance(block.attention, SqueezeExcite)
    inner = fill_(iRMB(16, 16, attention=lambda c: nn.Conv2d(c, c, 1))).eval()
    assert inner(x).shape == x.shape and not hasattr(inner, "qk")


def test_a_missing_block_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(REGISTRY, "_entries", {k: v for k, v in REGISTRY._entries.items() if k != "EMA"})
    with pytest.raises(ConfigError, match="registered as 'EMA'"):
        Faster_Block_EMA(16, 16)


@pytest.mark.parametrize(
    "make",
    [
        lambda: DWR(16),
        lambda: Star_Block(16),
        lambda: iRMB(16, 16),
        lambda: Faster_Block(16, 16),
        lambda: ConvolutionalGLU(16),
    ],
)
def test_a_new_block_can_start_as_the_identity(make: Callable[[], Any]) -> None:
    block = fill_(make()).eval()
    x = tensor("x", (1, 16, 8, 7))
    with torch.no_grad():
        assert not torch.allclose(block(x), x, atol=1e-2)
        assert block.start_as_identity()
        torch.testing.assert_close(block(x), x)
    block.train()(x).square().sum().backward()  # and it can leave that place
    assert any(p.grad is not None and p.grad.any() for p in block.parameters())


def test_blocks_that_cannot_start_as_the_identity_say_so() -> None:
    assert not Faster_Block(16, 24).start_as_identity()
    assert not ConvolutionalGLU(16, shortcut=False).start_as_identity()
    assert not iRMB(16, 32).start_as_identity()
    assert not DWR(16, nn.ReLU()).start_as_identity()


def test_depth_of_named_members_counts() -> None:
    assert len(DRBC3(16, 16, 3).m) == 3 and len(MANet(16, 16, 3).m) == 3 and len(RGCSPELAN(16, 16, 3).m) == 2
