"""Inverted residual mobile block (EMO, ICCV 2023, arXiv 2301.01146), in the form of the forks.

Shapes: B batch, C channels, H x W map, N = k*k tokens of a window, M heads, d width of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn.modules.attention import multi_head_attention
from ultralytics.nn.modules.conv import Activation, Conv, make_activation
from ultralytics.nn.modules.csp import Member, ResidualC2f, registered_block
from ultralytics.nn.modules.shsa import SqueezeExcite
from ultralytics.nn.modules.utils import ceil_div
from ultralytics.nn.registry import register, scaled_conv, scaled_repeat
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.torch_utils import bn_affine, fuse_conv_and_bn

IRMB_HEAD_WIDTH = 16


@register(scaled_conv)
class iRMB(nn.Module):
    """Window attention, then a depth-wise convolution added to it, then a projection; plus the input where c1 = c2.

    A window takes every n-th row and column of the map (padded with zeros to a multiple), so each sees all of it.
    YAML `[c2, norm_in, has_skip, exp_ratio, ...]`, with the arguments below in their order.

    Args:
        c1: Input channels, a multiple of `dim_head`.
        c2: Output channels.
        norm_in: Normalise the input by a batch norm.
        has_skip: Add the input, where c1 = c2 and the stride is 1.
        exp_ratio: Width inside as a part of c1.
        act: Activation of the values and of the local convolution: a module, True for SiLU, False for none.
        v_proj: Project the values by a 1x1 convolution; without it the width inside is c1.
        dw_ks: Kernel of the local convolution.
        stride: Its stride; above 1 its output is not added to its input, whose size differs.
        dilation: Its dilation.
        se: Hidden width of a gate (squeeze-excitation) of its output, as a part of the width inside; 0 for none.
        dim_head: Channels of q and k of an attention head.
        window_size: Side of a window, cells.
        attention: Replaces that attention: a function of the width that returns a block of it.

    Raises:
        ConfigError: Widths that heads do not divide, or another argument out of its range.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        norm_in: bool = True,
        has_skip: bool = True,
        exp_ratio: float = 1.0,
        act: Activation = True,
        v_proj: bool = True,
        dw_ks: int = 3,
        stride: int = 1,
        dilation: int = 1,
        se: float = 0.0,
        dim_head: int = IRMB_HEAD_WIDTH,
        window_size: int = 7,
        attention: Member | None = None,
    ) -> None:
        super().__init__()
        hidden = int(c1 * exp_ratio)
        least = {
            "dw_ks": dw_ks,
            "stride": stride,
            "dilation": dilation,
            "dim_head": dim_head,
            "window_size": window_size,
        }
        for name, value in least.items():
            if value < 1:
                raise ConfigError(f"iRMB: {name}={value}; it must be at least 1")
        _check_widths(c1, hidden, dim_head, v_proj)
        self.heads, self.window = c1 // dim_head, window_size
        self.norm: nn.Module = nn.BatchNorm2d(c1) if norm_in else nn.Identity()
        if attention is None:
            self.qk = nn.Conv2d(c1, 2 * c1, 1, bias=False)
            if v_proj:
                self.v = nn.Sequential(nn.Conv2d(c1, hidden, 1, bias=False), make_activation(act))
        self.v_proj, self.scale = v_proj, dim_head**-0.5
        self.attention = None if attention is None else attention(hidden)
        self.conv_local = Conv(hidden, hidden, dw_ks, stride, g=hidden, d=dilation, act=act)
        self.se = SqueezeExcite(hidden, se) if se else nn.Identity()
        self.proj = nn.Conv2d(hidden, c2, 1)
        self.add_local = stride == 1
        self.has_skip = has_skip and c1 == c2 and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, ceil(H/stride), ceil(W/stride))."""
        y = self.norm(x)
        y = self._attend(y) if self.attention is None else self.attention(y)
        local = self.se(self.conv_local(y))
        y = self.proj(y + local if self.add_local else local)
        return x + y if self.has_skip else y

    def _attend(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, hidden, H, W)."""
        h, w = x.shape[2:]
        q, k = self.qk(x).chunk(2, 1)
        v = self.v(x) if self.v_proj else x
        q, k, v = (self._windows(t) for t in (q, k, v))  # (B*n*n', M, N, d)
        y = multi_head_attention(q, k, v, scale=self.scale)
        return self._joined(y, x.shape[0], h, w)

    def _windows(self, x: Tensor) -> Tensor:
        """Pad, and gather each window's cells as tokens of each head."""
        size = self.window
        x = F.pad(x, (0, -x.shape[3] % size, 0, -x.shape[2] % size))
        x = x.unflatten(3, (size, -1)).unflatten(2, (size, -1)).unflatten(1, (self.heads, -1))  # (B, M, d, k, n, k, n')
        return x.permute(0, 4, 6, 1, 3, 5, 2).flatten(4, 5).flatten(0, 2)  # (B*n*n', M, N, d)

    def _joined(self, y: Tensor, batch: int, h: int, w: int) -> Tensor:
        """Undo `_windows`."""
        size = self.window
        rows, columns = ceil_div(h, size), ceil_div(w, size)
        y = y.unflatten(0, (batch, rows, columns)).unflatten(4, (size, size))  # (B, n, n', M, k, k, d)
        y = y.permute(0, 3, 6, 4, 1, 5, 2)  # (B, M, d, k, n, k, n')
        return y.flatten(5).flatten(3, 4).flatten(1, 2)[:, :, :h, :w]  # (B, M*d, H, W)

    @torch.no_grad()
    def fuse(self) -> nn.Module:
        """Fold the input's batch norm into the convolutions behind it, in place."""
        if not isinstance(self.norm, nn.BatchNorm2d):
            return self
        if self.attention is None and self.v_proj:
            scale, shift = bn_affine(self.norm)
            self.qk = _behind(self.qk, scale, shift)
            value = self.v[0]
            self.v[0] = _behind(value, scale, shift) if isinstance(value, nn.Conv2d) else value
            self.norm = nn.Identity()
        else:
            c = self.norm.num_features
            same = nn.Conv2d(c, c, 1, groups=c, bias=False).to(self.norm.weight)
            nn.init.ones_(same.weight)
            self.norm = fuse_conv_and_bn(same, self.norm)
        return self

    def start_as_identity(self) -> bool:
        """With the shortcut, set the projection to zero, so that the block passes its input on; say whether."""
        if self.has_skip:
            nn.init.zeros_(self.proj.weight)
            if self.proj.bias is not None:
                nn.init.zeros_(self.proj.bias)
        return self.has_skip


