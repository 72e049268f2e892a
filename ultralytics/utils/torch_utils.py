"""Devices, precision, seeds, and measures of models."""

from __future__ import annotations

import functools
import importlib
import os
import platform
import random
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import nn

from ultralytics.utils import dist
from ultralytics.utils.config.absent import absent
from ultralytics.utils.config.precision import AMP_TYPES
from ultralytics.utils.errors import ConfigError, DeviceError
from ultralytics.utils.interface.networks import get_cpu_info as get_cpu_info
from ultralytics.utils.interface.networks import get_gpu_info as get_gpu_info
from ultralytics.utils.interface.networks import initialize_weights as initialize_weights
from ultralytics.utils.interface.networks import is_parallel as is_parallel
from ultralytics.utils.interface.networks import model_info_for_loggers as model_info_for_loggers
from ultralytics.utils.interface.networks import one_cycle as one_cycle
from ultralytics.utils.interface.networks import profile_ops as profile_ops
from ultralytics.utils.interface.networks import scale_img as scale_img
from ultralytics.utils.interface.networks import smart_inference_mode as smart_inference_mode
from ultralytics.utils.interface.networks import torch_distributed_zero_first as torch_distributed_zero_first
from ultralytics.utils.interface.versions import check_version
from ultralytics.utils.log import LOGGER
from ultralytics.utils.torch_tools.flops import model_flops
from ultralytics.utils.torch_tools.training import (
    EarlyStopping,
    ModelEMA,
    constant_lr,
    copy_attr,
    cosine_lr,
    flat_cosine_lr,
    linear_lr,
    unwrap_model,
)

__all__ = [
    "EarlyStopping",
    "ModelEMA",
    "amp_dtype",
    "autocast",
    "autocast_dtype",
    "constant_lr",
    "copy_attr",
    "cosine_lr",
    "cpu_has_amx",
    "de_parallel",
    "device_ids",
    "flat_cosine_lr",
    "fuse_conv_and_bn",
    "get_flops",
    "get_num_gradients",
    "get_num_params",
    "inference_dtype",
    "init_seeds",
    "intersect_dicts",
    "linear_lr",
    "model_info",
    "native_bf16",
    "select_device",
    "time_sync",
    "unwrap_model",
    "wants_channels_last",
]

Device: TypeAlias = "str | int | Sequence[int | str] | torch.device | None"

de_parallel = unwrap_model


CUBLAS_WORKSPACES = ":4096:8"
"""Fixed work spaces of cuBLAS, which its reproducible matrix products need (NVIDIA's documentation of cuBLAS)."""


