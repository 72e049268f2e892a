"""A model as a plain state dict and a YAML, which stock `ultralytics` loads; for models made of its blocks only.

With the rows `ConvNormLayer` and `Blocks` the files are those of the forks that have them, whose releases (8.0.x) hold
one row more in the denoising embedding.

Upstream builds every batch norm with an epsilon of 1e-3. Where ours has another, the running variances are shifted by
the difference, so that variance + epsilon, which is all that counts at inference, stays the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ultralytics.nn.build.spec import TOP_KEYS
from ultralytics.nn.checkpoint.detr_names import key_roles, official_state
from ultralytics.nn.checkpoint.format import save_tensors
from ultralytics.nn.tasks import DetectionModel, DFINEDetectionModel, RTDETRDetectionModel
from ultralytics.utils.config.yaml_io import YAML
from ultralytics.utils.errors import ConfigError

UPSTREAM_EPS = 1e-3
STOCK = frozenset(
    """Conv Conv2 LightConv DWConv ConvTranspose GhostConv RepConv Focus ChannelAttention SpatialAttention CBAM Concat
    Index HGStem HGBlock ResNetLayer RepC3 AIFI RTDETRDecoder Bottleneck C1 C2 C2f C3 SPP SPPF SCDown PSA C2PSA CBLinear
    CBFuse TorchVision""".split()
)
"""Row names that stock `ultralytics` builds as we do; rows of torch's own (`nn.Upsample`) go too."""
FORK = frozenset({"ConvNormLayer", "Blocks"})
"""Row names of forks with the keys and arguments that we have."""
EXTRA_ROW = "denoising_class_embed.weight"
KEPT_KEYS = ("nc", "scales", "depth_multiple", "width_multiple", "activation", "backbone", "head")
LOADING = (
    "model = ultralytics.RTDETR({yaml!r})",
    "model.model.load_state_dict(torch.load({weights!r}, weights_only=True))",
    "model.model.names = {names}",
)


def export_state_dict(model: nn.Module, stem: Path) -> tuple[Path, Path]:
    """Write `<stem>_state_dict.pt` and `<stem>_stock.yaml`; return both paths.

    Weights of D-FINE, DEIM, DEIMv2 and RT-DETRv2 go under the names of their own projects, below the key `model`.

    Raises ConfigError for a fused model, another task, or rows that stock `ultralytics`, or the project, does not have.
    """
    if isinstance(model, DFINEDetectionModel):
        return _export_published(model, stem)
    model = check_stock(model, "state_dict")
    return _write(model, stem, upstream_state(model))


def _write(model: DetectionModel, stem: Path, content: Mapping[str, object]) -> tuple[Path, Path]:
    """Write tensors, and the YAML of their network; return both paths."""
    weights, yaml = stem.with_name(f"{stem.name}_state_dict.pt"), stem.with_name(f"{stem.name}_stock.yaml")
    save_tensors(weights, content)
    YAML.save(yaml, upstream_yaml(model))
    return weights, yaml


def check_stock(model: nn.Module, format: str) -> RTDETRDetectionModel:
    """Return a network that stock `ultralytics` can build; ConfigError for any other."""
    if not isinstance(model, RTDETRDetectionModel):
        raise ConfigError(f"format={format} is for RT-DETR detectors, not {type(model).__name__}")
    if model.is_fused():
        raise ConfigError("a fused model has no state dict that stock ultralytics takes", "export before fuse()")
    own = sorted(name for name in _modules(model.yaml) - FORK if not _is_stock(name))
    if own:
        raise ConfigError(
            f"format={format}: stock ultralytics has no {', '.join(own)}",
            "it can be written for models of stock blocks, such as rtdetr-hgnetv2-l.yaml",
        )
    return model


def loading_lines(model: nn.Module, weights: Path, yaml: Path) -> list[str]:
    """The lines of Python that load an export into stock `ultralytics`, or the family's own project (after imports)."""
    if isinstance(model, DFINEDetectionModel):
        return [f"network.load_state_dict(torch.load({str(weights)!r}, weights_only=True)['model'], strict=False)"]
    return [line.format(yaml=str(yaml), weights=str(weights), names=model.names) for line in LOADING]


def _export_published(model: DFINEDetectionModel, stem: Path) -> tuple[Path, Path]:
    """Write the tensors under the names of the family's own project, and the YAML of the network."""
    if model.is_fused():
        raise ConfigError("a fused model has no state dict that its project takes", "export before fuse()")
    roles = key_roles(model.yaml)
    own = sorted({int(key.split(".")[1]) for key in model.state_dict()} - roles.keys())
    if own:
        row = _rows(model.yaml)[own[0]][2]
        raise ConfigError(
            f"format=state_dict: the project of {model.family.name} has no {row} (layer {own[0]})",
            "it can be written for models of published rows, such as dfine-s.yaml",
        )
    state = {k: v.detach().cpu().float().clone() for k, v in official_state(model.state_dict(), roles).items()}
    return _write(model, stem, {"model": state})


def _rows(yaml: Mapping[str, Any]) -> list[list[Any]]:
    return [*yaml["backbone"], *yaml["head"]]


def _modules(yaml: Mapping[str, Any]) -> set[str]:
    """Names of the modules in the rows, variables (keys of the file's own) by their values."""
    return {str(yaml.get(row[2], row[2])) for row in _rows(yaml)}


def _is_stock(name: str) -> bool:
    return name in STOCK or name.startswith(("nn.", "torchvision."))


def upstream_state(model: DetectionModel) -> dict[str, Tensor]:
    """The state dict on the CPU in fp32, with running variances that mean the same under upstream's epsilon."""
    shifts = {
        f"{name}.running_var": module.eps - UPSTREAM_EPS
        for name, module in model.named_modules()
        if type(module) is nn.BatchNorm2d
    }
    state = {k: v.detach().cpu() for k, v in model.state_dict().items()}
    state = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    if FORK & _modules(model.yaml):
        embeds = {k: v for k, v in state.items() if k.endswith(EXTRA_ROW)}
        state |= {k: torch.cat((v, v.new_zeros(1, v.shape[1]))) for k, v in embeds.items()}
    return {k: v + shifts[k] if shifts.get(k) else v.clone() for k, v in state.items()}


def upstream_yaml(model: DetectionModel) -> dict[str, Any]:
    """The model YAML with the class count as it is; of the scales only the one in use, which upstream then takes."""
    kept = (set(model.yaml) - TOP_KEYS) | set(KEPT_KEYS)  # its own keys are variables of rows
    yaml = {k: v for k, v in model.yaml.items() if k in kept and v is not None}
    letter = model.yaml.get("scale")
    if letter and isinstance(yaml.get("scales"), dict):
        yaml["scales"] = {letter: yaml["scales"][letter]}
    return {**yaml, "nc": model.nc}
