"""Losses on distributions of box edges: localisation and self-distillation (D-FINE, arXiv 2410.13842, section 3).

Shapes: L layers, B batch, Q queries, R + 1 bins, n pairs. Edges in the order left, top, right, bottom. Boxes are cx,
cy, w, h in 0..1. Everything is computed in at least float32.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.models.utils.distribution import EdgeTarget, bin_weights, encode_edges
from ultralytics.utils import dist
from ultralytics.utils.ops import at_least_float32
from ultralytics.utils.torch_tools.transfers import to_device

__all__ = ("FineGrainedLoss",)


class FineGrainedLoss(nn.Module):
    """Fine-grained localisation loss (FGL) and decoupled distillation focal loss (DDF).

    Args:
        reg_max: Number of bins less one, R.
        reg_scale: Curvature of the bins.
        up: Bound of a distance in box sides.
        temperature: Softens both distributions in the distillation.
    """

    bins: Tensor

    def __init__(self, reg_max: int = 32, reg_scale: float = 4.0, up: float = 0.5, temperature: float = 5.0) -> None:
        super().__init__()
        self.reg_max = reg_max
        self.reg_scale = reg_scale
        self.temperature = temperature
        bins = bin_weights(reg_max, torch.tensor(up), torch.tensor(reg_scale))
        self.register_buffer("bins", bins, persistent=False)

    def extra_repr(self) -> str:
        """Name the constants."""
        return f"reg_max={self.reg_max}, reg_scale={self.reg_scale}, temperature={self.temperature}"

    def targets(self, refs: Tensor, boxes: Tensor) -> EdgeTarget:
        """Return the bins of target boxes (..., 4) seen from reference boxes (..., 4)."""
        return encode_edges(refs.detach(), boxes, to_device(self.bins, refs.device), self.reg_scale)

    def localisation(self, corners: Tensor, target: EdgeTarget, quality: Tensor) -> Tensor:
        """Return the sum over pairs and edges of the cross entropy to both bins, weighted by the quality, (L,).

        Args:
            corners: (L, n, 4 * (R + 1)) logits of the matched queries.
            target: Of the pairs, (n, 4) or (L, n, 4).
            quality: (L, n) IoU of the decoded boxes, detached.
        """
        log_probs = at_least_float32(corners).unflatten(-1, (4, self.reg_max + 1)).log_softmax(-1)  # (L, n, 4, R + 1)
        left = target.bin.long().expand(log_probs.shape[:-1])[..., None]  # (L, n, 4, 1)
        loss = log_probs.gather(-1, left)[..., 0] * target.left + log_probs.gather(-1, left + 1)[..., 0] * target.right
        return -(loss * quality[..., None]).sum((1, 2))

    def distillation(
        self, corners: Tensor, teacher: Tensor, weight: Tensor, matched: Tensor, balance: Tensor
    ) -> Tensor:
        """Return the divergence of each layer's edges from the teacher's, (L,).

        Args:
            corners: (L, B, Q, 4 * (R + 1)) logits.
            teacher: (B, Q, 4 * (R + 1)) logits of the last layer, detached.
            weight: (L, B, Q) weight of each query, detached.
            matched: (L, B, Q), True = the query has a target.
            balance: Weights of the means over matched and other queries, (L, 2), see `balance`.
        """
        edges = (4, self.reg_max + 1)
        own = (at_least_float32(corners) / self.temperature).unflatten(-1, edges).log_softmax(-1)  # (L, B, Q, 4, R + 1)
        goal = (at_least_float32(teacher.detach()) / self.temperature).unflatten(-1, edges).log_softmax(-1)
        loss = F.kl_div(own, goal.expand_as(own), reduction="none", log_target=True).sum((-1, -2)) * self.temperature**2
        loss = loss * weight / 4  # (L, B, Q): mean over the edges
        sums = [torch.where(chosen, loss, 0.0).sum((1, 2)) for chosen in (matched, ~matched)]
        counts = _query_counts(matched).clamp(min=1) / dist.training_processes()  # gradients are averaged
        return (torch.stack(sums, -1) / counts * balance).sum(-1)

    @staticmethod
    def balance(matched: Tensor) -> Tensor:
        """Return the weights (L, 2) of matched and other queries in the distillation: by the roots of their counts.

        Args:
            matched: (L, B, Q), True = the query has a target.
        """
        roots = _query_counts(matched).sqrt()
        return roots / roots.sum(-1, keepdim=True).clamp(min=math.ulp(1.0))


def _query_counts(matched: Tensor) -> Tensor:
    """Numbers of matched and of other queries in each layer, (L, 2), over all processes of a training step.

    Every rank must call this equally often (collective).
    """
    counts = torch.stack((matched.sum((1, 2)), (~matched).sum((1, 2))), -1).float()
    return dist.all_reduce_sum(counts) if dist.training_processes() > 1 else counts
