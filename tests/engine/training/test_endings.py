"""How a run ends, and what of it is left: stopped early, killed, without `save`, in a folder that an older run used."""

import copy
import math
import shutil

import pytest
import torch

from tests.engine.same import assert_same_run
from tests.engine.tiny import IMAGES, small_trainer, tiny_network, write_dataset
from ultralytics.engine import trainer as engine
from ultralytics.models import RTDETR
from ultralytics.models.rtdetr.train import RTDETRTrainer
from ultralytics.nn.checkpoint.format import pack_model, read_checkpoint, save_checkpoint
from ultralytics.nn.tasks import load_checkpoint
from ultralytics.utils.errors import CheckpointError, TrainingError


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("set"), IMAGES)


@pytest.fixture
def make(data, tmp_path):
    """Makes trainers of `tmp_path/run`; with `final` they validate the weights that they end with."""

    def build(final=False, **changes):
        trainer = small_trainer(data, tmp_path, **changes)
        trainer.final_val = final
        return trainer

    return build


def stop(trainer):
    trainer.stop = True


def fill_disk(*_, **__):
    raise OSError(28, "No space left on device")


class Killed(Exception):
    """Stands for a process that dies."""


def kill_when_writing(monkeypatch, name):
    """Let the run die in the moment in which it would write a weights file of that name."""
    write = engine.write

    def die(path, *args):
        if path.name == name:
            raise Killed
        write(path, *args)

    monkeypatch.setattr(engine, "write", die)


# ---- stopped


@pytest.mark.parametrize("val", [False, True])
def test_the_epoch_that_the_time_ends_with_is_measured(make, val):
    trainer = make(final=True, epochs=50, time=1e-9, val=val)
    metrics = trainer.train().results_dict
    assert len(trainer.progress.rows) == 1 and trainer.progress.rows[0]["val/giou_loss"] > 0
    assert metrics and read_checkpoint(trainer.best)["epoch"] == 0 and trainer.best.name == "best.pt"


def test_the_time_that_a_validation_takes_counts(make):
    """Else one more epoch would begin."""
    trainer = make(epochs=50, time=1.0)
    clock = [0.0]
    trainer.seconds = lambda: clock[0] + 1e-3
    trainer.add_callback("on_val_end", lambda _: clock.__setitem__(0, 3600.0))
    trainer.train()
    assert trainer.epoch == 0


@pytest.mark.parametrize("changes", [{"val": False}, {"val": True}, {"val": False, "patience": 1}], ids=str)
def test_processes_meet_as_often_in_each_epoch(make, monkeypatch, changes):
    """Only the main one may know whether an epoch was measured: who meets on that alone waits for ever."""
    trainer, met = make(epochs=3, **changes), []
    monkeypatch.setattr(engine.dist, "broadcast_object", lambda value: met.append(trainer.epoch) or value)
    trainer.metrics_of = lambda wanted: ({}, 0.5 if wanted else None)
    trainer.add_callback("on_train_start", lambda _: met.clear())
    trainer.train()
    assert {met.count(epoch) for epoch in range(trainer.epoch + 1)} == {2}


@pytest.mark.parametrize(
    "changes", [{"save": False, "val": False}, {"save": False, "val": True}, {"val": False}, {"val": True}], ids=str
)
def test_stopped_after_an_epoch_the_weights_are_kept_and_measured(make, changes):
    trainer = make(final=True, epochs=5, **changes)
    trainer.add_callback("on_fit_epoch_end", stop)
    metrics = trainer.train().results_dict
    state = read_checkpoint(trainer.last)["train_state"]
    assert (trainer.epoch, state["epoch"], state["batch"]) == (0, 1, 0)
    assert set(trainer.metric_names()) <= set(metrics)
    assert trainer.best.name == ("best.pt" if changes == {"val": True} else "last.pt")
    kept, _ = load_checkpoint(trainer.best)
    assert all(torch.equal(a, b) for a, b in zip(kept.parameters(), trainer.ema.ema.parameters(), strict=True))


