"""Partial convolution and the FasterNet block (CVPR 2023, arXiv 2303.03667), with other attention or another MLP.

Shapes: B batch, C channels, H x W map.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.ops import stochastic_depth

from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.modules.convolutions.glu import ConvolutionalGLU
from ultralytics.nn.modules.csp import Member, ResidualC2f, registered_block
from ultralytics.nn.registry import channels_first, register, scaled_conv, scaled_repeat
from ultralytics.utils.errors import ConfigError


@register(channels_first)
class Partial_conv3(nn.Module):
    """3x3 convolution on the first C // n_div channels; the others pass by. YAML `[n_div]`.

    `forward` is a word of the official code, `split_cat` or `slicing`; both give the same numbers.
    """

    def __init__(self, dim: int, n_div: int = 4, forward: str = "split_cat") -> None:
        super().__init__()
        if not 1 <= n_div <= dim:
            raise ConfigError(f"Partial_conv3: n_div={n_div} with {dim} channels; it must be 1 to {dim}")
        if forward not in ("split_cat", "slicing"):
            raise ConfigError(f"Partial_conv3: forward={forward!r}; write 'split_cat' or 'slicing'")
        self.dim_conv3 = dim // n_div
        self.dim_untouched = dim - self.dim_conv3
        self.partial_conv3 = nn.Conv2d(self.dim_conv3, self.dim_conv3, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) -> the same shape."""
        first, rest = x.split([self.dim_conv3, self.dim_untouched], 1)
        return torch.cat((self.partial_conv3(first), rest), 1)


@register(scaled_conv)
class Faster_Block(nn.Module):
    """FasterNet block: x + MLP(partial convolution of x); a 1x1 Conv first where the channels change.

    The MLP is a 1x1 Conv to c2 * mlp_ratio channels and a 1x1 convolution back. `mlp` replaces it, `attention` follows
    it: functions of the width. In training the branch is dropped for a fraction `drop_path` of the images.
    YAML `[c2, n_div, mlp_ratio, drop_path]`.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        n_div: int = 4,
        mlp_ratio: float = 2.0,
        drop_path: float = 0.1,
        mlp: Member | None = None,
        attention: Member | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= drop_path < 1:
            raise ConfigError(f"{type(self).__name__}: drop_path={drop_path}; it must be at least 0 and below 1")
        self.drop = drop_path
        hidden = int(c2 * mlp_ratio)
        plain = (Conv(c2, hidden, 1), nn.Conv2d(hidden, c2, 1, bias=False)) if mlp is None else ()
        self.mlp = nn.Sequential(*plain) if mlp is None else mlp(c2)
        self.spatial_mixing = Partial_conv3(c2, n_div)
        self.adjust_channel = Conv(c1, c2, 1) if c1 != c2 else nn.Identity()
        self.attention = nn.Identity() if attention is None else attention(c2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H, W)."""
        x = self.adjust_channel(x)
        y = self.attention(self.mlp(self.spatial_mixing(x)))
        return x + stochastic_depth(y, self.drop, "row", self.training)

    def start_as_identity(self) -> bool:
        """Where the channels stay, set the MLP's last convolution to zero; say whether the block passes its input on.

        Not with attention, which need not keep a zero, and not where the MLP keeps its input.
        """
        plain = isinstance(self.adjust_channel, nn.Identity) and isinstance(self.attention, nn.Identity)
        last = self.mlp[-1] if isinstance(self.mlp, nn.Sequential) else None
        possible = plain and isinstance(last, nn.Conv2d)
        if possible and isinstance(last, nn.Conv2d):
            nn.init.zeros_(last.weight)
        return possible


@register(scaled_conv)
class Faster_Block_EMA(Faster_Block):
    """Faster_Block with efficient multi-scale attention (EMA, factor 8) behind its MLP. YAML `[c2, n_div]`."""

    def __init__(self, c1: int, c2: int, n_div: int = 4, mlp_ratio: float = 2.0, drop_path: float = 0.1) -> None:
        super().__init__(c1, c2, n_div, mlp_ratio, drop_path, attention=lambda c: registered_block("EMA", c, 8))


@register(scaled_conv)
class Faster_Block_CGLU(Faster_Block):
    """Faster_Block with a ConvolutionalGLU in place of its MLP; the GLU keeps its inner shortcut, as in the forks."""

    def __init__(self, c1: int, c2: int, n_div: int = 4, drop_path: float = 0.1) -> None:
        super().__init__(c1, c2, n_div, drop_path=drop_path, mlp=ConvolutionalGLU)


@register(scaled_repeat)
class C2f_Faster(ResidualC2f):
    """C2f of FasterNet blocks. YAML `[c2]`."""

    @staticmethod
    def member(c: int) -> nn.Module:
        """Return one block of width c."""
        return Faster_Block(c, c)


@register(scaled_repeat)
class C2f_Faster_EMA(ResidualC2f):
    """C2f of FasterNet blocks with EMA. YAML `[c2]`."""

    @staticmethod
    def member(c: int) -> nn.Module:
        """Return one block of width c."""
        return Faster_Block_EMA(c, c)


@register(scaled_repeat)
class C2f_Faster_CGLU(ResidualC2f):
    """C2f of FasterNet blocks with a ConvolutionalGLU. YAML `[c2]`."""

    @staticmethod
    def member(c: int) -> nn.Module:
        """Return one block of width c."""
        return Faster_Block_CGLU(c, c)
