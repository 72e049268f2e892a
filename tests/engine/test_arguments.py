"""What each everyday argument of a training run does, and that none is ignored."""

import csv
from functools import partial

import pytest
import torch

from tests.engine.tiny import IMAGES, StandInTrainer, small_trainer, write_dataset
from ultralytics.engine.training.protocols import RunPaths
from ultralytics.models.rtdetr.train import RTDETRTrainer
from ultralytics.nn.checkpoint.format import read_checkpoint
from ultralytics.utils.torch_tools.training import LR_CURVES


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Five images a split, three objects of class 1."""
    return write_dataset(tmp_path_factory.mktemp("set"), [*IMAGES, IMAGES[0]])


@pytest.fixture
def make(data, tmp_path):
    return partial(small_trainer, data, tmp_path, val=False)


@pytest.fixture
def idle(make):
    """Makes trainers whose batches cost nothing: epochs, rates and files are those of a real run."""

    def build(**changes):
        trainer = make(**changes)
        trainer.batches_cost_nothing = True
        trainer.add_callback("on_train_epoch_end", lambda t: t.optimizer.step())  # without gradients it moves nothing
        trainer.metrics_of = lambda wanted: ({}, None)
        return trainer

    return build


def rows(trainer):
    with open(trainer.csv) as f:
        return list(csv.DictReader(f))


@pytest.mark.parametrize(
    ("given", "curve"),
    [
        ({}, "linear"),
        ({"cos_lr": True}, "cosine"),
        ({"cos_lr": True, "lr_schedule": "linear"}, "linear"),
        *(({"lr_schedule": name}, name) for name in LR_CURVES),
    ],
    ids=str,
)
def test_the_rate_follows_its_schedule(idle, given, curve):
    trainer = idle(epochs=3, lr0=0.002, lrf=0.1, warmup_epochs=0.0, **given)

    trainer.add_callback(
        "on_train_epoch_start", lambda t: t.warmup.set_rates(t.optimizer, t.scheduler.get_last_lr(), step=0)
    )
    trainer.train()
    want = [0.002 * LR_CURVES[curve](3, 0.1)(e) for e in range(3)]
    assert [float(r["lr/pg0"]) for r in rows(trainer)] == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize(
    ("given", "want"),
    [
        ({}, "best last"),
        ({"save_period": 1}, "best epoch0 epoch1 epoch2 epoch3 last"),
        ({"save_period": 3}, "best epoch0 epoch3 last"),
        ({"save_period": 0}, "best last"),
        ({"save": False, "save_period": 1}, "best epoch3 last"),
    ],
    ids=str,
)
def test_which_checkpoints_are_kept(idle, given, want):
    trainer = idle(epochs=4, **given)
    trainer.metrics_of = lambda wanted: ({}, 0.1 * (trainer.epoch + 1))
    trainer.train()
    assert sorted(file.stem for file in trainer.wdir.iterdir()) == want.split()
    assert read_checkpoint(trainer.last)["train_state"]["epoch"] == 4


@pytest.mark.parametrize(("hours", "spent", "want"), [(1.0, 600, 6), (0.25, 600, 2), (0.1, 600, 1), (None, 600, 3)])
def test_time_decides_on_the_number_of_epochs(idle, hours, spent, want):
    trainer = idle(epochs=3, time=hours)
    trainer.seconds = lambda: spent * (trainer.epoch + 1.0)
    trainer.train()
    assert len(rows(trainer)) == want


class Killed(Exception):
    """Stands for a process that dies."""


@pytest.mark.parametrize("done", [1, 4])
def test_a_run_under_time_continues_past_its_epochs(idle, done):
    """The estimate is six epochs of ten minutes; the two that were asked for are none of its business."""

    def run(**changes):
        trainer = idle(**changes)
        trainer.seconds = lambda: 600 * (trainer.epoch + 1.0)
        trainer.add_callback(
            "on_train_epoch_start", lambda t: t.warmup.set_rates(t.optimizer, t.scheduler.get_last_lr(), t.epoch)
        )
        return trainer

    given = {"epochs": 2, "time": 1.0, "lr0": 0.002, "close_mosaic": 2, "mosaic": 1.0, "warmup_epochs": 3.0}
    straight, first = run(exist_ok=True, **given), run(**given)
    straight.paths = RunPaths.under(straight.save_dir.with_name("straight"))
    straight.train()

    def kill(trainer):
        if trainer.progress.epoch == done:
            raise Killed

    first.add_callback("on_fit_epoch_end", kill)
    with pytest.raises(Killed):
        first.train()
    second = run(resume=str(first.last))
    assert second.epochs == 6
    second.train()
    assert len(rows(straight)) == 6 and rows(second) == rows(straight)
    a, b = read_checkpoint(second.last), read_checkpoint(straight.last)
    assert a["train_state"] == b["train_state"] and a["scheduler"] == b["scheduler"]


@pytest.mark.parametrize(
    ("fraction", "sizes"), [(1.0, (5, 5)), (0.4, (2, 5)), (3, (3, 5)), ([0.4, 1.0], (2, 5)), ([4, 2], (4, 2))], ids=str
)
def test_fraction(idle, fraction, sizes):
    picked = []
    for _ in range(2):
        trainer = idle(epochs=1, fraction=fraction)
        trainer.train()
        sets = trainer.train_loader.dataset, trainer.test_loader.dataset
        assert tuple(map(len, sets)) == sizes
        picked.append([s.im_files for s in sets])
    assert picked[0] == picked[1]


@pytest.mark.parametrize(
    ("fraction", "want"), [(1.0, 5), (0.4, 2), (3, 3), ([0.6, 0.2], 3), (0.01, 1), (50, 5)], ids=str
)
def test_the_recipe_is_for_the_images_that_are_taken(idle, monkeypatch, fraction, want):
    trainer, counted = idle(epochs=1, fraction=fraction), []
    monkeypatch.setattr(StandInTrainer, "auto_recipe", lambda _, images: counted.append(images) or ("trial", ""))
    trainer.train()
    assert counted == [want]


def test_the_arguments_of_a_run_start_another(idle, tmp_path, capsys):
    """Also those of a resumed one, which name the file that it resumed from."""
    first = idle(epochs=1, lr0=0.0123)
    first.train()
    idle(resume=str(first.last), epochs=2).train()
    kept = first.csv.read_bytes(), first.last.read_bytes()
    again = RTDETRTrainer(overrides={"cfg": str(first.save_dir / "args.yaml"), "epochs": 1})
    assert (again.args.lr0, again.args.resume, again.resume_from) == (0.0123, False, None)
    again.model, again.get_model = first.model, lambda **_: first.model
    again._train_epoch = lambda: setattr(again, "tloss", [0.0] * 3)
    again.metrics_of = lambda wanted: ({}, None)
    again.final_val = False
    again.add_callback("on_train_epoch_end", lambda t: t.optimizer.step())
    again.train()
    assert again.save_dir == tmp_path / "run2" and kept == (first.csv.read_bytes(), first.last.read_bytes())
    assert capsys.readouterr().out.count("this run has its own folder") == 1


def seen_by(trainer):
    """Train, and return the classes of all training objects."""
    classes = []
    trainer.add_callback("on_train_epoch_start", lambda t: classes.extend(t.train_loader.dataset.labels))
    trainer.train()
    return sorted(int(c) for label in classes for c in label["cls"].flatten())


@pytest.mark.parametrize(("classes", "want"), [(None, [0, 0, 0, 1, 1, 1, 1, 2]), (1, [1] * 4), ([2, 0], [0, 0, 0, 2])])
def test_classes_keeps_objects_and_the_width_of_the_head(idle, classes, want):
    trainer = idle(epochs=1, classes=classes)
    assert seen_by(trainer) == want
    assert trainer.model.nc == 3 and read_checkpoint(trainer.last)["model"]["names"] == {
        0: "red",
        1: "green",
        2: "blue",
    }


def test_single_cls_is_one_class(make):
    trainer = make(epochs=1, single_cls=True, val=True)
    assert seen_by(trainer) == [0] * 8
    model = read_checkpoint(trainer.last)["model"]
    assert (model["nc"], model["names"]) == (1, {0: "item"})


@pytest.mark.parametrize("freeze", [2, [0, 1], "model.0.,model.1.", ["model.0", 1]], ids=str)
def test_freeze_by_number_index_and_name(make, freeze):
    trainer = make(epochs=1, freeze=freeze)
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    trainer.train()
    after = trainer.model.state_dict()
    still = {k for k in before if torch.equal(before[k], after[k])}
    frozen = {k for k in before if k.startswith(("model.0.", "model.1."))}
    assert frozen <= still and not {k for k in still if k.startswith("model.2.") and "weight" in k}


@pytest.mark.parametrize("deterministic", [False, True])
def test_deterministic_is_on_during_the_run_alone(idle, deterministic):
    trainer, seen = idle(epochs=1, deterministic=deterministic), []
    trainer.add_callback("on_train_start", lambda _: seen.append(torch.are_deterministic_algorithms_enabled()))
    trainer.train()
    assert seen == [deterministic] and not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(("val", "want"), [(True, [1, 1, 1]), (False, [0, 0, 1])])
def test_val_on_and_off(make, val, want):
    trainer, count = make(epochs=3, fraction=[2, 2], val=val), []
    trainer.add_callback("on_val_end", lambda _: count.append(trainer.epoch))
    trainer.train()
    assert [count.count(epoch) for epoch in range(3)] == want


def test_a_stop_that_may_come_is_validated(idle):
    """Without `val`, the epoch that might be the last is measured, since `best.pt` depends on it."""
    trainer, asked = idle(epochs=9, patience=2), []
    fitness = iter([0.3, 0.2, 0.1])

    def measure(wanted):
        asked.append(wanted)
        return {}, next(fitness)

    trainer.metrics_of = measure
    trainer.train()
    assert asked == [False, False, True] and len(rows(trainer)) == 3


@pytest.mark.parametrize(("images", "low"), [(1, 64), (2, 32)])
def test_multi_scale_stays_in_its_bounds(make, images, low):
    """A batch of one image needs more than one cell at the coarsest level, for its statistics."""
    trainer, sizes = make(multi_scale=0.5), set()
    for trainer.progress.step in range(60):
        sizes.add(trainer._rescaled(torch.zeros(images, 3, 64, 64)).shape[-1])
    assert {s % 32 for s in sizes} == {0} and min(sizes) == low and max(sizes) == 96