def test_stopped_before_the_first_epoch_with_pictures(make):
    trainer = make(final=True, plots=True)
    trainer.add_callback("on_train_start", stop)
    metrics = trainer.train().results_dict
    assert not trainer.csv.exists() and not (trainer.save_dir / "results.png").exists()
    assert read_checkpoint(trainer.last)["train_state"]["step"] == 0 and set(trainer.metric_names()) <= set(metrics)


def test_an_interrupt_after_an_epoch_saves_without_save_too(make):
    trainer = make(save=False, epochs=3)
    trainer.add_callback("on_fit_epoch_end", lambda t: setattr(t.interrupt, "requested", True))
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert read_checkpoint(trainer.last)["train_state"]["epoch"] == 1


# ---- an older run in the same folder


def older_best(folder):
    """Put the weights of an older run where best.pt belongs."""
    model = copy.deepcopy(tiny_network())
    model.names = {0: "older", 1: "older still", 2: "oldest"}
    return save_checkpoint(folder / "run" / "weights" / "best.pt", {"ema": pack_model(model)})


def worse_each_epoch(trainer):
    fitness = iter([0.5, 0.1, 0.05])
    trainer.metrics_of = lambda wanted: ({}, next(fitness))


@pytest.mark.parametrize("save", [False, True])
def test_the_best_of_an_older_run_is_not_that_of_this_one(make, tmp_path, save, capsys):
    path = older_best(tmp_path)
    before = path.read_bytes()
    trainer = make(final=True, exist_ok=True, save=save)
    worse_each_epoch(trainer)
    trainer.train()
    assert (path.read_bytes() == before) is not save  # nobody asked to remove it
    assert trainer.best == (path if save else trainer.last)
    assert ("is of an earlier run" in capsys.readouterr().out) is not save
    model = RTDETR(trainer.last)
    model._take_trained(trainer)
    assert model.names[0] == "red" and model.ckpt_path == str(trainer.best)


def test_a_resumed_run_knows_whose_best_it_is(make, tmp_path):
    """The fitness of the first epoch is known, its weights were not kept."""
    older_best(tmp_path)
    first = make(exist_ok=True, save=False, epochs=3)
    worse_each_epoch(first)
    first.add_callback("on_fit_epoch_end", lambda t: setattr(t.interrupt, "requested", True))
    with pytest.raises(KeyboardInterrupt):
        first.train()
    second = make(final=True, resume=str(first.last), epochs=3)
    second.metrics_of = lambda wanted: ({}, 0.1)
    second.train()
    assert second.progress.best_fitness == 0.5 and second.best == second.last


def test_a_failed_write_does_not_offer_the_last_of_an_older_run(make, tmp_path, monkeypatch):
    older_best(tmp_path).rename(tmp_path / "run" / "weights" / "last.pt")
    trainer = make(exist_ok=True)
    monkeypatch.setattr("ultralytics.engine.training.state.save_checkpoint", fill_disk)
    with pytest.raises(TrainingError, match="nothing was saved") as e:
        trainer.train()
    assert "resume" not in str(e.value) and "project=" in str(e.value)


def test_a_failed_write_names_the_file_to_resume_from(make, monkeypatch):
    trainer = make(epochs=3, val=False)
    trainer.add_callback(
        "on_fit_epoch_end",
        lambda _: monkeypatch.setattr("ultralytics.engine.training.state.save_checkpoint", fill_disk),
    )
    with pytest.raises(TrainingError, match="No space left") as e:
        trainer.train()
    assert f"{trainer.last} is complete" in str(e.value) and f"resume={trainer.last}" in str(e.value)


# ---- killed


@pytest.mark.parametrize("name", ["best.pt", "epoch0.pt", "last.pt"])
def test_killed_between_two_files_no_periodic_one_is_lost(make, tmp_path, monkeypatch, name):
    trainer = make(save_period=1, epochs=3)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_when_writing(patch, name)
        trainer.train()
    again = make(
        exist_ok=True, save_period=1, epochs=3, **({"resume": str(trainer.last)} if trainer.last.exists() else {})
    )
    again.train()
    assert sorted(p.stem for p in (tmp_path / "run" / "weights").iterdir()) == [
        *("best", "epoch0", "epoch1", "epoch2", "last")
    ]


# ---- resumed


