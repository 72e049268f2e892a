"""profile=True: the times add up, the first step is kept apart, and a run without it pays nothing."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.engine.tiny import IMAGES, small_trainer, write_dataset
from ultralytics.engine.training import profiler as step_times
from ultralytics.engine.training.profiler import COLUMNS, PARTS, VALIDATION, StepTimes
from ultralytics.engine.training.protocols import RunPaths
from ultralytics.utils.callbacks import Callbacks

# Seconds of each part, a step a row; the third and fifth step end an accumulation group.
STEPS = [
    {"data": 9.0, "to device": 9.0, "forward": 9.0, "backward": 9.0, "other": 9.0},
    {"data": 1.0, "to device": 0.5, "forward": 2.0, "backward": 3.0, "other": 0.5},
    {"data": 2.0, "to device": 0.5, "forward": 2.0, "backward": 3.0, "optimizer": 4.0, "ema": 1.0, "other": 0.5},
    {"data": 6.0, "to device": 0.5, "forward": 2.0, "backward": 3.0, "other": 0.5},
    {"data": 1.0, "to device": 0.5, "forward": 2.0, "backward": 3.0, "optimizer": 2.0, "ema": 1.0, "other": 0.5},
]


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still unless it is moved."""
    hand = SimpleNamespace(now=100.0, reads=0)

    def read(device):
        hand.reads += 1
        return hand.now

    monkeypatch.setattr(step_times, "time_sync", read)
    return hand


def go(times, clock, steps):
    times.begin()
    for step in steps:
        for part, seconds in step.items():
            clock.now += seconds
            (times.end_batch if part == "other" else times.lap)(part)


@pytest.mark.parametrize("count", [0, 1])
def test_an_epoch_too_short_to_measure(clock, tmp_path, count):
    times = StepTimes(on=True)
    go(times, clock, STEPS[:count])
    assert list(times.rows()) == []
    times.report(SimpleNamespace(epoch=0, batch_size=2, paths=RunPaths.under(tmp_path)))
    assert not times.on and not list(tmp_path.iterdir())


def test_figures_are_those_of_a_slow_reference(clock):
    times = StepTimes(on=True)
    go(times, clock, STEPS)
    assert times.first == 45.0
    whole = sum(sum(step.values()) for step in STEPS[1:])
    rows = list(times.rows())
    assert [row[0] for row in rows] == list(PARTS)
    for name, batches, *figures in rows:
        spans = [step[name] for step in STEPS[1:] if name in step]
        want = [np.mean(spans) * 1e3, np.median(spans) * 1e3, np.percentile(spans, 95) * 1e3, sum(spans)]
        assert batches == len(spans) and figures == pytest.approx([*want, sum(spans) / whole])
    assert sum(row[-1] for row in rows) == pytest.approx(1)


def test_two_laps_of_one_part_are_one_span(clock):
    times = StepTimes(on=True)
    go(times, clock, [STEPS[0], {"data": 1.0}])
    for part in ("forward", "backward", "forward"):
        clock.now += 2.0
        times.lap(part)
    times.end_batch()
    assert {row[0]: row[1:3] for row in times.rows()}["forward"] == (1, 4000.0)


def test_validation_stands_apart(clock):
    times, callbacks = StepTimes(on=True), Callbacks()
    times.attach(callbacks, torch.device("cpu"))
    go(times, clock, STEPS)
    clock.now += 50.0
    callbacks.run("on_val_start", None)
    for seconds in (1.0, 3.0):
        clock.now += seconds
        callbacks.run("on_val_batch_end", None)
    *parts, (name, batches, mean, *_, total, fraction) = times.rows()
    assert (name, batches, mean, total, fraction) == (VALIDATION, 2, 2000.0, 4.0, None)
    assert sum(row[5] for row in parts) == sum(sum(step.values()) for step in STEPS[1:])


def test_off_costs_nothing(clock):
    times, callbacks = StepTimes(), Callbacks()
    times.attach(callbacks, torch.device("cpu"))
    go(times, clock, STEPS)
    assert clock.reads == 0 and not any(callbacks.table.values())


@pytest.mark.parametrize(("on", "waits"), [(False, 0), (True, 4)])
def test_a_gpu_is_waited_for_only_when_profiling(monkeypatch, on, waits):
    seen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", seen.append)
    times = StepTimes(on)
    times.attach(Callbacks(), torch.device("cuda", 0))
    times.begin()
    for part in ("data", "forward"):
        times.lap(part)
    times.end_batch()
    assert seen == [torch.device("cuda", 0)] * waits


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same run without and with a profile, the latter's folder and log."""
    data = write_dataset(tmp_path_factory.mktemp("set"), [*IMAGES, IMAGES[0]])
    trainers = []
    for profile in (False, True):
        folder = tmp_path_factory.mktemp("runs")
        trainers.append(small_trainer(data, folder, nbs=4, warmup_epochs=0.0, profile=profile))
        trainers[-1].train()
    return trainers


def test_a_profiled_run_is_the_same_run(runs):
    plain, profiled = (trainer.model.state_dict() for trainer in runs)
    assert all(torch.equal(plain[name], profiled[name]) for name in plain)
    assert not (runs[0].save_dir / "profile.csv").exists()


def test_the_table_of_a_run(runs):
    with open(runs[1].save_dir / "profile.csv") as f:
        rows = list(csv.DictReader(f))
    assert tuple(rows[0]) == COLUMNS
    # three batches, the first not counted; the second and the third end a step of nbs=4
    counted = {row["part"]: int(row["batches"]) for row in rows}
    assert counted == {**dict.fromkeys(PARTS, 2), VALIDATION: 2}
    assert sum(float(row["fraction"]) for row in rows[:-1]) == pytest.approx(1, abs=1e-4) and rows[-1]["fraction"] == ""
    assert all(float(row["mean_ms"]) > 0 and float(row["total_s"]) > 0 for row in rows)
    assert not runs[1].times.on