def _available() -> str:
    """What the machine has, for error messages."""
    names = [f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    return ", ".join(["cpu", *names])


def _idle_gpu(count: int) -> int:
    """Index of the GPU with the most free memory."""
    return max(range(count), key=lambda i: torch.cuda.mem_get_info(i)[0])


_NO_CHOICE = ("", "none", "auto")


def _device_text(device: Device) -> str:
    """A device argument in one form: lower case, GPUs separated by commas."""
    text = ",".join(map(str, device)) if isinstance(device, (list, tuple)) else str("" if device is None else device)
    return text.lower().replace(" ", "").strip("[](),")


def device_ids(device: Device) -> list[int]:
    """GPU indices that a device argument asks for: `"0,1"`, `[0, 1]`, `1`, `"cuda:1"`; empty for cpu, mps, no choice.

    Indices count the visible devices. `-1` stands for the GPU with the most free memory.

    Raises:
        DeviceError: not a device, a GPU that does not exist, or one named twice.
    """
    text = _device_text(device)
    if text in {*_NO_CHOICE, "cpu", "mps"}:
        return []
    parts = ["0" if p == "cuda" else p.removeprefix("cuda:") for p in text.split(",")]
    if not all(p.isdigit() or p == "-1" for p in parts):
        raise DeviceError(
            f"device={device!r} is not a device: use cpu, mps, 0, 0,1, cuda:1 or -1\nHere: {_available()}."
        )
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    wanted = [int(p) for p in parts]
    missing = [i for i in wanted if i >= count or (i < 0 and not count)]
    if missing:
        raise DeviceError(
            f"device={device!r} asks for GPU {missing[0]}, and there {'is none' if not count else f'are {count}'}\n"
            f"Here: {_available()}. Leave device out to take the best, or use device=cpu."
        )
    ids = [_idle_gpu(count) if i < 0 else i for i in wanted]
    if len(set(ids)) < len(ids):
        raise DeviceError(f"device={device!r} names a GPU twice")
    return ids


def select_device(device: Device = "", batch: int = 0, newline: bool = False, verbose: bool = True) -> torch.device:
    """Turn a device argument into a torch device.

    Nothing given (`""`, None): GPU 0 where there is one, else the CPU. Several GPUs (`"0,1"`): this process's one by
    its local rank, else the first. `batch`, if above 0, must be a multiple of the number of GPUs. For a GPU
    `CUBLAS_WORKSPACE_CONFIG` is set unless it is: torch reads it once, at the first matrix product of the process,
    which may be a prediction before the training run that has to be reproducible.

    Raises:
        DeviceError: the device does not exist; the message names those that do.
        ConfigError: `batch` does not divide evenly.
    """
    text = _device_text(device)
    ids = device_ids(device)
    if text == "mps" and not torch.backends.mps.is_available():
        raise DeviceError(f"device='mps' does not exist on this machine\nHere: {_available()}.")
    if text in _NO_CHOICE and torch.cuda.is_available():
        ids = [max(dist.local_rank(), 0) % torch.cuda.device_count()]
    if len(ids) > 1 and batch > 0 and batch % len(ids):
        raise ConfigError(f"batch={batch} must be a multiple of the number of GPUs, {len(ids)} (device={device!r})")
    if ids:
        chosen = torch.device("cuda", ids[max(dist.local_rank(), 0) % len(ids)])
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", CUBLAS_WORKSPACES)
    else:
        chosen = torch.device("mps" if text == "mps" else "cpu")
    if verbose:
        LOGGER.info(f"torch {torch.__version__}, {_describe(chosen)}")
    return chosen


def _describe(device: torch.device) -> str:
    if device.type != "cuda":
        return f"{device} ({torch.get_num_threads()} threads)"
    info = torch.cuda.get_device_properties(device)
    return f"{device} ({info.name}, {info.total_memory / 2**30:.0f} GiB)"


def init_seeds(seed: int = 0, deterministic: bool = False) -> None:
    """Seed Python, numpy and torch on all devices; `deterministic` also asks torch for reproducible algorithms.

    Operations without a reproducible form warn instead of failing. On CUDA, matrix products are reproducible only
    when the environment variable `CUBLAS_WORKSPACE_CONFIG` was set before the first of them; `select_device` sets it.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = not deterministic


def native_bf16(device: torch.device | str) -> bool:
    """Whether the hardware computes in bfloat16 itself: CUDA of compute capability 8, CPUs with AMX or AVX512-BF16 or
    the ARM `bf16` flag; emulation does not count.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return _cpu_bf16() if kind == "cpu" else False


def cpu_has_amx() -> bool:
    """Whether the CPU multiplies bfloat16 matrices in tiles (Intel AMX)."""
    return "amx_bf16" in _cpu_flags()


def _cpu_bf16() -> bool:
    return bool(_cpu_flags() & {"amx_bf16", "avx512_bf16", "bf16"})


@functools.cache
def _cpu_flags() -> frozenset[str]:
    """The CPU's flags as the kernel names them; where it does not list them, what torch knows of bfloat16."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        names = {"_is_avx512_bf16_supported": "avx512_bf16", "_is_amx_tile_supported": "amx_bf16"}
        return frozenset(flag for name, flag in names.items() if getattr(torch.cpu, name, bool)())
    return next(
        (frozenset(line.split(":", 1)[1].split()) for line in lines if line.startswith(("flags", "Features"))),
        frozenset(),
    )


@functools.cache
def has_onednn_operators() -> bool:
    """Whether torch has the operators of oneDNN that its own compiler emits, for this kind of CPU."""
    x86 = platform.machine().lower() in {"x86_64", "amd64"}
    names = ("_convolution_pointwise", "_linear_pointwise", "_reorder_convolution_weight", "_reorder_linear_weight")
    return x86 and torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in names)


AMP_DTYPES: Mapping[str, torch.dtype | None] = {
    name: None if kind == "float32" else getattr(torch, kind) for name, kind in AMP_TYPES.items()
}
"""Precisions of mixed precision by name, with the data type of autocast; None: plain float32."""


def amp_dtype(amp: bool | str, device: torch.device | str) -> torch.dtype | None:
    """The data type that autocast shall use, None for plain float32.

    True: bfloat16 where native, else float16 on CUDA, else None. "bf16" and "fp16" are taken as given, but float16
    on a CPU, which has no fast kernels for it, is refused.

    Raises:
        ConfigError: another name, or "fp16" on a CPU.
    """
    kind = torch.device(device).type
    name = {"false": "fp32", "none": "fp32"}.get(str(amp).lower(), str(amp).lower())
    if name == "true":
        if native_bf16(device):
            return torch.bfloat16
        return torch.float16 if kind == "cuda" else None
    if name == "fp16" and kind == "cpu":
        raise ConfigError("amp='fp16' needs a GPU; on a CPU use amp=bf16, amp=True or amp=False")
    if name not in AMP_DTYPES:
        raise ConfigError(f"amp={amp!r} must be True, False, 'bf16', 'fp16' or 'fp32'")
    return AMP_DTYPES[name]


def inference_dtype(amp: bool | str, quantize: int | None, device: torch.device | str) -> torch.dtype | None:
    """The data type that autocast shall use in inference, None for the network's own.

    On a CPU it follows `amp`, so bfloat16 where the CPU computes in it itself, unless `quantize` names the bits.
    On a GPU `quantize` alone decides.
    """
    return amp_dtype(amp, device) if torch.device(device).type == "cpu" and quantize is None else None


def wants_channels_last(channels_last: bool | None, device: torch.device | str) -> bool:
    """Whether a network shall lie in memory channels last: as requested, else where it was measured to be faster.

    That is on CPUs, in float32 as well as in bfloat16; on a GPU it was not measured.
    """
    return torch.device(device).type == "cpu" if channels_last is None else channels_last


def autocast(
    enabled: bool, device: torch.device | str = "cuda", dtype: torch.dtype | None = None
) -> AbstractContextManager[Any]:
    """Mixed precision on a device; `dtype` None takes the device's default."""
    return torch.autocast(torch.device(device).type, dtype=dtype, enabled=enabled)


def autocast_dtype(kind: str) -> torch.dtype | None:
    """What autocast computes in now on a type of device, None where it is off."""
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None


@torch.no_grad()
def fuse_conv_and_bn(conv: nn.Conv2d, bn: nn.BatchNorm2d) -> nn.Conv2d:
    """Fold a batch norm into the convolution before it: one convolution with bias, frozen, equal in eval mode.

    With s = gamma / sqrt(var + eps): weight' = s weight, bias' = beta + s (bias - mean).
    """
    fused = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        kernel_size=conv.kernel_size,  # type: ignore[arg-type]
        stride=conv.stride,  # type: ignore[arg-type]
        padding=conv.padding,  # type: ignore[arg-type]
        dilation=conv.dilation,  # type: ignore[arg-type]
        groups=conv.groups,
        bias=True,
        device=conv.weight.device,
        dtype=conv.weight.dtype,
    ).requires_grad_(False)
    scale, shift = bn_affine(bn)
    fused.weight.copy_(conv.weight * scale.reshape(-1, 1, 1, 1))  # (O, I/g, k, k)
    assert fused.bias is not None
    fused.bias.copy_(shift if conv.bias is None else shift + conv.bias * scale)
    return fused


