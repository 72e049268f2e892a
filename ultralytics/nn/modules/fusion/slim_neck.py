"""Slim-neck: GSConv and the cross-stage blocks of it (arXiv 2206.02424), with SiLU, as circulated.

Official weights were trained with Mish and give other numbers. Shapes: B batch, C channels, H x W
map; every map is (B, C, H, W). `n` is a number of repeats, `e` the hidden width as a part of c2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ultralytics.nn.modules.conv import Activation, Conv, DWConv
from ultralytics.nn.registry import register, scaled_conv, scaled_repeat
from ultralytics.utils.errors import ConfigError


@register(scaled_conv)
class GSConv(nn.Module):
    """Half of the outputs by a Conv, the others by a depth-wise 5x5 of the first, shuffled (arXiv 2206.02424).

    `act` has no effect, as circulated: the activation is always the default. ConfigError when c2 is odd.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        k: int = 1,
        s: int = 1,
        p: int | None = None,
        g: int = 1,
        d: int = 1,
        act: Activation = True,
    ) -> None:
        super().__init__()
        if c2 % 2:
            raise ConfigError(f"GSConv makes its outputs in two halves: c2={c2} must be even")
        half = c2 // 2
        self.cv1 = Conv(c1, half, k, s, p, g, d)
        self.cv2 = Conv(half, half, 5, 1, g=half)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H', W'); even channels of the joined halves come first, then odd ones."""
        y = self.cv1(x)
        z = torch.cat((y, self.cv2(y)), 1)
        return torch.cat((z[:, 0::2], z[:, 1::2]), 1)


class GSBottleneck(nn.Module):
    """Two GSConvs (1x1, 3x3) plus a linear 1x1 Conv of the input."""

    def __init__(self, c1: int, c2: int, e: float = 1.0) -> None:
        super().__init__()
        hidden = int(c2 * e)
        self.conv_lighting = nn.Sequential(GSConv(c1, hidden, 1), GSConv(hidden, c2, 3))
        self.shortcut = Conv(c1, c2, 1, act=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H, W)."""
        return self.conv_lighting(x) + self.shortcut(x)


class GSBottleneckC(GSBottleneck):
    """The cheaper form: half the hidden channels, a depth-wise 1x1 as the shortcut."""

    def __init__(self, c1: int, c2: int) -> None:
        super().__init__(c1, c2, 0.5)
        self.shortcut = DWConv(c1, c2, 1, act=False)


@register(scaled_repeat)
class VoVGSCSP(nn.Module):
    """Cross-stage block with one projection through n GSConv bottlenecks, one as it is (arXiv 2206.02424).

    YAML `[c2]`. `shortcut` and `g` have no effect; `res` is not used either, and is kept for weights that hold it.
    """

    def __init__(self, c1: int, c2: int, n: int = 1, shortcut: bool = True, g: int = 1, e: float = 0.5) -> None:
        super().__init__()
        hidden = int(c2 * e)
        self.cv1 = Conv(c1, hidden, 1, 1)
        self.cv2 = Conv(c1, hidden, 1, 1)
        self.gsb = self._bottlenecks(hidden, n)
        self.res = Conv(hidden, hidden, 3, 1)
        self.cv3 = Conv(2 * hidden, c2, 1)

    def _bottlenecks(self, hidden: int, n: int) -> nn.Module:
        """The chain that one projection goes through."""
        return nn.Sequential(*(GSBottleneck(hidden, hidden) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H, W)."""
        return self.cv3(torch.cat((self.cv2(x), self.gsb(self.cv1(x))), 1))


@register(scaled_repeat)
class VoVGSCSPC(VoVGSCSP):
    """VoVGSCSP with one bottleneck of the cheaper form; the repeats have no effect."""

    def _bottlenecks(self, hidden: int, n: int) -> nn.Module:
        return GSBottleneckC(hidden, hidden)
