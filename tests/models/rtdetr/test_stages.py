"""Runs with a plan: stages of augmentation, rates, mixing of batches, returns to the best weights, exact resume."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tests.data.augment.scenes import SIDE, Scenes
from tests.engine.same import assert_equal, assert_same_run
from tests.engine.tiny import FAST_RUN, write_dataset
from tests.models.dfine.networks import DFINE
from ultralytics.cfg.resolution import load_recipe
from ultralytics.data.augment import AugmentParams
from ultralytics.data.augment.staged import OneOf, staged_chains
from ultralytics.models.rtdetr import stages
from ultralytics.models.rtdetr.stages import mixed, pasted, planned_side
from ultralytics.models.rtdetr.train import RTDETRTrainer
from ultralytics.nn.checkpoint.format import read_checkpoint
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.torch_tools.training_plans import RunPlan


class Killed(Exception):
    """Stands for a process that dies."""


def kill_at(trainer: RTDETRTrainer, event: str, count: int) -> None:
    """Let the `count`-th `event` end the run at once."""
    seen: list[int] = []

    def die(_: Any) -> None:
        seen.append(1)
        if len(seen) == count:
            raise Killed

    trainer.add_callback(event, die)


FITNESS = (0.1, 0.3, 0.2, 0.25, 0.1, 0.4)  # of the epochs; two of them are clean, and start from the second's weights
RUN = {
    **{**FAST_RUN, "recipe": "deim", "epochs": 6, "ema_decay": 0.9, "ema_warmup": 5.0, "batch": 2, "imgsz": 64},
    **{"zoom_out": 0.1, "patience": 0, "warmup_epochs": 0.5, "cache": False},
}


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., RTDETRTrainer]:
    """Makes a trainer whose validation gives the fitness of the table."""
    data = write_dataset(tmp_path_factory.mktemp("set"))
    folder = tmp_path_factory.mktemp("runs")

    def build(name: str, **changes: Any) -> RTDETRTrainer:
        own = {} if changes.get("resume") else {**RUN, "data": str(data), "project": str(folder), "name": name}
        trainer = RTDETRTrainer(overrides={**own, **changes})
        if not changes.get("resume"):
            trainer.model = trainer.get_model(cfg=DFINE, verbose=False)
        trainer.final_val = False
        trainer.validate = lambda: ({}, FITNESS[trainer.epoch])  # type: ignore[method-assign]
        return trainer

    return build


@pytest.fixture(scope="module")
def straight(make: Callable[..., RTDETRTrainer]) -> RTDETRTrainer:
    """A whole run; the weights at the start and at the end of each epoch, and all rates."""
    trainer = make("straight")
    trainer.starts, trainer.ends, trainer.factors, trainer.decays = [], [], [], []  # type: ignore[attr-defined]

    def keep(into: str) -> Callable[[Any], None]:
        return lambda run: getattr(run, into).append({k: v.clone() for k, v in run.model.state_dict().items()})

    trainer.add_callback("on_train_batch_start", lambda run: run.decays.append(run.ema.base_decay))
    trainer.add_callback("on_train_epoch_end", keep("ends"))
    trainer.add_callback("on_train_batch_end", lambda run: run.factors.append(run.optimizer.param_groups[0]["lr"]))
    trainer.add_callback(
        "on_pretrain_routine_end", lambda run: run.add_callback("on_train_epoch_start", keep("starts"))
    )
    trainer.train()
    return trainer


def test_clean_epochs_start_from_the_best_weights(straight: Any) -> None:
    plan = RunPlan.named("deim", 6)
    assert (plan.start, plan.middle, plan.stop) == (0, 3, 5)
    assert_equal(straight.starts[4], straight.ends[3], "an epoch before the clean ones continues")
    assert_equal(straight.starts[5], straight.ends[1], "the clean epoch starts from the best one")
    assert straight.decays[-1] == 0.9
    assert straight.freeze_layer_names == ["model.7.up", "model.7.reg_scale"]


def test_each_later_clean_epoch_that_follows_no_gain_returns_again(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "plan_of", lambda trainer: RunPlan("deim", 5, 0, 1, 2, True))
    trainer = make("later", epochs=5)
    trainer.validate = lambda: ({}, (0.1, 0.5, 0.1, 0.1, 0.6)[trainer.epoch])
    decays: list[float] = []
    trainer.add_callback("on_train_epoch_end", lambda run: decays.append(run.ema.base_decay))
    trainer.train()
    assert decays == pytest.approx([0.9, 0.9, 0.9, 0.8, 0.7])


def test_rates_are_flat_then_fall_and_are_never_zero(straight: Any) -> None:
    rates = np.array(straight.factors) / 0.0004
    assert len(rates) == 12 and rates[1:6] == pytest.approx(1.0) and rates[0] == pytest.approx(1.0)
    assert (np.diff(rates[6:11]) <= 0).all() and rates[10:] == pytest.approx(0.5)


@pytest.mark.parametrize(("event", "count"), [("on_model_save", 2), ("on_train_batch_end", 11)])
def test_a_resumed_run_equals_the_whole_one(
    make: Callable[..., RTDETRTrainer], straight: Any, event: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ultralytics.engine.trainer.AUTOSAVE_S", 0.0)
    name = f"{event}{count}"
    trainer = make(name)
    kill_at(trainer, event, count)
    with pytest.raises(Killed):
        trainer.train()
    again = make(name, resume=str(trainer.last))
    again.train()
    assert_same_run(again, straight)
    one, two = (read_checkpoint(run.last)["train_state"]["stage"] for run in (again, straight))
    assert_equal(one, two, "stage")


def test_a_plan_needs_a_number_of_epochs(make: Callable[..., RTDETRTrainer]) -> None:
    with pytest.raises(ConfigError, match="leave time out"):
        make("timed", time=0.1).train()
    with pytest.raises(ConfigError, match="choose d-fine, deim"):
        RunPlan.named("official", 12)


@pytest.mark.parametrize("epochs", [1, 2, 12, 40, 58, 72, 132])
@pytest.mark.parametrize("name", ["d-fine", "deim"])
def test_plans_scale_with_the_run(name: str, epochs: int) -> None:
    plan = RunPlan.named(name, epochs)
    assert 0 <= plan.start <= plan.stop <= epochs and plan.middle <= epochs
    assert (plan.stop < epochs) == (epochs > 1)
    if epochs == 132:
        assert (plan.start, plan.middle, plan.stop) == ((4, 64, 120) if name == "deim" else (0, 0, 120))
    rates = plan.rates(10, 3, 0.5)
    assert all(0 < rates(step + 1) <= 1 for step in range(10 * epochs))


def test_chains_of_the_stages() -> None:
    """Mosaics come in dense epochs alone; all samples of a stage have the same keys."""
    params = AugmentParams.from_args(load_recipe("deim"))
    chains = staged_chains(Scenes(), SIDE, params, RunPlan.named("deim", 132), keep_aspect=False)
    assert (chains.at(3), chains.at(4), chains.at(64), chains.at(120)) == (
        chains.clean,
        chains.dense,
        chains.strong,
        chains.clean,
    )
    assert any(isinstance(step, OneOf) for step in chains.dense)
    assert not any(isinstance(step, OneOf) for step in (*chains.strong, *chains.clean))
    for chain in (chains.clean, chains.strong, chains.dense):
        made = [chain(Scenes().get_image_and_label(i, np.random.default_rng(i))) for i in range(6)]
        assert len({tuple(sorted(sample)) for sample in made}) == 1
        assert {tuple(sample["img"].shape) for sample in made} == {(3, SIDE, SIDE)}
    objects = [len(chains.dense(Scenes().get_image_and_label(0, np.random.default_rng(i)))["cls"]) for i in range(20)]
    assert max(objects) > 2 >= min(objects)


def test_mixed_batches_keep_all_objects() -> None:
    images = torch.rand(3, 3, 8, 8)
    batch: Any = {
        "img": images,
        "cls": torch.tensor([[0.0], [1.0], [2.0]]),
        "bboxes": torch.rand(3, 4),
        "batch_idx": torch.tensor([0.0, 0.0, 2.0]),
    }
    assert mixed(batch, 0.0, 0, 1) is batch
    out = mixed(batch, 1.0, 0, 1)
    assert out["batch_idx"].tolist() == [0, 0, 0, 1, 1, 2] and out["cls"].flatten().tolist() == [0, 1, 2, 0, 1, 2]
    weight = float(((out["img"] - images.roll(1, 0)) / (images - images.roll(1, 0))).median())
    assert 0.45 <= weight <= 0.55
    torch.testing.assert_close(out["img"], mixed(batch, 1.0, 0, 1)["img"])
    empty = mixed(
        {**batch, "cls": batch["cls"][:0], "bboxes": batch["bboxes"][:0], "batch_idx": torch.zeros(0)}, 1.0, 0, 1
    )
    assert len(empty["cls"]) == len(empty["batch_idx"]) == 0


def test_pasted_objects_are_labelled_where_they_lie() -> None:
    """The white square of the first image appears, at half weight, in black ones; no object leaves an image."""
    images = torch.zeros(3, 3, 64, 96)
    images[0, :, 8:24, 16:40] = 1.0
    batch: Any = {
        "img": images,
        "cls": torch.tensor([[2.0]]),
        "bboxes": torch.tensor([[28 / 96, 16 / 64, 24 / 96, 16 / 64]]),
        "batch_idx": torch.tensor([0.0]),
    }
    assert pasted(batch, 0.0, 0, 1) is batch
    out = pasted(batch, 1.0, 0, 1)
    assert out["cls"].flatten().tolist() == [2.0] * 4 and out["batch_idx"].tolist() == [0, 0, 1, 2]
    assert torch.equal(out["img"], pasted(batch, 1.0, 0, 1)["img"]) and torch.equal(images, batch["img"])
    for image, (cx, cy, w, h) in zip(out["img"][1:], out["bboxes"][2:].tolist(), strict=True):
        x, y = round((cx - w / 2) * 96), round((cy - h / 2) * 64)
        part = image[:, y : y + 16, x : x + 24]
        assert part.shape == (3, 16, 24) and 0.45 <= float(part.min()) == float(part.max()) <= 0.55
        assert float(image.sum()) == pytest.approx(float(part.sum()))
    empty = {**batch, "cls": batch["cls"][:0], "bboxes": batch["bboxes"][:0], "batch_idx": torch.zeros(0)}
    assert len(pasted(empty, 1.0, 0, 1)["cls"]) == 0


def test_pasting_needs_a_plan(make: Callable[..., RTDETRTrainer]) -> None:
    with pytest.raises(ConfigError, match="add plan=deim"):
        make("pasting", recipe="small", copy_paste=0.5, copy_paste_mode="blend").train()


def test_sizes_of_batches_end_with_the_strong_transforms() -> None:
    plan = RunPlan.named("d-fine", 12)
    sides = {planned_side(plan, 320, 32, 0, 3, step) for step in range(200)}
    assert 320 in sides and len(sides) > 3 and min(sides) >= 224 and max(sides) <= 416
    assert {planned_side(plan, 320, 32, 0, 11, step) for step in range(20)} == {320}
