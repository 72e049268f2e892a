"""Backbone blocks: PP-HGNetV2, ResNet, ResNet-D, our CCRI; RepC3; re-exports the cross-stage family and `TorchVision`.

Shapes: B batch, C channels, H x W map. `n` is a number of repeats, `s` a stride, `e` an expansion.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn.modules.backbones.torchvision_rows import TorchVision
from ultralytics.nn.modules.conv import Conv, LightConv, RepConv
from ultralytics.nn.modules.csp import (
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
    Member,
    PSABlock,
    RepC4,
    SCDown,
)
from ultralytics.nn.modules.detr.hgnetv2 import AffineConv, AffineLightConv
from ultralytics.nn.modules.fusion.elan import RepNCSPELAN4
from ultralytics.nn.modules.resampling.downsampling import AConv, ADown
from ultralytics.nn.modules.utils import is_capturing_graph
from ultralytics.nn.modules.yolo import (
    C3TR,
    CIB,
    DFL,
    ELAN1,
    SPPELAN,
    A2C2f,
    AAttn,
    ABlock,
    BNContrastiveHead,
    BottleneckCSP,
    C2fAttn,
    C2fCIB,
    C2fPSA,
    C3f,
    C3Ghost,
    C3k,
    C3k2,
    C3x,
    ContrastiveHead,
    GhostBottleneck,
    ImagePoolingAttn,
    MaxSigmoidAttnBlock,
    Proto,
    Proto26,
    RepBottleneck,
    RepCSP,
    RepVGGDW,
)
from ultralytics.nn.registry import Plan, RowContext, register, scaled_conv, scaled_repeat
from ultralytics.utils.ops import make_divisible
from ultralytics.utils.torch_tools.reproducible import interpolate_bilinear

__all__ = (
    "C1",
    "C2",
    "C2PSA",
    "C3",
    "C3TR",
    "CCRI",
    "CIB",
    "DFL",
    "ELAN1",
    "PSA",
    "SPP",
    "SPPELAN",
    "SPPF",
    "A2C2f",
    "AAttn",
    "ABlock",
    "AConv",
    "ADown",
    "Attention",
    "BNContrastiveHead",
    "Bottleneck",
    "BottleneckCSP",
    "C2f",
    "C2fAttn",
    "C2fCIB",
    "C2fPSA",
    "C2fSHSA",
    "C3Ghost",
    "C3f",
    "C3k",
    "C3k2",
    "C3x",
    "CBFuse",
    "CBLinear",
    "ContrastiveHead",
    "GhostBottleneck",
    "HGBlock",
    "HGStem",
    "ImagePoolingAttn",
    "MaxSigmoidAttnBlock",
    "PSABlock",
    "Proto",
    "Proto26",
    "RepBottleneck",
    "RepC3",
    "RepC4",
    "RepCSP",
    "RepNCSPELAN4",
    "RepVGGDW",
    "ResNetBlock",
    "ResNetDBlock",
    "ResNetDLayer",
    "ResNetDStem",
    "ResNetLayer",
    "ResizeLike",
    "SCDown",
    "TorchVision",
)


# ------------------------------------------------------------------------------------------------------- PP-HGNetV2
def _hgstem_rule(row: RowContext) -> Plan:
    """`[cm, c2, lab]` -> (c1, cm, c2, lab), not scaled."""
    return Plan((row.c1, *row.args), row.args[1])


@register(_hgstem_rule, row="cm, c2, lab")
class HGStem(nn.Module):
    """Stem of PP-HGNetV2, stride 4: a 3x3, then two 2x2 beside a maximum pool, then 3x3 and 1x1; all with ReLU.

    `lab` puts a learnable affine step after each activation, as the small backbones of D-FINE have it.
    """

    def __init__(self, c1: int, cm: int, c2: int, lab: bool = False) -> None:
        super().__init__()
        conv = AffineConv if lab else Conv
        self.stem1 = conv(c1, cm, 3, 2, act=nn.ReLU())
        self.stem2a = conv(cm, cm // 2, 2, 1, 0, act=nn.ReLU())
        self.stem2b = conv(cm // 2, cm, 2, 1, 0, act=nn.ReLU())
        self.stem3 = conv(cm * 2, cm, 3, 2, act=nn.ReLU())
        self.stem4 = conv(cm, c2, 1, 1, act=nn.ReLU())
        self.pool = nn.MaxPool2d(2, 1, 0, ceil_mode=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H/4, W/4)."""
        x = F.pad(self.stem1(x), [0, 1, 0, 1])  # an even kernel at stride 1: one row and column on the far sides
        y = self.stem2b(F.pad(self.stem2a(x), [0, 1, 0, 1]))
        return self.stem4(self.stem3(torch.cat((self._pooled(x), y), 1)))

    def _pooled(self, x: Tensor) -> Tensor:
        """The pool; on a CPU without a gradient as two maxima in a third of the time."""
        if not x.is_cpu or x.requires_grad or is_capturing_graph():
            pooled: Tensor = self.pool(x)
            return pooled
        rows = torch.maximum(x[:, :, 1:], x[:, :, :-1])
        return torch.maximum(rows[..., 1:], rows[..., :-1])