def test_a_resumed_run_goes_back_to_the_file_that_it_resumed_from(make, tmp_path):
    """Not to a last.pt of later epochs, nor to none."""
    straight = make(save_period=1, epochs=3)
    straight.train()
    copied = tmp_path / "elsewhere" / "mine.pt"
    copied.parent.mkdir()
    shutil.copy(straight.wdir / "epoch0.pt", copied)
    again = make(resume=str(copied), save_dir=str(tmp_path / "again"), epochs=3)
    assert again.recovery.on_disk == copied
    again.recovery.check_every_step = False  # as on a GPU: a failure is found late, and once more
    epochs = []

    def corrupt_once(trainer):
        epochs.append(trainer.progress.epoch)
        if len(epochs) == 1:
            with torch.no_grad():
                next(trainer.model.parameters()).fill_(math.nan)

    again.add_callback("on_train_batch_start", corrupt_once)
    again.train()
    assert again.recovery.check_every_batch and epochs[:2] == [1, 1]
    assert_same_run(again, straight)


def test_a_file_from_elsewhere_does_not_resume_in_a_run_of_the_users_own(make, tmp_path):
    """The folder that its arguments name holds a run of another seed: nothing of it changes."""
    theirs = make(epochs=1, seed=1)
    theirs.train()
    sent = tmp_path / "sent.pt"
    shutil.copy(theirs.last, sent)
    folder = theirs.save_dir
    shutil.rmtree(folder)
    own = make(epochs=1, seed=5)
    own.train()
    assert own.save_dir == folder
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(CheckpointError, match=r"holds another run\nname the folder to resume in: save_dir="):
        make(resume=str(sent), epochs=2)
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    copied = tmp_path / "copied.pt"
    shutil.copy(own.last, copied)
    assert make(resume=str(copied), epochs=2).save_dir == folder


def test_in_another_folder_the_best_weights_go_along(make, tmp_path):
    first = make(epochs=3)
    worse_each_epoch(first)
    first.train()
    best = first.best.read_bytes()
    second = make(final=True, resume=str(first.last), save_dir=str(tmp_path / "new"), epochs=4)
    second.metrics_of = lambda wanted: ({}, 0.2)
    second.train()
    assert second.best == tmp_path / "new" / "weights" / "best.pt" and second.best.read_bytes() == best
    assert read_checkpoint(second.last)["train_state"]["epoch"] == 4
    assert read_checkpoint(first.last)["train_state"]["epoch"] == 3 and first.best.read_bytes() == best


def test_data_of_another_class_count_are_named(make, data, tmp_path):
    first = make(epochs=1)
    first.train()
    other = tmp_path / "four.yaml"
    other.write_text(data.read_text() + "  3: grey\n")
    record = (first.save_dir / "args.yaml").read_bytes()
    with pytest.raises(CheckpointError) as e:
        RTDETRTrainer(overrides={"resume": str(first.last), "epochs": 2, "data": str(other)}).train()
    assert f"data={other} has 4 classes, the run of {first.last} has 3" in str(e.value)
    assert len(str(e.value).splitlines()) <= 3 and (first.save_dir / "args.yaml").read_bytes() == record


@pytest.mark.parametrize("kept", [3, 1])
def test_data_edited_before_a_resume_are_reported(tmp_path, capsys, kept):
    """In the middle of an epoch, with classes of other names, and images fewer than those that the epoch has read."""
    data = write_dataset(tmp_path / "set", IMAGES)
    first = small_trainer(data, tmp_path, epochs=2, batch=1)
    first.add_callback("on_train_batch_end", lambda t: setattr(t.interrupt, "requested", t.progress.step == 2))
    with pytest.raises(KeyboardInterrupt):
        first.train()
    for file in sorted((data.parent / "images/train").iterdir())[kept:]:
        file.unlink()
    capsys.readouterr()
    second = small_trainer(data, tmp_path, resume=str(first.last), batch=1)
    second.network = copy.deepcopy(second.network)
    second.network.names = {0: "b", 1: "a", 2: "c"}
    second.train()
    out = capsys.readouterr().out
    assert f"there are {kept} training images, the run had {len(IMAGES)}" in out
    assert "names its classes" in out and second.progress.epoch == 2 and len(second.progress.rows) == 2
    assert "has no effect" not in out
