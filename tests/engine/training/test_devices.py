"""What a run does where a GPU is, on one that is only pretended: no tensor in the wrong place, no needless wait."""

from collections import Counter

import numpy as np
import pytest
import torch
import yaml

from tests.engine.tiny import FAST_RUN, TINY, small_trainer, spread_network, write_dataset
from tests.engine.training.pretended import CUDA, Pretended, pretended_gpu
from tests.models.dfine.networks import DFINE, SECOND
from tests.models.shvit import tiny as classifier
from tests.models.yolo.networks import V8, V26
from ultralytics import RTDETR
from ultralytics.models.rtdetr import RTDETRTrainer
from ultralytics.models.shvit import ClassificationTrainer
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils.torch_tools.transfers import HostCopies

MATCH = "event in models/utils/ops.py: return [self._pairs_of(cost.numpy()) for cost in self._copies.wait()]"


def host(x):
    return x.inner if isinstance(x, Pretended) else x


def trainer_of(folder, data, **changes):
    """Plain descent: what rounding does to a gradient near 0, Adam turns into a whole step."""
    return small_trainer(data, folder, **{"epochs": 1, "optimizer": "SGD", "lr0": 0.01, "ema_warmup": 1.0, **changes})


def steps_of(trainer, waits):
    """Train, and return what each step waited for."""
    steps = []
    trainer.add_callback("on_train_batch_start", lambda _: waits.clear())
    trainer.add_callback("on_train_batch_end", lambda _: steps.append(list(waits)))
    trainer.train()
    fetches = [place for step in steps for place in step if "HostCopies(waiting)" in place]
    assert len(fetches) == 1  # losses of several steps at once
    # torch groups gradients by place in compiled code, which sees through the pretence
    known = ("engine/training/console.py", "clip_grad_norm_")
    return [[place for place in step if not any(tokens in place for tokens in known)] for step in steps]


def test_the_pretended_gpu_refuses_what_a_gpu_refuses():
    with pretended_gpu() as waits:
        there = torch.arange(6.0).to(CUDA, non_blocking=True).view(2, 3)
        assert there.device == CUDA and there.is_cuda and (there + 1).device == CUDA
        assert torch.equal((there * torch.tensor(2.0)).cpu(), torch.arange(6.0).view(2, 3) * 2)  # numbers go anywhere
        with pytest.raises(RuntimeError, match="on the host"):
            there + torch.ones(3)
        with pytest.raises(RuntimeError, match="on the host"):
            torch.zeros(2, 3)[torch.ones(2, dtype=torch.long, device=CUDA)]
        with pytest.raises(TypeError, match="not an array"):
            there.numpy()
        waits.clear()
        assert float(there.sum()) == 15 and there.tolist()[1] == [3, 4, 5] and len(there[there > 2]) == 3
        torch.ones(2).to("cuda")
        assert [w.split()[0].split(".")[0] for w in waits] == ["aten", "tolist", "aten", "to"]


def test_a_copy_that_is_not_waited_for_holds_nonsense():
    with pretended_gpu() as waits:
        there = torch.arange(3.0).to(CUDA, non_blocking=True)
        copies = HostCopies([there, there + 1])
        assert copies._copies[0].tolist() == [-77] * 3 and not waits
        first, second = copies.wait()
        assert first.tolist() == [0, 1, 2] and second.tolist() == [1, 2, 3]
        assert [w.split()[0] for w in waits] == ["event"]


def test_gradients_cross_between_host_and_device():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    with pretended_gpu():
        (x.to("cuda") ** 2).cpu().sum().backward()
    assert x.grad.tolist() == [2, 4]


def test_a_training_ends_with_the_weights_that_it_has_on_a_cpu(tmp_path):
    data = write_dataset(tmp_path / "data")
    want = trainer_of(tmp_path / "cpu", data)
    want.train()
    with pretended_gpu():
        got = trainer_of(tmp_path / "gpu", data, device=0)
        got.train()
        parameters = dict(got.model.named_parameters())
        assert all(p.device == CUDA for p in parameters.values())
    for name, p in want.model.named_parameters():
        torch.testing.assert_close(host(parameters[name]), p, rtol=1e-4, atol=1e-5, msg=name)
    for key, value in want.metrics.items():
        assert got.metrics[key] == pytest.approx(value, abs=1e-4), key
    saved = torch.load(tmp_path / "gpu/run/weights/last.pt", weights_only=False)["ema"]["state_dict"]
    assert all(type(t) is torch.Tensor and t.device.type == "cpu" for t in saved.values())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"amp": True},
        {"nbs": 4, "multi_scale": 0.5, "mosaic": 1.0, "mixup": 1.0},
        {"aux_groups": 2, "loss": "mal", "box_loss": "ciou"},
        {"freeze_bn": 0.5, "freeze": 2},
    ],
)
def test_a_step_waits_for_the_device_once_to_match(tmp_path, changes):
    with pretended_gpu() as waits:
        steps = steps_of(trainer_of(tmp_path, write_dataset(tmp_path / "data"), device=0, **changes), waits)
    assert len(steps) == 2
    for step in steps:
        assert step == [MATCH]