@torch.no_grad()
def fuse_deconv_and_bn(deconv: nn.ConvTranspose2d, bn: nn.BatchNorm2d) -> nn.ConvTranspose2d:
    """Fold a batch norm into the transposed convolution before it: one layer with bias, frozen, equal in eval mode.

    The kernel is (I, O/g, k, k): its second axis holds the output channels of one group.
    """
    fused = nn.ConvTranspose2d(
        deconv.in_channels,
        deconv.out_channels,
        kernel_size=deconv.kernel_size,  # type: ignore[arg-type]
        stride=deconv.stride,  # type: ignore[arg-type]
        padding=deconv.padding,  # type: ignore[arg-type]
        output_padding=deconv.output_padding,  # type: ignore[arg-type]
        dilation=deconv.dilation,  # type: ignore[arg-type]
        groups=deconv.groups,
        bias=True,
        device=deconv.weight.device,
        dtype=deconv.weight.dtype,
    ).requires_grad_(False)
    scale, shift = bn_affine(bn)
    per_group = scale.reshape(deconv.groups, 1, -1, 1, 1)
    kernel = deconv.weight.unflatten(0, (deconv.groups, -1))  # (g, I/g, O/g, k, k)
    fused.weight.copy_((kernel * per_group).flatten(0, 1))
    assert fused.bias is not None
    fused.bias.copy_(shift if deconv.bias is None else shift + deconv.bias * scale)
    return fused


