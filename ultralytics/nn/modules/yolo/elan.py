"""Aggregation blocks of YOLOv9 (GELAN, arXiv 2402.13616, section 4.2) beside RepNCSPELAN4, AConv and ADown.

Shapes: B batch, C channels, H x W map.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ultralytics.nn.modules.conv import Conv, RepConv
from ultralytics.nn.modules.csp import C3, Bottleneck, Kernels
from ultralytics.nn.registry import register, scaled_conv


@register(scaled_conv)
class RepBottleneck(Bottleneck):
    """Bottleneck whose first convolution is re-parameterisable."""

    def __init__(
        self, c1: int, c2: int, shortcut: bool = True, g: int = 1, k: Kernels = (3, 3), e: float = 0.5
    ) -> None:
        super().__init__(c1, c2, shortcut, g, k, e)
        hidden = int(c2 * e)
        self.cv1 = RepConv(c1, hidden, k[0], 1)  # type: ignore[assignment, arg-type]


@register
class RepCSP(C3):
    """C3 with re-parameterisable bottlenecks."""

    def __init__(self, c1: int, c2: int, n: int = 1, shortcut: bool = True, g: int = 1, e: float = 0.5) -> None:
        super().__init__(c1, c2, n, shortcut, g, e, member=lambda c: RepBottleneck(c, c, shortcut, g, e=1.0))


@register(scaled_conv)
class ELAN1(nn.Module):
    """Layer aggregation by two chained 3x3 convolutions on one half of a projection. YAML `[c2, c3, c4]`.

    c3 is the width of the projection, c4 that of each convolution; neither is scaled.
    """

    def __init__(self, c1: int, c2: int, c3: int, c4: int) -> None:
        super().__init__()
        self.c = c3 // 2
        self.cv1 = Conv(c1, c3, 1, 1)
        self.cv2 = Conv(c3 // 2, c4, 3, 1)
        self.cv3 = Conv(c4, c4, 3, 1)
        self.cv4 = Conv(c3 + 2 * c4, c2, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H, W)."""
        a, b = self.cv1(x).chunk(2, 1)
        y = self.cv2(b)
        return self.cv4(torch.cat((a, b, y, self.cv3(y)), 1))


@register(scaled_conv)
class SPPELAN(nn.Module):
    """Spatial pyramid pooling, aggregated: a projection and three chained maximum pools. YAML `[c2, c3, k]`."""

    def __init__(self, c1: int, c2: int, c3: int, k: int = 5) -> None:
        super().__init__()
        self.c = c3
        self.cv1 = Conv(c1, c3, 1, 1)
        self.cv2 = nn.MaxPool2d(k, 1, k // 2)
        self.cv3 = nn.MaxPool2d(k, 1, k // 2)
        self.cv4 = nn.MaxPool2d(k, 1, k // 2)
        self.cv5 = Conv(4 * c3, c2, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H, W)."""
        y = [self.cv1(x)]
        for pool in (self.cv2, self.cv3, self.cv4):
            y.append(pool(y[-1]))
        return self.cv5(torch.cat(y, 1))
