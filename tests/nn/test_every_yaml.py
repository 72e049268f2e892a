"""Every detector YAML in cfg/models: builds, finite forward, gradients everywhere, batch = single, fused = unfused."""

import json
from pathlib import Path

import pytest
import torch

from tests.golden.fill import fill_
from tests.nn.test_tasks import batch_of
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils import ROOT

YAMLS = sorted(p.name for p in (ROOT / "cfg" / "models" / "rt-detr").glob("*.yaml"))
PARSED = json.loads((Path(__file__).parents[1] / "golden" / "parse.json").read_text())["models"]
TABLES = {t["cfg"]: t for t in PARSED if isinstance(t["cfg"], str)}
CLASSES = 3  # a small score head; test_counts has 80


@pytest.fixture(scope="module", params=YAMLS)
def model(request):
    """One model at a time: pytest runs all tests of one YAML before the next is built."""
    torch.manual_seed(0)
    model = RTDETRDetectionModel(request.param, nc=CLASSES, verbose=False)
    fill_(model, "", 1.2)
    return model


def test_the_shipped_yamls():
    stock = {"rtdetr-l", "rtdetr-hgnetv2-l", "rtdetr-x", "rtdetr-resnet50", "rtdetr-resnet101"}
    assert stock <= {name.removesuffix(".yaml") for name in YAMLS}


def test_forward_batch_and_gradients(model):
    """In eval: finite, and a batch of two equals two singles. In training: a gradient reaches every parameter."""
    x = torch.linspace(0, 40, 2 * 3 * 64 * 96).view(2, 3, 64, 96).sin().abs()
    model.eval()
    with torch.no_grad():
        y = model(x)[0]
        alone = torch.cat([model(x[i : i + 1])[0] for i in range(2)])
    assert y.isfinite().all()
    torch.testing.assert_close(y[..., 4], alone[..., 4], rtol=1e-4, atol=1e-4)
    total, _ = model.train()(batch_of(nc=CLASSES))
    total.backward()
    named = [(n, p.grad) for n, p in model.named_parameters() if p.requires_grad]
    missing = [n for n, grad in named if grad is None or not grad.isfinite().all()]
    model.zero_grad(set_to_none=True)
    assert total.isfinite() and missing == []


def test_fused_equals_unfused(model):
    """The head's inputs, and the scores; the model is fused in place, so this test comes last."""
    x = torch.linspace(0, 40, 3 * 64 * 96).view(1, 3, 64, 96).sin().abs()
    maps = []
    hook = model.eval().model[-1].register_forward_pre_hook(lambda _m, args: maps.append(args[0]))
    with torch.no_grad():
        want = model(x)[0]
        got = model.fuse(verbose=False)(x)[0]
    hook.remove()
    assert model.is_fused()
    for a, b in zip(*maps, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * float(a.abs().max()))
    torch.testing.assert_close(got[..., 4], want[..., 4], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", TABLES)
def test_counts(name):
    """The reference's parameters, layers, state-dict length and, within 2 %, GFLOPs at 640 px, unfused and fused."""
    want = TABLES[name]
    with torch.device("meta"):  # counting needs no values
        model = RTDETRDetectionModel(name, verbose=False)
    for row in (want, want["fused"]):
        layers, params, _, gflops = model.info(imgsz=640)
        assert params == row["params"]
        assert abs(gflops - row["gflops_640"]) < 0.02 * row["gflops_640"]
        if row is want:
            assert layers == row["modules_without_children"] and len(model.state_dict()) == row["state_dict_entries"]
            model.fuse(verbose=False)