def _check_widths(c1: int, hidden: int, dim_head: int, v_proj: bool) -> None:
    """Raise ConfigError where heads do not divide the widths, or values without a projection have another width."""
    if c1 % dim_head or hidden < 1 or hidden % (c1 // dim_head):
        raise ConfigError(
            f"iRMB: {c1} channels, {hidden} inside; both must be multiples of {dim_head} (dim_head), or those "
            "inside of the number of heads, channels / dim_head: change the channels, exp_ratio or dim_head"
        )
    if not v_proj and hidden != c1:
        raise ConfigError(f"iRMB: v_proj=False keeps {c1} channels, but exp_ratio asks for {hidden} inside; write 1.0")


def _behind(conv: nn.Conv2d, scale: Tensor, shift: Tensor) -> nn.Conv2d:
    """Return a 1x1 convolution with bias that equals `conv` of scale * x + shift."""
    fused = nn.Conv2d(conv.in_channels, conv.out_channels, 1).to(conv.weight).requires_grad_(False)
    fused.weight.copy_(conv.weight * scale.view(1, -1, 1, 1))
    fused.load_state_dict({"bias": conv.weight.flatten(1) @ shift}, strict=False)
    return fused


@register(scaled_conv)
class iRMB_Cascaded(iRMB):
    """iRMB with cascaded group attention (LocalWindowAttention, arXiv 2305.07027) in its place."""

    def __init__(self, c1: int, c2: int) -> None:
        super().__init__(c1, c2, attention=lambda c: registered_block("LocalWindowAttention", c))


@register(scaled_repeat)
class C2f_iRMB(ResidualC2f):
    """C2f of iRMBs; the inner width c2 * e must be a multiple of 16. YAML `[c2]`."""

    @staticmethod
    def member(c: int) -> nn.Module:
        """Return one block of width c."""
        return iRMB(c, c)


@register(scaled_repeat)
class C2f_iRMB_Cascaded(ResidualC2f):
    """C2f of iRMBs with cascaded group attention. YAML `[c2]`."""

    @staticmethod
    def member(c: int) -> nn.Module:
        """Return one block of width c."""
        return iRMB_Cascaded(c, c)
