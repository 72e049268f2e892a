"""Every detector YAML in cfg/models: builds, finite forward, gradients everywhere, batch = single, fused = unfused."""

import copy
import importlib.util
import json
from pathlib import Path

import pytest
import torch

from tests.nn.networks import batch_of
from ultralytics.nn.build.dry_run import ProbeBlock
from ultralytics.nn.modules import RTDETRDecoder
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils import ROOT

TIMM = importlib.util.find_spec("timm") is not None
FILES = sorted(p.name for p in (ROOT / "cfg" / "models" / "rt-detr").glob("rtdetr-*.yaml"))
YAMLS = [name for name in FILES if TIMM or "timm" not in name]
PARSED = json.loads((Path(__file__).parents[1] / "golden" / "parse.json").read_text())["models"]
DEEPER = {"r34", "resnet34", "resnet101vd", "resnet50vd-m", "shvit-s2", "shvit-s3"}
"""Models with the rows of another one and other repeats or widths."""
TABLES = {t["cfg"]: t for t in PARSED if isinstance(t["cfg"], str)}


NOISE = torch.randn(65521, generator=torch.Generator().manual_seed(0))  # a prime length: rows of a matrix differ


@torch.no_grad()
def fill_fast(model):
    """Values like those of `fill_`, repeated from one piece of noise; a tenth of the time for 500 million of them."""
    for number, (key, value) in enumerate(model.state_dict().items()):
        if not value.is_floating_point():
            value.zero_()
            continue
        noise = NOISE.roll(number).repeat(-(-value.numel() // len(NOISE)))[: value.numel()].view(value.shape)
        if key.endswith("running_var"):
            value.copy_(noise.abs().clamp(0.5, 1.5))
        elif value.dim() > 1:
            value.copy_(noise.mul_((1.2 if value.dim() == 4 else 1.0) * value[0].numel() ** -0.5))
        else:
            value.copy_(noise.mul_(0.1).add_(float(key.endswith("weight"))))


def image(count):
    """Distinct images of 32 x 64 px."""
    return torch.linspace(0, 40, count * 3 * 32 * 64).view(count, 3, 32, 64).sin().abs()


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=[pytest.mark.slow] if name[len("rtdetr-") : -len(".yaml")] in DEEPER else [])
        for name in YAMLS
    ],
)
def model(request):
    """One model at a time: pytest runs all tests of one YAML before the next is built.

    It is built without values and filled, which spares its random initialisation; the dry run leaves out the head,
    which the tests run themselves.
    """
    run = ProbeBlock.run
    with pytest.MonkeyPatch.context() as patch, torch.device("meta"):
        patch.setattr(ProbeBlock, "run", lambda self, x: None if self.cls is RTDETRDecoder else run(self, x))
        model = RTDETRDetectionModel(request.param, verbose=False)
    model.to_empty(device="cpu")
    fill_fast(model)
    model.model[-1].num_denoising, model.model[-1].num_queries = 10, 20  # every parameter still takes part
    model.table = TABLES.get(request.param)
    return model


def test_the_shipped_yamls():
    stock = {"rtdetr-l", "rtdetr-hgnetv2-l", "rtdetr-x", "rtdetr-resnet50", "rtdetr-resnet101"}
    assert stock <= {name.removesuffix(".yaml") for name in YAMLS}
    assert len(TABLES) == 4 and set(TABLES) <= set(YAMLS)  # those with counts of the reference


def test_forward_batch_and_gradients(model):
    """In eval: finite, and a batch of two equals two singles. In training: a gradient reaches every parameter."""
    x = image(2)
    model.eval()
    with torch.no_grad():
        y = model(x)[0]
        alone = torch.cat([model(x[i : i + 1])[0] for i in range(2)])
    assert y.isfinite().all()
    torch.testing.assert_close(y[..., 4], alone[..., 4], rtol=1e-4, atol=1e-4)
    total, _ = model.train()(batch_of())
    total.backward()
    named = [(n, p.grad) for n, p in model.named_parameters() if p.requires_grad]
    missing = [n for n, grad in named if grad is None or not grad.sum().isfinite()]
    model.zero_grad(set_to_none=True)
    assert total.isfinite() and missing == []


def test_counts(model):
    """Of the stock models: layers, state-dict length and the counts of the reference."""
    if model.table:
        want = model.table
        assert check_counts(model, want) == want["modules_without_children"]
        assert len(model.state_dict()) == want["state_dict_entries"]


def test_fused_equals_unfused(model):
    """The head's inputs, the scores and the fused counts, on a copy that is fused in place."""
    model = copy.deepcopy(model)
    x = image(1)
    maps = []
    hook = model.eval().model[-1].register_forward_pre_hook(lambda _m, args: maps.append(args[0]))
    with torch.no_grad():
        want = model(x)[0]
        got = model.fuse(verbose=False)(x)[0]
    hook.remove()
    assert model.is_fused() or type(model.model[0]).__name__ == "Timm"  # its norms carry the activation, and stay
    for a, b in zip(*maps, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * float(a.abs().max()))
    torch.testing.assert_close(got[..., 4], want[..., 4], rtol=1e-4, atol=1e-4)
    if model.table:
        check_counts(model, model.table["fused"])


def check_counts(model, want):
    """The reference's parameters and, within 2 %, GFLOPs at 640 px; returns the number of layers."""
    head = model.model[-1]
    queries, head.num_queries = head.num_queries, 300
    layers, params, _, gflops = model.info(imgsz=640)
    head.num_queries = queries
    assert params == want["params"]
    assert abs(gflops - want["gflops_640"]) < 0.02 * want["gflops_640"]
    return layers