@pytest.mark.parametrize(
    ("network", "trainer", "waits_for"),
    [
        (DFINE, RTDETRTrainer, [MATCH]),
        (SECOND, RTDETRTrainer, [MATCH]),
        (V8, DetectionTrainer, []),
        (V26, DetectionTrainer, []),
    ],
    ids=["D-FINE", "RT-DETRv2", "YOLOv8", "YOLO26"],
)
def test_a_step_of_another_family_waits_at_most_once(tmp_path, network, trainer, waits_for):
    (tmp_path / "net.yaml").write_text(yaml.safe_dump(network))
    data = write_dataset(tmp_path / "data")
    options = {"model": str(tmp_path / "net.yaml"), "data": str(data), "epochs": 1, "device": 0, "amp": False}
    with pretended_gpu() as waits:
        run = trainer(overrides={**FAST_RUN, **options, "project": str(tmp_path), "name": "run"})
        steps = steps_of(run, waits)
    assert steps and all(step == waits_for for step in steps), steps


def test_float16_waits_for_its_scaler_only(tmp_path):
    with pretended_gpu(bf16=False) as waits:
        trainer = trainer_of(tmp_path, write_dataset(tmp_path / "data"), device=0, amp=True)
        steps = steps_of(trainer, waits)
        assert trainer.amp_dtype is torch.float16 and trainer.scaler.is_enabled()
    for step in steps:  # an optimizer that is not fused asks whether the gradients were finite
        assert step[0] == MATCH and len(step) == 2 and "scaler.step" in step[1]


def test_a_validation_fetches_its_boxes_once_a_batch(tmp_path):
    data = write_dataset(tmp_path / "data")
    options = {"data": str(data), "imgsz": 64, "batch": 2, "workers": 0, "plots": False, "project": str(tmp_path)}
    model = RTDETR(save_network(tmp_path))
    want = model.val(device="cpu", amp=False, name="cpu", **options)
    with pretended_gpu() as waits:
        batches = []
        model.add_callback("on_val_batch_start", lambda _: waits.clear())
        model.add_callback("on_val_batch_end", lambda _: batches.append(Counter(waits)))
        got = model.val(device=0, amp=False, name="gpu", **options)
    assert got.box.maps.tolist() == pytest.approx(want.box.maps.tolist(), abs=1e-6)
    timed = "synchronize in utils/ops.py: torch.cuda.synchronize(self.device)"
    for batch in batches:
        assert [place for place in batch.elements() if place != timed] == [
            "cpu in models/rtdetr/post.py: rows = output_rows(preds).cpu()  # one copy for the whole batch"
        ]


@pytest.mark.parametrize("changes", [{}, {"half": True}, {"augment": True}, {"classes": [0, 2]}, {"batch": 3}])
def test_predictions_are_those_of_a_cpu(tmp_path, changes):
    weights, images = save_network(tmp_path), sorted((write_dataset(tmp_path / "data").parent / "images/val").iterdir())
    options = {"imgsz": 64, "conf": 0.0, "amp": False, "verbose": False, **changes}
    want = RTDETR(weights).predict(images, device="cpu", **{**options, "half": False})
    with pretended_gpu():
        got = RTDETR(weights).predict(images, device=0, **options)
    for a, b in zip(got, want, strict=True):
        assert a.boxes.data.device.type == "cpu"
        if "half" not in changes:
            np.testing.assert_allclose(a.boxes.data, b.boxes.data, rtol=1e-4, atol=1e-3)


def save_network(folder):
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    model = RTDETR(folder / "tiny.yaml")
    model.model.load_state_dict(spread_network().state_dict())
    model.save(folder / "spread.pt")
    return folder / "spread.pt"


def test_a_classifier_waits_for_nothing_in_a_step(tmp_path):
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(classifier.TINY))
    images = classifier.write_set(tmp_path / "set")
    with pretended_gpu() as waits:
        options = classifier.options(images, tmp_path, device=0, epochs=1, cls_pw=0.5)
        trainer = ClassificationTrainer(overrides={**options, "model": str(tmp_path / "tiny.yaml")})
        assert steps_of(trainer, waits) == [[], [], []]
        assert trainer.metrics["metrics/accuracy_top5"] == 1
