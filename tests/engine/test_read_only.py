"""A run folder that cannot be written: one message before the training run, or a complete last.pt and how to resume."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.engine.tiny import IMAGES, small_trainer, write_dataset
from ultralytics.engine.training import setup
from ultralytics.nn.checkpoint.format import read_checkpoint
from ultralytics.utils.errors import ConfigError, TrainingError
from ultralytics.utils.files import latest_run


@pytest.fixture
def bound(monkeypatch):
    """Permission bits bind, also for the superuser."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    if sys.platform != "linux":
        pytest.skip("root puts its rights down on Linux only")
    undo = __import__("kill").obey_permissions()
    yield
    undo()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("set"), IMAGES)


@pytest.fixture
def make(data, tmp_path):
    """Makes trainers of `tmp_path/runs/run`, which note that the training has begun."""

    def build(**changes):
        trainer = small_trainer(data, tmp_path / "runs", **changes)
        trainer.add_callback("on_train_start", lambda t: setattr(t, "began", True))
        return trainer

    return build


def lock(folder, event="on_fit_epoch_end"):
    """Return a callback that takes the right to write into a folder away."""
    return event, lambda _: folder.chmod(0o555)


@pytest.mark.parametrize("given", [False, True], ids=["new folder", "exist_ok"])
def test_no_right_to_write_from_the_start(make, tmp_path, bound, given):
    locked = tmp_path / "runs" / "run" if given else tmp_path / "runs"
    locked.mkdir(parents=True)
    trainer = make(exist_ok=given)
    locked.chmod(0o555)
    with pytest.raises(ConfigError, match="read-only for this user") as e:
        trainer.train()
    assert str(locked) in str(e.value) and "project=" in str(e.value) and len(str(e.value).splitlines()) <= 3
    assert not list(locked.iterdir()) and not hasattr(trainer, "began") and trainer.train_loader is None


def test_a_file_in_the_way(make, tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(ConfigError, match="is not a folder"):
        make().train()


def test_a_refusal_that_nobody_could_foresee(make, tmp_path, bound, monkeypatch):
    monkeypatch.setattr(setup, "check_writable", lambda *_, **__: None)  # on a network drive the bits may lie
    (tmp_path / "runs").mkdir(mode=0o555)
    trainer = make()
    with pytest.raises(TrainingError, match=r"cannot write .*run: Permission denied") as e:
        trainer.train()
    assert "nothing was trained" in str(e.value) and not hasattr(trainer, "began")


@pytest.mark.parametrize("part", [".", "weights"])
def test_a_folder_that_turns_read_only_keeps_the_last_checkpoint(make, bound, part):
    trainer = make(epochs=3)
    place = trainer.save_dir / part
    trainer.add_callback(*lock(place))
    trainer.add_callback("on_fit_epoch_end", lambda t: setattr(t, "kept", t.last.read_bytes()))
    with pytest.raises(TrainingError) as e:
        trainer.train()
    place.chmod(0o755)
    lines = str(e.value).splitlines()
    assert "cannot write" in lines[0] and "Permission denied" in lines[0] and ".tmp" not in str(e.value)
    assert "complete" in lines[-1] and "resume" in lines[-1] and len(lines) <= 3
    assert trainer.last.read_bytes() == trainer.kept and read_checkpoint(trainer.last)["train_state"]["epoch"] == 1
    assert not list(trainer.save_dir.rglob("*.tmp"))
    again = make(resume=str(trainer.last), epochs=3)
    again.train()
    assert read_checkpoint(again.last)["train_state"]["epoch"] == 3


def test_a_picture_that_cannot_be_written(make, bound):
    trainer = make(plots=True)
    trainer.add_callback(*lock(trainer.save_dir, "on_train_start"))
    with pytest.raises(TrainingError, match=r"cannot write .*train_batch0\.jpg: Permission denied"):
        trainer.train()
    trainer.save_dir.chmod(0o755)


def test_a_temporary_file_that_stays_behind_is_not_a_checkpoint(make):
    trainer = make(epochs=1)
    trainer.train()
    stray = trainer.wdir / f".{trainer.last.name}.0123abcd.tmp"
    shutil.copy(trainer.last, stray)
    os.utime(stray, (2e9, 2e9))
    assert latest_run(trainer.save_dir) == trainer.last
    trainer.last.unlink()
    assert latest_run(trainer.save_dir) is None


@pytest.mark.parametrize("place", ["run/gone", "elsewhere/gone"])
def test_an_error_of_a_callback_stays_what_it_is(make, tmp_path, place):
    trainer = make()
    trainer.add_callback("on_train_start", lambda _: (tmp_path / "runs" / place).read_text())
    with pytest.raises(FileNotFoundError, match="gone") as e:
        trainer.train()
    assert not isinstance(e.value, TrainingError)
