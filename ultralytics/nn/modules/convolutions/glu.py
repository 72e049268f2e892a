"""Convolutional gated linear unit (TransNeXt, CVPR 2024, arXiv 2311.17132, sec. 3.3).

Shapes: B batch, C channels, H x W map.
"""

from __future__ import annotations

from torch import Tensor, nn

from ultralytics.nn.registry import channels_first, register
from ultralytics.utils.errors import ConfigError


@register(channels_first)
class ConvolutionalGLU(nn.Module):
    """Half of a projection, through a 3x3 depth-wise convolution and GELU, gates the other half; projected back.

    The inner width is 2/3 of `hidden` (the channels unless given). With `shortcut`, as in the forks, the input is
    added; the official block has no inner shortcut, and linear layers on tokens in place of the 1x1 convolutions.
    YAML `[hidden, shortcut]`.
    """

    def __init__(self, c1: int, hidden: int | None = None, shortcut: bool = True) -> None:
        super().__init__()
        inner = int(2 * (c1 if hidden is None else hidden) / 3)
        if inner < 1:
            raise ConfigError(f"ConvolutionalGLU: hidden={hidden} leaves no channel inside; it must be at least 2")
        self.fc1 = nn.Conv2d(c1, 2 * inner, 1)
        self.dwconv = nn.Sequential(nn.Conv2d(inner, inner, 3, padding=1, groups=inner), nn.GELU())
        self.fc2 = nn.Conv2d(inner, c1, 1)
        self.add = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> the same shape."""
        gate, value = self.fc1(x).chunk(2, 1)
        y: Tensor = self.fc2(self.dwconv(gate) * value)
        return x + y if self.add else y

    def start_as_identity(self) -> bool:
        """With the shortcut, set the last convolution to zero, so that the block passes its input on; say whether."""
        if self.add:
            nn.init.zeros_(self.fc2.weight)
            if self.fc2.bias is not None:
                nn.init.zeros_(self.fc2.bias)
        return self.add
