"""Resampling with a gradient of one order against torch's own, on the CPU."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ultralytics.utils.torch_tools import reproducible


@pytest.fixture
def in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the form with one order on the CPU too."""
    monkeypatch.setattr(reproducible, "needs_one_order", lambda x: True)


def gradients(call: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    leaves = [x.clone().requires_grad_() for x in inputs]
    out = call(*leaves)
    weights = torch.linspace(0.2, 1.7, out.numel()).view(out.shape)
    return [out.detach(), *torch.autograd.grad((out * weights).sum(), leaves)]


@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("size", [(5, 7), (1, 4), (6, 1)])
def test_samples_and_gradients_equal_those_of_torch(padding: str, align: bool, size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, *size, generator=generator)
    grid = torch.rand(2, 4, 9, 2, generator=generator) * 2.6 - 1.3  # a quarter lies outside of the map
    ours = gradients(lambda a, g: reproducible.grid_sample_in_order(a, g, padding, align), x, grid)
    theirs = gradients(lambda a, g: F.grid_sample(a, g, "bilinear", padding, align), x, grid)
    torch.testing.assert_close(ours[0], theirs[0], atol=1e-6, rtol=0)
    for mine, reference in zip(ours[1:], theirs[1:], strict=True):
        torch.testing.assert_close(mine, reference, atol=1e-5, rtol=1e-5)


def test_an_empty_grid_and_a_nan_in_the_grid() -> None:
    x = torch.randn(1, 2, 4, 4)
    assert reproducible.grid_sample_in_order(x, torch.zeros(1, 0, 3, 2)).shape == (1, 2, 0, 3)
    grid = torch.zeros(1, 1, 2, 2)
    grid[0, 0, 1, 0] = math.nan
    out = reproducible.grid_sample_in_order(x, grid)
    assert out[..., 0].isfinite().all()
    assert out[..., 1].isnan().all()


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize(("size", "wanted"), [((4, 6), (9, 13)), ((7, 5), (3, 5)), ((1, 3), (4, 1))])
@pytest.mark.usefixtures("in_order")
def test_bilinear_resizing_equals_that_of_torch(size: tuple[int, int], wanted: tuple[int, int], align: bool) -> None:
    x = torch.randn(2, 3, *size)
    ours = gradients(lambda a: reproducible.interpolate_bilinear(a, wanted, align), x)
    theirs = gradients(lambda a: F.interpolate(a, size=wanted, mode="bilinear", align_corners=align), x)
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, reference, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["avg", "max"])
@pytest.mark.parametrize(("size", "wanted"), [((8, 6), (4, 3)), ((7, 5), (3, 2)), ((3, 4), (6, 8)), ((5, 5), (1, 1))])
@pytest.mark.usefixtures("in_order")
def test_adaptive_pooling_equals_that_of_torch(kind: str, size: tuple[int, int], wanted: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size)
    ours = gradients(lambda a: getattr(reproducible, f"adaptive_{kind}_pool2d")(a, wanted), x)
    theirs = gradients(lambda a: getattr(F, f"adaptive_{kind}_pool2d")(a, wanted), x)
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, reference, atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("in_order")
def test_reflection_equals_that_of_torch() -> None:
    x = torch.randn(2, 4, 5, 6)
    ours = gradients(lambda a: reproducible.reflection_pad2d(a, 3), x)
    for mine, reference in zip(ours, gradients(lambda a: F.pad(a, (3,) * 4, mode="reflect"), x), strict=True):
        torch.testing.assert_close(mine, reference)
    convolution = reproducible.ReflectConv2d(4, 2, 7, groups=2)
    torch.testing.assert_close(convolution(x), torch.nn.Conv2d.forward(convolution, x))


def test_sums_of_rows_against_finite_differences() -> None:
    generator = torch.Generator().manual_seed(1)
    table = torch.randn(5, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    weight = torch.randn(4, 6, dtype=torch.float64, generator=generator, requires_grad=True)
    index = torch.randint(5, (4, 6), generator=generator)
    assert torch.autograd.gradcheck(lambda t, w: reproducible.sum_rows_in_order(t, index, w), (table, weight))
    slow = torch.stack([sum(weight[g, k] * table[index[g, k]] for k in range(6)) for g in range(4)])
    torch.testing.assert_close(reproducible.sum_rows_in_order(table, index, weight), slow)


def test_a_cpu_takes_the_operations_of_torch() -> None:
    x = torch.randn(1, 2, 4, 4, requires_grad=True)
    before = torch.are_deterministic_algorithms_enabled()
    try:
        torch.use_deterministic_algorithms(True)
        assert not reproducible.needs_one_order(x)
        assert "GridSampler" in str(reproducible.grid_sample(x, torch.zeros(1, 1, 1, 2)).grad_fn)
    finally:
        torch.use_deterministic_algorithms(before)
