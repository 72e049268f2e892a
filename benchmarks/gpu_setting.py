"""What the steps of `gpu.py` share: where they run and how large, rows of results, networks, batches."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from common import HERE
from torch import Tensor, nn

from ultralytics import YOLO

TINY = str(HERE / "rtdetr-tiny-l.yaml")
FAMILIES = {"RT-DETR": "rtdetr-l.yaml", "D-FINE": "dfine-s.yaml", "YOLO": "yolo11n.yaml"}


@dataclass(frozen=True)
class Setting:
    """Where and how large."""

    device: torch.device
    smoke: bool
    peer: str | None
    seconds: float

    @property
    def cuda(self) -> bool:
        """Whether this is a GPU of CUDA."""
        return self.device.type == "cuda"

    @property
    def size(self) -> int:
        """Image side in px."""
        return 64 if self.smoke else 640

    def models(self) -> dict[str, str]:
        """The YAML of each family."""
        return {**FAMILIES, "RT-DETR": TINY, "D-FINE": "dfine-n.yaml"} if self.smoke else FAMILIES

    def wait(self) -> None:
        """Wait for the device."""
        if self.cuda:
            torch.cuda.synchronize(self.device)


def row(what: str, value: object, state: str = "measured") -> None:
    """Print a row: `passed`, `failed`, `measured`, or `not run` with its reason as the value."""
    print(json.dumps({"what": what, "value": str(value), "state": state}), flush=True)


def check(what: str, value: object, holds: bool) -> None:
    """Print a row that passes or fails."""
    row(what, value, "passed" if holds else "failed")


def network(yaml: str) -> nn.Module:
    """A network with fixed weights, without denoising queries, which each device would draw for itself."""
    torch.manual_seed(0)
    made: Any = YOLO(yaml).model
    head = made.model[-1]
    if hasattr(head, "num_denoising"):
        head.num_denoising = 0
    module: nn.Module = made
    return module


def calibrated(module: nn.Module, images: Tensor) -> nn.Module:
    """Give batch norms the statistics of images: features of untrained ones fade, and all places get equal scores."""
    norms = [m for m in module.eval().modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.train().momentum = None
    with torch.no_grad():
        module(images)
    for norm in norms:
        norm.eval().momentum = 0.03
    return module


@contextmanager
def same_queries(module: Any, known: list[Tensor]) -> Iterator[None]:
    """Let the head select its queries; with a `known` selection, that one, in which near ties do not count."""
    head = module.model[-1]
    if not hasattr(head, "selecting_by"):
        yield
        return
    replay = list(known)

    def pick(confidence: Tensor, queries: int) -> Tensor:
        own: Tensor = head.best_tokens(confidence, queries)
        if replay:
            return replay.pop(0).to(own.device)
        known.append(own.cpu())
        return own

    with head.selecting_by(pick):
        yield


def batch_of(count: int, size: int, device: torch.device) -> dict[str, Tensor]:
    """Drawn images with four boxes each."""
    draw = torch.Generator().manual_seed(1)
    owner = torch.arange(count).repeat_interleave(4)
    boxes = torch.rand(len(owner), 4, generator=draw) * 0.4 + 0.3  # cx, cy, w, h in 0..1
    made = {"img": torch.rand(count, 3, size, size, generator=draw), "bboxes": boxes, "batch_idx": owner}
    return {k: v.to(device) for k, v in {**made, "cls": torch.zeros(len(owner), 1)}.items()}


def loss_and_gradient(module: Any, batch: Mapping[str, Tensor]) -> tuple[float, Tensor]:
    """Loss of a training step, and all gradients in one vector on the CPU."""
    module.train().zero_grad(set_to_none=True)
    loss = module(dict(batch))[0].sum()
    loss.backward()
    grads = [p.grad.flatten().float().cpu() for p in module.parameters() if p.grad is not None]
    return float(loss), torch.cat(grads)


def boxes_of(module: nn.Module, images: Tensor) -> Tensor:
    """What the network gives in inference, on the CPU."""
    with torch.inference_mode():
        out: Any = module.eval()(images)
    first: Tensor = out[0] if isinstance(out, list | tuple) else out
    return first.float().cpu()