def bn_affine(bn: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    """What a batch norm does in eval mode, as (scale, shift) per channel: y = scale x + shift."""
    assert bn.running_mean is not None and bn.running_var is not None
    scale = torch.rsqrt(bn.running_var + bn.eps)
    if bn.weight is not None:
        scale = bn.weight * scale
    shift = -bn.running_mean * scale
    return scale, shift if bn.bias is None else bn.bias + shift


def get_num_params(model: nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in model.parameters())


def get_num_gradients(model: nn.Module) -> int:
    """Number of parameters that are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def get_flops(model: nn.Module, imgsz: int | Sequence[int] = 640) -> float:
    """GFLOPs of a forward pass on one image of `imgsz` px: 2 per multiply-add, attention and sampling counted."""
    model = unwrap_model(model)
    config = getattr(model, "yaml", None)
    ch = int(config.get("ch", config.get("channels", 3))) if isinstance(config, Mapping) else 3
    return model_flops(model, imgsz, ch)[0] / 1e9


def time_sync(device: torch.device | str | None = None) -> float:
    """Seconds of a monotonic clock, read when the device has finished its work; None: the CUDA device, if any."""
    kind = torch.device(device).type if device is not None else "cuda"
    if kind == "cuda" and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize(device)
    elif kind == "mps":
        torch.mps.synchronize()
    return time.perf_counter()


def intersect_dicts(
    da: Mapping[str, torch.Tensor], db: Mapping[str, torch.Tensor], exclude: Iterable[str] = ()
) -> dict[str, torch.Tensor]:
    """Entries of `da` whose key is in `db` with the same shape, and holds none of the strings in `exclude`."""
    skip = tuple(exclude)
    return {k: v for k, v in da.items() if k in db and v.shape == db[k].shape and not any(x in k for x in skip)}


def model_info(
    model: Any, detailed: bool = False, verbose: bool = True, imgsz: int | Sequence[int] = 640
) -> tuple[int, int, int, float] | None:
    """Log and return (layers, parameters, gradients, GFLOPs) of a network of this package; None when not `verbose`."""
    found: tuple[int, int, int, float] | None = model.info(detailed=detailed, verbose=verbose, imgsz=imgsz)
    return found


if not TYPE_CHECKING:  # a type checker shall see what is missing

    def __getattr__(name: str) -> Any:
        """Answer `TORCH_2_4` (is torch at least 2.4?), and look up a function that reads weights files."""
        if flag := re.fullmatch(r"(TORCH|TORCHVISION)_(\d+)_(\d+)", name):
            return check_version(flag[1].lower(), f"{flag[2]}.{flag[3]}.0")
        if name == "strip_optimizer":
            return getattr(importlib.import_module("ultralytics.nn.checkpoint.format"), name)
        raise absent(__name__, name)
