"""What a model looks like from outside: shape, parameters and operations of each layer, as values and as text."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, NamedTuple, cast

import torch
from torch import nn

from ultralytics.nn.builder import plan_model
from ultralytics.nn.probe import shape_text
from ultralytics.nn.spec import load_model_yaml
from ultralytics.utils.flops import model_flops

HEADER = ("", "from", "n", "module", "arguments", "output", "params", "GFLOPs")


class LayerFacts(NamedTuple):
    """One layer: `args` are the resolved constructor arguments, `shape` its output without the batch axis."""

    i: int
    route: int | list[int]
    repeats: int
    module: str
    args: tuple[Any, ...]
    shape: str
    params: int
    gflops: float


def layer_facts(model: nn.Module, imgsz: int | Sequence[int] = 640) -> list[LayerFacts]:
    """Facts of each layer of a detection model at an image size (side, or height and width, px)."""
    yaml = cast("dict[str, Any]", model.yaml)
    channels = int(yaml.get("channels", 3))
    plans = plan_model(load_model_yaml(yaml), channels)
    layers = list(cast("nn.Sequential", model.model))
    shapes = output_shapes(model, imgsz, channels)
    flops = model_flops(model, imgsz, channels)[1]
    return [
        LayerFacts(
            i=plan.spec.index,
            route=plan.spec.route,
            repeats=plan.repeats,
            module=plan.spec.module,
            args=plan.copies[0],
            shape=shape,
            params=sum(p.numel() for p in layer.parameters()),
            gflops=flops.get(f"model.{plan.spec.index}", 0) / 1e9,
        )
        for plan, layer, shape in zip(plans, layers, shapes, strict=True)
    ]


def output_shapes(model: nn.Module, imgsz: int | Sequence[int], channels: int = 3) -> list[str]:
    """Text of each layer's output shape (without the batch axis), from a run of a copy on the meta device."""
    height, width = (imgsz, imgsz) if isinstance(imgsz, int) else imgsz
    clone = deepcopy(model).to("meta").float().eval()
    shapes: list[str] = []
    for layer in cast("nn.Sequential", clone.model):
        layer.register_forward_hook(lambda _module, _inputs, out: shapes.append(shape_text(_first_tensor(out))))
    with torch.no_grad():
        clone(torch.empty(1, channels, height, width, device="meta"))
    return shapes


def _first_tensor(output: Any) -> Any:
    while isinstance(output, (tuple, list)) and output:
        output = output[0]
    return output


def layer_table(facts: Sequence[LayerFacts]) -> list[str]:
    """Aligned lines: a header, then one line a layer."""
    rows = [HEADER] + [
        (f"{f.i}", f"{f.route}", f"{f.repeats}", f.module, _short(f.args), f.shape, f"{f.params:,}", f"{f.gflops:.3f}")
        for f in facts
    ]
    widths = [max(len(row[k]) for row in rows) for k in range(len(HEADER))]
    align = ["<" if name in {"module", "arguments"} else ">" for name in HEADER]
    return [
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, align, widths, strict=True)) for row in rows
    ]


def _short(args: tuple[Any, ...], limit: int = 44) -> str:
    text = str(list(args))
    return text if len(text) <= limit else text[: limit - 4] + "...]"


def summary_line(stem: str, scale: str, fused: bool, facts: tuple[int, int, int, float]) -> str:
    """`rtdetr-l (l) summary: 470 layers, 32,970,476 parameters, 32,970,476 gradients, 110.2 GFLOPs`."""
    layers, parameters, gradients, gflops = facts
    title = stem + (f" scale {scale}" if scale and not stem.endswith(f"-{scale}") else "")
    counts = f"{layers:,} layers, {parameters:,} parameters, {gradients:,} gradients, {gflops:.1f} GFLOPs"
    return f"{title} summary{' (fused)' if fused else ''}: {counts}"
