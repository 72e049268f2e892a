"""The façade: what a user holds."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ultralytics
from tests.engine.tiny import IMAGES, NAMES, TINY, draw, in_threads, write_dataset
from ultralytics import models
from ultralytics.cfg import get_cfg
from ultralytics.engine.model import Model
from ultralytics.models import RTDETR
from ultralytics.models.rtdetr import RTDETRPredictor, RTDETRTrainer, RTDETRValidator
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils.errors import CheckpointError, ConfigError, NotFoundError, UserError
from ultralytics.utils.metrics import DetMetrics


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("shapes"))


@pytest.fixture
def model() -> RTDETR:
    torch.manual_seed(0)
    return RTDETR(TINY)


IMAGE = draw(*IMAGES[0])
FAST: dict[str, Any] = {"imgsz": 64, "device": "cpu"}


def rows(model: RTDETR) -> torch.Tensor:
    with torch.no_grad():
        return model.model.eval()(torch.linspace(0, 1, 3 * 64 * 64).view(1, 3, 64, 64))[0]


def test_public_doors():
    assert ultralytics.RTDETR is models.RTDETR is RTDETR
    assert ultralytics.YOLO is models.YOLO
    with pytest.raises(AttributeError):
        models.NoSuchModel  # noqa: B018


@pytest.mark.parametrize("wrong", [torch.nn.Linear(1, 1), 5, None, ["m.yaml"]])
def test_what_is_not_a_model_is_named_by_its_type(wrong):
    with pytest.raises(TypeError, match=f"^model is a {type(wrong).__name__}: give the path"):
        RTDETR(wrong)


def test_what_a_new_model_offers(model):
    assert model.task == "detect"
    assert model.names == {0: "0", 1: "1", 2: "2"}
    assert model.device == torch.device("cpu")
    assert model.ckpt is None
    assert model.overrides["model"] is None
    assert model.task_map == {
        "detect": {
            "model": RTDETRDetectionModel, "trainer": RTDETRTrainer, "validator": RTDETRValidator,
            "predictor": RTDETRPredictor,
        }
    }  # fmt: skip
    assert sum(p.numel() for p in model.parameters()) > 1000  # unknown attributes come from the network
    with pytest.raises(AttributeError, match="no_such_thing"):
        model.no_such_thing  # noqa: B018


def test_the_yaml_dict_is_not_changed():
    before = repr(TINY)
    RTDETR(TINY)
    assert repr(TINY) == before


@pytest.mark.parametrize(
    ("source", "error", "word"),
    [
        ("no-such-model.yaml", NotFoundError, "no-such-model"),
        ("no-such-weights.pt", NotFoundError, "no-such-weights"),
        ("model.onnx", UserError, "model.onnx"),
        ("", UserError, "neither"),
    ],
)
def test_bad_sources(source, error, word):
    with pytest.raises(error, match=word) as caught:
        RTDETR(source)
    assert len(str(caught.value).splitlines()) <= 3


def test_scale():
    scaled = {**TINY, "scales": {"l": [1.0, 1.0, 512], "n": [1.0, 0.5, 512]}}
    full, half = RTDETR(scaled), RTDETR(scaled, scale="n")
    count = lambda m: sum(p.numel() for p in m.model.parameters())  # noqa: E731
    assert count(half) < count(full)
    with pytest.raises(UserError, match="z"):
        RTDETR(scaled, scale="z")


def test_scale_of_a_weights_file_is_fixed(model, tmp_path):
    path = model.save(tmp_path / "m.pt")
    with pytest.raises(ConfigError, match="scale"):
        RTDETR(path, scale="n")


def test_another_model_shares_its_state(model):
    again = RTDETR(model)
    assert again.model is model.model
    again.overrides["imgsz"] = 96
    assert model.overrides["imgsz"] == 96


def test_save_and_load_round_trip(model, tmp_path):
    model.model.names = dict(NAMES)
    path = model.save(tmp_path / "m.pt")
    assert path.exists()
    again = RTDETR(path)
    assert again.names == NAMES
    assert again.ckpt_path == str(path)
    assert torch.equal(rows(again), rows(model))


def test_load_copies_what_fits(model, tmp_path):
    path = model.save(tmp_path / "m.pt")
    torch.manual_seed(1)
    other = RTDETR(TINY)
    fresh = copy.deepcopy(other.model)
    for source in (path, str(path), model, model.model):
        other.model = copy.deepcopy(fresh)
        assert not torch.equal(rows(other), rows(model))
        assert other.load(source) is other
        assert torch.equal(rows(other), rows(model))
    fewer = RTDETR({**TINY, "nc": 2}).load(path)
    first = "model.0.conv.weight"
    assert torch.equal(fewer.state_dict()[first], model.state_dict()[first])


def test_load_missing_file(model):
    with pytest.raises(NotFoundError, match="gone"):
        model.load("gone.pt")


def test_info_and_fuse(model, capsys):
    layers, params, grads, flops = model.info(imgsz=64)
    assert layers > 10 and params == grads == sum(p.numel() for p in model.parameters()) and flops > 0
    model.info(detailed=True, imgsz=64)
    assert "AIFI" in capsys.readouterr().out
    before = rows(model)
    assert model.fuse(imgsz=64) is model
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in model.model.modules())
    torch.testing.assert_close(rows(model), before, atol=1e-4, rtol=1e-4)


def test_reset_weights(model):
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(0.5)
    assert model.reset_weights() is model
    assert not any(bool((p == 0.5).all()) for p in model.parameters())
    head = model.model.model[-1]
    prior = head.dec_score_head[-1].bias.detach()
    assert float(prior.mean()) == pytest.approx(-np.log(99), abs=1e-3)


def test_predict_kinds_of_return(model):
    found = model.predict(IMAGE, **FAST)
    assert isinstance(found, list) and len(found) == 1
    assert isinstance(model(IMAGE, stream=True, **FAST), Iterator)
    assert len(list(model([IMAGE, IMAGE], stream=True, **FAST))) == 2


def test_predictor_is_kept_and_its_arguments_are_not(model):
    model.predict(IMAGE, conf=0.0, **FAST)
    first = model.predictor
    assert len(model.predict(IMAGE, **FAST)[0]) == 0  # back at 0.25: a fresh model is sure of nothing
    assert model.predictor is first
    assert len(model.predict(IMAGE, conf=0.0, max_det=7, **FAST)[0]) == 7
    model.load(RTDETR(TINY))
    assert model.predictor is None  # new weights need a new predictor


@pytest.mark.parametrize(
    ("key", "value"), [("amp", False), ("quantize", 32), ("channels_last", False), ("compile", "default")]
)
def test_how_one_call_ran_the_network_does_not_stick(model, monkeypatch, key, value):
    monkeypatch.setattr("ultralytics.nn.backends.compiled.BACKEND", "eager")
    model.predict(IMAGE, **{key: value}, **FAST)
    before = model.predictor
    assert before.args.get(key) == value
    model.predict(IMAGE, **FAST)
    assert model.predictor is not before
    assert model.predictor.args.get(key) == get_cfg().get(key) != value
    kept = model.predictor
    model.predict(IMAGE, **{key: get_cfg().get(key)}, **FAST)  # the default, spelt out
    assert model.predictor is kept


def test_threads_keep_the_arguments_of_their_own_calls(model, tmp_path):
    model.predict(IMAGE, **FAST)
    found: list[tuple[int, int]] = []

    def ask(count: int) -> None:
        kw = {**FAST, "conf": 0.0, "max_det": count, "save_txt": True, "project": str(tmp_path), "name": str(count)}
        for _ in range(15):
            found.append((count, len(model.predict([IMAGE, IMAGE], **kw)[1])))

    in_threads(lambda: ask(3), lambda: ask(5))
    assert set(found) == {(3, 3), (5, 5)}
    for count in (3, 5):
        files = list(tmp_path.glob(f"{count}*/labels/*.txt"))
        assert len(files) > 0
        assert {len(f.read_text().splitlines()) for f in files} == {count}


def test_a_call_waits_while_another_opens_its_source(model):
    """What a call asks for is taken over and its source is opened in one step."""
    found: list[int] = []

    class Slow(RTDETRPredictor):
        def setup_source(self, source: Any) -> Any:
            if self.args.max_det == 5:
                other.start()
                other.join(0.5)
            return super().setup_source(source)

    kw = {"predictor": Slow, "conf": 0.0, **FAST}
    model.predict(IMAGE, **kw)
    other = threading.Thread(target=lambda: found.append(len(model.predict(IMAGE, max_det=3, **kw)[0])))
    assert len(model.predict(IMAGE, max_det=5, **kw)[0]) == 5
    other.join()
    assert found == [3]


def test_the_first_call_may_come_from_several_threads(model):
    made: list[Any] = []
    model.add_callback("on_predict_start", made.append)
    in_threads(*[lambda: model.predict(IMAGE, **FAST)] * 4)
    assert made == [model.predictor] * 4


@pytest.mark.parametrize("again", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["copy", "pickle"])
def test_a_copy_predicts_by_itself(model, again):
    want = model.predict(IMAGE, conf=0.0, **FAST)[0].boxes.data
    other = again(model)
    assert other.predictor is None
    assert other.model is not model.model
    torch.testing.assert_close(other.predict(IMAGE, conf=0.0, **FAST)[0].boxes.data, want, rtol=0, atol=0)
    with torch.no_grad():
        for p in other.model.parameters():
            p.zero_()
    torch.testing.assert_close(model.predict(IMAGE, conf=0.0, **FAST)[0].boxes.data, want, rtol=0, atol=0)


def _step(model):
    model.model.train().requires_grad_(True)
    optimizer = torch.optim.SGD(model.model.parameters(), 0.1)
    batch = {"img": torch.rand(2, 3, 64, 64), "cls": torch.zeros(1), "bboxes": torch.full((1, 4), 0.5)}
    model.model({**batch, "batch_idx": torch.zeros(1)})[0].backward()
    optimizer.step()


def _zeros(model):
    model.model.load_state_dict({k: torch.zeros_like(v) for k, v in model.model.state_dict().items()})


def _replace(model):
    head = model.model.model[-1].enc_score_head
    head.bias = torch.nn.Parameter(head.bias.detach() + torch.tensor([0.0, 3.0, 0.0]))


@pytest.mark.parametrize("change", [_step, _zeros, _replace])
def test_a_prediction_is_of_the_weights_as_they_are(model, change):
    before = model.predict(IMAGE, conf=0.0, **FAST)[0].boxes.data
    kept = model.predictor
    model.predict(IMAGE, conf=0.0, **FAST)
    assert model.predictor is kept  # nothing changed
    change(model)
    got = model.predict(IMAGE, conf=0.0, **FAST)[0].boxes.data
    model.predictor = None
    torch.testing.assert_close(got, model.predict(IMAGE, conf=0.0, **FAST)[0].boxes.data, rtol=0, atol=0)
    assert got.shape != before.shape or not torch.equal(got, before)


def test_results_have_the_names_that_the_model_has_now(model):
    assert model.predict(IMAGE, conf=0.0, **FAST)[0].names[0] == "0"
    model.model.names = {0: "a", 1: "b", 2: "c"}
    assert model.predict(IMAGE, conf=0.0, **FAST)[0].names == {0: "a", 1: "b", 2: "c"}


def test_predict_leaves_the_model_as_it_was(model):
    model.model.train()
    keys = list(model.state_dict())
    model.predict(IMAGE, **FAST)
    assert list(model.state_dict()) == keys
    assert model.model.training
    assert all(p.requires_grad for p in model.parameters())


def test_val_returns_the_metrics(model, data, tmp_path):
    metrics = model.val(data=str(data), plots=False, project=str(tmp_path), batch=2, workers=0, **FAST)
    assert isinstance(metrics, DetMetrics)
    assert metrics is model.metrics
    assert set(metrics.results_dict) == {
        "metrics/precision(B)", "metrics/recall(B)", "metrics/mAP50(B)", "metrics/mAP50-95(B)", "fitness"
    }  # fmt: skip
    with pytest.raises(ConfigError, match="data"):
        model.val(**FAST)


def test_embed_gives_a_vector_per_image(model):
    vectors = model.embed([IMAGE, IMAGE, IMAGE[:40]], **FAST)
    assert [tuple(v.shape) for v in vectors] == [(32,)] * 3
    assert torch.equal(vectors[0], vectors[1])
    assert not torch.equal(vectors[0], vectors[2])
    assert model.embed(IMAGE, embed=[0, 1], **FAST)[0].shape == (24,)
    torch.testing.assert_close(model.embed(IMAGE, embed=[], **FAST)[0], vectors[0])  # an empty list is the default


def test_unknown_argument_names_the_nearest(model):
    with pytest.raises(SyntaxError, match="conf"):
        model.predict(IMAGE, confi=0.5)


def test_callbacks(model):
    seen: list[str] = []
    model.add_callback("on_predict_start", lambda p: seen.append(type(p).__name__))
    model.predict(IMAGE, **FAST)
    model.predict(IMAGE, **FAST)
    model.clear_callback("on_predict_start")
    model.predict(IMAGE, **FAST)
    assert seen == ["RTDETRPredictor"] * 2
    with pytest.raises(UserError, match="on_predict_start"):
        model.add_callback("on_predict_begin", print)
    model.reset_callbacks()


def test_callbacks_of_a_predictor_of_the_user_stay(model):
    """Those of the model come beside them: each once, and gone when they are cleared there."""
    seen: list[str] = []

    def both(_: object) -> None:
        seen.append("both")

    model.predict(IMAGE, **FAST)
    model.predictor.add_callback("on_predict_start", lambda _: seen.append("predictor"))
    model.predictor.add_callback("on_predict_start", both)
    model.add_callback("on_predict_start", lambda _: seen.append("model"))
    model.add_callback("on_predict_start", both)
    before = model.predictor
    for _ in range(2):
        model.predict(IMAGE, **FAST)
    model.reset_callbacks()
    model.predict(IMAGE, **FAST)
    assert model.predictor is before
    assert seen == ["predictor", "both", "model"] * 2 + ["predictor", "both"]
    model.predictor = None


@pytest.mark.parametrize("fails", [False, True])
def test_callbacks_of_an_export(model, monkeypatch, fails):
    seen: list[Any] = []

    class Job:
        def __init__(self, *_: Any) -> None:
            seen.append("made")

        def __call__(self) -> tuple[Path, None]:
            if fails:
                raise CheckpointError("differs")
            seen.append("written")
            return Path("a.torchscript"), None

    monkeypatch.setattr("ultralytics.engine.model.Export", Job)
    for event in ("on_export_start", "on_export_end"):
        model.add_callback(event, lambda job, event=event: seen.append((event, type(job))))
    with pytest.raises(CheckpointError) if fails else nullcontext():
        assert model.export(format="torchscript") == "a.torchscript"
    model.reset_callbacks()
    whole = ["made", ("on_export_start", Job), "written", ("on_export_end", Job)]
    assert seen == whole[: 2 if fails else 4]


def test_to_float_eval(model):
    assert model.to("cpu") is model
    assert model.overrides["device"] == "cpu"
    assert model.half().model.model[0].conv.weight.dtype == torch.float16
    assert model.float().model.model[0].conv.weight.dtype == torch.float32
    assert not model.eval().model.training


def test_missing_role():
    class Half(RTDETR):
        @property
        def task_map(self) -> dict[str, dict[str, type[Any]]]:
            return {"detect": {"model": RTDETRDetectionModel}}

    with pytest.raises(NotImplementedError, match=r"Half.*predictor.*detect"):
        Half(TINY).predict(IMAGE)
    with pytest.raises(NotImplementedError):
        Model(TINY)


def test_train_then_hold_the_best_weights(model, data, tmp_path):
    kw: dict[str, Any] = {"data": str(data), "batch": 2, "workers": 0, "plots": False, "amp": False, **FAST}
    model.train(epochs=1, project=str(tmp_path), name="t", **kw)
    best = tmp_path / "t" / "weights" / "best.pt"
    assert model.ckpt_path == str(best)
    assert model.names == NAMES
    again = RTDETR(best)
    assert torch.equal(rows(again), rows(model))
    assert again.overrides["imgsz"] == 64 and again.overrides["data"] == str(data)
    # The same file gives the same numbers through `val` as at the end of its own run.
    final = {k: v for k, v in model.metrics.results_dict.items() if k.startswith("metrics/")}
    alone = again.val(plots=False, workers=0, project=str(tmp_path), device="cpu").results_dict
    for key, value in final.items():
        assert alone[key] == pytest.approx(value, abs=5e-5)
