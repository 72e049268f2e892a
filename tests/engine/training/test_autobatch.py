"""Automatic batch and the message of memory that has run out; the memory itself is a formula here."""

import weakref
from types import SimpleNamespace

import pytest
import torch

from tests.engine.tiny import write_dataset
from tests.engine.training.child import network
from ultralytics.engine.training.autobatch import FALLBACK, Line, measure_line, out_of_memory
from ultralytics.models.rtdetr.train import RTDETRTrainer
from ultralytics.utils.errors import ConfigError, TrainingError


def step_of(fixed, image, there):
    """A step's peak, on a device with `there` bytes."""

    def step(batch):
        if fixed + batch * image > there:
            raise torch.OutOfMemoryError
        return fixed + batch * image

    return step


@pytest.mark.parametrize(
    ("fixed", "image", "there", "limit", "want"),
    [
        (100, 10, 105, 100, None),  # not even one image
        (100, 10, 115, 110, 1),
        (100, 10, 1000, 850, 75),
        (100, 10, 10**6, 850, 75),
        (0, 1, 10**6, 10**5, 10**5),
    ],
)
def test_largest_batch(fixed, image, there, limit, want):
    line = measure_line(step_of(fixed, image, there), limit)
    assert (None if line is None else line.batch(limit)) == want


@pytest.mark.parametrize(
    ("first", "tried"), [(32, [32, 64, 128]), (64, [64, 128, 32]), (300, [300, 150, 75, 37]), (0, None)]
)
def test_trials_begin_near_the_expected_batch(first, tried):
    batches = []

    def step(batch):
        batches.append(batch)
        return step_of(100, 10, 1000)(batch)

    assert measure_line(step, 850, first).batch(850) == 75
    assert batches == (tried or [1, 2, 4, 8, 16, 32, 64, 128])


@pytest.mark.parametrize("text", ["CUDA error: CUBLAS_STATUS_ALLOC_FAILED", "cuDNN error: CUDNN_STATUS_ALLOC_FAILED"])
def test_a_batch_that_ran_out_of_memory_is_above_the_answer_whatever_the_limit(text):
    """Another process, or a fraction set for this one, may leave less than the limit."""

    def step(batch):
        if batch >= 16:
            raise RuntimeError(text)
        return step_of(100, 10, 10**6)(batch)

    assert measure_line(step, 10**6).batch(10**6) == 15
    with pytest.raises(RuntimeError, match="kernel"):
        measure_line(lambda batch: (_ for _ in ()).throw(RuntimeError("no kernel image")), 100)


@pytest.mark.parametrize(("batch", "want"), [(8, 640), (20, 384), (10**6, 0)])
def test_largest_side(batch, want):
    assert Line(100, 10).side(180, batch, 640, 32) == want


@pytest.mark.parametrize(
    ("line", "want"),
    [
        (None, "try batch=8"),
        (Line(100, 10), "batch=8 or imgsz=448 would fit"),
        (Line(1000, 10), "take a smaller model scale"),
    ],
)
def test_message(line, want):
    trainer = SimpleNamespace(args=SimpleNamespace(batch=16), batch_size=16, imgsz=640, device="cuda:0")
    error = out_of_memory(trainer, line, 180)
    assert isinstance(error, TrainingError) and len(error.args) == 3
    assert error.args[0] == "out of memory on cuda:0 at batch=16, imgsz=640" and error.args[1] == want


@pytest.fixture
def make(tmp_path):
    data = write_dataset(tmp_path / "set")

    def build(**changes):
        own = {"data": str(data), "project": str(tmp_path / "runs"), "epochs": 1, "imgsz": 64, "device": "cpu"}
        trainer = RTDETRTrainer(overrides={**own, "workers": 0, "plots": False, "val": False, **changes})
        trainer.model = trainer.get_model(cfg=network(), verbose=False)
        return trainer

    return build


@pytest.mark.parametrize("batch", [-1, 0.5])
def test_automatic_batch_on_a_cpu_is_a_number(make, batch, capsys):
    trainer = make(batch=batch)
    assert trainer.args.batch == trainer.batch_size == FALLBACK
    assert f"on cpu it is batch={FALLBACK}" in capsys.readouterr().out


@pytest.mark.parametrize("batch", [0, -2, 1.5])
def test_impossible_batches(make, batch):
    with pytest.raises(ConfigError):
        make(batch=batch)


@pytest.mark.parametrize(
    ("error", "want"), [(torch.OutOfMemoryError("x"), TrainingError), (RuntimeError("other"), RuntimeError)]
)
def test_a_run_out_of_memory_names_what_fits(make, error, want):
    trainer = make(batch=4)

    def fail(batch):
        raise error

    trainer.preprocess_batch = fail
    with pytest.raises(want) as e:
        trainer.train()
    assert ("try batch=2" in str(e.value)) == (want is TrainingError)


def test_what_filled_the_memory_is_let_go_before_the_trials(make, monkeypatch):
    trainer, held = make(), []

    def step(batch):
        large = torch.zeros(3)
        held.append(weakref.ref(large))
        raise torch.OutOfMemoryError("full")

    def explain(run):
        return TrainingError("free" if held[0]() is None else "held")

    monkeypatch.setattr("ultralytics.engine.trainer.explain_out_of_memory", explain)
    trainer.preprocess_batch = step
    with pytest.raises(TrainingError, match="free"):
        trainer.train()
