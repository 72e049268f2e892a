"""Classification losses against torchvision and against the formulas of the papers, one number at a time."""

import math

import pytest
import torch
from torchvision.ops import sigmoid_focal_loss

from ultralytics.utils.loss import BinaryCrossEntropy, FocalLoss, MatchabilityAwareLoss, VarifocalLoss


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def vfl(x, q, y, gamma, alpha):
    p = sigmoid(x)
    return q * -(q * math.log(p) + (1 - q) * math.log(1 - p)) if y else alpha * p**gamma * -math.log(1 - p)


def mal(x, q, y, gamma, alpha):
    p, t = sigmoid(x), q**gamma
    return -(t * math.log(p) + (1 - t) * math.log(1 - p)) if y else p**gamma * -math.log(1 - p)


def inputs(b=2, n=3, c=4):
    gen = torch.Generator().manual_seed(0)
    logits = torch.randn(b, n, c, generator=gen, dtype=torch.float64) * 3
    label = (torch.rand(b, n, c, generator=gen) < 0.3).double()
    return logits, torch.rand(b, n, c, generator=gen, dtype=torch.float64) * label, label


@pytest.mark.parametrize(("gamma", "alpha"), [(1.5, 0.25), (2.0, 0.75), (0.0, -1.0)])
@pytest.mark.parametrize("n", [1, 3])
def test_focal_loss_equals_torchvision(gamma, alpha, n):
    logits, _, label = inputs(n=n)
    want = sigmoid_focal_loss(logits, label, alpha=alpha, gamma=gamma).mean(1).sum()
    torch.testing.assert_close(FocalLoss(gamma, alpha)(logits, label), want)


@pytest.mark.parametrize(
    ("loss", "formula"),
    [(VarifocalLoss(2.0, 0.75), vfl), (VarifocalLoss(1.5, 0.25), vfl), (MatchabilityAwareLoss(1.5), mal)],
)
def test_quality_losses_equal_their_formula(loss, formula):
    logits, quality, label = inputs()
    terms = zip(logits.flatten().tolist(), quality.flatten().tolist(), label.flatten().tolist(), strict=True)
    want = sum(formula(x, q, y, loss.gamma, getattr(loss, "alpha", None)) for x, q, y in terms) / logits.shape[1]
    assert float(loss(logits, quality, label)) == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize("loss", [FocalLoss(), FocalLoss(2.0, 0.0), BinaryCrossEntropy()])
def test_parts_equal_the_dense_loss(loss):
    logits, _, label = inputs()
    dense = torch.nn.functional.binary_cross_entropy_with_logits(logits, label, reduction="sum") / logits.shape[1]
    if isinstance(loss, FocalLoss):
        dense = loss(logits, label)
    parts = torch.where(label > 0, loss.positive(logits, label), loss.negative(logits))
    torch.testing.assert_close(parts.sum() / logits.shape[1], dense)


@pytest.mark.parametrize("loss", [FocalLoss(), VarifocalLoss(), MatchabilityAwareLoss(), BinaryCrossEntropy()])
def test_gradients(loss):
    logits, quality, _ = inputs(1, 2, 2)
    logits = logits.requires_grad_()
    assert torch.autograd.gradcheck(loss.negative, logits)
    assert torch.autograd.gradcheck(lambda x: loss.positive(x, quality + 0.1), logits)


@pytest.mark.parametrize("loss", [FocalLoss(), VarifocalLoss(), MatchabilityAwareLoss(), BinaryCrossEntropy()])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_extreme_logits_in_half_precision_are_finite(loss, dtype):
    logits = torch.tensor([-3e4, -90.0, 0.0, 90.0, 3e4]).to(dtype).requires_grad_()
    parts = loss.negative(logits) + loss.positive(logits, torch.full((5,), 0.5))
    assert parts.dtype == torch.float32 and bool(parts.isfinite().all())
    parts.sum().backward()
    assert bool(logits.grad.isfinite().all())


def test_empty():
    empty = torch.zeros(2, 3, 0)
    assert float(FocalLoss()(empty, empty)) == 0.0
    assert float(VarifocalLoss()(empty, empty, empty)) == 0.0


def test_low_quality_positives_still_teach_under_mal():
    """The point of MAL: at IoU 0.1 the varifocal loss nearly vanishes, MAL does not."""
    x, q = torch.tensor([2.0]), torch.tensor([0.1])
    assert float(MatchabilityAwareLoss().positive(x, q)) > 5 * float(VarifocalLoss().positive(x, q))
