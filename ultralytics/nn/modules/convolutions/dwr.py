"""Dilation-wise residual block (DWRSeg, arXiv 2212.01173); this is the definition that forks share.

Shapes: B batch, C channels, H x W map.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from ultralytics.nn.modules.block import RepC3
from ultralytics.nn.modules.conv import Activation, Conv, zero_norms
from ultralytics.nn.modules.csp import ResidualC2f
from ultralytics.nn.registry import channels_first, register, scaled_repeat
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.log import LOGGER


@register(channels_first)
class DWR(nn.Module):
    """x + a 1x1 of three 3x3 convolutions, dilated by 1, 3 and 5, of one 3x3 to half of the channels."""

    def __init__(self, dim: int, act: Activation = True) -> None:
        super().__init__()
        if dim < 2 or dim % 2:
            raise ConfigError(f"DWR: {dim} channels; their number must be even, since half of them are reduced")
        half = dim // 2
        self.conv_3x3 = Conv(dim, half, 3, act=act)
        self.conv_3x3_d1 = Conv(half, dim, 3, d=1, act=act)
        self.conv_3x3_d3 = Conv(half, half, 3, d=3, act=act)
        self.conv_3x3_d5 = Conv(half, half, 3, d=5, act=act)
        self.conv_1x1 = Conv(2 * dim, dim, 1, act=act)

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) -> the same shape."""
        y = self.conv_3x3(x)
        joined = torch.cat((self.conv_3x3_d1(y), self.conv_3x3_d3(y), self.conv_3x3_d5(y)), 1)
        return x + self.conv_1x1(joined)

    def start_as_identity(self) -> bool:
        """Set the last batch norm to zero, so that the block passes its input on; say whether that can be undone."""
        possible = isinstance(self.conv_1x1.act, (nn.SiLU, nn.GELU, nn.Identity))
        if possible:
            zero_norms(self.conv_1x1)
        return possible


@register(scaled_repeat)
class C2f_DWR(ResidualC2f):
    """C2f of DWR blocks. YAML `[c2]`."""

    @staticmethod
    def member(c: int) -> nn.Module:
        """Return one block of width c."""
        return DWR(c)


@register(scaled_repeat)
class DWRC3(RepC3):
    """RepC3 with DWR blocks in place of its RepConvs, for `s` 2 with a strided 3x3 Conv in front.

    The members' convolutions have no activation unless `act` is a module or True: forks take the string `relu`, by
    which their Conv has none, and their weights are made so. A string has no effect here either, with a warning.
    YAML `[c2, s, e, act]`.
    """

    def __init__(self, c1: int, c2: int, n: int = 3, s: int = 1, e: float = 1.0, act: Activation | str = None) -> None:
        if s not in (1, 2):
            raise ConfigError(f"DWRC3: stride {s}; write 1 or 2")
        if isinstance(act, str):
            LOGGER.warning(f"DWRC3: act={act!r} has no effect, as in forks; for an activation write nn.ReLU()")
            act = None
        super().__init__(c1, c2, n, e, member=partial(DWR, act=act))
        self.conv_s2 = Conv(c1, c1, 3, 2, act=act) if s == 2 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, ceil(H/s), ceil(W/s))."""
        return super().forward(self.conv_s2(x))
