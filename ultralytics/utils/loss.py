"""Classification losses of detectors, on logits: focal, varifocal, matchability-aware.

Each is given as the dense form that other code calls (`loss(pred, label)`) and as two elementwise parts, `negative`
(target 0) and `positive` (target 1, with a quality), from which a sum over a large, nearly all-negative score tensor is
computed without building that many targets. All work in at least float32. Losses of the YOLO family are re-exported.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.utils.losses.yolo import DFLoss, E2ELoss, v8DetectionLoss
from ultralytics.utils.ops import at_least_float32

__all__ = (
    "BinaryCrossEntropy",
    "ClassificationLoss",
    "DFLoss",
    "E2ELoss",
    "FocalLoss",
    "MatchabilityAwareLoss",
    "VarifocalLoss",
    "v8DetectionLoss",
)


class ClassificationLoss(nn.Module):
    """Base: the two elementwise parts."""

    def negative(self, logits: Tensor) -> Tensor:
        """Return the loss of each logit whose target is 0."""
        raise NotImplementedError

    def positive(self, logits: Tensor, quality: Tensor) -> Tensor:
        """Return the loss of each logit whose target is 1 and whose box has this quality (IoU, 0..1)."""
        raise NotImplementedError


class BinaryCrossEntropy(ClassificationLoss):
    """Plain binary cross entropy towards the quality."""

    def negative(self, logits: Tensor) -> Tensor:
        """Return -log(1 - p)."""
        return F.softplus(at_least_float32(logits))

    def positive(self, logits: Tensor, quality: Tensor) -> Tensor:
        """Return the cross entropy towards `quality`."""
        x = at_least_float32(logits)
        return F.softplus(x) - quality * x


class FocalLoss(ClassificationLoss):
    """Focal loss (arXiv 1708.02002).

    Args:
        gamma: Exponent of the factor that fades out easy examples.
        alpha: Weight of targets of 1; 1 - alpha weighs targets of 0. 0 or less: no weighting.
    """

    def __init__(self, gamma: float = 1.5, alpha: float = 0.25) -> None:
        super().__init__()
        self.gamma = gamma
        self.alpha = alpha

    def extra_repr(self) -> str:
        """Name the constants."""
        return f"gamma={self.gamma}, alpha={self.alpha}"

    def negative(self, logits: Tensor) -> Tensor:
        """Return (1 - alpha) p^gamma (-log(1 - p))."""
        x = at_least_float32(logits)
        weight = 1 - self.alpha if self.alpha > 0 else 1.0
        return F.softplus(x) * x.sigmoid().pow(self.gamma) * weight

    def positive(self, logits: Tensor, quality: Tensor) -> Tensor:
        """Return alpha (1 - p)^gamma (-log p); the quality is not used."""
        x = -at_least_float32(logits)
        weight = self.alpha if self.alpha > 0 else 1.0
        return F.softplus(x) * x.sigmoid().pow(self.gamma) * weight

    def forward(self, pred: Tensor, label: Tensor) -> Tensor:
        """Return the loss of logits and labels of one shape (B, N, ...): mean over axis 1, sum over the rest.

        Labels may lie between 0 and 1.
        """
        x, y = at_least_float32(pred), label.to(at_least_float32(pred).dtype)
        p = x.sigmoid()
        p_t = y * p + (1 - y) * (1 - p)
        loss = F.binary_cross_entropy_with_logits(x, y, reduction="none") * (1 - p_t).pow(self.gamma)
        if self.alpha > 0:
            loss = loss * (y * self.alpha + (1 - y) * (1 - self.alpha))
        return loss.mean(1).sum()


class FocalNegatives(ClassificationLoss):
    """Base of losses whose negatives are weighted by alpha p^gamma.

    Args:
        gamma: Exponent on the negatives.
        alpha: Weight of the negatives.
        detached: The weight p^gamma of a negative gets no gradient, as in RT-DETRv2, D-FINE and DEIM.
    """

    def __init__(self, gamma: float, alpha: float, detached: bool = False) -> None:
        super().__init__()
        self.gamma = gamma
        self.alpha = alpha
        self.detached = detached

    def extra_repr(self) -> str:
        """Name the constants."""
        return f"gamma={self.gamma}, alpha={self.alpha}"

    def negative(self, logits: Tensor) -> Tensor:
        """Return alpha p^gamma (-log(1 - p))."""
        x = at_least_float32(logits)
        p = x.detach().sigmoid() if self.detached else x.sigmoid()
        loss = F.softplus(x) * p.pow(self.gamma)
        return loss if self.alpha == 1 else loss * self.alpha

    def forward(self, pred_score: Tensor, gt_score: Tensor, label: Tensor) -> Tensor:
        """Return the loss of (B, N, ...): mean over axis 1, sum over the rest.

        Args:
            pred_score: Logits.
            gt_score: Quality, 0 where the label is 0.
            label: 1 for the class of a matched target, else 0.
        """
        quality = gt_score.to(at_least_float32(pred_score).dtype)
        return torch.where(label > 0, self.positive(pred_score, quality), self.negative(pred_score)).mean(1).sum()


class VarifocalLoss(FocalNegatives):
    """Varifocal loss (arXiv 2008.13367): positives are weighted by, and drawn to, the quality of their box.

    Arguments are those of `FocalNegatives`.
    """

    def __init__(self, gamma: float = 2.0, alpha: float = 0.75, detached: bool = False) -> None:
        super().__init__(gamma, alpha, detached)

    def positive(self, logits: Tensor, quality: Tensor) -> Tensor:
        """Return q times the cross entropy towards q."""
        x = at_least_float32(logits)
        return quality * (F.softplus(x) - quality * x)


class MatchabilityAwareLoss(FocalNegatives):
    """Matchability-aware loss of DEIM (arXiv 2412.04234, section 3.3): low-quality matches count too.

    Positives: -q^gamma log p - (1 - q^gamma) log(1 - p). Negatives: -alpha p^gamma log(1 - p). Arguments are those of
    `FocalNegatives`; published models have alpha = 1.
    """

    def __init__(self, gamma: float = 1.5, alpha: float = 1.0, detached: bool = False) -> None:
        super().__init__(gamma, alpha, detached)

    def positive(self, logits: Tensor, quality: Tensor) -> Tensor:
        """Return the cross entropy towards q^gamma."""
        x = at_least_float32(logits)
        return F.softplus(x) - quality.pow(self.gamma) * x
