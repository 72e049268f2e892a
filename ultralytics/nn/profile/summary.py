"""Summary of a model: output shape, parameters and operations of each layer, as values and as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import nn

from ultralytics.nn.build.builder import plan_model
from ultralytics.nn.build.dry_run import shape_text
from ultralytics.nn.build.spec import load_model_yaml
from ultralytics.nn.profile.activation_memory import MAX_TOKENS, estimate_memory
from ultralytics.utils.tables import aligned
from ultralytics.utils.torch_tools.copying import copy_network
from ultralytics.utils.torch_tools.flops import model_flops

HEADER = ("", "from", "n", "module", "arguments", "output", "params", "GFLOPs")


class LayerSummary(NamedTuple):
    """One layer: `args` are the resolved constructor arguments, `shape` its output without the batch axis."""

    i: int
    route: int | list[int]
    repeats: int
    module: str
    args: tuple[Any, ...]
    shape: str
    params: int
    gflops: float


def layer_summaries(model: nn.Module, imgsz: int | Sequence[int] = 640) -> list[LayerSummary]:
    """Summary of each layer of a detection model at an image size (side, or height and width, px)."""
    yaml = cast("dict[str, Any]", model.yaml)
    channels = int(yaml.get("channels", 3))
    plans = plan_model(load_model_yaml(yaml), channels)
    layers = list(cast("nn.Sequential", model.model))
    shapes = output_shapes(model, imgsz, channels)
    flops = model_flops(model, imgsz, channels)[1]
    return [
        LayerSummary(
            i=plan.spec.slot,
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
    clone = copy_network(model).to("meta").float().eval()
    shapes: list[str] = []
    for layer in cast("nn.Sequential", clone.model):
        layer.register_forward_hook(lambda _module, _inputs, out: shapes.append(shape_text(_first_tensor(out))))
    with torch.no_grad():
        clone(torch.empty(1, channels, height, width, device="meta"))
    return shapes


def _first_tensor(output: object) -> object:
    while isinstance(output, (tuple, list)) and output:
        output = output[0]
    return output


def layer_table(layers: Sequence[LayerSummary], wide: Mapping[int, int] | None = None) -> list[str]:
    """Aligned lines: a header, then one line a layer.

    `wide` are layers that attend over more than `MAX_TOKENS` tokens without the fused path: their rows are flagged.
    """
    wide = wide or {}
    cells = [
        (f"{f.i}", f"{f.route}", f"{f.repeats}", f.module, _short(f.args), f.shape, f"{f.params:,}", f"{f.gflops:.3f}")
        for f in layers
    ]
    lines = aligned([HEADER, *cells], left=(3, 4))
    for k, f in enumerate(layers):
        if f.i in wide:
            lines[k + 1] += f"  ! {wide[f.i]:,} tokens"
    return lines


def wide_lines(wide: Mapping[int, int]) -> list[str]:
    """A warning for each layer of `wide`."""
    return [
        f"layer {i}: attention over {n:,} tokens (more than {MAX_TOKENS:,}) without the fused path; "
        f"one N x N map takes {n * n * 4 / 2**20:,.0f} MB"
        for i, n in sorted(wide.items())
    ]


def gflops_text(value: float) -> str:
    """GFLOPs with one decimal, small ones with three digits.

    >>> gflops_text(54.43), gflops_text(0.4162), gflops_text(0.0)
    ('54.4', '0.416', '0.0')
    """
    return f"{value:.3g}" if 0 < value < 1 else f"{value:.1f}"


def totals_line(totals: Totals, imgsz: int | Sequence[int]) -> str:
    """`fused: 32,148,140 parameters, 105.7 GFLOPs; activations at 640 px: about 87 MB at the peak (one fp32 image)`."""
    size = f"{imgsz}" if isinstance(imgsz, int) else "x".join(map(str, imgsz))
    peak = "unknown" if totals.peak is None else f"about {totals.peak / 2**20:,.1f} MB"
    counts = f"fused: {totals.fused_params:,} parameters, {gflops_text(totals.fused_gflops)} GFLOPs"
    return f"{counts}; activations at {size} px: {peak} at the peak (one fp32 image, inference)"


class Totals(NamedTuple):
    """A model in numbers, at one image size; fused counts are those after `fuse()`, `peak` bytes of activations."""

    name: str
    layers: int
    params: int
    gflops: float
    fused_params: int
    fused_gflops: float
    peak: int | None
    wide: dict[int, int]


def model_totals(model: nn.Module, imgsz: int | Sequence[int] = 640) -> Totals:
    """Count a model at an image size (side, or height and width, px), unfused and fused; it is not changed."""
    yaml = cast("dict[str, Any]", model.yaml)
    channels = int(yaml.get("channels", 3))
    memory = estimate_memory(model, imgsz, channels)
    clone = copy_network(model).to("meta").float().eval()
    fused = cast("Any", deepcopy(clone)).fuse(verbose=False)
    return Totals(
        name=model_title(yaml),
        layers=sum(not list(m.children()) for m in cast("nn.Module", model.model).modules()),
        params=sum(p.numel() for p in model.parameters()),
        gflops=model_flops(clone, imgsz, channels)[0] / 1e9,
        fused_params=sum(p.numel() for p in fused.parameters()),
        fused_gflops=model_flops(fused, imgsz, channels)[0] / 1e9,
        peak=memory.peak if memory else None,
        wide=memory.wide if memory else {},
    )


COMPARISON_HEADER: tuple[str, ...] = (
    "model",
    "layers",
    "params",
    "GFLOPs",
    "fused params",
    "fused GFLOPs",
    "params +/-",
    "GFLOPs +/-",
    "peak MB",
)


def compare_rows(totals: Sequence[Totals]) -> list[tuple[str, ...]]:
    """Cells of a table: a header, then a row for each model with its differences to the first.

    A name with `!` has an attention over more than `MAX_TOKENS` tokens without the fused path.
    """
    rows = [COMPARISON_HEADER]
    for t in totals:
        first = totals[0]
        rows.append(
            (
                t.name + (" !" if t.wide else ""),
                f"{t.layers:,}",
                f"{t.params:,}",
                gflops_text(t.gflops),
                f"{t.fused_params:,}",
                gflops_text(t.fused_gflops),
                "" if t is first else f"{t.params - first.params:+,}",
                "" if t is first else f"{t.gflops - first.gflops:+.1f}",
                "?" if t.peak is None else f"{t.peak / 2**20:,.0f}",
            )
        )
    return rows


def model_title(yaml: Mapping[str, Any]) -> str:
    """`rtdetr-l`, or where the YAML has several scales and the name does not contain it: `rtdetr-l scale n`."""
    stem, scale = Path(str(yaml.get("yaml_file") or "Model")).stem, str(yaml.get("scale") or "")
    unambiguous = len(yaml.get("scales") or ()) < 2 or stem.endswith(f"-{scale}")
    return stem if unambiguous else f"{stem} scale {scale}"


def _short(args: tuple[Any, ...], limit: int = 44) -> str:
    text = str(list(args))
    return text if len(text) <= limit else text[: limit - 4] + "...]"


def summary_line(title: str, fused: bool, counts: tuple[int, int, int, float]) -> str:
    """`rtdetr-l summary: 470 layers, 32,970,476 parameters, 32,970,476 gradients, 110.2 GFLOPs`."""
    layers, parameters, gradients, gflops = counts
    text = f"{layers:,} layers, {parameters:,} parameters, {gradients:,} gradients, {gflops_text(gflops)} GFLOPs"
    return f"{title} summary{' (fused)' if fused else ''}: {text}"
