"""Random streams, the training state on disk, and resuming, without a data set."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from tests.engine.tiny import TINY
from ultralytics.cfg import get_cfg
from ultralytics.engine import checkpointing as ck
from ultralytics.nn.checkpoint import read_checkpoint
from ultralytics.nn.tasks import RTDETRDetectionModel, load_checkpoint
from ultralytics.utils.errors import CheckpointError, NotFoundError, TrainingError
from ultralytics.utils.training import EarlyStopping, ModelEMA


def draws():
    return random.random(), float(np.random.rand()), float(torch.rand(1)), float(np.random.standard_normal())


def make_state(seed=0, rows=()):
    """A state of a real tiny network that has taken two steps."""
    torch.manual_seed(seed)
    model = RTDETRDetectionModel(TINY, verbose=False)
    ema = ModelEMA(model, decay=0.9, tau=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    scheduler = LambdaLR(optimizer, lambda e: 1 / (e + 1))
    stopper = EarlyStopping(7)
    for epoch in range(2):
        for p in model.parameters():
            p.grad = torch.randn_like(p)
        optimizer.step()
        ema.update(model)
        scheduler.step()
        stopper(epoch, 0.5 - epoch / 10)
    progress = ck.Progress(epoch=2, step=9, elapsed=1.5, best_fitness=0.5, rows=list(rows))
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    return ck.TrainState(model, ema, optimizer, scheduler, scaler, stopper, progress)


def assert_equal(a, b, where=""):
    """Demand two nested structures to be the same, tensors bit for bit."""
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert list(a) == list(b), where
        for k in a:
            assert_equal(a[k], b[k], f"{where}.{k}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_equal(x, y, f"{where}[{i}]")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    else:
        assert a == b, where


# ---- random streams


def test_step_seed_depends_on_seed_rank_and_step_only():
    def at(*key):
        ck.seed_step(*key)
        return draws()

    first = at(0, -1, 5)
    at(3, 1, 2)
    assert at(0, -1, 5) == first
    keys = [(0, -1, 5), (0, -1, 6), (1, -1, 5), (0, 0, 5), (0, 1, 5)]
    values = [at(*k) for k in keys]
    assert len(set(values)) == len(keys)
    assert not {v[0] for v in values} & {v[1] for v in values}


def test_rng_goes_through_a_file(tmp_path):
    np.random.standard_normal()  # leaves half a pair of normals behind
    random.gauss(0, 1)
    torch.save(ck.pack_rng(), tmp_path / "rng.pt")
    want = draws(), random.gauss(0, 1)
    draws()
    ck.restore_rng(torch.load(tmp_path / "rng.pt", weights_only=True))
    assert (draws(), random.gauss(0, 1)) == want


# ---- state


@pytest.mark.parametrize("rows", [[], [{"epoch": 1, "a": 0.25}, {"epoch": 2, "a": 1 / 3}]], ids=["no rows", "rows"])
def test_state_goes_through_a_file_bit_for_bit(tmp_path, rows):
    state = make_state(rows=rows)
    ck.write(tmp_path / "last.pt", state.pack({"epochs": 3}, {"fitness": 0.5}))
    saved = read_checkpoint(tmp_path / "last.pt")
    other = make_state(seed=1)
    other.restore(saved)
    assert vars(other.progress) == vars(state.progress)
    assert other.ema.updates == 2 and other.stopper.best_epoch == state.stopper.best_epoch == 0
    again = other.pack({"epochs": 3}, {"fitness": 0.5})
    keys = ("model", "ema", "updates", "optimizer", "scheduler", "scaler", "rng", "stopper", "train_state", "epoch")
    for key in (*keys, "best_fitness", "train_results"):
        assert_equal(again[key], saved[key], key)


def test_best_is_the_average_alone_and_cannot_be_resumed(tmp_path):
    state = make_state()
    path = tmp_path / "best.pt"
    ck.write(path, ck.pack_best(state, {}, {"fitness": 0.5}))
    model, ckpt = load_checkpoint(path)
    assert_equal(dict(model.state_dict()), dict(state.ema.ema.state_dict()))
    assert ckpt["model"] is None and ckpt["optimizer"] is None and ckpt["best_fitness"] == 0.5
    with pytest.raises(CheckpointError, match=r"best\.pt holds weights for use"):
        ck.resume_args(get_cfg(overrides={"resume": str(path)}))


@pytest.mark.parametrize("what", ["model", "optimizer"])
def test_restore_refuses_what_does_not_fit(what):
    state = make_state()
    ckpt = state.pack({}, {})
    if what == "model":
        ckpt["model"]["state_dict"].popitem()
    else:
        state.optimizer = torch.optim.AdamW(nn.Linear(2, 2).parameters())
    with pytest.raises(CheckpointError, match="does not fit this run"):
        state.restore(ckpt)


# ---- files


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("unexpected pos 89856: No space left on device")]
)
def test_a_failed_write_keeps_the_older_file(tmp_path, monkeypatch, error):
    path = tmp_path / "last.pt"
    state = make_state()
    ck.write(path, state.pack({}, {}))
    whole = path.read_bytes()

    def full(obj, file, *args, **kwargs):
        file.write(b"half")
        raise error

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(TrainingError, match="No space left on device") as e:
        ck.write(path, state.pack({}, {}))
    assert len(str(e.value).splitlines()) <= 3 and "resume" in str(e.value)
    assert path.read_bytes() == whole and [p.name for p in tmp_path.iterdir()] == ["last.pt"]


# ---- resume


def saved_run(tmp_path, epochs=3, **args):
    state = make_state(rows=[{"epoch": 1.0}, {"epoch": 2.0}])
    path = tmp_path / "run" / "weights" / "last.pt"
    full = get_cfg(overrides={"epochs": epochs, "lr0": 0.5, "batch": 4, "data": "a.yaml", **args})
    ck.write(path, state.pack(dict(full), {}))
    return path


@pytest.mark.parametrize("how", ["path", "model", "newest"])
def test_resume_finds_the_checkpoint(tmp_path, monkeypatch, how):
    path = saved_run(tmp_path)
    monkeypatch.chdir(tmp_path)
    given = {
        "path": {"resume": str(path)},
        "model": {"resume": True, "model": str(path)},
        "newest": {"resume": True},
    }[how]
    args, ckpt = ck.resume_args(get_cfg(overrides=given))
    assert args.lr0 == 0.5 and args.batch == 4 and args.data == "a.yaml"
    assert args.save_dir == str(tmp_path / "run")
    assert ckpt["train_state"]["step"] == 9


def test_resume_takes_what_may_change_and_names_the_rest(tmp_path, monkeypatch):
    path = saved_run(tmp_path)
    warnings = []
    monkeypatch.setattr(ck, "LOGGER", SimpleNamespace(warning=warnings.append))
    given = {"resume": str(path), "epochs": 5, "batch": 2, "lr0": 0.1, "optimizer": "SGD", "workers": 0}
    args, _ = ck.resume_args(get_cfg(overrides=given))
    assert (args.epochs, args.batch, args.lr0, args.optimizer, args.workers) == (5, 2, 0.5, "auto", 0)
    assert len(warnings) == 1 and "lr0, optimizer" in warnings[0]


def test_a_finished_run_says_how_to_go_on(tmp_path):
    path = saved_run(tmp_path, epochs=2)
    with pytest.raises(CheckpointError, match="raise epochs="):
        ck.resume_args(get_cfg(overrides={"resume": str(path)}))
    assert ck.resume_args(get_cfg(overrides={"resume": str(path), "epochs": 4}))[0].epochs == 4


def test_resume_without_a_checkpoint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"no last\.pt"):
        ck.resume_args(get_cfg(overrides={"resume": True}))
    with pytest.raises(NotFoundError):
        ck.resume_args(get_cfg(overrides={"resume": "gone.pt"}))


@pytest.mark.parametrize("columns", [{}, {"epoch": [1.0, 2.0], "x": [0.5, 0.25]}])
def test_rows_of_columns(columns):
    rows = ck.rows_of(columns)
    assert len(rows) == (2 if columns else 0)
    assert rows == [] or rows[1] == {"epoch": 2.0, "x": 0.25}
