"""StarNet's block, which multiplies two projections (CVPR 2024, arXiv 2403.19967), in the form of the forks.

Shapes: B batch, C channels, H x W map.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import stochastic_depth

from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.modules.convolutions.pki import CAA
from ultralytics.nn.modules.csp import Member, ResidualC2f
from ultralytics.nn.registry import channels_first, register, scaled_repeat


@register(channels_first)
class Star_Block(nn.Module):
    """x + depth-wise 7x7 of a projection of ReLU6(f1 u) * f2 u, u a depth-wise 7x7 of x.

    `attention` (a function of the inner width dim * mlp_ratio) returns a gate for the product. In training the branch
    is dropped for a fraction `drop_path` of the images. YAML `[mlp_ratio, drop_path]`.
    """

    def __init__(self, dim: int, mlp_ratio: float = 3, drop_path: float = 0.0, attention: Member | None = None) -> None:
        super().__init__()
        hidden = int(dim * mlp_ratio)
        self.drop = drop_path
        self.dwconv = Conv(dim, dim, 7, g=dim, act=False)
        self.f1 = nn.Conv2d(dim, hidden, 1)
        self.f2 = nn.Conv2d(dim, hidden, 1)
        self.g = Conv(hidden, dim, 1, act=False)
        self.dwconv2 = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.attention = None if attention is None else attention(hidden)

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) -> the same shape."""
        u = self.dwconv(x)
        product = F.relu6(self.f1(u)) * self.f2(u)
        if self.attention is not None:
            product = product * self.attention(product)
        return x + stochastic_depth(self.dwconv2(self.g(product)), self.drop, "row", self.training)

    def start_as_identity(self) -> bool:
        """Set the last convolution to zero, so that the block passes its input on."""
        nn.init.zeros_(self.dwconv2.weight)
        if self.dwconv2.bias is not None:
            nn.init.zeros_(self.dwconv2.bias)
        return True


@register(channels_first)
class Star_Block_CAA(Star_Block):
    """Star_Block with context anchor attention on the product. YAML `[mlp_ratio]`."""

    def __init__(self, dim: int, mlp_ratio: float = 3) -> None:
        super().__init__(dim, mlp_ratio, attention=CAA)


@register(scaled_repeat)
class C2f_Star(ResidualC2f):
    """C2f of StarNet blocks. YAML `[c2]`."""

    @staticmethod
    def member(c: int) -> nn.Module:
        """Return one block of width c."""
        return Star_Block(c)


@register(scaled_repeat)
class C2f_Star_CAA(ResidualC2f):
    """C2f of StarNet blocks with context anchor attention. YAML `[c2]`."""

    @staticmethod
    def member(c: int) -> nn.Module:
        """Return one block of width c."""
        return Star_Block_CAA(c)
