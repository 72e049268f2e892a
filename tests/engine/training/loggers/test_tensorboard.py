"""TensorBoard: what is written, and that resumed runs double no point."""

import csv
import importlib.util
import sys
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import pytest

from tests.engine.tiny import IMAGES, small_trainer, write_dataset
from ultralytics.engine.training.loggers import attach
from ultralytics.engine.training.loggers.tensorboard import _LOGGED_EVENTS, TensorBoard
from ultralytics.engine.training.protocols import RunPaths


class Writer:
    """Stands in for torch's SummaryWriter; keeps what it is given, in files that look like its own."""

    made: ClassVar[list] = []

    def __init__(self, log_dir, purge_step):
        self.folder, self.first, self.closed = log_dir, purge_step, False
        self.scalars, self.texts = [], []
        Writer.made.append(self)
        with open(f"{log_dir}/events.out.tfevents.{len(Writer.made)}", "w"):
            pass

    def add_scalar(self, tag, value, step):
        self.scalars.append((tag, step, value))

    def add_text(self, tag, text, step):
        self.texts.append((tag, text, step))

    def flush(self):
        pass

    def close(self):
        self.closed = True


@pytest.fixture
def asked(monkeypatch):
    """The setting is on, and the package is a stand-in; returns the writers that are made."""
    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "tensorboard", ModuleType("tensorboard"))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setattr(attach, "SETTINGS", dict.fromkeys(attach.LOGGER_KINDS, False) | {"tensorboard": True})
    monkeypatch.setattr(Writer, "made", [])
    return Writer.made


def points(writers):
    """What TensorBoard would show: a writer hides what earlier ones wrote at its first step or later."""
    shown: dict = {}
    for writer in writers:
        shown = {key: value for key, value in shown.items() if key[1] < writer.first}
        assert not {(tag, step) for tag, step, _ in writer.scalars} & set(shown), "a doubled point"
        assert len({(tag, step) for tag, step, _ in writer.scalars}) == len(writer.scalars), "a doubled point"
        shown |= {(tag, step): value for tag, step, value in writer.scalars}
    return shown


def run_of(folder, rows=(), resumed=False):
    """As much of a trainer as the writer looks at."""
    progress = SimpleNamespace(rows=list(rows))
    resume_from = {} if resumed else None
    return SimpleNamespace(
        paths=RunPaths.under(folder), progress=progress, resume_from=resume_from, args=[("lr0", 0.1)]
    )


def row(epoch, value=1.0):
    return {"epoch": epoch, "train/loss": value, "metrics/mAP50(B)": 0.0, "val/loss": value, "lr/pg0": 0.1}


def test_every_column_once_an_epoch_and_the_arguments_once(asked, tmp_path):
    board, run = TensorBoard(Writer), run_of(tmp_path)
    board.start(run)
    for epoch in (1, 2):
        run.progress.rows.append(row(epoch, epoch / 2))
        board.add_epoch(run)
    board.add_epoch(run)  # the final validation
    board.close(run)
    (writer,) = asked
    assert [(tag, step) for tag, _, step in writer.texts] == [("arguments", 0)] and "| lr0 | 0.1 |" in writer.texts[0][
        1
    ]
    want = {(k, r["epoch"]): v for r in run.progress.rows for k, v in r.items() if k != "epoch"}
    assert points(asked) == want and writer.closed and writer.first == 0


def test_what_was_not_measured_is_not_plotted(asked, tmp_path):
    board, run = TensorBoard(Writer), run_of(tmp_path)
    board.start(run)
    run.progress.rows.append({**row(1), "val/loss": 0.0})
    board.add_epoch(run)
    assert set(points(asked)) == {("train/loss", 1), ("lr/pg0", 1)}


@pytest.mark.parametrize("done", [0, 1, 3])
@pytest.mark.parametrize("there", [False, True], ids=["first events", "events before"])
def test_a_resumed_run_has_whole_curves(asked, tmp_path, done, there):
    rows = [row(epoch) for epoch in (1, 2, 3)]
    if there:  # an earlier process wrote all three; the run resumes from the first `done`
        before = TensorBoard(Writer)
        before.start(run_of(tmp_path))
        for k in (1, 2, 3):
            before.add_epoch(run_of(tmp_path, rows[:k]))
    board, run = TensorBoard(Writer), run_of(tmp_path, rows[:done], resumed=True)
    board.start(run)
    for epoch in range(done + 1, 5):
        run.progress.rows.append(row(epoch, 7.0))
        board.add_epoch(run)
    losses = {step: value for (tag, step), value in points(asked).items() if tag == "train/loss"}
    assert losses == {epoch: 1.0 if epoch <= done else 7.0 for epoch in (1, 2, 3, 4)}
    assert sum(len(w.texts) for w in asked if w.first == 0) == (2 if there and not done else 1)


def test_a_run_that_goes_back_replaces_its_points(asked, tmp_path):
    board, run = TensorBoard(Writer), run_of(tmp_path)
    board.start(run)
    for epoch in (1, 2):
        run.progress.rows.append(row(epoch))
        board.add_epoch(run)
    run.progress.rows = [row(1)]
    for epoch in (2, 3):
        run.progress.rows.append(row(epoch, 5.0))
        board.add_epoch(run)
    losses = {step: value for (tag, step), value in points(asked).items() if tag == "train/loss"}
    assert losses == {1: 1.0, 2: 5.0, 3: 5.0} and [w.closed for w in asked] == [True, False]


def test_closing_survives_a_full_disk(asked, tmp_path, monkeypatch, capsys):
    board = TensorBoard(Writer)
    board.close(None)  # nothing was opened
    board.start(run_of(tmp_path))

    def full(self):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Writer, "close", full)
    board.close(None)
    assert "No space left" in capsys.readouterr().out


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("set"), IMAGES)


@pytest.fixture
def make(data, tmp_path):
    """Makes trainers of one run below `tmp_path`."""
    return partial(small_trainer, data, tmp_path)


def columns(trainer):
    """Points that results.csv stands for."""
    with open(trainer.csv) as f:
        rows = list(csv.DictReader(f))
    return {(k, int(r["epoch"])): pytest.approx(float(v), rel=1e-4) for r in rows for k, v in r.items() if k != "epoch"}


def test_a_run_writes_its_csv(asked, make):
    trainer = make()
    trainer.train()
    assert points(asked) == columns(trainer) and asked[0].closed
    assert asked[0].folder == str(trainer.save_dir)


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="tensorboard is not installed")
def test_the_real_one_reads_whole_curves(make, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setattr(attach, "SETTINGS", dict.fromkeys(attach.LOGGER_KINDS, False) | {"tensorboard": True})
    trainer = make(save_period=1)
    trainer.train()
    again = make(resume=str(trainer.wdir / "epoch0.pt"), epochs=3)  # its second epoch is written once more
    again.train()
    assert len(list(again.save_dir.glob(_LOGGED_EVENTS))) == 2
    events = EventAccumulator(str(again.save_dir))
    events.Reload()
    read = [(tag, e.step, e.value) for tag in events.Tags()["scalars"] for e in events.Scalars(tag)]
    assert len(read) == len(columns(again)) and {(tag, step): value for tag, step, value in read} == columns(again)
    (text,) = events.Tensors("arguments/text_summary")
    assert b"| lr0 |" in text.tensor_proto.string_val[0]
