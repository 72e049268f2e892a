"""Random streams, the training state on disk, and resuming, without a data set."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from tests.engine.same import assert_equal
from tests.engine.tiny import TINY
from ultralytics.cfg import get_cfg
from ultralytics.engine.training import state as ck
from ultralytics.nn.checkpoint.format import read_checkpoint
from ultralytics.nn.tasks import RTDETRDetectionModel, load_checkpoint
from ultralytics.utils.errors import CheckpointError, NotFoundError, TrainingError
from ultralytics.utils.torch_tools.training import EarlyStopping, ModelEMA


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
        missing, _ = ckpt["model"]["state_dict"].popitem()
    else:
        missing = "parameter group"
        state.optimizer = torch.optim.AdamW(nn.Linear(2, 2).parameters())
    with pytest.raises(CheckpointError, match="does not fit this run") as e:
        state.restore(ckpt)
    assert missing in str(e.value) and "the data" in str(e.value) and len(str(e.value).splitlines()) == 2


def test_restore_shortens_a_long_list():
    ckpt = make_state().pack({}, {})
    ckpt["model"]["state_dict"].clear()
    with pytest.raises(CheckpointError, match="Missing key") as e:
        make_state().restore(ckpt)
    assert len(str(e.value)) < 500


@pytest.mark.parametrize(("fitness", "want"), [(0.5, True), (None, False)])
def test_a_state_of_before_a_field_is_read(fitness, want):
    ckpt = make_state().pack({}, {})
    for name in ("best_saved", "epochs", "images"):
        del ckpt["train_state"][name]
    ckpt["best_fitness"] = fitness
    state = make_state(seed=1)
    state.restore(ckpt)
    assert (state.progress.best_saved, state.progress.epochs, state.progress.step) == (want, 0, 9)


# ---- files


@pytest.mark.parametrize("known", [True, False], ids=["of this run", "of an older run"])
@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("unexpected pos 89856: No space left on device")]
)
def test_a_failed_write_keeps_the_older_file(tmp_path, monkeypatch, error, known):
    path = tmp_path / "last.pt"
    state = make_state()
    ck.write(path, state.pack({}, {}))
    whole = path.read_bytes()

    def full(obj, file, *args, **kwargs):
        file.write(b"half")
        raise error

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(TrainingError, match="No space left on device") as e:
        ck.write(path, state.pack({}, {}), path if known else None)
    assert len(str(e.value).splitlines()) <= 3
    assert (f"then resume with resume={path}" if known else "nothing was saved: free space") in str(e.value)
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


def test_a_finished_run_names_the_argument_to_continue_with(tmp_path):
    path = saved_run(tmp_path, epochs=2)
    with pytest.raises(CheckpointError, match="raise epochs="):
        ck.resume_args(get_cfg(overrides={"resume": str(path)}))
    assert ck.resume_args(get_cfg(overrides={"resume": str(path), "epochs": 4}))[0].epochs == 4


@pytest.mark.parametrize("changes", [{"project": "new"}, {"name": "n2"}, {"exist_ok": True}, {"freeze": [3]}], ids=str)
def test_what_cannot_change_on_resume_is_named(tmp_path, monkeypatch, changes):
    """The parameters of a frozen layer have no optimizer state: another `freeze` would give it to others."""
    path = saved_run(tmp_path, freeze=[2])
    warnings = []
    monkeypatch.setattr(ck, "LOGGER", SimpleNamespace(warning=warnings.append))
    args, _ = ck.resume_args(get_cfg(overrides={"resume": str(path), **changes}))
    (name,) = changes
    assert len(warnings) == 1 and f"resume: {name} as in the checkpoint" in warnings[0]
    assert (args.freeze, args.project, args.save_dir) == ([2], None, str(tmp_path / "run"))


def test_the_project_may_say_where_the_newest_run_is(tmp_path, monkeypatch):
    saved_run(tmp_path)
    warnings = []
    monkeypatch.setattr(ck, "LOGGER", SimpleNamespace(warning=warnings.append))
    args, _ = ck.resume_args(get_cfg(overrides={"resume": True, "project": str(tmp_path)}))
    assert args.save_dir == str(tmp_path / "run") and not warnings


@pytest.mark.parametrize(
    ("file", "saved", "given", "want"),
    [
        ("run/weights/last.pt", "old", None, "run"),  # a run that was moved as a whole
        ("run/weights/last.pt", "old", "other", "other"),
        ("home/last.pt", "old", None, "old"),
        ("home/sub/my.pt", "gone", None, None),
        ("home/sub/my.pt", None, None, None),
        ("home/sub/my.pt", "gone", "other", "other"),
    ],
)
def test_the_folder_that_a_run_resumes_in(tmp_path, file, saved, given, want):
    (tmp_path / "old" / "weights").mkdir(parents=True)
    place = {"save_dir": str(tmp_path / saved)} if saved else {}
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    saved_run(tmp_path / "made", **place).rename(path)
    overrides = {"resume": str(path), **({"save_dir": str(tmp_path / given)} if given else {})}
    if want is None:
        with pytest.raises(CheckpointError, match="save_dir=") as e:
            ck.resume_args(get_cfg(overrides=overrides))
        assert str(path) in str(e.value) and len(str(e.value).splitlines()) <= 3
    else:
        assert ck.resume_args(get_cfg(overrides=overrides))[0].save_dir == str(tmp_path / want)


@pytest.mark.parametrize(("file", "given"), [("bob/weights/sent.pt", None), ("sent.pt", "bob")])
@pytest.mark.parametrize("other", [True, False])
def test_a_folder_of_another_run_is_not_resumed_in(tmp_path, file, given, other):
    """Also when the file was put beside that run's weights, and when the folder is named: its epochs are not these."""
    path = tmp_path / file
    (tmp_path / "bob" / "weights").mkdir(parents=True)
    saved_run(tmp_path / "made").rename(path)
    table = "epoch\n1\n5\n" if other else "epoch\n1\n2\n3\n"
    (tmp_path / "bob" / "results.csv").write_text(table)
    overrides = {"resume": str(path), **({"save_dir": str(tmp_path / given)} if given else {})}
    if not other:
        assert ck.resume_args(get_cfg(overrides=overrides))[0].save_dir == str(tmp_path / "bob")
        return
    with pytest.raises(CheckpointError, match="save_dir="):
        ck.resume_args(get_cfg(overrides=overrides))


