"""Classifiers: loss with and without a teacher, official SHViT weights, every YAML in cfg/models/shvit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.golden.fill import fill_, tensor, values
from ultralytics.nn.classify import class_weights, classification_loss, distillation_loss, to_official
from ultralytics.nn.modules import shsa
from ultralytics.nn.tasks import (
    ClassificationModel,
    RTDETRDetectionModel,
    guess_model_task,
    load_checkpoint,
    pack_model,
    save_checkpoint,
)
from ultralytics.utils.errors import ModelYAMLError

CASES = json.loads((Path(__file__).parents[1] / "golden" / "cases.json").read_text())["cases"]
KEYS = {case["id"]: case["state_dict"] for case in CASES if isinstance(case.get("state_dict"), dict)}
TINY = {
    "task": "classify",
    "nc": 3,
    "backbone": [
        [-1, 1, "SHViTStem", [16]],
        [-1, 1, "SHViTStage", [32, 8, "i"]],
        [-1, 1, "SHViTStage", [48, 8, "s"]],
        [-1, 1, "SHViTStage", [64, 16, "s"]],
    ],
    "head": [[-1, 1, "SHViTHead", ["nc"]]],
}


def log_softmax(x: np.ndarray) -> np.ndarray:
    return x - np.log(np.exp(x).sum(1, keepdims=True))


# ------------------------------------------------------------------------------------------------------------- loss
@pytest.mark.parametrize(
    ("counts", "power", "want"),
    [
        ([], 0.0, None),
        ([5, 5], 0.0, None),
        ([5, 5], 1.0, [1.0, 1.0]),
        ([1, 3], 1.0, [2.0, 2 / 3]),
        ([0, 4], 1.0, [4.0, 1.0]),  # an absent class does no harm
        ([1, 4], 0.5, [5 / 3, 5 / 6]),
    ],
)
def test_class_weights(counts, power, want):
    got = class_weights(counts, power)
    assert got is None if want is None else got.tolist() == pytest.approx(want)


def test_loss_is_smoothed_weighted_cross_entropy():
    logits, cls = tensor("logits", (4, 3)), torch.tensor([0, 2, 1, 2])
    weights = torch.tensor([0.5, 1.0, 2.0])
    total, items = classification_loss(logits, {"cls": cls, "class_weights": weights}, {"smoothing": 0.3})
    logp, w = log_softmax(logits.numpy().astype(np.float64)), weights.numpy().astype(np.float64)
    target = np.eye(3)[cls.numpy()] * 0.7 + 0.1
    want = -(logp * w * target).sum() / w[cls.numpy()].sum()
    assert float(total) == pytest.approx(want, rel=1e-5) and items.tolist() == pytest.approx([want], rel=1e-5)


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_distillation_loss(kind):
    logits, teacher = tensor("student", (5, 4)) * 3, tensor("teacher", (5, 4)) * 3
    x, y = logits.numpy().astype(np.float64), teacher.numpy().astype(np.float64)
    if kind == "hard":
        want = -log_softmax(x)[np.arange(5), y.argmax(1)].mean()
    else:
        p, q = log_softmax(x / 3), log_softmax(y / 3)
        want = 9 * (np.exp(q) * (q - p)).sum(1).mean()
        assert float(distillation_loss(teacher, teacher, kind)) == pytest.approx(0, abs=1e-6)
    assert float(distillation_loss(logits, teacher, kind)) == pytest.approx(want, rel=1e-5)


def test_the_teacher_moves_the_second_head_alone():
    head, dist = (tensor(n, (2, 3)).requires_grad_() for n in ("head", "dist"))
    batch = {"cls": torch.tensor([0, 1]), "teacher": tensor("t", (2, 3))}
    args = {"distill_model": "t.pt", "distill_type": "soft", "dis": 2.0}
    total, (ce, dis) = classification_loss((head, dist), batch, args)
    assert total.item() == pytest.approx(ce.item() + 2 * dis.item()) and dis.item() > 0
    total.backward()
    want = torch.autograd.grad(classification_loss(head, {"cls": batch["cls"]}, {})[0], head)[0]
    torch.testing.assert_close(head.grad, want)
    assert dist.grad.abs().sum() > 0
    _, (_, dis) = classification_loss((head, dist), {"cls": batch["cls"]}, args)
    assert float(dis) == 0, "without the teacher's logits there is nothing to follow"


# ------------------------------------------------------------------------------------------------- official weights
def random_official(case: str) -> dict[str, torch.Tensor]:
    """A state dict with the recorded official keys and shapes."""
    made = {k: values(k, shape) if not k.endswith("tracked") else np.zeros(()) for k, shape in KEYS[case].items()}
    return {
        k: torch.from_numpy(np.asarray(v)).to(torch.int64 if k.endswith("tracked") else torch.float32)
        for k, v in made.items()
    }


@pytest.mark.parametrize(("size", "form"), [("s1", "plain"), ("s1", "under model"), ("s2", ""), ("s3", ""), ("s4", "")])
def test_official_weights_load_whole_and_give_the_same(size, form, tmp_path, capsys):
    """From a file in both its forms, and as a state dict in memory."""
    state = random_official(f"shvit_{size}")
    if form:
        torch.save(state if form == "plain" else {"model": state}, tmp_path / "official.pth")
    official = getattr(shsa, f"shvit_{size}")(num_classes=10).eval()
    official.load_state_dict(state)
    model = ClassificationModel(f"shvit_{size}.yaml", nc=10, verbose=False).eval()
    report = model.load(tmp_path / "official.pth" if form else {"model": state})
    assert len(report.copied) == len(state) and not (report.fresh or report.dropped or report.mismatched)
    assert f"{len(state)} matched, 0 missing, 0 unexpected" in capsys.readouterr().out
    x = tensor("picture", (2, 3, 64, 64), "image")
    with torch.no_grad():
        want, got = official(x), model(x)
    assert want.abs().max() > 1
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    back = to_official(model.state_dict(), model.model)
    assert back.keys() == state.keys() and all(torch.equal(back[k], state[k]) for k in state)


def test_official_file_with_a_teacher_s_head():
    state = random_official("shvit_s1_distill")
    cfg = ClassificationModel("shvit_s1.yaml", nc=10, verbose=False).yaml
    report = ClassificationModel(cfg, verbose=False).load(state)
    assert {k.split(".")[0] for k in report.dropped} == {"head_dist"} and not report.fresh
    cfg["head"] = [[-1, 1, "SHViTHead", ["nc", True]]]
    model = ClassificationModel(cfg, verbose=False)
    report = model.load(state)
    assert not (report.fresh or report.dropped or report.mismatched)
    x = tensor("picture", (2, 3, 64, 64), "image")
    official = shsa.shvit_s1(num_classes=10, distillation=True)
    official.load_state_dict(state)
    for mode in (True, False):
        want, got = (m.train(mode)(x) for m in (official, model))
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def test_another_number_of_classes_leaves_the_last_layer_fresh():
    model = ClassificationModel("shvit_s1.yaml", nc=3, verbose=False)
    before = model.model[-1].head.l.weight.clone()
    report = model.load(random_official("shvit_s1"))
    assert report.mismatched == ["model.4.head.l.weight", "model.4.head.l.bias"]
    assert torch.equal(model.model[-1].head.l.weight, before) and len(report.copied) == 469
    assert "2 of another shape" in report.lines()[0] and "head.l.weight" in report.lines()[1]


# --------------------------------------------------------------------------------------------------------- networks
@pytest.mark.parametrize(("size", "millions"), [("s1", 6.3), ("s2", 11.5), ("s3", 14.2), ("s4", 16.6)])
def test_every_yaml(size, millions):
    """Published parameters; finite; batch = singles; gradients everywhere; fused = unfused."""
    with torch.device("meta"):
        full = ClassificationModel(f"shvit_{size}.yaml", verbose=False)
    assert sum(p.numel() for p in full.parameters()) / 1e6 == pytest.approx(millions, abs=0.06)
    model = ClassificationModel(f"shvit_{size}.yaml", nc=3, verbose=False)
    fill_(model, "", 1.0)
    x = tensor("x", (2, 3, 64, 96), "image")
    with torch.no_grad():
        y = model.eval()(x)
        alone = torch.cat([model(x[i : i + 1]) for i in range(2)])
    assert y.isfinite().all() and y.shape == (2, 3)
    torch.testing.assert_close(y, alone, rtol=1e-4, atol=1e-4 * float(y.abs().max()))
    model.train()({"img": x, "cls": torch.tensor([0, 2])})[0].backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    with torch.no_grad():
        y = model.eval()(x)
        fused = model.fuse(verbose=False)(x)
    assert model.is_fused()
    torch.testing.assert_close(fused, y, rtol=1e-4, atol=1e-4 * float(y.abs().max()))


def test_a_saved_model_comes_back(tmp_path):
    model = fill_(ClassificationModel(TINY, nc=3, verbose=False), "", 1.0).eval()
    model.names = {0: "a", 1: "b", 2: "c"}
    save_checkpoint(tmp_path / "m.pt", {"model": pack_model(model)})
    back, _ = load_checkpoint(tmp_path / "m.pt")
    x = tensor("x", (1, 3, 64, 64), "image")
    assert isinstance(back, ClassificationModel) and back.names == model.names and back.task == "classify"
    assert next(m.eps for m in back.modules() if isinstance(m, torch.nn.BatchNorm2d)) == 1e-5
    with torch.no_grad():
        torch.testing.assert_close(back(x), model(x), rtol=0, atol=0)
    other = ClassificationModel(TINY, nc=3, verbose=False)
    assert len(other.load(tmp_path / "m.pt", verbose=False).fresh) == 0 and other.names == model.names


def test_a_row_of_another_kind_at_the_end():
    bad = {**TINY, "head": [[-1, 1, "Conv", [3, 1]]]}
    with pytest.raises(ModelYAMLError, match=r"layer 4 \(Conv\).*must give 3 logits") as e:
        ClassificationModel(bad, verbose=False)
    assert "SHViTHead" in str(e.value)
    with pytest.raises(ModelYAMLError, match="yolo classify train"):
        RTDETRDetectionModel("shvit_s1.yaml", verbose=False)


def test_the_task_of_a_model():
    assert guess_model_task("shvit_s1.yaml") == guess_model_task(TINY) == "classify"
    assert guess_model_task("rtdetr-l.yaml") == guess_model_task({"nc": 3}) == "detect"
