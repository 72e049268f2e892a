"""A step that is not finite: the cause is named, the replay fails in the same place, the run continues or stops."""

import copy
import logging
import math

import pytest
import torch

from tests.engine.tiny import IMAGES, write_dataset
from tests.engine.training.child import network
from ultralytics.cli.main import entrypoint
from ultralytics.engine.training.nan_trace import NanFinding, Step, bad_images, bad_labels, trace
from ultralytics.engine.training.recovery import safer_precision
from ultralytics.engine.training.replay import read_replay, replay
from ultralytics.models.rtdetr.train import RTDETRTrainer
from ultralytics.nn.checkpoint.format import read_checkpoint
from ultralytics.utils.config.yaml_io import YAML
from ultralytics.utils.errors import CheckpointError, DatasetError, NotFoundError, TrainingError

QUICK = {"imgsz": 64, "batch": 2, "workers": 0, "device": "cpu", "plots": False, "amp": False, "verbose": False}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Four images: two batches."""
    return write_dataset(tmp_path_factory.mktemp("set"), [IMAGES[0], IMAGES[1], IMAGES[3], IMAGES[0]])


@pytest.fixture(scope="module")
def fresh(data):
    return RTDETRTrainer(overrides={**QUICK, "data": str(data)}).get_model(cfg=network(), verbose=False)


@pytest.fixture
def make(data, fresh, tmp_path):
    def build(**changes):
        own = {"data": str(data), "project": str(tmp_path), "name": "run", "epochs": 2, "val": False}
        trainer = RTDETRTrainer(overrides={**QUICK, **own, **changes})
        trainer.model = copy.deepcopy(fresh)
        trainer.final_val = False
        return trainer

    return build


def corrupt_batch(trainer, step, change):
    """Let `change` alter the batch of a step, before the network sees it."""
    labels, preprocess = trainer._validate_labels, trainer.preprocess_batch

    def corrupt_labels(batch):
        if trainer.progress.step == step and change is not nan_pixel:
            change(batch)
        labels(batch)

    def corrupt_images(batch):
        batch = preprocess(batch)
        if trainer.progress.step == step and change is nan_pixel:
            change(batch)
        return batch

    trainer._validate_labels, trainer.preprocess_batch = corrupt_labels, corrupt_images


def nan_weight(trainer):
    if trainer.progress.step == 3:
        with torch.no_grad():
            trainer.model.model[5].conv.weight[0, 0, 0, 0] = math.nan


def nan_pixel(batch):
    batch["img"][1, 2, 3, 4] = math.nan


def far_label(batch):
    batch["bboxes"][-1, 0] = 1e6


def far_class(batch):
    batch["cls"][0] = 7


def failed(trainer):
    with pytest.raises(TrainingError) as e:
        trainer.train()
    lines = str(e.value).splitlines()
    assert len(lines) == 3 and "epoch 2, batch 2 (step 4)" in lines[0] and "yolo replay" in lines[2]
    return lines, trainer.save_dir / "replay.pt"


# ---- the three causes of the acceptance, and their replays


def test_a_weight_is_named_and_the_replay_fails_in_the_same_place(make):
    trainer = make()
    trainer.add_callback("on_train_batch_start", nan_weight)
    lines, file = failed(trainer)
    assert "weight of layer 5 (Conv), model.5.conv (Conv2d) is not finite" in lines[0]
    assert "loss_giou" in lines[0] and "total=nan" in lines[0]
    assert read_checkpoint(trainer.last)["epoch"] == 0  # the last good state
    before = NanFinding.from_record(read_replay(file)["finding"])
    assert before.cause == "weight" and len(before.images) == 2
    assert replay(file, "cpu") == before


def test_an_image_is_named(make):
    trainer = make(amp="bf16")
    corrupt_batch(trainer, 3, nan_pixel)
    lines, file = failed(trainer)  # no other precision helps: it stops at once
    record = read_replay(file)
    culprit = record["batch"]["im_file"][1]
    assert f"{culprit} holds pixels that are not finite" in lines[0] and lines[1] == f"images: {culprit}"
    assert replay(file, "cpu") == NanFinding.from_record(record["finding"])
    assert replay(file, "cpu", amp=False).cause == "image"


@pytest.mark.parametrize(
    ("change", "text"), [(far_label, "box 1e+06, "), (far_class, "class 7, but there are 3 classes")]
)
def test_a_label_is_named_before_the_network_sees_it(make, change, text):
    trainer = make()
    corrupt_batch(trainer, 3, change)
    lines, file = failed(trainer)
    record = read_replay(file)
    assert text in lines[0] and "label" in lines[0] and lines[1].removeprefix("images: ") in record["batch"]["im_file"]
    assert replay(file, "cpu") == NanFinding.from_record(record["finding"])


# ---- continuing


class Overflow(torch.nn.Module):
    """Passes its input on; in bfloat16 its output (`forward`) or its gradient is not finite from a step on."""

    def __init__(self, owner, where):
        super().__init__()
        self.owner, self.where = owner, where

    def forward(self, x):
        if not torch.is_autocast_enabled("cpu") or self.owner[0].progress.step < 3:
            return x
        if self.where == "forward":
            return x * math.inf
        out = x * 1.0
        out.register_hook(lambda gradient: gradient * math.inf)
        return out


def overflowing(make, where, **changes):
    trainer = make(amp="bf16", **changes)
    trainer.model.model[2].act = torch.nn.Sequential(trainer.model.model[2].act, Overflow([trainer], where))
    return trainer


@pytest.mark.parametrize(("where", "changes"), [("forward", {}), ("gradient", {}), ("gradient", {"nbs": 4})])
def test_a_run_continues_once_in_a_safer_precision(make, caplog, where, changes):
    trainer = overflowing(make, where, **changes)
    logging.getLogger("ultralytics").propagate = True
    try:
        trainer.train()
    finally:
        logging.getLogger("ultralytics").propagate = False
    assert trainer.epoch == 1 and trainer.recovery.retried and trainer.amp_dtype is None
    assert YAML.load(trainer.save_dir / "args.yaml")["amp"] == "fp32"
    assert [row["epoch"] for row in trainer.progress.rows] == [1, 2]
    assert f"the {'loss' if where == 'forward' else 'gradient'} is not finite at epoch 2, batch 2" in caplog.text
    side = "output of" if where == "forward" else "gradient at"
    assert f"the {side} layer 2 (Conv), model.2.act.1 (Overflow) is not finite" in caplog.text
    assert "continuing once with amp=fp32 from epoch 2" in caplog.text
    assert NanFinding.from_record(read_replay(trainer.save_dir / "replay.pt")["finding"]).cause == where
    for name, tensor in read_checkpoint(trainer.last)["model"]["state_dict"].items():
        assert bool(tensor.isfinite().all()), name


def test_a_second_failure_stops(make):
    trainer = overflowing(make, "forward")
    trainer.add_callback("on_train_batch_start", lambda t: t.recovery.retried and nan_weight(t))
    lines, _ = failed(trainer)
    assert trainer.recovery.retried and "fp32" in lines[0]


def test_a_failure_that_is_found_late_is_found_again(make):
    trainer = make(epochs=1)
    trainer.recovery.check_every_step = False  # as on a GPU, where losses are fetched every few batches
    trainer.add_callback("on_train_batch_start", lambda t: t.progress.step == 1 and corrupt(t))

    def corrupt(t):
        with torch.no_grad():
            t.model.model[5].conv.weight[0] = math.nan

    with pytest.raises(TrainingError, match=r"epoch 1, batch 2 \(step 2\)"):
        trainer.train()
    assert trainer.recovery.check_every_batch


# ---- parts


@pytest.mark.parametrize(
    ("cls", "boxes", "want"),
    [
        ([], [], None),
        ([0.0, 2.0], [[0.5, 0.5, 1.0, 1.0], [0.0, 1.0, 0.1, 0.1]], None),
        ([0.0, 1.0], [[0.5, 0.5, 1.0, 1.0], [0.5, math.nan, 0.1, 0.1]], "label 1 of b.jpg"),
        ([0.0, -1.0], [[0.5] * 4, [0.5] * 4], "label 1 of b.jpg: class -1"),
        ([0.0, 3.0], [[0.5] * 4, [0.5] * 4], "class 3, but there are 3"),
        ([0.0, 0.0], [[0.5, 0.5, 1.2, 0.5], [0.5] * 4], "label 1 of a.jpg"),
    ],
)
def test_labels(cls, boxes, want):
    batch = {
        "cls": torch.tensor(cls)[:, None],
        "bboxes": torch.tensor(boxes).view(-1, 4),
        "im_file": ["a.jpg", "b.jpg"],
    }
    found = bad_labels({**batch, "batch_idx": torch.arange(len(cls))}, nc=3)
    assert found is None if want is None else want in found.what


def test_images_without_and_with_a_hole():
    batch = {"img": torch.zeros(2, 3, 4, 4), "im_file": ("a.jpg", "b.jpg")}
    assert bad_images(batch) is None
    batch["img"][1, 0, 0, 0] = math.inf
    assert bad_images(batch).images == ("b.jpg",)


def test_a_good_step_has_no_finding(make, fresh):
    trainer = make()
    trainer._setup_data()
    batch = trainer.preprocess_batch(next(iter(trainer.train_loader)))
    model = copy.deepcopy(fresh).train()
    found = trace(model, batch, Step(0, -1, 0))
    assert found.cause == "none" and not found.terms
    assert all(p.grad is None for p in model.parameters()) and not model.model[0]._forward_hooks


@pytest.mark.parametrize(("dtype", "want"), [(None, None), (torch.bfloat16, "fp32"), (torch.float16, ("bf16", "fp32"))])
def test_safer_precision(dtype, want):
    found = safer_precision(dtype, torch.device("cpu"))
    assert found in want if isinstance(want, tuple) else found == want


def test_replays_that_are_none(tmp_path):
    with pytest.raises(NotFoundError):
        replay(tmp_path / "gone.pt")
    (tmp_path / "text.pt").write_text("no")
    torch.save({"format": "else"}, tmp_path / "else.pt")
    for name in ("text.pt", "else.pt"):
        with pytest.raises(CheckpointError, match="replay"):
            replay(tmp_path / name)


def test_command_line(make, capsys):
    trainer = make(epochs=1)
    corrupt_batch(trainer, 1, nan_pixel)
    with pytest.raises(TrainingError):
        trainer.train()
    entrypoint(["replay", str(trainer.save_dir / "replay.pt"), "device=cpu", "amp=fp32"])
    text = capsys.readouterr().out
    assert "then  [image]" in text and "now   [image]" in text and "\nreproduced; fix or remove this image" in text
    with pytest.raises(SystemExit):
        entrypoint(["replay"])
    assert "replay needs one file" in capsys.readouterr().err


# ---- before the first epoch


@pytest.mark.parametrize(
    ("damage", "want"),
    [
        ("none", None),
        ("leak", "validation image(s) that are training images too"),
        ("queries", "more objects than the 30 queries"),
        ("twice", None),
        ("one folder", None),
    ],
)
def test_preflight(make, tmp_path, capsys, damage, want):
    yaml = write_dataset(tmp_path / "set")
    images, label = tmp_path / "set" / "images", tmp_path / "set" / "labels" / "train" / "000.txt"
    if damage == "leak":
        (images / "val" / "003.png").write_bytes((images / "train" / "003.png").read_bytes())
    elif damage == "queries":
        label.write_text("".join(f"0 {0.1 + i / 50:.3f} 0.5 0.1 0.1\n" for i in range(31)))
    elif damage == "twice":
        label.write_text("0 0.5 0.5 0.2 0.2\n1 0.5 0.5 0.2 0.2\n")
    elif damage == "one folder":
        yaml.write_text(yaml.read_text().replace("images/val", "images/train"))
    trainer = make(data=str(yaml), epochs=1)
    if want is None:
        trainer.train()
    else:
        with pytest.raises(DatasetError) as e:
            trainer.train()
        assert want in str(e.value) and len(str(e.value).splitlines()) <= 3 and not (tmp_path / "run").exists()
    text = capsys.readouterr().out
    seen = {"none": "nothing is wrong", "twice": "0 error(s), 1 warning(s)", "one folder": "images are the same"}
    assert seen.get(damage, "1 error(s)") in text
