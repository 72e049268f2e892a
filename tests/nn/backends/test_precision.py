"""The precision and memory layout of inference on a CPU, with native bfloat16 and without."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.golden.fill import fill_
from tests.nn.networks import tiny
from ultralytics.cfg import get_cfg
from ultralytics.engine.validator import load_backend
from ultralytics.nn.autobackend import AutoBackend
from ultralytics.nn.checkpoint.format import pack_model, save_checkpoint
from ultralytics.nn.tasks import load_checkpoint
from ultralytics.utils import torch_utils
from ultralytics.utils.torch_utils import inference_dtype, wants_channels_last

BF16 = torch.bfloat16
IMAGES = torch.linspace(-1, 1, 2 * 3 * 64 * 96).view(2, 3, 64, 96).cos()


@pytest.fixture(scope="module")
def model() -> Any:
    model = tiny(nc=3)
    fill_(model, "", 1.2)
    return model.eval()


@pytest.mark.parametrize(
    ("native", "amp", "quantize", "device", "dtype"),
    [
        (False, True, None, "cpu", None),
        (True, True, None, "cpu", BF16),
        (True, False, None, "cpu", None),
        (True, True, 32, "cpu", None),  # 32 bits were asked for
        (False, "bf16", None, "cpu", BF16),  # at its word
        (True, True, None, "cuda", None),
    ],
)
def test_dtype_of_inference(
    native: bool, amp: Any, quantize: Any, device: str, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_utils, "_cpu_bf16", lambda: native)
    assert inference_dtype(amp, quantize, device) is dtype


@pytest.mark.parametrize(
    ("asked", "device", "want"),
    [(None, "cpu", True), (False, "cpu", False), (True, "cpu", True), (None, "cuda", False), (True, "cuda", True)],
)
def test_layout(asked: bool | None, device: str, want: bool) -> None:
    assert wants_channels_last(asked, device) is want


@pytest.mark.parametrize("kind", ["memory", "file", "memory, from a file"])
@pytest.mark.parametrize("dtype", [None, BF16])
def test_weights_that_are_not_finite_are_named_once_and_give_nan(
    model: Any, dtype: Any, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corrupted: Any = copy.deepcopy(model)
    with torch.no_grad():
        corrupted.model[1].conv.weight[2] = torch.nan
    if "file" in kind:
        corrupted = save_checkpoint(tmp_path / "corrupted.pt", {"model": pack_model(corrupted)})
    if "from" in kind:
        corrupted = load_checkpoint(corrupted)[0]
    capsys.readouterr()
    backend = AutoBackend(corrupted, dtype=dtype)
    said = capsys.readouterr().out
    assert said.count("not finite") == 1 and "model.1.conv.weight" in said
    assert ("corrupted.pt" in said) is ("file" in kind)
    with torch.no_grad():
        assert bool(backend(IMAGES)[0].isnan().any())


def test_low_precision_is_near_and_leaves_in_float32(model: Any) -> None:
    exact, low = AutoBackend(model), AutoBackend(model, dtype=BF16)
    with torch.no_grad():
        want, got = exact(IMAGES)[0], low(IMAGES)[0]
        assert got.dtype is torch.float32 and not torch.equal(got, want)
        torch.testing.assert_close(got[..., 4], want[..., 4], rtol=0, atol=0.02)
        layer = [len(model.model) - 2]
        torch.testing.assert_close(low(IMAGES, embed=layer)[0], exact(IMAGES, embed=layer)[0])


@pytest.mark.parametrize("native", [False, True])
def test_backend_of_arguments(model: Any, native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_utils, "_cpu_bf16", lambda: native)
    backend = load_backend(model, torch.device("cpu"), get_cfg())
    assert not model.is_fused() and backend.model.is_fused() and not backend.training
    assert backend.dtype is (BF16 if native else None)
    kernels = [p for p in backend.parameters() if p.dim() == 4 and p.shape[1] > 1 and p.shape[2] > 1]
    assert kernels and all(p.is_contiguous(memory_format=torch.channels_last) for p in kernels)
    plain = load_backend(model, torch.device("cpu"), get_cfg(overrides={"amp": False, "channels_last": False}))
    with torch.no_grad():
        torch.testing.assert_close(plain(IMAGES)[0], AutoBackend(model)(IMAGES)[0])
