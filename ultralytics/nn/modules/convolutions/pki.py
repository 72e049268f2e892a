"""Poly-kernel inception module and its context anchor attention (PKINet, CVPR 2024, arXiv 2403.06258), forks' form.

Shapes: B batch, C channels, H x W map.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.modules.csp import C2f, check_residual_row
from ultralytics.nn.registry import register, scaled_conv, scaled_repeat
from ultralytics.utils.errors import ConfigError


class CAA(nn.Module):
    """Context anchor attention: a gate in 0..1 for each place, from long strips of the averaged map (sec. 3.3).

    It returns the gate, by which the caller multiplies, so it is not a row of its own.
    """

    def __init__(self, c1: int, h_kernel: int = 11, v_kernel: int = 11) -> None:
        super().__init__()
        if h_kernel % 2 == 0 or v_kernel % 2 == 0:
            raise ConfigError(f"CAA: strips of {h_kernel} and {v_kernel}; both must be odd")
        self.avg_pool = nn.AvgPool2d(7, 1, 3)
        self.conv1 = Conv(c1, c1, 1)
        self.h_conv = nn.Conv2d(c1, c1, (1, h_kernel), padding=(0, h_kernel // 2), groups=c1)
        self.v_conv = nn.Conv2d(c1, c1, (v_kernel, 1), padding=(v_kernel // 2, 0), groups=c1)
        self.conv2 = Conv(c1, c1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        return self.conv2(self.v_conv(self.h_conv(self.conv1(self.avg_pool(x))))).sigmoid()


@register(scaled_conv)
class PKIModule(nn.Module):
    """Depth-wise convolutions of several sizes on the result of the first, summed, scaled by CAA (sec. 3.2).

    `add_identity` (only where c1 = c2) keeps the sum beside its scaled form. YAML `[c2, kernel_sizes, expansion,
    with_caa, caa_kernel_size, add_identity]`.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        kernel_sizes: Sequence[int] = (3, 5, 7, 9, 11),
        expansion: float = 1.0,
        with_caa: bool = True,
        caa_kernel_size: int = 11,
        add_identity: bool = True,
    ) -> None:
        super().__init__()
        if not kernel_sizes or any(k % 2 == 0 for k in kernel_sizes):
            raise ConfigError(f"PKIModule: kernel_sizes={list(kernel_sizes)}; give at least one, all odd")
        hidden = int(c2 * expansion)
        self.pre_conv = Conv(c1, hidden, 1)
        self.dw_conv = nn.ModuleList(nn.Conv2d(hidden, hidden, k, padding=k // 2, groups=hidden) for k in kernel_sizes)
        self.pw_conv = Conv(hidden, hidden, 1)
        self.post_conv = Conv(hidden, c2, 1)
        self.caa_factor = CAA(hidden, caa_kernel_size, caa_kernel_size) if with_caa else None
        self.add_identity = add_identity and c1 == c2

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H, W)."""
        x = self.pre_conv(x)
        first = self.dw_conv[0](x)
        y = first
        for conv in list(self.dw_conv)[1:]:
            y = y + conv(first)
        y = self.pw_conv(y)
        if self.caa_factor is not None:
            scaled = y * self.caa_factor(x)
            y = y + scaled if self.add_identity else scaled
        return self.post_conv(y)


@register(scaled_repeat)
class C2f_PKIModule(C2f):
    """C2f of PKIModules. YAML `[c2, kernel_sizes, expansion, with_caa, caa_kernel_size, add_identity]`."""

    def __init__(
        self,
        c1: int,
        c2: int,
        n: int = 1,
        kernel_sizes: Sequence[int] = (3, 5, 7, 9, 11),
        expansion: float = 1.0,
        with_caa: bool = True,
        caa_kernel_size: int = 11,
        add_identity: bool = True,
        g: int = 1,
        e: float = 0.5,
    ) -> None:
        check_residual_row(self, True, g)
        args = (kernel_sizes, expansion, with_caa, caa_kernel_size, add_identity)
        super().__init__(c1, c2, n, e=e, member=lambda c: PKIModule(c, c, *args))
