"""Helpers for networks and their training, under the names of the interface. Shapes: (B, C, H, W) images."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.utils import dist
from ultralytics.utils.torch_tools.flops import model_flops
from ultralytics.utils.torch_tools.training import unwrap_model

Function = TypeVar("Function", bound=Callable[..., Any])


class Trained(Protocol):
    """What is read of a trainer."""

    model: nn.Module
    imgsz: int


def smart_inference_mode(mode: bool = True) -> Callable[[Function], Function]:
    """Return a decorator: a function that records no gradients, in inference mode unless `mode` is off."""
    return torch.inference_mode() if mode else torch.no_grad()


def one_cycle(y1: float = 0.0, y2: float = 1.0, steps: int = 100) -> Callable[[float], float]:
    """Return half a cosine wave from `y1` at step 0 to `y2` at `steps`.

    >>> [round(one_cycle(1, 0.1, 10)(x), 3) for x in (0, 5, 10)]
    [1.0, 0.55, 0.1]
    """
    return lambda x: max((1 - math.cos(x * math.pi / steps)) / 2, 0) * (y2 - y1) + y1


def initialize_weights(model: nn.Module) -> None:
    """Give batch norms an epsilon of 1e-3 and a momentum of 0.03, and let activations work in place."""
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.eps, module.momentum = 1e-3, 0.03
        elif isinstance(module, (nn.Hardswish, nn.LeakyReLU, nn.ReLU, nn.ReLU6, nn.SiLU)):
            module.inplace = True


def scale_img(img: Tensor, ratio: float = 1.0, same_shape: bool = False, gs: int = 32) -> Tensor:
    """Resize an image batch (B, C, H, W) by a ratio, and pad it on the right and below.

    The result has sides that are multiples of `gs`, or with `same_shape` those of the input.
    """
    if ratio == 1.0:
        return img
    h, w = img.shape[2:]
    size = (int(h * ratio), int(w * ratio))
    resized = F.interpolate(img, size=size, mode="bilinear", align_corners=False)
    if not same_shape:
        h, w = (math.ceil(side * ratio / gs) * gs for side in (h, w))
    return F.pad(resized, [0, w - size[1], 0, h - size[0]], value=0.447)


def is_parallel(model: nn.Module) -> bool:
    """Whether a network is in a data-parallel wrapper."""
    return isinstance(model, (nn.parallel.DataParallel, nn.parallel.DistributedDataParallel))


@contextmanager
def torch_distributed_zero_first(local_rank: int) -> Iterator[None]:
    """Let the main process run the block first, the others when it is done."""
    waits = dist.is_initialized()
    if waits and local_rank not in {-1, 0}:
        torch.distributed.barrier()
    yield
    if waits and local_rank == 0:
        torch.distributed.barrier()


def get_cpu_info() -> str:
    """Return the number of threads that torch uses on the processor."""
    return f"CPU, {torch.get_num_threads()} threads"


def get_gpu_info(index: int) -> str:
    """Return name and memory of a GPU."""
    properties = torch.cuda.get_device_properties(index)
    return f"{properties.name}, {properties.total_memory / 2**20:.0f}MiB"


def cuda_device_count() -> int:
    """Return the number of NVIDIA GPUs that torch sees."""
    return torch.cuda.device_count()


def cuda_is_available() -> bool:
    """Whether torch sees an NVIDIA GPU."""
    return cuda_device_count() > 0


def model_info_for_loggers(trainer: Trained) -> dict[str, float]:
    """Return parameters, GFLOPs at the run's image size, and speed of a trainer's network."""
    network = unwrap_model(trainer.model)
    validator = getattr(trainer, "validator", None)
    return {
        "model/parameters": sum(p.numel() for p in network.parameters()),
        "model/GFLOPs": round(model_flops(network, trainer.imgsz)[0] / 1e9, 3),
        "model/speed_PyTorch(ms)": round(float(getattr(validator, "speed", {}).get("inference", 0.0)), 3),
    }


def profile_ops(
    input: Tensor | Sequence[Tensor],
    ops: nn.Module | Sequence[nn.Module],
    n: int = 10,
    device: str | torch.device | None = None,
    max_num_obj: int = 0,
) -> list[list[Any]]:
    """Run modules on inputs; return a row each: parameters, GFLOPs, GB of memory, ms forward, ms backward, shapes.

    GFLOPs are 0: `ultralytics.utils.torch_utils.get_flops` counts those of a network. `max_num_obj` has no effect.
    """
    inputs = [input] if isinstance(input, Tensor) else list(input)
    modules = [ops] if isinstance(ops, nn.Module) else list(ops)
    target = torch.device(device or "cpu")
    rows = []
    for x in inputs:
        for module in modules:
            rows.append(_profiled(x.to(target).requires_grad_(), module.to(target), n))
    return rows


def _now(x: Tensor) -> float:
    """Seconds of a clock, read when the device of `x` has finished its work."""
    if x.device.type == "cuda":
        torch.cuda.synchronize(x.device)
    return time.perf_counter()


def _profiled(x: Tensor, module: nn.Module, n: int) -> list[Any]:

    spans = []
    for _ in range(max(n, 1)):
        start = _now(x)
        y = module(x)
        middle = _now(x)
        outputs = [y] if isinstance(y, Tensor) else [v for v in y if isinstance(v, Tensor)]
        sum(v.sum() for v in outputs).backward()  # type: ignore[union-attr]
        spans.append((middle - start, _now(x) - middle))
    forward, backward = (1e3 * sum(s) / len(spans) for s in zip(*spans, strict=True))
    memory = torch.cuda.memory_reserved(x.device) / 1e9 if x.device.type == "cuda" else 0.0
    shape = tuple(outputs[0].shape) if outputs else "list"
    parameters = sum(p.numel() for p in module.parameters())
    return [parameters, 0.0, memory, forward, backward, tuple(x.shape), shape]
