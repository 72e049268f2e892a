"""What stops a run from outside: signals, and loader workers that die. Whole histories: benchmarks/kill.py."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset

from tests.engine.same import assert_same_run
from tests.engine.tiny import IMAGES, small_trainer, write_dataset
from tests.processes import process_context
from ultralytics.data.build import batches_of, build_dataloader, stop_workers
from ultralytics.engine.training.environment import Interrupt
from ultralytics.nn.checkpoint.format import read_checkpoint
from ultralytics.utils.errors import ConfigError, DatasetError, WorkerError
from ultralytics.utils.files import FolderLock


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("set"))


@pytest.fixture
def handlers() -> Iterator[None]:
    """Default handlers, even where the session ignores a signal as a background job does; puts the former ones back."""
    before = {number: signal.getsignal(number) for number in (*Interrupt.SIGNALS, signal.SIGCHLD)}
    for number in Interrupt.SIGNALS:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_asks_for_the_end(name: str, handlers: None) -> None:
    number = getattr(signal, name)
    with Interrupt() as interrupt:
        assert not interrupt.requested
        signal.raise_signal(number)
        assert interrupt.requested and interrupt.number == number
        if number == signal.SIGINT:
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(number)
        else:  # `timeout` and shells send it twice
            signal.raise_signal(number)


def test_what_a_process_ignores_stays_ignored(handlers: None) -> None:
    """Under `nohup` a closed terminal does not end the run."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with Interrupt() as interrupt:
        signal.raise_signal(signal.SIGHUP)
        assert not interrupt.requested and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


class Numbers(Dataset[int]):
    """Sixteen numbers; the worker that is to give the fifth fails in one of three ways."""

    def __init__(self, failure: str = "") -> None:
        self.failure = failure

    def __len__(self) -> int:
        return 16

    def __getitem__(self, key: int) -> int:
        index = int(key)
        if index == 5 and self.failure == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if index == 5 and self.failure == "data":
            raise DatasetError("a.png: image cannot be decoded", "repair it")
        return index if self.failure != "group" else os.getpgid(0)


def loader_of(failure: str) -> Any:
    loader = build_dataloader(Numbers(failure), 2, 2, shuffle=False)
    loader.collate_fn = list
    loader.timeout = 1.0  # after which torch looks whether its workers live; by itself it waits for five seconds
    return loader


def test_workers_leave_the_process_group() -> None:
    """A signal to the group reaches the main process alone."""
    loader = loader_of("group")
    groups = {group for batch in batches_of(loader) for group in batch}
    stop_workers(loader)
    assert len(groups) == min(2, os.cpu_count() or 1) and os.getpgid(0) not in groups


def test_a_worker_that_dies_is_found_between_two_batches(handlers: None) -> None:
    loader, seen = loader_of("killed"), []
    with pytest.raises(WorkerError, match=r"a loader worker has died.*\n.*workers="):
        for batch in batches_of(loader):
            assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL
            seen += batch
    stop_workers(loader)
    assert seen == list(range(len(seen))) and len(seen) <= 8


def test_an_error_of_a_worker_reads_as_it_was_raised() -> None:
    loader = loader_of("data")
    with pytest.raises(DatasetError) as e:
        list(batches_of(loader))
    stop_workers(loader)
    assert str(e.value) == "a.png: image cannot be decoded\nrepair it"


