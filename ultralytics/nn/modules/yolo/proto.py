"""Mask prototypes of segmentation heads (YOLACT, arXiv 1904.02689, section 3.1).

Shapes: B batch, C channels, H x W map, K prototypes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn.modules.conv import Conv


class Proto(nn.Module):
    """3x3, a learnt upsampling by two, 3x3, and a 1x1 to c2 prototypes."""

    def __init__(self, c1: int, c_: int = 256, c2: int = 32) -> None:
        super().__init__()
        self.cv1 = Conv(c1, c_, 3)
        self.upsample = nn.ConvTranspose2d(c_, c_, 2, 2, 0, bias=True)
        self.cv2 = Conv(c_, c_, 3)
        self.cv3 = Conv(c_, c2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, 2H, 2W)."""
        return self.cv3(self.cv2(self.upsample(self.cv1(x))))


class Proto26(Proto):
    """Prototypes from all levels: coarser maps are projected, resized and added to the finest (YOLO26).

    `semseg` are class logits of the fused map, an auxiliary output in training.
    """

    def __init__(self, ch: Sequence[int], c_: int = 256, c2: int = 32, nc: int = 80) -> None:
        super().__init__(c_, c_, c2)
        first = ch[0]
        self.feat_refine = nn.ModuleList(Conv(c, first, 1) for c in ch[1:])
        self.feat_fuse = Conv(first, c_, 3)
        self.semseg = nn.Sequential(Conv(first, c_, 3), Conv(c_, c_, 3), nn.Conv2d(c_, nc, 1))

    def forward(self, x: Sequence[Tensor]) -> Tensor | tuple[Tensor, Tensor]:  # type: ignore[override]
        """[(B, C_i, H_i, W_i), ...] -> prototypes (B, c2, 2H, 2W); in training also class logits (B, nc, H, W)."""
        fused = x[0]
        for level, refine in zip(x[1:], self.feat_refine, strict=True):
            fused = fused + F.interpolate(refine(level), size=fused.shape[2:], mode="nearest")
        protos = super().forward(self.feat_fuse(fused))
        return (protos, self.semseg(fused)) if self.training else protos
