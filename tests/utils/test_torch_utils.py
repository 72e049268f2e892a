from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ultralytics.utils import torch_utils as tu
from ultralytics.utils.errors import ConfigError, DeviceError, UserError


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> int:
    """Pretend that there are three GPUs, of which the last has the most free memory."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: f"Card{i}")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda i: (i * 100, 1000))
    return 3


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.parametrize(
    ("device", "ids", "chosen"),
    [
        ("", [], "cuda:0"),
        (None, [], "cuda:0"),
        ("auto", [], "cuda:0"),
        ("cpu", [], "cpu"),
        ("CPU", [], "cpu"),
        (torch.device("cpu"), [], "cpu"),
        (0, [0], "cuda:0"),
        ("1", [1], "cuda:1"),
        ("cuda", [0], "cuda:0"),
        ("cuda:2", [2], "cuda:2"),
        (torch.device("cuda", 1), [1], "cuda:1"),
        ("1,2", [1, 2], "cuda:1"),
        ("1, 2,", [1, 2], "cuda:1"),
        ("[0,2]", [0, 2], "cuda:0"),
        ([2, 0], [2, 0], "cuda:2"),
        ((0, 1), [0, 1], "cuda:0"),
        ("cuda:0,cuda:1", [0, 1], "cuda:0"),
        (-1, [2], "cuda:2"),
        ("-1", [2], "cuda:2"),
    ],
)
def test_devices_with_gpus(
    device: Any, ids: list[int], chosen: str, gpus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before = dict(os.environ)
    assert tu.device_ids(device) == ids
    assert str(tu.select_device(device, verbose=False)) == chosen
    gpu = {"CUBLAS_WORKSPACE_CONFIG": tu.CUBLAS_WORKSPACES} if chosen.startswith("cuda") else {}
    assert dict(os.environ) == before | gpu
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    tu.select_device(device, verbose=False)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


@pytest.mark.parametrize(
    ("device", "word"),
    [
        ("3", "there are 3"),
        ("0,5", "GPU 5"),
        ("gpu", "not a device"),
        ("0,0", "twice"),
        ("0,-1,2", "twice"),
        ("1.5", "not a"),
    ],
)
def test_devices_that_do_not_exist(device: str, word: str, gpus: int) -> None:
    with pytest.raises(DeviceError, match=word) as e:
        tu.select_device(device)
    assert len(str(e.value).splitlines()) <= 3


@pytest.mark.parametrize("device", ["", None, "cpu", "auto"])
def test_without_a_gpu_it_is_the_cpu(device: str | None, no_gpu: None) -> None:
    assert tu.select_device(device, verbose=False) == torch.device("cpu")


@pytest.mark.parametrize("device", ["0", 0, "cuda", [0, 1], -1, "mps"])
def test_without_a_gpu_the_message_says_what_there_is(device: Any, no_gpu: None) -> None:
    with pytest.raises(DeviceError, match=r"Here: cpu\.") as e:
        tu.select_device(device)
    assert isinstance(e.value, ValueError)


def test_each_process_takes_its_own_gpu(gpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert str(tu.select_device("2,0", verbose=False)) == "cuda:0"
    assert str(tu.select_device("", verbose=False)) == "cuda:1"


def test_the_batch_must_fit_the_gpus(gpus: int) -> None:
    with pytest.raises(ConfigError, match="multiple"):
        tu.select_device("0,1", batch=3)
    assert str(tu.select_device("0,1", batch=4, verbose=False)) == "cuda:0"


def test_the_choice_is_logged(no_gpu: None, capsys: pytest.CaptureFixture[str]) -> None:
    tu.select_device("cpu")
    assert f"torch {torch.__version__}, cpu" in capsys.readouterr().out


@pytest.mark.parametrize("seed", [0, 1, 2**40])
def test_init_seeds(seed: int) -> None:
    def draw() -> tuple[float, float, float]:
        tu.init_seeds(seed)
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    assert draw() == draw()
    tu.init_seeds(seed + 1)
    assert random.random() != draw()[0]


def test_deterministic_can_be_undone() -> None:
    tu.init_seeds(0, deterministic=True)
    assert torch.are_deterministic_algorithms_enabled() and torch.is_deterministic_algorithms_warn_only_enabled()
    tu.init_seeds(0)
    assert not torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.deterministic


@pytest.mark.parametrize(
    ("flags", "native"),
    [
        ("", False),
        ("flags : fpu avx2 avx512f", False),
        ("flags : fpu amx_bf16 amx_tile", True),
        ("flags\t\t: avx512_bf16", True),
        ("Features : fp asimd bf16", True),
        ("flags : not_amx_bf16_at_all", False),
    ],
)
def test_native_bf16_on_a_cpu(flags: str, native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tu, "_cpu_flags", tu._cpu_flags.__wrapped__)  # the machine's own are kept for the process
    monkeypatch.setattr(Path, "read_text", lambda self, **kwargs: f"processor : 0\n{flags}\n")
    assert tu.native_bf16("cpu") is native
    assert tu.amp_dtype(True, "cpu") == (torch.bfloat16 if native else None)
    assert tu.cpu_has_amx() is ("amx_bf16 " in flags)
    assert tu.native_bf16("meta") is False


@pytest.mark.parametrize(
    ("amp", "device", "want"),
    [
        (False, "cpu", None),
        ("fp32", "cuda", None),
        ("bf16", "cpu", torch.bfloat16),
        ("BF16", "cuda", torch.bfloat16),
        ("fp16", "cuda", torch.float16),
    ],
)
def test_amp_dtype(amp: bool | str, device: str, want: torch.dtype | None) -> None:
    assert tu.amp_dtype(amp, device) == want


@pytest.mark.parametrize("native", [True, False])
def test_amp_on_cuda_prefers_bf16(native: bool, gpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native)
    assert tu.amp_dtype(True, "cuda:0") == (torch.bfloat16 if native else torch.float16)


@pytest.mark.parametrize(("amp", "device"), [("fp16", "cpu"), ("int8", "cuda"), ("", "cpu")])
def test_impossible_precisions(amp: str, device: str) -> None:
    with pytest.raises(ConfigError, match="amp="):
        tu.amp_dtype(amp, device)


@pytest.mark.parametrize(("enabled", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_autocast(enabled: bool, dtype: torch.dtype) -> None:
    with tu.autocast(enabled, "cpu", torch.bfloat16):
        assert nn.Linear(2, 2)(torch.ones(1, 2)).dtype == dtype


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kwargs", [{}, {"groups": 2, "stride": 2}, {"dilation": 2, "padding": (2, 1)}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fuse_conv_and_bn(bias: bool, kwargs: dict[str, Any], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    conv, bn = nn.Conv2d(4, 6, 3, bias=bias, **kwargs), nn.BatchNorm2d(6, eps=1e-3)
    for t in (bn.weight, bn.bias, bn.running_mean):
        nn.init.normal_(t)
    nn.init.uniform_(bn.running_var, 0.1, 2)
    both = nn.Sequential(conv, bn).to(dtype).eval()
    fused = tu.fuse_conv_and_bn(conv, bn)
    x = torch.randn(2, 4, 9, 8, dtype=dtype)
    torch.testing.assert_close(fused(x), both(x), rtol=1e-4, atol=1e-5)
    assert fused.weight.dtype == dtype and not any(p.requires_grad for p in fused.parameters())


def test_fuse_without_affine_parameters() -> None:
    conv, bn = nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3, affine=False).eval()
    bn.running_mean.fill_(0.5)
    x = torch.randn(1, 2, 4, 4)
    torch.testing.assert_close(tu.fuse_conv_and_bn(conv, bn)(x), bn(conv(x)))


def test_counts() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    model[0].requires_grad_(False)
    assert (tu.get_num_params(model), tu.get_num_gradients(model)) == (26, 10)
    assert tu.get_num_params(nn.Identity()) == 0


def test_intersect_dicts() -> None:
    a = {"x": torch.zeros(2), "y": torch.zeros(3), "z": torch.zeros(1), "head.x": torch.zeros(1)}
    b = {"x": torch.ones(2), "y": torch.ones(2), "head.x": torch.ones(1)}
    assert tu.intersect_dicts({}, b) == {}
    assert set(tu.intersect_dicts(a, b)) == {"x", "head.x"}
    assert next(iter(tu.intersect_dicts(a, b, exclude=("head",)).values())) is a["x"]


def test_time_sync_goes_forward() -> None:
    assert tu.time_sync("cpu") <= tu.time_sync() <= tu.time_sync("cpu")


def test_errors_are_user_errors() -> None:
    assert issubclass(DeviceError, UserError)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_real_gpu() -> None:
    device = tu.select_device("", verbose=True)
    assert device == torch.device("cuda", 0) and tu.select_device(-1).type == "cuda"
    assert tu.amp_dtype(True, device) in {torch.bfloat16, torch.float16}
    torch.ones(1, device=device)
    assert tu.time_sync(device) <= tu.time_sync()


def test_autocast_dtype_is_of_the_innermost_context() -> None:
    assert tu.autocast_dtype("cpu") is None
    with torch.autocast("cpu", torch.bfloat16):
        assert tu.autocast_dtype("cpu") is torch.bfloat16
        with torch.autocast("cpu", enabled=False):
            assert tu.autocast_dtype("cpu") is None


@pytest.mark.parametrize("groups", [1, 2])
def test_a_transposed_convolution_takes_over_its_batch_norm(groups: int) -> None:
    deconv = nn.ConvTranspose2d(4, 6, 3, 2, 1, output_padding=1, groups=groups)
    norm = nn.BatchNorm2d(6).eval()
    for value in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(value)
    nn.init.uniform_(norm.running_var, 0.5, 2.0)
    x = torch.randn(2, 4, 5, 3)
    fused = tu.fuse_deconv_and_bn(deconv, norm)
    torch.testing.assert_close(fused(x), norm(deconv(x)))
    assert not any(p.requires_grad for p in fused.parameters())
