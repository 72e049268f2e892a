"""Training, validation and prediction of classifiers from end to end, on drawn images."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.models.shvit.tiny import FOLLOWER, NAMES, TINY, options, write_set
from ultralytics import RTDETR, SHViTClassifier
from ultralytics.models.shvit import ClassificationTrainer
from ultralytics.nn.checkpoint.format import read_checkpoint
from ultralytics.nn.modules import shsa
from ultralytics.utils import YAML
from ultralytics.utils.errors import ConfigError, DatasetError


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_set(tmp_path_factory.mktemp("colours"))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory) -> Path:
    """Folder of a run with pictures that is long enough to learn the colours."""
    folder = tmp_path_factory.mktemp("runs")
    model = SHViTClassifier(TINY)
    model.train(**options(data, folder, epochs=20, plots=True, lr0=0.003, warmup_epochs=1.0, erasing=0.0))
    return folder / "run"


def rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "results.csv").open()))


def test_files_of_a_run(trained):
    names = {p.name for p in trained.iterdir()}
    pictures = {"labels.jpg", "results.png", "train_batch0.jpg", "val_batch0_labels.jpg", "val_batch0_pred.jpg"}
    assert pictures | {"confusion_matrix.png", "confusion_matrix_normalized.png", "args.yaml", "results.csv"} <= names
    table = rows(trained)
    columns = "epoch time train/cls_loss metrics/accuracy_top1 metrics/accuracy_top5 val/cls_loss lr/pg0 lr/pg1 lr/pg2"
    assert list(table[0]) == columns.split() and [r["epoch"] for r in table] == [str(i + 1) for i in range(20)]
    assert float(table[-1]["train/cls_loss"]) < float(table[0]["train/cls_loss"])
    args = YAML.load(trained / "args.yaml")
    assert args["task"] == "classify" and args["recipe"] == "classify" and args["optimizer"] == "AdamW"
    best, last = (read_checkpoint(trained / "weights" / f"{n}.pt") for n in ("best", "last"))
    assert best["model"] is None and best["ema"]["class"] == "ClassificationModel" and best["ema"]["names"] == NAMES
    assert last["optimizer"] is not None


def test_validation_gives_the_run_s_own_figures(trained, data):
    """Also: it learnt the colours, and another order of class folders changes nothing."""
    model = SHViTClassifier(str(trained / "weights" / "best.pt"))
    metrics = model.val(data=str(data), workers=0, plots=False, batch=4)
    assert metrics.top1 == pytest.approx(max(float(r["metrics/accuracy_top1"]) for r in rows(trained)), abs=1e-5)
    assert metrics.top1 == 1.0 and metrics.top5 == 1.0 and metrics.fitness == 1.0
    assert metrics.confusion_matrix.matrix.tolist() == [[2, 0, 0], [0, 2, 0], [0, 0, 2]]
    assert [row["accuracy_top1"] for row in metrics.summary()] == [1.0, 1.0, 1.0]


def test_classes_are_matched_by_name(trained, data, tmp_path):
    """A folder that lacks a class renumbers the others; a class that the model does not know is an error."""
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "red").symlink_to(data / split / "red")
    model = SHViTClassifier(str(trained / "weights" / "best.pt"))
    metrics = model.val(data=str(tmp_path), workers=0, plots=False)
    assert metrics.top1 == 1.0 and metrics.class_result(2) == (2, 1.0)
    (tmp_path / "train" / "pink").symlink_to(data / "train" / "red")
    with pytest.raises(DatasetError, match="pink"):
        model.val(data=str(tmp_path), workers=0, plots=False)


def test_prediction(trained, data, tmp_path):
    model = SHViTClassifier(str(trained / "weights" / "best.pt"))
    files = [str(data / "val" / name / "0.jpg") for name in NAMES.values()]
    results = model.predict(files, batch=2, save=True, save_txt=True, project=str(tmp_path), name="p")
    assert [r.names[r.probs.top1] for r in results] == list(NAMES.values())
    assert all(r.boxes is None and float(r.probs.data.sum()) == pytest.approx(1, abs=1e-5) for r in results)
    texts = sorted((tmp_path / "p" / "labels").glob("*.txt"))
    first = (tmp_path / "p" / "labels" / "0.txt").read_text()
    assert len(texts) == 3 and len(first.splitlines()) == 3
    assert first.split()[1] == "blue" and len(list((tmp_path / "p").glob("*.jpg"))) == 3
    tensor = torch.zeros(1, 3, 64, 64)
    tensor[:, 0] = 0.7
    assert model.predict(tensor)[0].probs.top1 == 2, "a tensor is RGB in 0..1"
    with pytest.raises(ConfigError, match="squares"):
        model.predict(files[0], imgsz=[64, 96])


def test_prediction_and_validation_have_the_same_preprocessing(trained, data):
    model = SHViTClassifier(str(trained / "weights" / "best.pt"))
    run = ClassificationTrainer(overrides={**options(data, trained.parent)})
    batch = next(iter(run.get_dataloader(run.data["val"], 6, mode="val")))
    want = model.model.eval()(run.preprocess_batch(batch)["img"]).softmax(1)
    got = torch.stack([r.probs.data for r in model.predict(list(batch["im_file"]), batch=6, amp=False)])
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def test_a_run_resumes_exactly(data, tmp_path):
    def train(name: str, stop: bool = False, **changes) -> Path:
        run = ClassificationTrainer(overrides={**options(data, tmp_path, name=name, epochs=3, **changes)})
        run.model = run.get_model(cfg=TINY)
        if stop:
            run.add_callback("on_fit_epoch_end", lambda t: setattr(t, "stop", t.epoch == 0))
        run.train()
        return tmp_path / name

    whole, part = train("whole"), train("part", stop=True)
    SHViTClassifier(str(part / "weights" / "last.pt")).train(resume=True)
    a, b = (read_checkpoint(f / "weights" / "last.pt")["model"]["state_dict"] for f in (whole, part))
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert [r["train/cls_loss"] for r in rows(whole)] == [r["train/cls_loss"] for r in rows(part)]


@pytest.mark.parametrize(("cfg", "kind"), [(FOLLOWER, "hard"), (FOLLOWER, "soft"), (TINY, "soft")])
def test_distillation(trained, data, tmp_path, cfg, kind):
    teacher = str(trained / "weights" / "best.pt")
    model = SHViTClassifier(cfg)
    model.train(**options(data, tmp_path, distill_model=teacher, distill_type=kind, dis=3.0, lr0=0.003))
    table = rows(tmp_path / "run")
    assert {"train/dis_loss", "val/dis_loss"} <= set(table[0])
    assert all(float(r[k]) > 0 for r in table for k in ("train/dis_loss", "val/dis_loss"))
    assert model.val(data=str(data), workers=0, plots=False).top5 == 1.0


def test_a_teacher_s_classes_are_put_in_order(trained, data, tmp_path):
    run = ClassificationTrainer(overrides={**options(data, tmp_path)})
    from ultralytics.models.shvit.train import Teacher

    weights, device = str(trained / "weights" / "best.pt"), torch.device("cpu")
    plain, turned = (Teacher(weights, names, device, None) for names in (NAMES, {0: "red", 1: "blue"}))
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(turned(x), plain(x)[:, [2, 0]])
    with pytest.raises(ConfigError, match="pink"):
        Teacher(weights, {0: "pink"}, device, None)
    assert run.data["names"] == NAMES


def test_official_weights_by_argument(data, tmp_path):
    """`pretrained=` takes an official file; only the last layer is fresh."""
    widths = {"embed_dim": (32, 48, 64), "partial_dim": (8, 8, 16), "depth": (1, 1, 1), "types": ("i", "s", "s")}
    state = shsa.SHViT(num_classes=7, **widths).state_dict()
    torch.save({"model": state}, tmp_path / "official.pth")
    run = ClassificationTrainer(
        overrides={**options(data, tmp_path), "pretrained": str(tmp_path / "official.pth"), "epochs": 1}
    )
    run.model = run.get_model(cfg=TINY)
    run.setup_model()
    run._prepare_model()
    own = run.model.state_dict()
    assert torch.equal(own["model.0.layers.2.c.weight"], state["patch_embed.2.c.weight"])
    assert torch.equal(own["model.3.blocks.0.ffn.m.pw1.c.weight"], state["blocks3.3.ffn.m.pw1.c.weight"])
    assert (
        torch.equal(own["model.4.head.bn.weight"], state["head.bn.weight"])
        and own["model.4.head.l.weight"].shape[0] == 3
    )


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"data": None}, "data=folder"),
        ({"batch": 1}, "batch=2"),
        ({"save_txt": True}, "label files"),
        ({"auto_augment": "magic"}, "auto_augment"),
    ],
)
def test_arguments_that_cannot_be_honoured(data, tmp_path, changes, text):
    with pytest.raises(ConfigError, match=text):
        SHViTClassifier(TINY).train(**options(data, tmp_path, **changes))
    assert not (tmp_path / "run").exists()


def test_arguments_of_detection_warn(data, tmp_path, capsys):
    given = {**options(data, tmp_path), "model": "shvit_s1.yaml", "mosaic": 0.5, "conf": 0.5}
    run = ClassificationTrainer(overrides=given)
    assert capsys.readouterr().out.count("it is for detect only") == 2 and run.args.conf is None


def test_what_is_off_is_no_demand(data, tmp_path):
    run = ClassificationTrainer(
        overrides={**options(data, tmp_path), "model": "shvit_s1.yaml", "mosaic": False, "max_det": 300}
    )
    assert run.args.mosaic == 0


def test_class_balance_and_dropout(data, tmp_path):
    run = ClassificationTrainer(overrides={**options(data, tmp_path, fraction=11, cls_pw=1.0, dropout=0.4)})
    run.model = run.get_model(cfg=TINY)
    run.setup_model()
    run._prepare_model()
    batch = next(iter(run.get_dataloader(run.data["train"], 4)))
    counts, weights = (
        np.array(run.build_dataset(run.data["train"]).counts),
        run.preprocess_batch(batch)["class_weights"],
    )
    assert np.allclose(np.ptp((counts * weights.numpy())[counts > 0]), 0, atol=1e-5) or counts.sum() != 11
    assert run.model.model[-1].drop.p == pytest.approx(0.4)


def test_weights_of_the_other_task(trained):
    with pytest.raises(ConfigError, match="yolo classify"):
        RTDETR(str(trained / "weights" / "best.pt"))
