"""Parts of a decoder layer: the gate of D-FINE, the norm and the feed-forward part of DEIMv2.

Shapes: B batch, Q queries, D hidden width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn.modules.utils import at_least_float32

__all__ = ("Float32RMSNorm", "Gate", "SwiGLU", "zero_gate")


class Float32RMSNorm(nn.RMSNorm):
    """RMSNorm (arXiv 1910.07467) computed in at least float32; the output has the dtype of the input."""

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__(dim, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., D) to the same shape."""
        full = at_least_float32(x)
        out = full * torch.rsqrt(full.square().mean(-1, keepdim=True) + (self.eps or 0.0))
        return (out * self.weight.to(full.dtype)).to(x.dtype)


def zero_gate(gate: nn.Linear) -> None:
    """Set a gate's layer to zero, in place: both gates start at one half."""
    nn.init.zeros_(gate.weight)
    nn.init.zeros_(gate.bias)


class Gate(nn.Module):
    """Weighted sum of two streams, with a weight for each channel made from both, then a norm (D-FINE, section 3.1).

    Args:
        dim: Width D.
        norm: Norm class; LayerNorm when None.
    """

    def __init__(self, dim: int, norm: type[nn.Module] | None = None) -> None:
        super().__init__()
        self.gate = nn.Linear(2 * dim, 2 * dim)
        self.norm = (norm or nn.LayerNorm)(dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start with both weights at one half."""
        zero_gate(self.gate)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Map two streams (B, Q, D) to one."""
        first, second = self.gate(torch.cat((a, b), -1)).sigmoid().chunk(2, -1)
        return self.norm(first * a + second * b)


class SwiGLU(nn.Module):
    """Feed-forward part with a SiLU gate (arXiv 2002.05202).

    Args:
        dim: Width D of input and output.
        hidden: Width of the gated part.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.w12 = nn.Linear(dim, 2 * hidden)
        self.w3 = nn.Linear(hidden, dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw Xavier weights; biases are zero."""
        for layer in (self.w12, self.w3):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., D) to (..., D)."""
        a, b = self.w12(x).chunk(2, -1)
        return self.w3(F.silu(a) * b)
