"""Runs that are killed, in processes of their own, and resumed: not one bit differs from the run without a break.

The hard case throughout: bfloat16, averaged weights, accumulation of four batches with a tail, warm-up, mosaic that
closes for the last epoch, early stopping and validation; loader workers in the process that is killed, none in the
one that continues.
"""

import signal

import pytest
import torch

from tests.engine.same import assert_same_run
from tests.engine.tiny import IMAGES, write_dataset
from tests.engine.training.child import finish, network, start
from ultralytics.models.rtdetr.train import RTDETRTrainer
from ultralytics.nn.checkpoint.format import read_checkpoint

HARD = {
    **{"imgsz": 64, "batch": 2, "nbs": 8, "workers": 0, "device": "cpu", "amp": "bf16", "mosaic": 1.0},
    **{"epochs": 3, "close_mosaic": 1, "warmup_epochs": 1.0, "plots": False, "verbose": False, "seed": 0},
    **{"deterministic": True, "mixup": 0.3, "patience": 5},
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As the other processes have: sums of two threads are rounded otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Eleven images: six batches of two, the last one short."""
    return write_dataset(tmp_path_factory.mktemp("set"), [*IMAGES, *IMAGES, *IMAGES[:3]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def run(data, folder):
    """Trains in this process; returns the trainer."""

    def build(name, **changes):
        own = {} if changes.get("resume") else {**HARD, "data": str(data), "project": str(folder), "name": name}
        trainer = RTDETRTrainer(overrides={**own, **changes})
        if not changes.get("resume"):
            trainer.model = trainer.get_model(cfg=network(), verbose=False)
        trainer.final_val = False
        trainer.train()
        return trainer

    return build


@pytest.fixture(scope="module")
def straight(run):
    return run("straight")


@pytest.mark.parametrize(
    ("name", "autosave", "reached"),
    [("at the end", 600.0, (1, 0)), ("inside", 0.0, (1, 4))],
    ids=["last saved at an epoch's end", "last saved inside the epoch"],
)
def test_killed_inside_the_second_epoch(run, straight, data, folder, name, autosave, reached):
    overrides = {**HARD, "workers": 2, "data": str(data), "project": str(folder), "name": name}
    job = {"overrides": overrides, "kill": ["on_train_batch_end", 6 + 5], "autosave": autosave}
    ((status, output),) = finish(start(job))
    assert status == -signal.SIGKILL, output
    last = folder / name / "weights" / "last.pt"
    state = read_checkpoint(last)["train_state"]
    assert (state["epoch"], state["batch"]) == reached
    assert_same_run(run(name, resume=str(last)), straight)
