"""Receptive-field attention: RFAConv, RFCBAMConv and RFCAConv (arXiv 2304.03198).

Each weighs the places *inside* a kernel's window: a depth-wise convolution spreads every window to k x k values, these
are laid out side by side, and a last convolution of stride k reads each window once. Shapes: B batch, C channels,
H x W map, h x w the map after the stride, k kernel size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn.modules.conv import Conv, fuse_sequential
from ultralytics.nn.registry import register, scaled_conv
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.torch_utils import fuse_conv_and_bn


def _spread(c: int, k: int, s: int) -> nn.Sequential:
    """Return the depth-wise convolution that gives k*k values for each window, (B, C, H, W) -> (B, C*k*k, h, w)."""
    conv = nn.Conv2d(c, c * k * k, k, s, k // 2, groups=c, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c * k * k), nn.ReLU())


def _require_kernel(name: str, k: int, s: int) -> None:
    if k < 1 or k % 2 == 0 or s < 1:
        raise ConfigError(f"{name}: kernel {k}, stride {s}; the kernel must be odd, both at least 1")


class _Spreading(nn.Module):
    """Base of the blocks whose `generate` spreads the windows."""

    generate: nn.Sequential
    k: int

    def windows(self, x: Tensor) -> Tensor:
        """Return the values of all windows side by side, (B, C, H, W) -> (B, C, h*k, w*k)."""
        return F.pixel_shuffle(self.generate(x), self.k)

    def fuse(self) -> nn.Module:
        """Fold the batch norm of the spread, in place."""
        fuse_sequential(self.generate)
        return self


@register(scaled_conv)
class RFAConv(nn.Module):
    """Convolution whose windows are weighted by a softmax over their k*k places, from the window's mean (sec. 3.3).

    The last step is a Conv (batch norm, SiLU) as in the forks; the official code has a biased convolution, batch norm
    and ReLU there. YAML `[c2, k, s]`.
    """

    def __init__(self, c1: int, c2: int, k: int = 3, s: int = 1) -> None:
        super().__init__()
        _require_kernel("RFAConv", k, s)
        self.k = k
        pool = nn.AvgPool2d(k, s, k // 2)
        self.get_weight = nn.Sequential(pool, nn.Conv2d(c1, c1 * k * k, 1, groups=c1, bias=False))
        self.generate_feature = _spread(c1, k, s)
        self.conv = Conv(c1, c2, k, k, 0)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, h, w)."""
        places = (x.shape[1], self.k * self.k)
        weight = self.get_weight(x).unflatten(1, places).softmax(2)  # (B, c1, k*k, h, w)
        windows = weight * self.generate_feature(x).unflatten(1, places)
        return self.conv(F.pixel_shuffle(windows.flatten(1, 2), self.k))

    def fuse(self) -> nn.Module:
        """Fold the batch norm of the spread, in place."""
        fuse_sequential(self.generate_feature)
        return self


@register(scaled_conv)
class RFCAConv(_Spreading):
    """Coordinate attention (arXiv 2103.02907) on the windows laid out side by side, then a plain convolution with bias.

    No batch norm and no activation behind it, in the official code as well. YAML `[c2, k, s, reduction]`.
    """

    def __init__(self, c1: int, c2: int, k: int = 3, s: int = 1, reduction: int = 32) -> None:
        super().__init__()
        _require_kernel("RFCAConv", k, s)
        self.k = k
        hidden = max(8, c1 // reduction)
        self.generate = _spread(c1, k, s)
        self.conv1 = nn.Conv2d(c1, hidden, 1)
        self.bn1: nn.Module = nn.BatchNorm2d(hidden)
        self.act = nn.Hardswish()
        self.conv_h = nn.Conv2d(hidden, c1, 1)
        self.conv_w = nn.Conv2d(hidden, c1, 1)
        self.conv = nn.Sequential(nn.Conv2d(c1, c2, k, k))

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, h, w)."""
        y = self.windows(x)
        rows, columns = y.shape[2:]
        columns_mean = y.mean(2, keepdim=True).transpose(2, 3)
        means = torch.cat((y.mean(3, keepdim=True), columns_mean), 2)  # (B, c1, h*k + w*k, 1)
        means = self.act(self.bn1(self.conv1(means)))
        by_row, by_column = means.split([rows, columns], 2)
        gate = self.conv_h(by_row).sigmoid() * self.conv_w(by_column.transpose(2, 3)).sigmoid()
        return self.conv(y * gate)

    def fuse(self) -> nn.Module:
        """Fold both batch norms, in place."""
        if isinstance(self.bn1, nn.BatchNorm2d):
            self.conv1, self.bn1 = fuse_conv_and_bn(self.conv1, self.bn1), nn.Identity()
        return super().fuse()


class _ChannelGate(nn.Module):
    """Gate for each channel from the mean of the map, hidden width 16."""

    def __init__(self, c: int, hidden: int = 16) -> None:
        super().__init__()
        layers = (nn.Linear(c, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, c, bias=False), nn.Sigmoid())
        self.fc = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, 1, 1)."""
        gate: Tensor = self.fc(x.mean((2, 3)))
        return gate[:, :, None, None]


@register(scaled_conv)
class RFCBAMConv(_Spreading):
    """CBAM (arXiv 1807.06521) on the windows: a channel gate of the input times a gate for each place of each window.

    The place's gate is a 3x3 convolution of maximum and mean over channels. YAML `[c2, k, s]`.
    """

    def __init__(self, c1: int, c2: int, k: int = 3, s: int = 1) -> None:
        super().__init__()
        _require_kernel("RFCBAMConv", k, s)
        self.k = k
        self.generate = _spread(c1, k, s)
        self.get_weight = nn.Sequential(nn.Conv2d(2, 1, 3, padding=1, bias=False), nn.Sigmoid())
        self.se = _ChannelGate(c1)
        self.conv = Conv(c1, c2, k, k, 0)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, h, w)."""
        y = self.windows(x)
        pooled = torch.cat((y.amax(1, keepdim=True), y.mean(1, keepdim=True)), 1)  # (B, 2, h*k, w*k)
        return self.conv(y * self.se(x) * self.get_weight(pooled))
