"""A model prepared for export: fused, fp32 (or fp16 with fragile parts in fp32), with its rows as the only output."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ultralytics.nn.modules.query_head import QueryHead
from ultralytics.nn.modules.shsa import SHSA
from ultralytics.nn.modules.transformer import TransformerEncoderLayer
from ultralytics.nn.tasks import BaseModel
from ultralytics.nn.yolo import choose_branch
from ultralytics.utils.torch_tools.copying import copy_network

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)
FRAGILE = (QueryHead, TransformerEncoderLayer, SHSA, nn.Softmax, *NORMS)
"""Parts that stay in fp32 under fp16: sampling offsets, top-k and boxes of the head, every softmax, every norm."""


def export_form(
    model: BaseModel,
    max_det: int,
    dynamic: bool,
    half: bool,
    device: torch.device,
    nms: bool | None = None,
    agnostic: bool = False,
) -> BaseModel:
    """Return a fused copy of `model` on `device` whose head gives (B, K, 6), K rows, alone; `model` is not changed.

    `dynamic` leaves batch and size open in an exported graph; `half` casts all but the `FRAGILE` parts to fp16, whose
    casts are then part of the graph: images go in and rows come out in fp32. `nms` chooses the branch of a dual head,
    `agnostic` lets an anchor give one class in NMS-free rows.
    """
    form = copy_network(model).float().to(device).eval()
    choose_branch(form, nms)
    form.fuse(verbose=False)
    form.requires_grad_(False)
    for module in form.modules():
        if isinstance(getattr(module, "dynamic", None), bool):
            module.dynamic = dynamic  # type: ignore[assignment]
        for name, value in (("export", True), ("max_det", max_det), ("agnostic_nms", agnostic)):
            if isinstance(getattr(module, name, None), type(value)):
                setattr(module, name, value)
    return _to_half(form) if half else form


def _to_half(form: BaseModel) -> BaseModel:
    """Cast to fp16, in place; fragile parts get their inputs as fp32, and give fp16 except at the end."""
    form.half()
    last = form.model[-1]
    _keep_float(form.model, last)
    form.model[0].register_forward_pre_hook(_cast_inputs(torch.float16))
    if not isinstance(last, FRAGILE):
        last.register_forward_hook(_cast_output(torch.float32))
    return form


def _keep_float(parent: nn.Module, last: nn.Module) -> None:
    """Walk down to the outermost fragile parts."""
    for child in parent.children():
        if not isinstance(child, FRAGILE):
            _keep_float(child, last)
            continue
        child.float()
        child.register_forward_pre_hook(_cast_inputs(torch.float32))
        if child is not last:
            child.register_forward_hook(_cast_output(torch.float16))


def _cast(value: object, dtype: torch.dtype) -> object:
    if isinstance(value, (list, tuple)):
        return type(value)(_cast(v, dtype) for v in value)
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value


def _cast_inputs(dtype: torch.dtype) -> Callable[[nn.Module, tuple[object, ...]], object]:
    return lambda module, args: _cast(args, dtype)


def _cast_output(dtype: torch.dtype) -> Callable[[nn.Module, tuple[object, ...], object], object]:
    return lambda module, args, output: _cast(output, dtype)


@contextmanager
def suppress_warnings() -> Iterator[None]:
    """Suppress the warnings of torch about its exporters, and about branches that do not depend on the input."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
