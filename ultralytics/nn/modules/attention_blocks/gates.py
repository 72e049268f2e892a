"""Gates that weigh channels or cells of a map and keep its shape.

Shapes: B batch, C channels, H x W map. Every map is (B, C, H, W).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ultralytics.nn.modules.utils import adaptive_mean
from ultralytics.nn.registry import keeps_channels, register, same_channels
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.torch_utils import fuse_conv_and_bn


@register(keeps_channels, row=("reduction", "c1: int, reduction"))
class SEAttention(nn.Module):
    """Squeeze-excitation with linear layers without bias (Hu et al., arXiv 1709.01507, sec. 3). YAML `[reduction]`."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        if not 1 <= reduction <= channels:
            raise ConfigError(f"SEAttention: reduction={reduction} must be 1 to {channels}, the channels of the input")
        hidden = channels // reduction
        self.fc = nn.Sequential(
            nn.Linear(channels, hidden, bias=False),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, channels, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        return x * self.fc(x.mean((2, 3)))[..., None, None]


@register(keeps_channels, row=("k", "c1: int, k"))
class ECA(nn.Module):
    """Channel gate of a 1-D convolution over the channel means (Wang et al., arXiv 1910.03151, section 3). YAML `[k]`.

    The official code takes the kernel size as an argument and does not derive it from the channels.
    """

    def __init__(self, channels: int, k: int = 3) -> None:
        super().__init__()
        if k < 1 or k % 2 == 0:
            raise ConfigError(f"ECA: kernel size {k} must be odd and at least 1")
        self.conv = nn.Conv1d(1, 1, k, padding=k // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        return x * self.conv(x.mean((2, 3))[:, None])[:, 0, :, None, None].sigmoid()


@register(keeps_channels, row=("", "c1: int"))
class NAM(nn.Module):
    """Channel part of the normalization-based attention: a channel counts by its batch norm weight.

    Source: Liu et al., arXiv 2111.12419, section 3.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        weight = self.bn2.weight.abs()
        weight = weight / weight.sum().clamp(min=torch.finfo(weight.dtype).tiny)
        return x * (self.bn2(x) * weight[:, None, None]).sigmoid()


@register(same_channels)
class SimAM(nn.Module):
    """Gate without parameters: a cell counts by its squared distance from the channel's mean.

    Source: Yang et al., ICML 2021, section 3.3. YAML `[lambda]`.
    """

    def __init__(self, e_lambda: float = 1e-4) -> None:
        super().__init__()
        if e_lambda <= 0:
            raise ConfigError(f"SimAM: lambda={e_lambda} must be above 0; 1e-4 is that of the paper")
        self.e_lambda = e_lambda

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        squared = (x - x.mean((2, 3), keepdim=True)) ** 2
        variance = squared.sum((2, 3), keepdim=True) / max(x.shape[2] * x.shape[3] - 1, 1)
        return x * (squared / (4 * (variance + self.e_lambda)) + 0.5).sigmoid()

    def extra_repr(self) -> str:
        """Name the argument."""
        return f"e_lambda={self.e_lambda}"


@register(keeps_channels, row=("rate", "c1: int, rate"))
class GAM_Attention(nn.Module):
    """Global attention mechanism: a channel gate for each cell, then a spatial gate of two full 7x7 convolutions.

    Source: Liu et al., arXiv 2112.05561, section 3. YAML `[rate]`; 1.6 M parameters for 256 channels.
    """

    def __init__(self, channels: int, rate: int = 4) -> None:
        super().__init__()
        if not 1 <= rate <= channels:
            raise ConfigError(f"GAM_Attention: rate={rate} must be 1 to {channels}, the channels of the input")
        hidden = channels // rate
        self.channel_attention = nn.Sequential(
            nn.Linear(channels, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, channels)
        )
        self.spatial_attention = nn.Sequential(
            nn.Conv2d(channels, hidden, 7, padding=3),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, channels, 7, padding=3),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        gate = self.channel_attention(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # over (B, H, W, C)
        x = x * gate.sigmoid()
        return x * self.spatial_attention(x).sigmoid()

    def fuse(self) -> nn.Module:
        """Fold both batch norms, in place."""
        layers = list(self.spatial_attention)
        if len(layers) == 5:
            first, bn1, act, second, bn2 = layers
            self.spatial_attention = nn.Sequential(fuse_conv_and_bn(first, bn1), act, fuse_conv_and_bn(second, bn2))  # type: ignore[arg-type]
        return self


@register(keeps_channels, row=("local_size, gamma, b, local_weight", "c1: int, local_size, gamma, b, local_weight"))
class MLCA(nn.Module):
    """Mixed local channel attention: ECA on a grid of means and on the whole map, mixed (Wan et al., EAAI 2023).

    YAML `[grid, gamma, b, local_weight]`. The kernel size is the odd one at or above |log2 C + b| / gamma. Copies in
    forks mix the images of a batch in the global gate; here, as in the authors' present code, each image is alone.
    """

    def __init__(
        self, channels: int, local_size: int = 5, gamma: int = 2, b: int = 1, local_weight: float = 0.5
    ) -> None:
        super().__init__()
        if not 0 <= local_weight <= 1 or local_size < 1:
            raise ConfigError(f"MLCA needs local_weight in 0..1 and grid >= 1; got {local_weight}, {local_size}")
        self.local_size = local_size
        self.local_weight = local_weight
        k = int(abs(math.log2(channels) + b) / gamma) | 1
        self.conv = nn.Conv1d(1, 1, k, padding=k // 2, bias=False)
        self.conv_local = nn.Conv1d(1, 1, k, padding=k // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        n = self.local_size
        local = adaptive_mean(x, n, n)  # (B, C, n, n)
        overall = local.mean((2, 3))  # (B, C)
        sequence = local.flatten(2).transpose(1, 2).flatten(1)  # (B, n*n*C): channels are innermost
        gate = self.conv_local(sequence[:, None])[:, 0].sigmoid().unflatten(1, (n * n, -1))  # (B, n*n, C)
        gate = gate.transpose(1, 2).reshape(local.shape)  # (B, C, n, n)
        gate_all = self.conv(overall[:, None])[:, 0, :, None, None].sigmoid()  # (B, C, 1, 1)
        mixed = torch.lerp(gate_all, gate, self.local_weight)
        return x * adaptive_mean(mixed, x.shape[2], x.shape[3])
