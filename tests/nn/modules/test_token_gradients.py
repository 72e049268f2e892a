"""Gradients of maps that become tokens, for one image: batch norm on the CPU must get them in a layout that it reads.

Blocks that turn a map into tokens rely on this: without `contiguous_gradient`, training with batch 1 on a CPU continues
with wrong gradients in the layers before.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ultralytics.nn.modules.csp import Attention
from ultralytics.nn.modules.head import RTDETRDecoder
from ultralytics.nn.modules.shsa import SHSA
from ultralytics.nn.modules.transformer import AIFI
from ultralytics.nn.modules.utils import contiguous_gradient


def norm() -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(32).double()
    nn.init.uniform_(layer.weight, 0.5, 2)
    return layer


def test_one_image_is_read_as_it_is() -> None:
    torch.manual_seed(0)
    layer, x = norm(), torch.randn(1, 32, 2, 3, dtype=torch.float64)
    grad = torch.randn(1, 6, 32, dtype=torch.float64)

    plain, tokens = (x.clone().requires_grad_() for _ in range(2))
    want = torch.autograd.grad(layer(plain), plain, grad.transpose(1, 2).reshape(x.shape).contiguous())
    found = torch.autograd.grad(contiguous_gradient(layer(tokens)).flatten(2).transpose(1, 2), tokens, grad)
    torch.testing.assert_close(found, want)


class _Before(nn.Module):
    """Batch norm without an activation, then a block that makes tokens of the map."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.norm, self.block = norm(), block.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.block(self.norm(x))


@pytest.mark.parametrize(
    "block", [AIFI(32, 48, 4), SHSA(32, 4, 16, True), Attention(32, 4)], ids=lambda b: type(b).__name__
)
@pytest.mark.parametrize("training", [False, True])
def test_blocks_by_finite_differences(block: nn.Module, training: bool) -> None:
    torch.manual_seed(0)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    net = _Before(block).train(training)
    x = torch.randn(1, 32, 2, 3, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(net, (x,), atol=1e-5, rtol=1e-3)


def test_head_by_finite_differences() -> None:
    """Each number of the input moves the scores of the selected tokens as the gradient says."""
    torch.manual_seed(0)
    head = RTDETRDecoder(2, [8, 8], hd=16, nq=5, nh=2, ndl=1, d_ffn=16, nd=0).double().eval()
    for parameter in head.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.3)
    maps = [torch.randn(1, 8, 4, 6, dtype=torch.float64), torch.randn(1, 8, 2, 3, dtype=torch.float64)]

    def score(a: Tensor, b: Tensor) -> Tensor:
        raw = head([a, b])[1]
        return (raw.dec_scores.sin() * torch.arange(5.0)[:, None]).sum() + raw.enc_scores.cos().sum()

    assert torch.autograd.gradcheck(score, [m.requires_grad_() for m in maps], atol=1e-5, rtol=1e-3)
