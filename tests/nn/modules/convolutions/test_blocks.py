"""What every published convolution block has in common: shapes, batches, folding, gradients, precision, odd maps."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from tests.golden.blocks.fill import fill_, tensor
from ultralytics.nn.modules import (
    DBBC3,
    DRBC3,
    DWR,
    DWRC3,
    RGCSPELAN,
    C2f_DBB,
    C2f_DCNv2,
    C2f_DEConv,
    C2f_DRB,
    C2f_DWR,
    C2f_DySnakeConv,
    C2f_Faster,
    C2f_Faster_CGLU,
    C2f_iRMB,
    C2f_PKIModule,
    C2f_Star,
    C2f_Star_CAA,
    C2f_UniRepLKNetBlock,
    ConvolutionalGLU,
    DCNv2,
    DEConv,
    DilatedReparamBlock,
    DiverseBranchBlock,
    DySnakeConv,
    Faster_Block,
    Faster_Block_CGLU,
    HyperComputeModule,
    MANet,
    Partial_conv3,
    PKIModule,
    RFAConv,
    RFCAConv,
    RFCBAMConv,
    Star_Block,
    Star_Block_CAA,
    UniRepLKNetBlock,
    WTConv2d,
    iRMB,
)
from ultralytics.nn.modules.conv import fuse_children

BLOCKS: dict[str, tuple[Callable[[], nn.Module], int, int]] = {  # block of 16 channels, its channels, its stride
    "rfa": (lambda: RFAConv(16, 24, 3, 2), 24, 2),
    "rfca": (lambda: RFCAConv(16, 24, 5), 24, 1),
    "rfcbam": (lambda: RFCBAMConv(16, 24, 3, 2), 24, 2),
    "dcn": (lambda: DCNv2(16, 12, 3, 2), 12, 2),
    "dcn_groups": (lambda: DCNv2(16, 12, 3, 1, g=2, d=2, deformable_groups=4), 12, 1),
    "c2f_dcn": (lambda: C2f_DCNv2(16, 24, 2, True), 24, 1),
    "snake": (lambda: DySnakeConv(16, 8, 5), 24, 1),
    "c2f_snake": (lambda: C2f_DySnakeConv(16, 24), 24, 1),
    "wavelet": (lambda: WTConv2d(16, 16, 3, 2, wt_levels=3), 16, 2),
    "dbb": (lambda: DiverseBranchBlock(16, 12, 3, 2), 12, 2),
    "dbb_groups": (lambda: DiverseBranchBlock(16, 12, 5, groups=2, internal_channels_1x1_3x3=8), 12, 1),
    "dbb_depthwise": (lambda: DiverseBranchBlock(16, 16, 3, groups=16), 16, 1),
    "c2f_dbb": (lambda: C2f_DBB(16, 24, 1, True), 24, 1),
    "dbbc3": (lambda: DBBC3(16, 24, 2, 0.5), 24, 1),
    "drb": (lambda: DilatedReparamBlock(16, 17), 16, 1),
    "c2f_drb": (lambda: C2f_DRB(16, 24), 24, 1),
    "drbc3": (lambda: DRBC3(16, 24, 2), 24, 1),
    "unirep": (lambda: UniRepLKNetBlock(16, 7), 16, 1),
    "unirep_small": (lambda: UniRepLKNetBlock(16, 5), 16, 1),
    "c2f_unirep": (lambda: C2f_UniRepLKNetBlock(16, 24, 2, 9), 24, 1),
    "pconv": (lambda: Partial_conv3(16, 3), 16, 1),
    "faster": (lambda: Faster_Block(16, 24, drop_path=0), 24, 1),
    "faster_cglu": (lambda: Faster_Block_CGLU(16, 16), 16, 1),
    "c2f_faster": (lambda: C2f_Faster(16, 24, 2), 24, 1),
    "c2f_faster_cglu": (lambda: C2f_Faster_CGLU(16, 24), 24, 1),
    "cglu": (lambda: ConvolutionalGLU(16, 40, shortcut=False), 16, 1),
    "dwr": (lambda: DWR(16), 16, 1),
    "c2f_dwr": (lambda: C2f_DWR(16, 24), 24, 1),
    "dwrc3": (lambda: DWRC3(16, 24, 2, 2, 0.5, nn.ReLU()), 24, 2),
    "irmb": (lambda: iRMB(16, 24), 24, 1),
    "irmb_whole": (lambda: iRMB(32, 32, exp_ratio=2, window_size=3), 32, 1),
    "c2f_irmb": (lambda: C2f_iRMB(16, 32), 32, 1),
    "star": (lambda: Star_Block(16), 16, 1),
    "star_caa": (lambda: Star_Block_CAA(16), 16, 1),
    "c2f_star": (lambda: C2f_Star(16, 24), 24, 1),
    "c2f_star_caa": (lambda: C2f_Star_CAA(16, 24), 24, 1),
    "pki": (lambda: PKIModule(16, 24, (3, 7), 0.5, False), 24, 1),
    "c2f_pki": (lambda: C2f_PKIModule(16, 24, 2), 24, 1),
    "deconv": (lambda: DEConv(16), 16, 1),
    "c2f_deconv": (lambda: C2f_DEConv(16, 24), 24, 1),
    "manet": (lambda: MANet(16, 24, 2, True, 2, 5), 24, 1),
    "hyper": (lambda: HyperComputeModule(16, 16, 4.8), 16, 1),
    "rgcspelan": (lambda: RGCSPELAN(16, 24, 3), 24, 1),
}
UNUSED = {"snake", "c2f_snake"}  # each snake holds both kernels, as published, and uses one


def _input(block: str, *size: int) -> torch.Tensor:
    return tensor("x", (2, 32 if block == "irmb_whole" else 16, *size))


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("size", [(9, 7), (6, 14)])
def test_shape_batch_and_folding(name: str, size: tuple[int, int]) -> None:
    make, channels, stride = BLOCKS[name]
    block = fill_(make()).eval()
    x = _input(name, *size)
    with torch.no_grad():
        want = block(x)
        assert want.shape == (2, channels, -(-size[0] // stride), -(-size[1] // stride)) and want.isfinite().all()
        torch.testing.assert_close(torch.cat([block(image[None]) for image in x]), want, rtol=1e-4, atol=1e-4)
        net = fuse_children(nn.Sequential(block))
        torch.testing.assert_close(net(x), want, rtol=1e-4, atol=1e-4)
        keys = set(net.state_dict())
        torch.testing.assert_close(fuse_children(net)(x), want, rtol=1e-4, atol=1e-4)
    assert set(net.state_dict()) == keys  # a second time changes nothing
    assert [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)] == []


@pytest.mark.parametrize("name", BLOCKS)
def test_gradient_reaches_every_parameter(name: str) -> None:
    block = fill_(BLOCKS[name][0]()).train()
    torch.manual_seed(0)
    block(_input(name, 9, 7)).square().sum().backward()
    still = [n for n, p in block.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert still == [] or (name in UNUSED and all(".dsc_conv_" in n for n in still))


@pytest.mark.parametrize("name", BLOCKS)
def test_dry_run_bfloat16_and_empty_batch(name: str) -> None:
    make, channels, _ = BLOCKS[name]
    x = _input(name, 9, 7)
    with torch.device("meta"):
        dry = make().eval()(x.to("meta"))
    block = fill_(make()).eval()
    with torch.no_grad():
        want = block(x)
        with torch.autocast("cpu", torch.bfloat16):
            low = block(x).float()
        empty = block(x[:0])
    assert dry.shape == want.shape and dry.shape[1] == channels
    assert empty.shape == (0, *want.shape[1:])
    assert (low - want).abs().mean() < 0.05 * want.abs().mean() + 1e-3


def test_folding_is_compared_with_something() -> None:
    """The folded blocks above would differ if a batch norm were dropped."""
    block = fill_(DEConv(16)).eval()
    x = _input("deconv", 9, 7)
    with torch.no_grad():
        want = block(x)
        block.bn = nn.Identity()
        assert not torch.allclose(block(x), want, atol=1e-2)