@pytest.mark.parametrize(("nbs", "batch"), [(2, 3), (4, 2)], ids=["each_step", "accumulated"])
def test_a_run_without_its_worker_is_saved_and_resumes(tmp_path: Path, nbs: int, batch: int) -> None:
    """Behind three of four batches; with two batches a step, the third is read again."""
    data = write_dataset(tmp_path / "set", [*IMAGES, *IMAGES])
    options = {"epochs": 2, "val": False, "nbs": nbs, "warmup_epochs": 0.0, "batch": 2, "mosaic": 0.0}
    whole = small_trainer(data, tmp_path / "whole", **options)
    cut = small_trainer(data, tmp_path / "cut", **options)
    whole.final_val = cut.final_val = False
    whole.train()

    def die(trainer: Any) -> None:
        if trainer.progress.step == 3:
            raise WorkerError("a loader worker has died")

    cut.add_callback("on_train_batch_start", die)
    with pytest.raises(WorkerError, match="is complete: resume with resume="):
        cut.train()
    state = read_checkpoint(cut.last)["train_state"]
    assert (state["epoch"], state["batch"], state["step"]) == (0, batch, batch)
    again = small_trainer(data, tmp_path / "cut", resume=str(cut.last))
    again.final_val = False
    again.train()
    if nbs == 2:
        assert_same_run(again, whole)
    else:
        assert len(again.progress.rows) == 2 and torch.isfinite(again.tloss).all()


def stop_in(trainer: Any, event: str, name: str) -> None:
    trainer.add_callback(event, lambda _: signal.raise_signal(getattr(signal, name)))


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("event", ["on_pretrain_routine_start", "on_pretrain_routine_end", "on_train_start"])
def test_a_signal_before_the_first_step_leaves_nothing(
    tmp_path: Path, data: Path, handlers: None, event: str, name: str
) -> None:
    trainer = small_trainer(data, tmp_path / "runs")
    stop_in(trainer, event, name)
    with pytest.raises(KeyboardInterrupt) as e:
        trainer.train()
    assert e.value.args == (getattr(signal, name),) and not list((tmp_path / "runs").glob("*"))
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_signal_before_the_first_step_keeps_what_was_there(tmp_path: Path, data: Path, handlers: None) -> None:
    """A folder that an older run made, and a run that resumes."""
    first = small_trainer(data, tmp_path)
    first.train()
    kept = {p: p.read_bytes() for p in first.save_dir.rglob("*.pt")}
    again = small_trainer(data, tmp_path, exist_ok=True)
    resumed = small_trainer(data, tmp_path, resume=str(first.last), epochs=3)
    for trainer in (again, resumed):
        stop_in(trainer, "on_train_start", "SIGTERM")
        with pytest.raises(KeyboardInterrupt):
            trainer.train()
        assert {p: p.read_bytes() for p in first.save_dir.rglob("*.pt")} == kept
    assert not list(first.save_dir.glob("*.lock"))


def test_a_second_process_does_not_resume_a_run_that_trains(tmp_path: Path, data: Path) -> None:
    trainer, refused = small_trainer(data, tmp_path), []
    trainer.add_callback("on_train_end", lambda t: refused.append(taken_elsewhere(t.save_dir)))
    trainer.train()
    assert refused == [f"{trainer.save_dir}: another process ({os.getpid()}) trains in this folder"]
    assert not (trainer.save_dir / "run.lock").exists() and taken_elsewhere(trainer.save_dir) == ""


def taken_elsewhere(folder: Path) -> str:
    """What another process hears that wants a folder."""
    ours, theirs = process_context().Pipe()
    process = process_context().Process(target=take, args=(folder, theirs))
    process.start()
    text = str(ours.recv())
    process.join()
    return text


def take(folder: Path, pipe: Any) -> None:
    """Take a folder and end without letting it go."""
    try:
        FolderLock().take(folder)
        pipe.send("")
    except ConfigError as e:
        pipe.send(str(e).splitlines()[0])


def test_a_lock_of_a_process_that_is_gone_locks_nothing(tmp_path: Path) -> None:
    assert taken_elsewhere(tmp_path) == "" and (tmp_path / "run.lock").exists()
    lock = FolderLock()
    lock.take(tmp_path)
    lock.take(tmp_path)
    assert (tmp_path / "run.lock").read_text() == f"{os.getpid()}\n"
    lock.release()
    assert not list(tmp_path.iterdir())