def _hgblock_rule(row: RowContext) -> Plan:
    """`[cm, c2, k, lightconv, shortcut, act, lab]` -> (c1, cm, c2, k, repeats, ...), not scaled."""
    cm, c2, k, *rest = row.args if len(row.args) > 2 else (*row.args, 3)
    return Plan((row.c1, cm, c2, k, row.repeats, *rest), c2, repeats_inside=True)


@register(_hgblock_rule, row="cm, c2, k, lightconv, shortcut, act, lab")
class HGBlock(nn.Module):
    """Aggregation block of PP-HGNetV2: n chained convolutions, all joined with the input, squeezed, then excited to c2.

    Plus the input when `shortcut` and c1 = c2. One activation object (ReLU) is shared by all parts. `lab` puts a
    learnable affine step after each activation.
    """

    def __init__(
        self,
        c1: int,
        cm: int,
        c2: int,
        k: int = 3,
        n: int = 6,
        lightconv: bool = False,
        shortcut: bool = False,
        act: nn.Module | None = None,
        lab: bool = False,
    ) -> None:
        super().__init__()
        act = nn.ReLU() if act is None else act
        conv, light = (AffineConv, AffineLightConv) if lab else (Conv, LightConv)
        block = light if lightconv else conv
        self.m = nn.ModuleList(block(c1 if i == 0 else cm, cm, k=k, act=act) for i in range(n))
        self.sc = conv(c1 + n * cm, c2 // 2, 1, 1, act=act)
        self.ec = conv(c2 // 2, c2, 1, 1, act=act)
        self.add = shortcut and c1 == c2

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H, W)."""
        y = [x]
        for m in self.m:
            y.append(m(y[-1]))
        z = self.ec(self.sc(torch.cat(y, 1)))
        return z + x if self.add else z


@register(scaled_repeat)
class CCRI(HGBlock):
    """HGBlock with its hidden width derived: c2 * e, to a multiple of 8. YAML `[c2, k, lightconv, shortcut]`.

    Our own definition: the name circulates without a public one; no weight compatibility is claimed.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        n: int = 1,
        k: int = 3,
        lightconv: bool = False,
        shortcut: bool = False,
        e: float = 0.25,
    ) -> None:
        super().__init__(c1, make_divisible(c2 * e, 8), c2, k, n, lightconv, shortcut)


# ----------------------------------------------------------------------------------------------------------- ResNet
class ResNetBlock(nn.Module):
    """Bottleneck of a ResNet, as upstream: SiLU inside, ReLU after the sum, so not torchvision's."""

    def __init__(self, c1: int, c2: int, s: int = 1, e: int = 4) -> None:
        super().__init__()
        c3 = e * c2
        self.cv1 = Conv(c1, c2, 1, 1)
        self.cv2 = Conv(c2, c2, 3, s, 1)
        self.cv3 = Conv(c2, c3, 1, act=False)
        same = s == 1 and c1 == c3
        self.shortcut = nn.Identity() if same else nn.Sequential(Conv(c1, c3, 1, s, act=False))

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, e * c2, H/s, W/s)."""
        return F.relu(self.cv3(self.cv2(self.cv1(x))) + self.shortcut(x))


def _resnet_layer_rule(row: RowContext) -> Plan:
    """`[c1, c2, s, is_first, n, e]`: c1 is upstream's grammar; the stem takes any input instead. c2 is not scaled."""
    c1, c2, *rest = row.args
    is_first = len(rest) > 1 and rest[1]
    if c1 != row.c1 and not is_first:
        raise ValueError(f"the row says {c1} input channels, but its input has {row.c1}")
    return Plan((row.c1, c2, *rest), c2 if is_first else c2 * (rest[3] if len(rest) > 3 else 4))


@register(_resnet_layer_rule, row="c1, c2, s, is_first, n, e")
class ResNetLayer(nn.Module):
    """A stage of n ResNet bottlenecks, the first with stride s; or with `is_first` the 7x7 stem and pool, stride 4."""

    def __init__(self, c1: int, c2: int, s: int = 1, is_first: bool = False, n: int = 1, e: int = 4) -> None:
        super().__init__()
        self.is_first = is_first
        if is_first:
            stem = (Conv(c1, c2, 7, 2, 3), nn.MaxPool2d(3, 2, 1))
            self.layer = nn.Sequential(*stem)
        else:
            rest = (ResNetBlock(e * c2, c2, 1, e) for _ in range(n - 1))
            self.layer = nn.Sequential(ResNetBlock(c1, c2, s, e), *rest)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, e * c2, H/s, W/s), or (B, c2, H/4, W/4) for the stem."""
        return self.layer(x)


# --------------------------------------------------------------------------------------------------------- ResNet-D
@register(scaled_conv)
class ResNetDStem(nn.Module):
    """Stem of ResNet-D, stride 4: three 3x3 with ReLU in place of the 7x7, then a maximum pool (arXiv 1812.01187)."""

    def __init__(self, c1: int, c2: int) -> None:
        super().__init__()
        half = c2 // 2
        self.conv1 = Conv(c1, half, 3, 2, act=nn.ReLU())
        self.conv2 = Conv(half, half, 3, 1, act=nn.ReLU())
        self.conv3 = Conv(half, c2, 3, 1, act=nn.ReLU())
        self.pool = nn.MaxPool2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H/4, W/4)."""
        return self.pool(self.conv3(self.conv2(self.conv1(x))))


