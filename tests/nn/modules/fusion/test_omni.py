"""OmniKernel: the spectrum by a sum over places, half precision, unused parts, refusals, counts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests.golden.blocks.fill import fill_, tensor
from tests.nn.modules.block_checks import check_block, parameters_of, parameters_without_gradient, plan_of
from ultralytics.nn.modules.fusion.omni import CSPOmniKernel, FrequencyGate, OmniKernel, _filtered_by_products
from ultralytics.utils.errors import ConfigError


@pytest.mark.parametrize("size", [(8, 6), (7, 5), (1, 3)])
def test_shapes_batch_and_folds(size: tuple[int, int]) -> None:
    check_block(OmniKernel(4, 5), (4, *size), (4, *size))
    check_block(CSPOmniKernel(16), (16, *size), (16, *size))


def test_the_gate_starts_as_the_identity() -> None:
    x = tensor("x", (1, 4, 5, 3))
    torch.testing.assert_close(FrequencyGate(4)(x), x)


def test_a_product_of_spectra_by_places() -> None:
    """A gate in the frequency domain is a circular convolution; here with the transform written as sums."""
    block, x = fill_(FrequencyGate(2)), tensor("x", (1, 2, 3, 4))
    height, width = 3, 4
    rows, columns = (torch.arange(n, dtype=torch.float64) for n in (height, width))
    turn_r = torch.exp(-2j * torch.pi * rows[:, None] * rows / height)
    turn_c = torch.exp(-2j * torch.pi * columns[:, None] * columns / width)
    with torch.no_grad():
        gate, values = block.dwconv1(x).double(), block.dwconv2(x).to(torch.complex128)
        product = gate * torch.einsum("ur,bcrk,vk->bcuv", turn_r, values, turn_c)
        back = torch.einsum("ur,bcuv,vk->bcrk", turn_r.conj(), product, turn_c.conj()) / (height * width)
        want = block.alpha * back.abs().float() + block.beta * x
        torch.testing.assert_close(block(x), want, rtol=1e-4, atol=1e-5)


def test_half_precision_of_any_size() -> None:
    """The transform runs in float32, so sides need not be powers of two."""
    block, x = fill_(CSPOmniKernel(16)).eval(), tensor("x", (1, 16, 7, 5))
    with torch.no_grad():
        want = block(x)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = block(x)
        half = block.bfloat16()(x.bfloat16())
    for got in (mixed, half):
        assert got.dtype is torch.bfloat16
        assert F.cosine_similarity(got.float().flatten(), want.flatten(), dim=0) > 0.999


def test_only_the_unused_part_gets_no_gradient() -> None:
    missing = parameters_without_gradient(CSPOmniKernel(16), (16, 6, 5))
    assert missing == {"m.fgm.conv.weight", "m.fgm.conv.bias"}


def test_an_empty_map_of_zeros_has_finite_gradients() -> None:
    block, x = OmniKernel(4, 3), torch.zeros(1, 4, 4, 4, requires_grad=True)
    block(x).sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CSPOmniKernel(3, 0.25), "e=0.25 of 3 channels gives 0"),
        (lambda: CSPOmniKernel(8, 1.5), "gives 12"),
        (lambda: OmniKernel(4, 30), "kernel_size=30 must be odd"),
    ],
)
def test_wrong_arguments_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_rows_and_counts() -> None:
    plan = plan_of("CSPOmniKernel", [], 256, width=0.5)
    assert (plan.args, plan.out_channels) == ((256,), 256)
    assert parameters_of("CSPOmniKernel", [], 256) == 224_256


@pytest.mark.parametrize("size", [(8, 6), (7, 5), (1, 3)])
@pytest.mark.parametrize("gate", [(1, 1), None])
def test_products_of_an_export_are_the_transforms(size: tuple[int, int], gate: tuple[int, int] | None) -> None:
    x, factor = tensor("x", (2, 3, *size)), tensor("gate", (2, 3, *(gate or size)))
    want = torch.fft.ifft2(factor * torch.fft.fft2(x)).abs()
    torch.testing.assert_close(_filtered_by_products(x, factor), want, rtol=1e-5, atol=1e-5)
