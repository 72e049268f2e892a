"""Exports without a graph: the weights as they are, in the forms of other programs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from ultralytics.engine.export.hub_folder import export_transformers
from ultralytics.nn.export.stock_pickle import export_stock
from ultralytics.nn.export.stock_state_dict import export_state_dict, loading_lines
from ultralytics.utils.log import LOGGER


class Exportable(Protocol):
    """What is read of a model to be exported."""

    ckpt: dict[str, Any] | None
    model: Any

    def save(self, filename: str | Path = ...) -> Path: ...


def export_weights(owner: Exportable, format: str, stem: Path) -> Path:
    """Write the weights of a model in one of `WEIGHTS_FORMATS` beside `stem`, and return the path."""
    network: nn.Module = owner.model
    run: Mapping[str, Any] = owner.ckpt or {}
    if format == "safetensors":
        return owner.save(stem.with_name(f"{stem.name}.safetensors"))
    if format == "stock":
        return export_stock(network, stem, run.get("train_args") or {})
    if format == "hf":
        return export_transformers(network, stem, run)
    weights, yaml = export_state_dict(network, stem)
    LOGGER.info(f"{weights} and {yaml} written; they are loaded there by:")
    for line in loading_lines(network, weights, yaml):
        LOGGER.info(f"  {line}")
    return weights