class ResNetDBlock(nn.Module):
    """Basic block (two 3x3, ReLU) of ResNet-18 and -34 in the D variant: a strided shortcut averages before its 1x1."""

    def __init__(self, c1: int, c2: int, s: int = 1, project: bool = False) -> None:
        super().__init__()
        self.cv1 = Conv(c1, c2, 3, s, act=nn.ReLU())
        self.cv2 = Conv(c2, c2, 3, 1, act=False)
        self.pool = nn.AvgPool2d(s, s, ceil_mode=True, count_include_pad=False) if s > 1 else nn.Identity()
        self.shortcut = Conv(c1, c2, 1, act=False) if project or c1 != c2 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, ceil(H/s), ceil(W/s))."""
        return F.relu(self.cv2(self.cv1(x)) + self.shortcut(self.pool(x)))


class ResNetDBottleneck(nn.Module):
    """Bottleneck (1x1, 3x3 with the stride, 1x1; ReLU) of ResNet-50 and deeper in the D variant; c2 is its output."""

    def __init__(self, c1: int, c2: int, s: int = 1, project: bool = False) -> None:
        super().__init__()
        hidden = c2 // 4
        self.cv1 = Conv(c1, hidden, 1, act=nn.ReLU())
        self.cv2 = Conv(hidden, hidden, 3, s, act=nn.ReLU())
        self.cv3 = Conv(hidden, c2, 1, act=False)
        self.pool = nn.AvgPool2d(s, s, ceil_mode=True, count_include_pad=False) if s > 1 else nn.Identity()
        self.shortcut = Conv(c1, c2, 1, act=False) if project or c1 != c2 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, ceil(H/s), ceil(W/s))."""
        return F.relu(self.cv3(self.cv2(self.cv1(x))) + self.shortcut(self.pool(x)))


@register(scaled_repeat)
class ResNetDLayer(nn.Module):
    """A stage of n ResNet-D blocks, the first with stride s and a projected shortcut. YAML `[c2, s, bottleneck]`."""

    def __init__(self, c1: int, c2: int, n: int = 2, s: int = 1, bottleneck: bool = False) -> None:
        super().__init__()
        block = ResNetDBottleneck if bottleneck else ResNetDBlock
        self.layer = nn.Sequential(block(c1, c2, s, True), *(block(c2, c2) for _ in range(n - 1)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, ceil(H/s), ceil(W/s))."""
        return self.layer(x)


# ----------------------------------------------------------------------------------------------------- all the rest
@register(scaled_repeat)
class RepC3(nn.Module):
    """RT-DETR's fusion block: n RepConvs on one projection, plus a second projection (arXiv 2304.08069, fig. 4).

    `member` replaces the RepConvs: a function of the inner width c2 * e that returns a block of that width.
    """

    late_upsample: ClassVar[tuple[str, ...]] = ("cv1", "cv2")

    def __init__(self, c1: int, c2: int, n: int = 3, e: float = 1.0, member: Member | None = None) -> None:
        super().__init__()
        hidden = int(c2 * e)
        self.cv1 = Conv(c1, hidden, 1, 1)
        self.cv2 = Conv(c1, hidden, 1, 1)
        make = member or (lambda c: RepConv(c, c))
        self.m = nn.Sequential(*(make(hidden) for _ in range(n)))
        self.cv3 = Conv(hidden, c2, 1, 1) if hidden != c2 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H, W)."""
        return self.cv3(self.m(self.cv1(x)) + self.cv2(x))


@register(lambda row: Plan(row.args, row.c1), multi_input=True, row="mode")
class ResizeLike(nn.Module):
    """Resize the first input to the height and width of the second; for maps whose sizes are not an exact ratio."""

    def __init__(self, mode: str = "nearest") -> None:
        super().__init__()
        self.mode = mode

    def forward(self, x: list[Tensor]) -> Tensor:
        """[(B, C, H, W), (B, C', H', W')] -> (B, C, H', W')."""
        source, like = x
        if self.mode == "bilinear":
            return interpolate_bilinear(source, like.shape[2:])
        return F.interpolate(source, size=like.shape[2:], mode=self.mode)
