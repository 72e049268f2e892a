"""A detector as the folder from which `transformers` opens it: configuration, tensors, image processor and model card.

Batch norms there have an epsilon of 1e-5. Where ours has another, running variances are shifted by the difference, as
for stock files (see `stock_state_dict`).
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ultralytics.nn.build.builder import set_batch_norm
from ultralytics.nn.checkpoint.describe import number_metrics, shown_arguments
from ultralytics.nn.checkpoint.detr_names import key_roles, official_state
from ultralytics.nn.checkpoint.transformers_names import to_transformers
from ultralytics.nn.export.transformers_config import NORM_EPS, hub_class, hub_config, preprocessor_config
from ultralytics.nn.modules.detr.dfine_head import DFINEDecoder
from ultralytics.nn.modules.detr.rtdetrv2_decoder import RTDETRDecoderv2
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.checks import require
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.remote.catalogue import HUB_FILES
from ultralytics.utils.tables import markdown

_BACKBONE = "model.backbone."
_SCALES: Mapping[type[nn.Module], str] = {RTDETRDecoderv2: "n_points_scale", DFINEDecoder: "num_points_scale"}
_EMBEDDING = "decoder.denoising_class_embed.weight"
CONFIG, TENSORS = HUB_FILES
PROCESSOR, CARD = "preprocessor_config.json", "README.md"


def transformers_form(model: nn.Module) -> DetectionModel:
    """Return a copy of a detector with the epsilon that the batch norms of `transformers` have, on the CPU in fp32.

    Raises ConfigError for another task or a fused model.
    """
    if not isinstance(model, DetectionModel):
        raise ConfigError(f"format=hf is for detectors, not {type(model).__name__}")
    if model.is_fused():
        raise ConfigError("a fused model has no tensors that transformers takes", "export before fuse()")
    hub_class(model.model[-1])
    plain = copy.deepcopy(model).cpu().float().eval()
    for module in plain.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_var is not None:
            module.running_var += module.eps - NORM_EPS
    set_batch_norm([plain], eps=NORM_EPS)
    return plain


def write_transformers(model: DetectionModel, folder: Path, side: int, card: str) -> None:
    """Write the four files of a model of `transformers_form` into a folder that exists.

    Args:
        model: A model of `transformers_form`.
        folder: Where the files go.
        side: Side of the square that the image processor resizes to, in pixels.
        card: The text of the model card.

    Raises ConfigError for rows or a head that `transformers` does not have, MissingPackageError without `safetensors`.
    """
    save = require("safetensors.torch", "writing .safetensors", "safetensors").save_file
    published = _published(model)
    names = {int(i): str(n) for i, n in model.names.items()}
    config = hub_config(model.model, published, names)
    save(_hub_tensors(published, model.model[-1]), folder / TENSORS, {"format": "pt"})
    for name, data in ((CONFIG, config), (PROCESSOR, preprocessor_config(hub_class(model.model[-1]), side))):
        (folder / name).write_text(json.dumps(data, indent=2) + os.linesep, encoding="utf-8")
    (folder / CARD).write_text(card, encoding="utf-8")


def hub_tensors(model: DetectionModel) -> dict[str, Tensor]:
    """Return the tensors of a model of `transformers_form` under the names that `transformers` stores.

    Raises ConfigError for rows that it does not have.
    """
    return _hub_tensors(_published(model), model.model[-1])


def _published(model: DetectionModel) -> dict[str, Tensor]:
    """The tensors under published names, with the last row of the denoising embedding, which is for padding."""
    roles = key_roles(model.yaml)
    own = sorted({int(key.split(".")[1]) for key in model.state_dict()} - roles.keys())
    if own:
        raise ConfigError(
            f"format=hf: transformers has no {type(model.model[own[0]]).__name__} at layer {own[0]}",
            "it can be written for models of published rows, such as rtdetr-r18.yaml or dfine-s.yaml",
        )
    state = {k: v.detach() for k, v in official_state(model.state_dict(), roles).items()}
    embedding = state[_EMBEDDING]
    padding = embedding.new_zeros(model.nc + 1 - len(embedding), embedding.shape[1])
    return {**state, _EMBEDDING: torch.cat((embedding, padding))}


def _hub_tensors(published: Mapping[str, Tensor], head: nn.Module) -> dict[str, Tensor]:
    """Without the counters of the backbone's norms, which are frozen there."""
    named = {**to_transformers(published), **_point_scales(head)}
    counters = (_BACKBONE, ".num_batches_tracked")
    kept = {k: v for k, v in named.items() if not (k.startswith(counters[0]) and k.endswith(counters[1]))}
    return {k: v.contiguous().clone() for k, v in kept.items()}


def _point_scales(head: nn.Module) -> dict[str, Tensor]:
    """The constants of deformable attention that heads with points by level store: 1 / p for each point of a level."""
    name = _SCALES.get(type(head))
    if name is None:
        return {}
    decoder: Any = head.decoder
    return {
        f"model.decoder.layers.{i}.encoder_attn.{name}": torch.tensor([1 / p for p in points for _ in range(p)])
        for i, points in enumerate(layer.cross_attn.points for layer in decoder.layers)
    }


def hub_card(name: str, model: DetectionModel, run: Mapping[str, Any]) -> str:
    """Return the model card of a run: what the model is, how it was trained, what was measured, how it is used.

    Args:
        name: Name of the model.
        model: The network.
        run: A checkpoint dict; `train_args` and `train_metrics` are read.
    """
    kind = hub_class(model.model[-1])
    labels = list(model.names.values())
    shown = ", ".join(map(str, labels[:20])) + (", ..." if len(labels) > 20 else "")
    yaml = Path(str(model.yaml.get("yaml_file") or "a dict")).name
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: object-detection",
        "tags: [object-detection, rt-detr, rtdetr-shsa]",
        "---",
        "",
        f"# {name}",
        "",
        f"`{kind.name}` from `{yaml}`, {sum(p.numel() for p in model.parameters()):,} parameters, {model.nc} classes:",
        f"{shown}.",
        "",
        *_section("Training", shown_arguments(run.get("train_args") or {})),
        *_section("Validation", {k: f"{v:.4g}" for k, v in number_metrics(run).items()}),
        "## Use",
        "",
        "```python",
        "from transformers import AutoImageProcessor, AutoModelForObjectDetection",
        "",
        'processor = AutoImageProcessor.from_pretrained("PATH")',
        'model = AutoModelForObjectDetection.from_pretrained("PATH")',
        "```",
        "",
        'or, in the package that wrote it, `RTDETR("PATH")`. Images are stretched to a square, in RGB, divided by 255.',
        "",
    ]
    return "\n".join(lines)


def _section(title: str, values: Mapping[str, Any]) -> list[str]:
    """A heading and a table; nothing without values."""
    if not values:
        return []
    rows = [(key, Path(str(value)).name if key == "data" else str(value)) for key, value in values.items()]
    return [f"## {title}", "", *markdown([("", ""), *rows], left=(0, 1)), ""]
