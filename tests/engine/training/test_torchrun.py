"""`device=0,1` in one process: torchrun is started with the same arguments; nothing is started without the devices."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from tests.engine.tiny import write_dataset
from tests.engine.training.child import network
from ultralytics.engine.training import environment as session
from ultralytics.engine.training import torchrun as launch
from ultralytics.engine.training.protocols import RunPaths
from ultralytics.models.rtdetr.train import RTDETRTrainer
from ultralytics.models.rtdetr.val import RTDETRValidator
from ultralytics.nn.checkpoint.format import pack_model, save_checkpoint
from ultralytics.nn.tasks import load_checkpoint
from ultralytics.utils.config.yaml_io import YAML
from ultralytics.utils.errors import DeviceError, TrainingError
from ultralytics.utils.metrics import DetMetrics


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Makes a trainer as if there were two GPUs; the commands that it runs are kept, and end with `status`."""
    data = write_dataset(tmp_path / "set")
    started = []

    def build(status=0, cls=RTDETRTrainer, **changes):
        def run(command, check):
            started.append(command)
            return SimpleNamespace(returncode=status)

        own = {"data": str(data), "project": str(tmp_path / "runs"), "epochs": 1, "imgsz": 64, "device": "cpu"}
        trainer = cls(overrides={**own, **changes})
        trainer.model = trainer.get_model(cfg=network(), verbose=False)
        monkeypatch.setattr(session, "device_ids", lambda device: [0, 1])
        monkeypatch.setattr(subprocess, "run", run)
        return trainer, started

    return build


@pytest.mark.parametrize("loaded", [False, True])
def test_the_processes_get_the_same_arguments(make, loaded):
    trainer, started = make(name="run", batch=4, classes=[0, 1], exist_ok=True)
    trainer.start_from(trainer.model, trained=loaded)
    save_checkpoint(trainer.best, {"best_fitness": 0.5, "train_metrics": {"metrics/mAP50(B)": 0.25}})
    trainer.final_val = False
    assert trainer.train() == {"metrics/mAP50(B)": 0.25, "fitness": 0.5}
    (command,) = started
    folder = trainer.save_dir
    assert command == [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"),
        *("-m", "ultralytics", "detect", "train", f"cfg={folder / 'launch.yaml'}"),
    ]
    given = YAML.load(folder / "launch.yaml")
    assert (given["batch"], given["classes"], given["save_dir"]) == (4, [0, 1], str(folder))
    start, _ = load_checkpoint(given["model"])
    assert all((a == b).all() for a, b in zip(start.parameters(), trainer.model.parameters(), strict=True))


def test_the_best_of_an_older_run_is_not_the_result(make):
    trainer, _ = make(name="run", exist_ok=True)
    save_checkpoint(trainer.best, {"best_fitness": 0.9, "train_metrics": {"metrics/mAP50(B)": 0.75}})
    record = {"best_fitness": 0.5, "train_metrics": {"metrics/mAP50(B)": 0.25}}
    save_checkpoint(trainer.last, {**record, "train_state": {"best_saved": False}})
    trainer.final_val = False
    assert trainer.train() == {"metrics/mAP50(B)": 0.25, "fitness": 0.5}
    assert trainer.best == trainer.last  # which the caller then holds


def test_the_caller_gets_the_metrics_object_of_the_best_weights(make, capsys):
    """As of a run in one process: here the weights are validated once more, since processes leave files alone."""
    trainer, _ = make(name="run", exist_ok=True, batch=2, workers=0)
    trainer.start_from(trainer.model, trained=False)
    record = {"best_fitness": 0.5, "train_metrics": {"metrics/mAP50(B)": 0.25}}
    save_checkpoint(trainer.best, {**record, "model": pack_model(trainer.model)})
    metrics = trainer.train()
    assert isinstance(metrics, DetMetrics) and len(metrics.stats) > 0 and metrics.confusion_matrix is not None
    assert metrics is trainer.validator.metrics and trainer.metrics["fitness"] == 0.5
    alone = RTDETRValidator(args={"model": str(trainer.best), "data": trainer.args.data, "imgsz": 64, "device": "cpu"})
    assert alone() == pytest.approx(metrics.results_dict, abs=1e-6)
    assert trainer.train_loader is None  # nothing of a run was set up here


def test_a_fresh_network_of_a_yaml_is_built_by_the_processes(make):
    trainer, _ = make(model="rtdetr-l.yaml", lr0=0.125)
    given = launch.child_arguments(trainer)
    assert given["model"] == "rtdetr-l.yaml" and given["lr0"] == 0.125


def test_the_processes_resume_from_the_file_that_was_found(tmp_path):
    args = SimpleNamespace(resume="runs/a/weights/last.pt")
    found = {"given": {"resume": True, "project": "runs"}, "resume_from": {"epoch": 0}, "args": args}
    given = launch.child_arguments(SimpleNamespace(paths=RunPaths.under(tmp_path), model=None, **found))
    assert given == {"resume": args.resume, "project": "runs", "save_dir": str(tmp_path)}


def test_a_failed_process_is_an_error(make):
    with pytest.raises(TrainingError, match="torchrun ended with status 3"):
        make(status=3)[0].train()


def test_a_class_of_the_user_is_not_started(make):
    class Mine(RTDETRTrainer):
        pass

    trainer, started = make(cls=Mine)
    with pytest.raises(DeviceError, match="torchrun --nproc_per_node=2"):
        trainer.train()
    assert not started


def test_devices_that_do_not_exist_start_nothing(tmp_path):
    with pytest.raises(DeviceError):
        RTDETRTrainer(overrides={"device": "97,98", "data": str(tmp_path / "gone.yaml")})
