"""Runs of a tiny network on a drawn data set: what is written, in which order, and that a continued run is the same."""

import copy
import csv
import math
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.engine.same import assert_same_run, rows
from tests.engine.tiny import IMAGES, TINY, StandInTrainer, write_dataset
from ultralytics.models import RTDETR
from ultralytics.models.rtdetr.train import RTDETRTrainer
from ultralytics.nn.checkpoint.format import pack_model, read_checkpoint, save_checkpoint
from ultralytics.nn.tasks import load_checkpoint
from ultralytics.utils.config.yaml_io import YAML
from ultralytics.utils.errors import CheckpointError, ConfigError, NotFoundError, TrainingError
from ultralytics.utils.torch_utils import native_bf16

QUICK = {"imgsz": 64, "batch": 2, "workers": 0, "device": "cpu", "plots": False, "amp": False, "verbose": False}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Five images: three batches of two, the last one short."""
    return write_dataset(tmp_path_factory.mktemp("set"), [*IMAGES, IMAGES[0]])


@pytest.fixture(scope="module")
def network(data):
    """The network that all runs start from; built once, since building takes longer than a run."""
    return RTDETRTrainer(overrides={**QUICK, "data": str(data)}).get_model(cfg=TINY, verbose=False)


def maker(data, network, folder):
    """Makes trainers of runs below `folder/runs`; without `final` they skip the validation of the best weights."""

    def build(name="run", final=False, **changes):
        overrides = {"data": str(data), "project": str(folder / "runs"), "name": name}
        overrides = QUICK if changes.get("resume") else {**QUICK, "epochs": 2, **overrides}
        trainer = StandInTrainer(overrides={**overrides, **changes})
        trainer.network = network
        trainer.model = trainer.get_model()
        trainer.final_val = final
        return trainer

    return build


@pytest.fixture
def make(data, network, tmp_path):
    return maker(data, network, tmp_path)


def weights(trainer):
    return {k: v.clone() for k, v in trainer.model.state_dict().items()}


class Killed(Exception):
    """Stands for a process that dies."""


def kill_at(trainer, event, count):
    """Let the `count`-th `event` end the run at once."""
    seen = []

    def die(_):
        seen.append(1)
        if len(seen) == count:
            raise Killed

    trainer.add_callback(event, die)


# ---- a whole run


def test_a_run_with_pictures(make):
    trainer = make(plots=True, save_period=1, final=True)
    metrics = trainer.train().results_dict
    files = {str(p.relative_to(trainer.save_dir)) for p in trainer.save_dir.rglob("*") if p.is_file()}
    assert files >= {
        *("args.yaml", "results.csv", "results.png", "labels.jpg"),
        *(f"train_batch{i}.jpg" for i in range(3)),
        *("val_batch0_labels.jpg", "val_batch0_pred.jpg", "BoxPR_curve.png", "confusion_matrix.png"),
        *(f"weights/{n}.pt" for n in ("last", "best", "epoch0", "epoch1")),
    }
    assert not [f for f in files if f.endswith(".tmp")]
    assert round(metrics["fitness"], 5) == trainer.metrics["fitness"]
    saved = YAML.load(trainer.save_dir / "args.yaml")
    assert saved["recipe"] == "trial" and saved["optimizer"] == "AdamW" and saved["save_dir"] == str(trainer.save_dir)
    header = trainer.csv.read_text().splitlines()[0]
    assert header == (
        "epoch,time,train/giou_loss,train/cls_loss,train/l1_loss,metrics/precision(B),metrics/recall(B),"
        "metrics/mAP50(B),metrics/mAP50-95(B),val/giou_loss,val/cls_loss,val/l1_loss,lr/pg0,lr/pg1,lr/pg2"
    )
    assert [r["epoch"] for r in rows(trainer)] == ["1", "2"]
    model, ckpt = load_checkpoint(trainer.best)
    assert model.names == {0: "red", 1: "green", 2: "blue"} and ckpt["train_results"]["epoch"][-1] in (1, 2)


def test_callbacks_come_in_order(make):
    trainer = make(final=True)
    seen = []
    for event in trainer.callbacks.table:
        trainer.add_callback(event, lambda _, e=event: seen.append(e))
    trainer.train()
    batch = ["on_train_batch_start", "optimizer_step", "on_before_zero_grad", "on_params_update", "on_train_batch_end"]
    val = ["on_val_start", *["on_val_batch_start", "on_val_batch_end"] * len(trainer.test_loader), "on_val_end"]
    epoch = ["on_train_epoch_start", *batch * 3, "on_train_epoch_end", *val, "on_model_save", "on_fit_epoch_end"]
    assert seen == [
        *("on_pretrain_routine_start", "on_pretrain_routine_end", "on_train_start"),
        *epoch * 2,
        *val,
        *("on_fit_epoch_end", "on_train_end", "teardown"),
    ]


def test_a_cut_image_is_left_out_and_listed_in_the_run_folder(make, tmp_path):
    yaml = write_dataset(tmp_path / "set")
    bad = tmp_path / "set" / "images" / "train" / "001.png"
    bad.write_bytes(bad.read_bytes()[:60])
    trainer = make(data=str(yaml), epochs=1, val=False)
    trainer.train()
    assert len(trainer.train_loader.dataset) == len(IMAGES) - 1
    assert str(bad) in (trainer.save_dir / "data_report.txt").read_text()


def test_runs_are_numbered(make):
    names = []
    for _ in range(3):
        trainer = make(epochs=1, val=False, name="exp")
        trainer.train()
        names.append(trainer.save_dir.name)
    assert names == ["exp", "exp2", "exp3"]


def test_two_runs_are_equal_whatever_the_workers(make):
    runs = [make(f"w{w}", workers=w, mosaic=1.0, epochs=1) for w in (0, 2)]
    for trainer in runs:
        trainer.train()
    assert_same_run(*runs)
    assert not multiprocessing.active_children()  # the worker processes end with the run


def test_another_seed_is_another_run(data, network):
    def first(seed):
        trainer = RTDETRTrainer(overrides={**QUICK, "data": str(data), "seed": seed})
        model = trainer.get_model(cfg=TINY, verbose=False).state_dict()
        return model["model.0.conv.weight"], next(iter(trainer.get_dataloader(trainer.data["train"], 5)))["im_file"]

    (a, order_a), (b, order_b) = first(0), first(1)
    assert torch.equal(a, network.state_dict()["model.0.conv.weight"])
    assert not torch.equal(a, b) and order_a != order_b


# ---- steps


def test_accumulation_is_flushed_at_the_end_of_each_epoch(make):
    trainer = make(nbs=64, warmup_epochs=0.0, val=False)
    before, steps = weights(trainer), []
    trainer.add_callback("optimizer_step", lambda t: steps.append(t.progress.step))
    trainer.train()
    assert steps == [3, 6] and trainer.ema.updates == 2
    name = next(k for k, _ in trainer.model.named_parameters())
    assert not torch.equal(before[name], weights(trainer)[name])


@pytest.mark.parametrize("recipe", ["trial", "tiny", "few", "small", "ultralytics", "official"])
def test_no_step_at_rate_zero(make, recipe):
    trainer = make(recipe=recipe, mosaic=0.0, val=False, multi_scale=0.0)
    rates = []
    trainer.add_callback("optimizer_step", lambda t: rates.append(min(g["lr"] for g in t.optimizer.param_groups)))
    trainer.train()
    assert rates and min(rates) > 0
    groups = [g["param_group"] for g in trainer.optimizer.param_groups]
    assert groups[:3] == ["weight", "bn", "bias"] and (len(groups) == 6) == (recipe == "official")


def test_frozen_layers_keep_weights_and_statistics(make):
    trainer = make(freeze=3, epochs=1, val=False)
    before = weights(trainer)
    trainer.train()
    after = weights(trainer)
    frozen = {k for k in before if k.startswith(("model.0.", "model.1.", "model.2."))}
    assert all(torch.equal(before[k], after[k]) for k in frozen)
    assert any(not torch.equal(before[k], after[k]) for k in set(before) - frozen)
    assert any(k.endswith("running_mean") for k in frozen)


@pytest.mark.parametrize(
    ("fraction", "epochs", "moving"), [(0.0, 2, [True, True]), (0.5, 2, [True, False]), (1.0, 1, [False])]
)
def test_norms_keep_their_statistics_in_the_last_epochs(make, fraction, epochs, moving):
    trainer = make(freeze_bn=fraction, epochs=epochs, val=False)
    means = []

    def note(trainer):
        means.append(torch.cat([v for k, v in trainer.model.state_dict().items() if k.endswith("running_mean")]))

    trainer.add_callback("on_train_epoch_start", note)
    trainer.add_callback("on_train_epoch_end", note)
    first = weights(trainer)["model.0.conv.weight"].clone()
    trainer.train()
    assert [not torch.equal(a, b) for a, b in zip(means[::2], means[1::2], strict=True)] == moving
    assert not torch.equal(weights(trainer)["model.0.conv.weight"], first)


def test_multi_scale_draws_multiples_of_the_stride(make):
    def sizes():
        trainer = make(multi_scale=0.4, epochs=3, imgsz=96, val=False)
        seen = []
        trainer.model.model[0].register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[-1]))
        trainer.train()
        return seen

    first = sizes()
    assert len(set(first)) > 1 and all(s % 32 == 0 and 32 <= s <= 160 for s in first)
    assert sizes() == first


def test_bf16_run(make):
    trainer = make(amp="bf16", epochs=1, val=False)
    trainer.train()
    assert trainer.amp_dtype is torch.bfloat16
    assert {v.dtype for v in read_checkpoint(trainer.last)["model"]["state_dict"].values()} <= {
        torch.float32,
        torch.int64,
        torch.bool,
    }


@pytest.mark.parametrize(
    ("epochs", "closing", "wanted"), [(3, 1, [0, 0, 1]), (2, 2, [0, 0]), (2, 10, [0, 0]), (2, 0, [0, 0])]
)
def test_mosaic_closes_for_the_last_epochs_of_a_longer_run(make, epochs, closing, wanted):
    trainer = make(epochs=epochs, close_mosaic=closing, mosaic=1.0, val=False)
    closed = []
    trainer.add_callback("on_train_epoch_start", lambda t: closed.append(int(t.progress.mosaic_closed)))
    trainer.train()
    assert closed == wanted


def test_what_the_user_gives_wins_over_the_recipe(make):
    trainer = make(lr0=0.0123, mosaic=0.5, epochs=1, val=False)
    trainer.train()
    saved = YAML.load(trainer.save_dir / "args.yaml")
    assert (saved["lr0"], saved["mosaic"], saved["recipe"], saved["nbs"]) == (0.0123, 0.5, "trial", 1)
    assert trainer.optimizer.param_groups[0]["initial_lr"] == 0.0123


# ---- ends


def test_early_stop(make, capsys):
    trainer = make(epochs=9, patience=2)
    fitness = iter([0.3, 0.2, 0.3, 0.2])
    trainer.metrics_of = lambda wanted: ({"metrics/mAP50(B)": 0.0}, next(fitness))
    trainer.train()
    assert trainer.epoch == 2 and trainer.progress.best_fitness == 0.3
    assert "patience=2: no better fitness since epoch 1" in capsys.readouterr().out
    assert read_checkpoint(trainer.best)["epoch"] == 0  # the tie of epoch 3 did not overwrite it


@pytest.mark.parametrize("event", ["on_train_batch_end", "on_fit_epoch_end"])
def test_stop_from_a_callback(make, event):
    trainer = make(epochs=5, val=False)
    trainer.add_callback(event, lambda t: setattr(t, "stop", True))
    trainer.train()
    assert trainer.epoch == 0 and trainer.last.exists()


def test_time_limit(make):
    trainer = make(epochs=50, time=1e-6, val=False)
    trainer.train()
    assert trainer.epoch == 0 and len(rows(trainer)) == 1


def test_without_validation_only_the_last_epoch_is_measured(make):
    trainer = make(epochs=2, val=False)
    trainer.train()
    measured = [float(r["val/giou_loss"]) > 0 for r in rows(trainer)]
    assert measured == [False, True]
    assert read_checkpoint(trainer.best)["epoch"] == 1


# ---- resume


HARD = {"mosaic": 1.0, "nbs": 4, "warmup_epochs": 1.0, "epochs": 3, "close_mosaic": 1}


@pytest.fixture(scope="module")
def straight(data, network, tmp_path_factory):
    """Three epochs without a break, with mosaic, accumulation, its tail, warm-up and closing mosaic."""
    trainer = maker(data, network, tmp_path_factory.mktemp("straight"))("straight", **HARD)
    trainer.train()
    return trainer


@pytest.mark.parametrize(
    ("event", "count"),
    [("on_fit_epoch_end", 1), ("on_fit_epoch_end", 2), ("on_train_batch_end", 5), ("on_val_start", 2)],
)
def test_a_killed_run_resumes_exactly(make, straight, event, count):
    first = make("killed", **HARD)
    kill_at(first, event, count)
    with pytest.raises(Killed):
        first.train()
    torch.rand(7)  # another process has another random state
    second = make(resume=str(first.last))
    second.train()
    assert second.save_dir == first.save_dir
    assert_same_run(second, straight)


def test_an_interrupt_saves_inside_the_epoch(make, straight):
    first = make("interrupted", **HARD)
    count = []

    def interrupt(trainer):
        count.append(1)
        if len(count) == 5:  # the second epoch's second batch
            trainer.interrupt.requested = True

    first.add_callback("on_train_batch_start", interrupt)
    with pytest.raises(KeyboardInterrupt):
        first.train()
    state = read_checkpoint(first.last)["train_state"]
    assert (state["epoch"], state["batch"], state["step"]) == (1, 2, 5)
    with pytest.raises(CheckpointError, match="batch cannot change"):
        make(resume=str(first.last), batch=3)
    second = make(resume=str(first.last))
    second.train()
    assert_same_run(second, straight)


def test_raising_epochs_continues_a_finished_run(make):
    common = {"lr_schedule": "constant", "warmup_epochs": 0.0, "mosaic": 0.0}
    straight = make("three", epochs=3, **common)
    straight.train()
    short = make("two", epochs=2, **common)
    short.train()
    longer = make(resume=str(short.last), epochs=3)
    longer.train()
    assert_same_run(longer, straight)


def test_a_resumed_run_keeps_the_epsilon_of_foreign_weights(make):
    def build(name, **changes):
        trainer = make(name, epochs=2, val=False, **changes)
        for norm in trainer.model.modules():
            if isinstance(norm, torch.nn.BatchNorm2d):
                norm.eps = 1e-5
        return trainer

    straight, first = build("straight"), build("killed")
    straight.train()
    kill_at(first, "on_fit_epoch_end", 1)
    with pytest.raises(Killed):
        first.train()
    second = make(resume=str(first.last))
    second.train()
    assert_same_run(second, straight)


# ---- failures


def test_a_loss_that_is_not_finite_names_step_and_images(make, data):
    trainer = make(val=False)
    with torch.no_grad():
        trainer.model.model[0].conv.weight[0, 0, 0, 0] = math.nan
    with pytest.raises(TrainingError) as e:
        trainer.train()
    text = str(e.value)
    assert len(text.splitlines()) <= 3 and "epoch 1, batch 1 (step 1)" in text and "giou_loss=nan" in text
    assert str(Path(data).parent / "images" / "train") in text
    assert not trainer.last.exists()


def test_a_disk_that_is_full_leaves_the_older_checkpoint_whole(make, monkeypatch):
    trainer = make(epochs=3, val=False)

    def fill_disk(_):
        def full(*args, **kwargs):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("ultralytics.engine.training.state.save_checkpoint", full)

    trainer.add_callback("on_fit_epoch_end", fill_disk)
    with pytest.raises(TrainingError, match="No space left"):
        trainer.train()
    monkeypatch.setattr("ultralytics.engine.training.state.save_checkpoint", save_checkpoint)
    again = make(resume=str(trainer.last))
    again.train()
    assert again.epoch == 2 and len(rows(again)) == 3


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"data": "gone.yaml"}, NotFoundError),
        ({"data": None}, ConfigError),
        ({"batch": 0}, ConfigError),
        ({"device": "7"}, ValueError),
        ({"amp": "fp16"}, ConfigError),
        ({"optimizer": "Lion"}, ConfigError),
        ({"freeze": ["backbon"]}, ConfigError),
        ({"freeze": [8]}, ConfigError),
        ({"split": "test"}, ConfigError),
        ({"classes": [3]}, ConfigError),
        ({"classes": []}, ConfigError),
        ({"classes": 1, "single_cls": True}, ConfigError),
        ({"recipe": "gone"}, NotFoundError),
        ({"imgsz": 32, "batch": 4}, ConfigError),
    ],
    ids=lambda v: str(v) if isinstance(v, dict) else v.__name__,
)
def test_bad_arguments_leave_nothing_behind(make, tmp_path, changes, error):
    with pytest.raises(error) as e:
        make(**changes).train()
    assert len(str(e.value).splitlines()) <= 3
    assert not (tmp_path / "runs").exists()


def test_a_model_yaml_and_its_weights_by_argument(data, network, tmp_path):
    best = tmp_path / "best.pt"
    other = copy.deepcopy(network)
    with torch.no_grad():
        other.model[0].conv.weight.fill_(0.5)
    save_checkpoint(best, {"ema": pack_model(other)})

    def first_weights(**changes):
        trainer = RTDETRTrainer(overrides={**QUICK, "data": str(data), **changes})
        trainer._settle_recipe()
        trainer.setup_model()
        return trainer.model.state_dict()["model.0.conv.weight"]

    want = other.model[0].conv.weight
    assert torch.equal(first_weights(model=str(best)), want)
    assert not torch.equal(first_weights(model=str(best), pretrained=False), want)
    yaml = tmp_path / "tiny.yaml"
    YAML.save(yaml, TINY)
    assert torch.equal(first_weights(model=str(yaml), pretrained=str(best)), want)


@pytest.mark.parametrize("amp", [False, "bf16"])
def test_validation_in_training_is_that_of_the_saved_weights(make, amp):
    """Boxes and scores are equal bit for bit, where the batches are the same."""
    if amp and not native_bf16("cpu"):
        pytest.skip("this CPU does not compute in bfloat16")
    trainer, seen = make(f"row-{amp}", amp=amp, epochs=1), []
    trainer.add_callback("on_val_end", lambda validator: seen.append((validator.precision, validator.metrics)))
    trainer.train()
    model = RTDETR(str(trainer.best))
    found = model.val(imgsz=64, batch=4, workers=0, plots=False, verbose=False, **({"amp": amp} if amp else {}))
    ((precision, metrics),) = seen
    assert precision == ("bfloat16" if amp else "float32")
    for stat, again in zip(metrics.stats, found.stats, strict=True):
        for key in ("conf", "pred_cls", "pred_boxes"):
            np.testing.assert_array_equal(stat[key], again[key])
    with trainer.paths.csv.open() as file:
        row = {key: float(value) for key, value in list(csv.DictReader(file))[-1].items()}
    assert {k: row[k] for k in found.keys} == {k: round(v, 5) for k, v in found.results_dict.items() if k in found.keys}
