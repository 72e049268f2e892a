"""OmniKernel of OKNet (AAAI 2024) and its cross-stage form: large depth-wise kernels, gates in the frequency domain.

Fourier transforms run in float32 at least: in float16 they need sides that are powers of two.
Shapes: B batch, C channels, H x W map; every map is (B, C, H, W).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.modules.utils import at_least_float32
from ultralytics.nn.registry import channels_first, register
from ultralytics.utils.errors import ConfigError


def _filtered(x: Tensor, gate: Tensor) -> Tensor:
    """Return |IFFT2(gate * FFT2(x))| in the type of x; the gate is real, (B, C, H, W) or (B, C, 1, 1)."""
    if torch.onnx.is_in_onnx_export():
        return _filtered_by_products(x, gate)
    spectrum = torch.fft.fft2(at_least_float32(x))
    return torch.fft.ifft2(at_least_float32(gate) * spectrum).abs().to(x.dtype)


def _filtered_by_products(x: Tensor, gate: Tensor) -> Tensor:
    """`_filtered` for ONNX, whose exporter has no complex numbers: both transforms as products of real matrices."""
    height, width = int(x.shape[2]), int(x.shape[3])
    rows, columns = _waves(height, x), _waves(width, x)
    real, imag = _turned(x, torch.zeros_like(x), columns, -1.0)
    real, imag = _turned(real.transpose(2, 3), imag.transpose(2, 3), rows, -1.0)  # (B, C, W, H)
    real, imag = real * gate.transpose(2, 3), imag * gate.transpose(2, 3)
    real, imag = _turned(real, imag, rows, 1.0)
    real, imag = _turned(real.transpose(2, 3), imag.transpose(2, 3), columns, 1.0)  # (B, C, H, W)
    return (real * real + imag * imag).sqrt() / (height * width)


def _waves(n: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine (n, n) of 2 pi j k / n."""
    index = torch.arange(n)
    angle = (index[:, None] * index % n).to(like.dtype) * (2 * math.pi / n)
    return angle.cos().to(like), angle.sin().to(like)


def _turned(real: Tensor, imag: Tensor, waves: tuple[Tensor, Tensor], sign: float) -> tuple[Tensor, Tensor]:
    """Multiply the last axis by cos + i sign sin, which is a Fourier transform (sign -1) or its inverse times n."""
    cos, sin = waves
    return real @ cos - sign * (imag @ sin), imag @ cos + sign * (real @ sin)


class FrequencyGate(nn.Module):
    """alpha times a map filtered by its own projection, plus beta times the map (FGM of OKNet); starts as the identity.

    `conv` is not used; it is kept for weights that hold it.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(dim, 1, 1))
        self.beta = nn.Parameter(torch.ones(dim, 1, 1))
        self.conv = nn.Conv2d(dim, 2 * dim, 3, 1, 1, groups=dim)
        self.dwconv1 = nn.Conv2d(dim, dim, 1)
        self.dwconv2 = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        return self.alpha * _filtered(self.dwconv2(x), self.dwconv1(x)) + self.beta * x


@register(channels_first)
class OmniKernel(nn.Module):
    """Depth-wise kernels of four shapes, and attention over channels and places by the spectrum (OKNet, AAAI 2024).

    YAML `[kernel_size]`. The kernel is 31, as circulated; the official code has 63.
    """

    def __init__(self, dim: int, kernel_size: int = 31) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise ConfigError(f"OmniKernel: kernel_size={kernel_size} must be odd")
        k, p = kernel_size, kernel_size // 2
        self.in_conv = nn.Sequential(nn.Conv2d(dim, dim, 1), nn.GELU())
        self.out_conv = nn.Conv2d(dim, dim, 1)
        self.dw_13 = nn.Conv2d(dim, dim, (1, k), padding=(0, p), groups=dim)
        self.dw_31 = nn.Conv2d(dim, dim, (k, 1), padding=(p, 0), groups=dim)
        self.dw_33 = nn.Conv2d(dim, dim, k, padding=p, groups=dim)
        self.dw_11 = nn.Conv2d(dim, dim, 1, groups=dim)
        self.act = nn.ReLU()
        self.conv = nn.Conv2d(dim, dim, 1)
        self.fac_conv = nn.Conv2d(dim, dim, 1)
        self.fgm = FrequencyGate(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        y = self.in_conv(x)
        f = _filtered(y, self.fac_conv(y.mean((2, 3), keepdim=True)))
        s = self.conv(f.mean((2, 3), keepdim=True)) * f
        kernels = self.dw_13(y) + self.dw_31(y) + self.dw_33(y) + self.dw_11(y)
        return self.out_conv(self.act(x + kernels + self.fgm(s)))


@register(channels_first)
class CSPOmniKernel(nn.Module):
    """A part e of the channels through an OmniKernel between two 1x1 Convs, the others pass by. YAML `[e]`.

    ConfigError when e leaves no channel for the kernel.
    """

    def __init__(self, dim: int, e: float = 0.25) -> None:
        super().__init__()
        self.c = int(dim * e)
        if not 0 < self.c <= dim:
            raise ConfigError(f"CSPOmniKernel: e={e} of {dim} channels gives {self.c}; choose e from 1/{dim} to 1")
        self.cv1 = Conv(dim, dim, 1)
        self.cv2 = Conv(dim, dim, 1)
        self.m = OmniKernel(self.c)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        y = self.cv1(x)
        return self.cv2(torch.cat((self.m(y[:, : self.c]), y[:, self.c :]), 1))
