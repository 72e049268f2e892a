"""Activation checkpointing: gradients, statistics and random numbers are those of a plain step, bit by bit."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from tests.engine.tiny import TINY, write_dataset
from ultralytics.engine.training.environment import check_arguments
from ultralytics.models.rtdetr.train import RTDETRTrainer
from ultralytics.nn.activation_checkpointing import checkpoint_layer, preserve_buffers
from ultralytics.nn.tasks import ClassificationModel, RTDETRDetectionModel
from ultralytics.utils.errors import ConfigError

DROPPING = {**TINY, "head": [TINY["head"][0], [-1, 1, "AIFI", [48, 4, 0.2]], *TINY["head"][2:]]}
BATCH = {
    "img": torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0)),
    "cls": torch.tensor([0.0, 1.0, 2.0]),
    "bboxes": torch.rand(3, 4, generator=torch.Generator().manual_seed(1)) * 0.5 + 0.2,
    "batch_idx": torch.tensor([0.0, 0.0, 1.0]),
}


@pytest.fixture(scope="module")
def network() -> RTDETRDetectionModel:
    torch.manual_seed(0)
    return RTDETRDetectionModel(DROPPING, verbose=False).train()


def with_option(network: nn.Module, on: bool) -> Any:
    copied: Any = copy.deepcopy(network)
    copied.activation_checkpointing = on
    return copied


def step(model: nn.Module, steps: int = 2, dtype: torch.dtype | None = None) -> torch.Tensor:
    """Add up the gradients of some steps; return the random number that comes after them."""
    torch.manual_seed(5)
    for _ in range(steps):
        with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
            loss = model(BATCH)[0]
        loss.backward()
    return torch.rand(1)


def assert_same(a: nn.Module, b: nn.Module) -> None:
    for (name, one), two in zip(a.named_parameters(), b.parameters(), strict=True):
        assert (one.grad is None) == (two.grad is None), name
        assert one.grad is None or torch.equal(one.grad, two.grad), name
    for (name, one), two in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        assert torch.equal(one, two), name


@pytest.mark.parametrize("case", ["plain", "bf16", "frozen", "frozen BN statistics", "channels last"])
def test_a_step_is_the_plain_one(network, case):
    models = [with_option(network, on) for on in (False, True)]
    for model in models:
        if case == "frozen":
            for parameter in model.model[:3].parameters():
                parameter.requires_grad_(False)
        elif case == "frozen BN statistics":
            for norm in model.modules():
                if isinstance(norm, nn.BatchNorm2d):
                    norm.eval()
        elif case == "channels last":
            model.to(memory_format=torch.channels_last)
    after = [step(model, dtype=torch.bfloat16 if case == "bf16" else None) for model in models]
    assert torch.equal(*after)
    assert_same(*models)
    moved = 0 if case == "frozen BN statistics" else 2
    assert int(models[1].model[0].bn.num_batches_tracked) == moved


def test_layers_run_twice_and_keep_less(network):
    """The option is not without effect: counted are runs of a layer, and the bytes that wait for the backward pass."""
    runs, kept = {}, {}
    for on in (False, True):
        model, count, held = with_option(network, on), [], {}
        model.model[1].conv.register_forward_hook(lambda *_, count=count: count.append(1))

        def keep(t: torch.Tensor, held: dict[int, int] = held) -> torch.Tensor:
            held[t.untyped_storage()._cdata] = t.untyped_storage().nbytes()
            return t

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            features = model.features(BATCH["img"])
        weights = {t.untyped_storage()._cdata for t in [*model.parameters(), *model.buffers()]}
        kept[on] = sum(n for key, n in held.items() if key not in weights)
        sum(f.float().square().sum() for f in features).backward()
        runs[on] = len(count)
    assert runs == {False: 1, True: 2}
    assert kept[True] < 0.5 * kept[False]  # what goes from layer to layer


def test_evaluation_runs_once(network):
    model, count = with_option(network, True), []
    model.model[1].conv.register_forward_hook(lambda *_: count.append(1))
    with torch.no_grad():
        model(BATCH["img"])
    model.eval()(BATCH["img"])
    assert len(count) == 2


def test_classifiers_too():
    rows = [[-1, 1, "Conv", [8, 3, 2]], [-1, 1, "Conv", [16, 3, 2]]]
    yaml = {"task": "classify", "nc": 3, "backbone": rows, "head": [[-1, 1, "SHViTHead", ["nc"]]]}
    torch.manual_seed(0)
    model = ClassificationModel(yaml, verbose=False).train()
    models = [with_option(model, on) for on in (False, True)]
    for m in models:
        m.loss({"img": BATCH["img"], "cls": torch.tensor([0, 2])})[0].backward()
    assert_same(*models)


class Counting(nn.Module):
    """Writes to a buffer in each run, without being a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("runs", torch.zeros(()))
        self.register_buffer("none", None)
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, xs: list[torch.Tensor]) -> torch.Tensor:
        self.runs += 1
        return (sum(xs) * self.weight).exp()


def test_any_buffer_and_several_inputs():
    layer, x = Counting(), torch.zeros(3, requires_grad=True)
    checkpoint_layer(layer, [x, x]).sum().backward()
    assert layer.runs == 1 and torch.equal(x.grad, torch.full((3,), 2.0))


def test_buffers_come_back_after_an_error():
    layer = Counting()
    mine = layer.runs
    with pytest.raises(KeyError), preserve_buffers(layer):
        layer.runs += 1
        raise KeyError
    assert layer.runs is mine and mine == 0


@pytest.fixture
def lone_group(tmp_path: Path) -> Iterator[None]:
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def test_distributed(network, lone_group):
    """With `find_unused_parameters`, as in training; a batch without objects leaves the denoising embedding unused."""
    models = [with_option(network, on) for on in (False, True)]
    for model in models:
        step(DistributedDataParallel(model, find_unused_parameters=True))
    assert_same(*models)


def test_a_run(tmp_path):
    """The argument reaches the network, and the weights after two steps are those of a plain run."""
    data, after = write_dataset(tmp_path / "set"), []
    options = {"epochs": 1, "imgsz": 64, "batch": 2, "workers": 0, "device": "cpu", "plots": False, "amp": False}
    for on in (False, True):
        where = {"data": str(data), "project": str(tmp_path), "name": str(on), "activation_checkpointing": on}
        trainer = RTDETRTrainer(overrides={**options, **where})
        trainer.model = trainer.get_model(cfg=TINY, verbose=False)
        trainer._finish = lambda: None
        trainer.train()
        assert trainer.model.activation_checkpointing is on
        after.append(trainer.model.state_dict())
    for key, tensor in after[0].items():
        assert torch.equal(tensor, after[1][key]), key


def test_refused_with_shared_statistics(tmp_path, monkeypatch):
    trainer = RTDETRTrainer(overrides={"data": str(write_dataset(tmp_path)), "model": "x.yaml", "device": "cpu"})
    trainer.args.activation_checkpointing = trainer.args.sync_bn = True
    check_arguments(trainer.args)
    monkeypatch.setattr("ultralytics.utils.dist.world_size", lambda: 2)
    with pytest.raises(ConfigError, match="sync_bn"):
        check_arguments(trainer.args)
