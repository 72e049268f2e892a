"""Layers on distributions of box edges (D-FINE, arXiv 2410.13842, section 3.1).

Shapes: B batch, Q queries, R + 1 bins, nc classes. Edges in the order left, top, right, bottom.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ultralytics.nn.modules.transformer import MLP, LayerActivation
from ultralytics.nn.modules.utils import at_least_float32

__all__ = ("Integral", "LocationQuality")


class Integral(nn.Module):
    """Mean of the bins under the distribution of each edge.

    Args:
        reg_max: Number of bins less one, R.
    """

    def __init__(self, reg_max: int = 32) -> None:
        super().__init__()
        self.reg_max = reg_max

    def extra_repr(self) -> str:
        """Name the size."""
        return f"reg_max={self.reg_max}"

    def forward(self, corners: Tensor, bins: Tensor) -> Tensor:
        """Map logits (..., 4 * (R + 1)) and the distance of each bin (R + 1,) to distances (..., 4)."""
        probs = at_least_float32(corners).unflatten(-1, (4, self.reg_max + 1)).softmax(-1)  # (..., 4, R + 1)
        return probs @ bins.to(probs.dtype)


class LocationQuality(nn.Module):
    """Adds to all class logits of a query what the peaks of its edge distributions say about its box.

    Args:
        k: Peaks of each edge that are looked at; their mean is the next number.
        hidden: Width of the MLP.
        layers: Linear layers of the MLP.
        reg_max: Number of bins less one, R.
        act: Activation of the MLP; ReLU when None.
    """

    def __init__(
        self, k: int = 4, hidden: int = 64, layers: int = 2, reg_max: int = 32, act: LayerActivation = None
    ) -> None:
        super().__init__()
        self.k = k
        self.reg_max = reg_max
        self.reg_conf = MLP(4 * (k + 1), hidden, 1, layers, act)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start without an effect: the last layer is zero."""
        last = self.reg_conf.layers[-1]
        nn.init.zeros_(last.get_parameter("weight"))
        nn.init.zeros_(last.get_parameter("bias"))

    def forward(self, scores: Tensor, corners: Tensor) -> Tensor:
        """Map logits (B, Q, nc) and (B, Q, 4 * (R + 1)) to logits (B, Q, nc)."""
        probs = at_least_float32(corners).unflatten(-1, (4, self.reg_max + 1)).softmax(-1)  # (B, Q, 4, R + 1)
        peaks = probs.topk(self.k, -1).values
        features = torch.cat((peaks, peaks.mean(-1, keepdim=True)), -1).flatten(-2)  # (B, Q, 4 * (k + 1))
        return scores + self.reg_conf(features.to(scores.dtype))
