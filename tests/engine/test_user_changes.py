"""What a user sets holds: rates and frozen layers from callbacks, loaders, figures, results of a prediction."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, WeightedRandomSampler

from tests.engine.tiny import FAST_RUN, IMAGES, TINY, oracle, small_trainer, spread_network, tiny_network, write_dataset
from ultralytics.engine.training.optimizer import (
    OptimizerChoice,
    Warmup,
    build_optimizer,
    choose_optimizer,
    load_optimizer_state,
)
from ultralytics.models.rtdetr.model import RTDETR
from ultralytics.models.rtdetr.predict import RTDETRPredictor
from ultralytics.models.rtdetr.stages import PlannedRates
from ultralytics.models.rtdetr.train import RTDETRTrainer
from ultralytics.models.rtdetr.val import RTDETRValidator
from ultralytics.nn.checkpoint.format import read_checkpoint
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils import YAML
from ultralytics.utils.metrics import DetMetrics
from ultralytics.utils.torch_tools.training_plans import FlatCosine


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("set"))


@pytest.fixture
def make(data: Path, tmp_path: Path) -> Callable[..., RTDETRTrainer]:
    def build(**changes: Any) -> RTDETRTrainer:
        return small_trainer(data, tmp_path, **{"val": False, **changes})

    return build


def rates(trainer: RTDETRTrainer) -> list[float]:
    return [group["lr"] for group in trainer.optimizer.param_groups]


# ---- rates


def test_a_rate_that_a_callback_sets_after_the_warm_up_holds_until_the_scheduler_steps(make: Any) -> None:
    trainer, seen = make(epochs=3, warmup_epochs=0, lr0=0.01, optimizer="SGD"), []

    def change(t: RTDETRTrainer) -> None:
        if t.progress.step == 2:  # the first batch of the second epoch
            for group in t.optimizer.param_groups:
                group["lr"] = 0.5

    trainer.add_callback("on_train_batch_start", change)
    trainer.add_callback("on_train_batch_end", lambda t: seen.append(rates(t)[0]))
    trainer.train()
    first, third = 0.01, trainer.scheduler.base_lrs[0] * trainer.lf(2)
    assert seen == pytest.approx([first, first, 0.5, 0.5, third, third])
    assert trainer.lr["lr/pg0"] == pytest.approx(third)


def test_the_warm_up_sets_the_rates_of_its_batches(make: Any) -> None:
    trainer, seen = make(epochs=2, warmup_epochs=0.5, lr0=0.01, optimizer="SGD", warmup_bias_lr=0.0), []
    trainer.add_callback("on_train_batch_end", lambda t: seen.append(rates(t)[0]))
    trainer.train()
    assert trainer.warmup.iterations == 1 and seen[:2] == pytest.approx([0.01, 0.01])


def changed_at(trainer: RTDETRTrainer, step: int, rate: float, stop: int = -1) -> list[list[float]]:
    """Train with another rate and momentum of the first group from a step on; return the rates of each batch."""
    seen: list[list[float]] = []

    def change(t: RTDETRTrainer) -> None:
        if t.progress.step == step:
            t.optimizer.param_groups[0].update(lr=rate, momentum=0.3)

    def note(t: RTDETRTrainer) -> None:
        seen.append(rates(t)[:2])
        t.interrupt.requested = t.progress.step == stop

    trainer.add_callback("on_train_batch_start", change)
    trainer.add_callback("on_train_batch_end", note)
    trainer.train()
    return seen


def test_what_a_callback_sets_in_the_warm_up_holds_also_in_a_resumed_run(make: Any, tmp_path: Path) -> None:
    options = {"epochs": 4, "batch": 1, "warmup_epochs": 2, "lr0": 0.01, "optimizer": "SGD", "lr_schedule": "constant"}
    straight = make(**options)
    seen = changed_at(straight, step=1, rate=0.5)
    count = straight.batches
    warmed = [0.01 * min((i + 1) / (2 * count), 1) for i in range(4 * count)]
    assert [row[1] for row in seen] == pytest.approx(warmed)
    assert [row[0] for row in seen] == pytest.approx([warmed[0], *[0.5] * (count - 1), *warmed[count:]])
    assert straight.optimizer.param_groups[0]["momentum"] == 0.3 != straight.optimizer.param_groups[1]["momentum"]

    cut = make(**options, name="cut")
    with pytest.raises(KeyboardInterrupt):
        changed_at(cut, step=1, rate=0.5, stop=2)
    again = make(resume=str(cut.last), batch=1, epochs=4)
    assert again.resume_from["train_state"]["batch"] == 2
    assert changed_at(again, step=-1, rate=0.0) == seen[2:]
    for key, tensor in again.model.state_dict().items():
        assert torch.equal(tensor, straight.model.state_dict()[key]), key


def test_groups_that_a_callback_adds_are_left_alone_by_the_warm_up_and_by_a_plan() -> None:
    extra = torch.nn.Parameter(torch.zeros(1))
    for warmup in (Warmup(10), PlannedRates(10, plan=FlatCosine(5, 8, 10, 12, 0.1))):
        optimizer = build_optimizer(tiny_network(), OptimizerChoice("SGD", 0.01, 0.9, 0.0), 0.0)
        optimizer.add_param_group({"params": [extra], "lr": 0.7})
        warmup.set_rates(optimizer, [0.01] * 3, 0)
        assert optimizer.param_groups[3]["lr"] == 0.7 and optimizer.param_groups[0]["lr"] < 0.01
        optimizer.param_groups[0]["lr"] = 0.4
        warmup.set_rates(optimizer, [0.01] * 3, 1, fresh=False)
        assert optimizer.param_groups[0]["lr"] == 0.4 != optimizer.param_groups[1]["lr"] < 0.01
        optimizer.param_groups[0]["lr"] = 0.01  # as the scheduler does
        warmup.set_rates(optimizer, [0.01] * 3, 2)
        assert optimizer.param_groups[0]["lr"] == optimizer.param_groups[1]["lr"]


# ---- frozen layers


def unfreeze(trainer: RTDETRTrainer) -> None:
    if trainer.epoch == 1:
        for parameter in trainer.model.parameters():
            parameter.requires_grad = True


class Started(RuntimeError):
    """A run has taken its network."""


class Unstarted(RTDETRTrainer):
    """Ends before the run."""

    def start_from(self, network: torch.nn.Module, trained: bool) -> None:
        raise Started


@pytest.mark.parametrize(("frozen", "options", "warned"), [(2, {}, 2), (2, {"freeze": 1}, 0), (0, {}, 0)])
def test_parameters_frozen_by_hand_are_reported(
    data: Path, capsys: pytest.CaptureFixture[str], frozen: int, options: dict[str, Any], warned: int
) -> None:
    model = RTDETR(TINY)
    for parameter in list(model.model.model[1].parameters())[:frozen]:
        parameter.requires_grad_(False)
    with pytest.raises(Started):
        model.train(trainer=Unstarted, data=str(data), **FAST_RUN, **options)
    out = capsys.readouterr().out
    text = f"{frozen} parameters with requires_grad=False are trained, model.1."
    assert out.count(text) == bool(warned) and out.count("pass freeze=[...]") == bool(warned)


def test_layers_that_a_callback_unfreezes_train(make: Any) -> None:
    trainer, kept, modes = make(epochs=3, freeze=2, warmup_epochs=0), [], []
    first = trainer.model.model[0]

    def note(t: RTDETRTrainer) -> None:
        kept.append(first.conv.weight.detach().clone())
        modes.append(first.bn.training)

    trainer.add_callback("on_train_epoch_start", unfreeze)
    trainer.add_callback("on_train_epoch_end", note)
    start = first.conv.weight.detach().clone()
    trainer.train()
    assert torch.equal(kept[0], start) and not torch.equal(kept[1], kept[0])
    assert modes == [False, True, True]
    assert len(trainer.freeze_layer_names) == 6


def optimizer_of(model: torch.nn.Module) -> torch.optim.Optimizer:
    from types import SimpleNamespace

    args = SimpleNamespace(optimizer="AdamW", lr0=1e-3, momentum=0.9, warmup_bias_lr=0.0)
    return build_optimizer(model, choose_optimizer(args, 3, 10), 1e-4)


def test_a_checkpoint_of_the_trainable_parameters_alone_loads() -> None:
    """Older files hold no frozen parameters."""
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), torch.nn.BatchNorm2d(2), torch.nn.Conv2d(2, 1, 1))
    for parameter in (*model[0].parameters(), model[1].bias):
        parameter.requires_grad = False
    optimizer = optimizer_of(model)
    model(torch.randn(2, 1, 3, 3)).sum().backward()
    optimizer.step()
    whole = optimizer.state_dict()
    trainable = [p for g in optimizer.param_groups for p in g["params"] if p.requires_grad]
    numbers = {id(p): i for i, p in enumerate(trainable)}
    old_groups = [
        {**saved, "params": [numbers[id(p)] for p in group["params"] if p.requires_grad]}
        for saved, group in zip(whole["param_groups"], optimizer.param_groups, strict=True)
    ]
    old = {"param_groups": old_groups, "state": {numbers[id(p)]: optimizer.state[p] for p in trainable}}
    again = optimizer_of(model)
    load_optimizer_state(again, old)
    assert len(again.state) == 3
    for parameter in trainable:
        for key, value in optimizer.state[parameter].items():
            assert torch.equal(again.state[parameter][key], value)
    third = optimizer_of(model)
    load_optimizer_state(third, whole)
    assert {id(p) for p in third.state} == {id(p) for p in again.state}


def test_the_state_of_another_network_does_not_load() -> None:
    big, small = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2, bias=False)
    with pytest.raises(ValueError, match="group"):
        load_optimizer_state(optimizer_of(big), optimizer_of(small).state_dict())


# ---- loaders


def test_a_plain_loader_with_a_sampler_trains(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Weighted(RTDETRTrainer):
        def get_dataloader(
            self, dataset_path: str | list[str], batch_size: int = 16, rank: int = 0, mode: str = "train"
        ) -> DataLoader[Any]:
            dataset: Any = self.build_dataset(dataset_path, mode, batch_size)
            sampler = WeightedRandomSampler([1.0] * len(dataset), 6) if mode == "train" else None
            return DataLoader(dataset, batch_size, sampler=sampler, collate_fn=dataset.collate_fn)

    trainer = Weighted(overrides={**FAST_RUN, "data": str(data), "project": str(tmp_path)})
    trainer.model, trainer.final_val = trainer.get_model(TINY, verbose=False), False
    metrics = trainer.train()
    assert trainer.progress.step == 6 and isinstance(metrics, DetMetrics)
    assert "WeightedRandomSampler keeps no position" in capsys.readouterr().out


# ---- what callbacks read, what train returns


def test_attributes_that_loggers_read(make: Any) -> None:
    trainer, seen = make(epochs=2, val=True), []

    def note(t: RTDETRTrainer) -> None:
        figures = {"nb": t.nb, "amp": t.amp, "resume": t.resume, "ddp": t.ddp, "world_size": t.world_size}
        seen.append({**figures, "start_epoch": t.start_epoch, "save_period": t.save_period, "stride": t.stride})
        assert isinstance(t.tloss, torch.Tensor) and list(t.label_loss_items(t.tloss)) == list(t.label_loss_items())
        assert t.best_fitness is not None and t.loss_items.shape == (3,) and t.loss.ndim == 0
        assert list(t.lr) == ["lr/pg0", "lr/pg1", "lr/pg2"] and t.epoch_time > 0 and t.accumulate == 1
        assert t.train_time_start <= t.epoch_time_start

    trainer.add_callback("on_fit_epoch_end", note)
    trainer.train()
    assert seen[0] == {
        "nb": 2, "amp": False, "resume": False, "ddp": False, "world_size": 1, "start_epoch": 0, "save_period": -1,
        "stride": 32,
    }  # fmt: skip
    assert trainer.callbacks["on_fit_epoch_end"]


def test_train_returns_the_metrics_object_of_the_last_validation(data: Path, tmp_path: Path) -> None:
    network = tmp_path / "tiny.yaml"
    YAML.save(network, TINY)
    model = RTDETR(str(network))
    metrics = model.train(**{**FAST_RUN, "data": str(data), "epochs": 1, "project": str(tmp_path / "runs")})
    assert isinstance(metrics, DetMetrics) and model.metrics is metrics
    assert metrics.save_dir == model.trainer.save_dir
    assert {k: round(v, 5) for k, v in metrics.results_dict.items()} == model.trainer.metrics


def test_a_fitness_of_the_users_own_chooses_the_best(data: Path, tmp_path: Path) -> None:
    class Own(RTDETRTrainer):
        def validate(self) -> tuple[dict[str, float], float | None]:
            metrics, _ = super().validate()
            fitness = 3.0 - self.epoch
            if self.best_fitness is None or fitness > self.best_fitness:
                self.best_fitness = fitness
            return metrics, fitness

    trainer = Own(overrides={**FAST_RUN, "data": str(data), "project": str(tmp_path)})
    trainer.model, trainer.final_val = trainer.get_model(TINY, verbose=False), False
    trainer.train()
    best = read_checkpoint(trainer.best)
    assert best["epoch"] == 0 and best["best_fitness"] == 3.0


def test_a_row_of_the_users_own_reaches_the_table(data: Path, tmp_path: Path) -> None:
    class Own(RTDETRTrainer):
        def save_metrics(self, metrics: dict[str, float]) -> None:
            super().save_metrics({**metrics, "own": 7.0})
            assert self.csv.read_text().endswith(",7\n"), "the table has the row at once"

    trainer = Own(overrides={**FAST_RUN, "data": str(data), "project": str(tmp_path), "val": False, "epochs": 1})
    trainer.model, trainer.final_val = trainer.get_model(TINY, verbose=False), False
    trainer.train()
    header, row = trainer.csv.read_text().splitlines()
    assert header.endswith(",own") and row.endswith(",7")


# ---- validation, prediction


def test_a_validator_returns_figures_and_keeps_the_object(data: Path, tmp_path: Path) -> None:
    options = {"data": str(data), "imgsz": 64, "workers": 0, "plots": False, "device": "cpu", "project": str(tmp_path)}
    validator = RTDETRValidator(args=options)
    figures = validator(model=spread_network())
    assert figures == pytest.approx(validator.metrics.results_dict)
    assert validator.metrics.save_dir.parent == tmp_path and not validator.metrics.save_dir.exists()
    assert (validator.nc, validator.niou, validator.is_coco, validator.class_map) == (3, 10, False, [1, 2, 3])
    assert validator.metric_keys == validator.metrics.keys and len(validator.stats) == len(IMAGES)


@pytest.mark.parametrize("event", ["on_predict_postprocess_end", "on_predict_batch_end"])
def test_results_that_a_callback_sets_are_what_the_caller_gets(data: Path, tmp_path: Path, event: str) -> None:
    predictor = oracle(tmp_path)

    def best_box(p: RTDETRPredictor) -> None:
        p.results = [result[:1] for result in p.results]

    predictor.add_callback(event, best_box)
    found: Any = predictor(str(data.parent / "images" / "val"))
    assert [len(result) for result in found] == [min(len(rows), 1) for _, rows in IMAGES]


@pytest.mark.parametrize("ready", [True, False])
def test_a_predictor_put_on_the_model_is_kept(data: Path, ready: bool) -> None:
    class Own(RTDETRPredictor):
        pass

    network = spread_network()
    model = RTDETR(dict(TINY))
    model.model = network
    own = model.predictor = Own(overrides={"imgsz": 64, "device": "cpu"})
    if ready:
        own.setup_model(network)
    model.predict(str(data.parent / "images" / "val" / "000.png"), imgsz=64, device="cpu", verbose=False)
    assert model.predictor is own
    model.predict(str(data.parent / "images" / "val" / "000.png"), imgsz=64, device="cpu", amp=False, verbose=False)
    assert type(model.predictor) is Own, "another precision needs another copy of the network"


def test_a_predictor_holds_a_copy_until_the_network_changes() -> None:
    network: RTDETRDetectionModel = spread_network()
    predictor = RTDETRPredictor(overrides={"imgsz": 64, "device": "cpu"})
    predictor.setup_model(network)
    assert predictor.holds(network) and not predictor.holds(tiny_network())
    with torch.no_grad():
        next(network.parameters()).add_(1)
    assert not predictor.holds(network)