def test_resume_does_not_need_the_file_that_the_arguments_came_from(tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text("lr0: 0.25\n")
    path = saved_run(tmp_path, cfg=str(file), lr0=0.25)
    file.unlink()
    args, _ = ck.resume_args(get_cfg(overrides={"resume": str(path)}))
    assert (args.lr0, args.cfg) == (0.25, str(file))


@pytest.mark.parametrize(
    ("time", "saved", "state", "want"),
    [
        (None, 1.0, {"elapsed": 1200.0, "epochs": 6}, 3),  # the limit is taken away
        (1.0, 1.0, {"elapsed": 1200.0, "epochs": 7}, 7),  # as was estimated last
        (1.0, 1.0, {"elapsed": 1200.0}, 6),  # an older file: two epochs in 20 minutes
        (2.0, 1.0, {"elapsed": 1200.0, "epochs": 6}, 12),
        (1.0, None, {"elapsed": 1200.0, "epochs": 3}, 6),
        (0.4, 1.0, {"elapsed": 1200.0, "epochs": 6}, 3),  # at least one more
    ],
)
def test_planned_epochs(time, saved, state, want):
    args = get_cfg(overrides={"epochs": 3, "time": time})
    assert ck.planned_epochs(args, {"epoch": 1, "train_args": {"time": saved}, "train_state": state}) == want
    fresh = {"epoch": -1, "train_args": {"time": time}, "train_state": {"elapsed": 9.0, "epochs": 3}}
    assert ck.planned_epochs(args, fresh) == 3


def test_a_run_whose_time_is_spent_names_the_argument_to_continue_with(tmp_path):
    state = make_state(rows=[{"epoch": 1.0}, {"epoch": 2.0}])
    state.progress.elapsed = 3601.0
    path = tmp_path / "run" / "weights" / "last.pt"
    ck.write(path, state.pack(dict(get_cfg(overrides={"time": 1.0})), {}))
    with pytest.raises(CheckpointError, match="1 of 1 hours\nraise time="):
        ck.resume_args(get_cfg(overrides={"resume": str(path)}))
    assert ck.resume_args(get_cfg(overrides={"resume": str(path), "time": 2.0}))[0].time == 2.0


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
