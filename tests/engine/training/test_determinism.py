"""Training with `deterministic=True` on a pretended GPU, which refuses operations without a reproducible gradient."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.tiny import TINY, small_trainer, write_dataset
from tests.engine.training.pretended import CUDA, Pretended, pretended_gpu
from ultralytics.engine.training.environment import _why_not_deterministic
from ultralytics.nn.modules.deformable import multi_scale_deformable_attn_pytorch
from ultralytics.nn.profile.block_facts import block_facts
from ultralytics.nn.registry import REGISTRY, Plan, RowContext
from ultralytics.nn.tasks import RTDETRDetectionModel


@pytest.fixture
def strict() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


def sampled(inputs: list[torch.Tensor], shapes: list[tuple[int, int]]) -> list[torch.Tensor]:
    leaves = [x.clone().requires_grad_() for x in inputs]
    out = multi_scale_deformable_attn_pytorch(leaves[0], shapes, leaves[1], leaves[2])
    weights = torch.arange(out.numel(), device=out.device).view(out.shape) / 1e4
    return [out, *torch.autograd.grad((out * weights).sum(), leaves)]


@pytest.mark.usefixtures("strict")
def test_deformable_attention_on_a_gpu_equals_that_of_a_cpu() -> None:
    generator = torch.Generator().manual_seed(0)
    value = torch.randn(2, 20 * 20 + 10 * 9, 4, 8, generator=generator)
    inputs = [value, torch.rand(2, 30, 4, 8, 2, generator=generator), torch.rand(2, 30, 4, 8, generator=generator)]
    shapes = [(20, 20), (10, 9)]
    reference = sampled(inputs, shapes)
    with pretended_gpu() as waits:
        ours = sampled([Pretended(x) for x in inputs], shapes)
        assert not waits
    torch.testing.assert_close(ours[0].inner, reference[0], atol=1e-6, rtol=0)
    for mine, expected in zip(ours[1:], reference[1:], strict=True):
        torch.testing.assert_close(mine.inner, expected, atol=1e-5, rtol=1e-5)


def train(folder: Path, head: list[Any] | None = None, **changes: Any) -> bool:
    """Train one epoch on the pretended GPU; whether operations without a reproducible form were errors then."""
    model = copy.deepcopy(TINY)
    if head is not None:
        model["head"].insert(1, head)
        model["head"][2] = [6, 1, "AIFI", [48, 4]]
        model["head"][3] = [[2, 3, 7], *model["head"][3][1:]]
    seen = []
    with pretended_gpu():
        options = {"epochs": 1, "optimizer": "SGD", "lr0": 0.01, "plots": False, "device": 0, **changes}
        trainer = small_trainer(write_dataset(folder / "data"), folder, **options)
        trainer.model = RTDETRDetectionModel(model, verbose=False)
        asked = (torch.are_deterministic_algorithms_enabled, torch.is_deterministic_algorithms_warn_only_enabled)
        trainer.add_callback("on_train_batch_start", lambda _: seen.append([ask() for ask in asked]))
        trainer.train()
    return seen[-1] == [True, False]


def test_a_detector_trains_with_reproducible_operations_alone(tmp_path: Path) -> None:
    assert train(tmp_path)
    assert not torch.are_deterministic_algorithms_enabled()  # as before the run


def test_an_operation_without_a_reproducible_form_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert not train(tmp_path, [-1, 1, "nn.Upsample", ["None", 1.0, "bilinear"]])
    [line] = [r.getMessage() for r in caplog.records if "deterministic=True" in r.getMessage()]
    assert "upsample_bilinear2d_backward" in line


def test_a_matrix_product_before_the_switch_of_cublas_is_named() -> None:
    text = _why_not_deterministic("... uses CuBLAS ... CUBLAS_WORKSPACE_CONFIG=:4096:8", torch.device("cuda", 1))
    assert "set CUBLAS_WORKSPACE_CONFIG=:4096:8" in text and "nn.Upsample" not in text


@pytest.mark.slow
@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("name", list(REGISTRY))
def test_every_row_has_a_reproducible_gradient(name: str) -> None:
    block = block_facts(name)
    if block.args is None:
        pytest.skip("needs arguments of its own")
    entry = REGISTRY.get(name)
    assert entry is not None
    row = RowContext((256,) * block.inputs, block.args)
    plan = entry.rule(row) if entry.rule else Plan((row.c1, *block.args), -1)
    with pretended_gpu():
        module = entry.cls(*plan.args, **(plan.kwargs or {})).train().to(CUDA)
        maps = [torch.rand(2, 256, 8, 8).to(CUDA).requires_grad_() for _ in row.in_channels]
        out = module(maps if entry.multi_input else maps[0])
        outs = out if isinstance(out, list | tuple) else [out]
        sum(o.float().square().mean() for o in outs).backward()
    without = [i for i, x in enumerate(maps) if x.grad is None]
    assert without == ([1] if name == "ResizeLike" else [])  # which reads the size alone of its second map
