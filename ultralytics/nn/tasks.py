"""Networks under the names that user code imports, and checkpoints turned into networks.

The classes live in `base_model.py` (layers run with routing), `yaml_model.py` (built from a YAML), `detection.py`,
`classify.py` and a module for each further family; this module is their public face.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ultralytics.nn.absent_tasks import (
    OBBModel,
    PoseModel,
    SegmentationModel,
    SemanticSegmentationModel,
    WorldModel,
    YOLOEModel,
    YOLOESegModel,
)
from ultralytics.nn.base_model import BaseModel
from ultralytics.nn.build.builder import parse_model, set_batch_norm
from ultralytics.nn.build.spec import guess_model_scale, load_model_yaml
from ultralytics.nn.build.user_blocks import check_user_modules
from ultralytics.nn.checkpoint.format import pack_model, read_checkpoint, save_checkpoint, to_plain
from ultralytics.nn.checkpoint.validate import record_budget, safe_yaml
from ultralytics.nn.classify import ClassificationModel
from ultralytics.nn.detection import DetectionModel, RTDETRDetectionModel
from ultralytics.nn.dfine import DFINEDetectionModel
from ultralytics.nn.families import FAMILIES, family_of_yaml
from ultralytics.nn.yaml_model import YamlModel
from ultralytics.nn.yolo import YOLODetectionModel
from ultralytics.utils.config.absent import absent_names
from ultralytics.utils.errors import CheckpointError, ModelYAMLError
from ultralytics.utils.files import has_yaml_suffix

__all__ = [
    "BaseModel",
    "ClassificationModel",
    "DFINEDetectionModel",
    "DetectionModel",
    "OBBModel",
    "PoseModel",
    "RTDETRDetectionModel",
    "SegmentationModel",
    "SemanticSegmentationModel",
    "WorldModel",
    "YOLODetectionModel",
    "YOLOEModel",
    "YOLOESegModel",
    "YamlModel",
    "attempt_load_one_weight",
    "attempt_load_weights",
    "check_rebuilds",
    "family_of_yaml",
    "guess_model_scale",
    "guess_model_task",
    "load_checkpoint",
    "pack_model",
    "parse_model",
    "save_checkpoint",
    "torch_safe_load",
    "unpack_model",
    "yaml_model_load",
]


GENERIC = ("DetectionModel", "YOLOv10DetectionModel")
"""Class names in checkpoints under which a network of any family may lie: its YAML's head decides."""


def unpack_model(record: Mapping[str, Any], device: str | torch.device = "cpu") -> YamlModel:
    """Build the model of a checkpoint's record and fill it; fp32, in eval mode. Raises CheckpointError."""
    known = FAMILIES.networks()
    name = str(record.get("class"))
    cls = known.get(name)
    if name in GENERIC:
        family = family_of_yaml(record.get("yaml") or {})
        cls = family.network if family else None
    if cls is None:
        raise CheckpointError(
            f"holds a {record.get('class')!r:.60}, which is not built here; known: {', '.join(sorted(known))}\n"
            "its tensors can be a source for load() of a model built from a YAML"
        )
    try:
        with record_budget(record["state_dict"], "TorchVision" in str(record["yaml"])):
            model = cls(record["yaml"], ch=record.get("ch", 3), nc=record["nc"], verbose=False)
        if record.get("fused"):
            model.fuse(verbose=False)
        model.load_state_dict(record["state_dict"])
    except KeyError as e:
        raise CheckpointError(f"the checkpoint's model record lacks the key {e}") from None
    except ModelYAMLError as e:
        raise CheckpointError(f"the model in the checkpoint cannot be built\n{e}") from None
    except RuntimeError as e:
        detail = str(e).splitlines()[-1].strip()[:200]
        raise CheckpointError(f"the checkpoint's tensors do not fit its own YAML\n{detail}") from None
    if record.get("bn_eps"):
        set_batch_norm([model], eps=record["bn_eps"])
    model.names = {int(k): str(v) for k, v in (record.get("names") or model.names).items()}
    model.args = dict(record.get("args") or {})
    return model.to(device).eval()


def check_rebuilds(network: nn.Module) -> None:
    """Raise CheckpointError when a checkpoint of the network could not be read back, before there is one.

    A checkpoint holds the YAML, the name of the nearest class of this package, and tensors. They are compared with
    those of a network that is built from the YAML on the meta device: parts that a subclass adds to the network, and
    pruning that is not made permanent, do not come back.
    """
    cls = FAMILIES.networks().get(getattr(network, "checkpoint_name", ""))
    if cls is None or not isinstance(network, YamlModel):
        raise CheckpointError(
            f"a {type(network).__name__} cannot be read back from a checkpoint: derive the class of the network from "
            f"one of {', '.join(sorted(FAMILIES.networks()))}"
        )
    with torch.device("meta"):
        built = cls(safe_yaml(network.yaml), ch=int(network.yaml.get("channels", 3)), nc=network.nc, verbose=False)
    if network.is_fused() and not built.is_fused():
        built.fuse(verbose=False)
    has, needs = ({k: tuple(v.shape) for k, v in net.state_dict().items()} for net in (network, built))
    odd = sorted(k for k in has.keys() | needs.keys() if has.get(k) != needs.get(k))
    if odd:
        name = odd[0]
        raise CheckpointError(
            f"{len(odd)} of {len(has)} tensors would not be read back from a checkpoint, as the network's YAML does "
            f"not build them: {name} is {has.get(name, 'absent')}, the YAML gives {needs.get(name, 'none')}\n"
            "a block of your own belongs into a row of the YAML (@register); after pruning call prune.remove"
        )


def load_checkpoint(
    weight: str | Path, device: str | torch.device = "cpu", inplace: bool = True, fuse: bool = False
) -> tuple[YamlModel, dict[str, Any]]:
    """Read a checkpoint file; return its model (EMA weights preferred; fp32, eval mode) and the whole dict.

    With `fuse` its batch norms are folded; `inplace` has no effect.
    """
    path = weight
    ckpt = read_checkpoint(path)
    check_user_modules(ckpt.get("modules") or (), path)
    record = ckpt.get("ema") or ckpt.get("model")
    if not isinstance(record, Mapping):
        raise CheckpointError(
            f"{path}: holds weights without a model description\nbuild the model from its YAML and use load()"
        )
    try:
        model = unpack_model(record, device)
    except CheckpointError as e:
        raise CheckpointError("\n".join(f"{path}: {e}".splitlines()[:3])) from None
    model.args = {**to_plain(ckpt.get("train_args") or {}), **model.args}
    model.pt_path = str(path)
    if fuse:
        model.fuse(verbose=False)
    return model, ckpt


def attempt_load_weights(weights: str | Path, device: str | torch.device = "cpu") -> YamlModel:
    """The model of a checkpoint file, fp32 in eval mode."""
    return load_checkpoint(weights, device)[0]


def yaml_model_load(path: str | Path) -> dict[str, Any]:
    """A model YAML as a dict, with `nc`, `scale` and `yaml_file` filled in."""
    return dict(load_model_yaml(path).data)


def guess_model_task(model: object) -> str:
    """The task of a model, YAML mapping or model YAML file: its `task`, else detect."""
    if isinstance(model, (str, Path)) and has_yaml_suffix(model):
        model = load_model_yaml(model).data
    task = model.get("task") if isinstance(model, Mapping) else getattr(model, "task", None)
    return task if isinstance(task, str) else "detect"


def attempt_load_one_weight(
    weight: str | Path, device: str | torch.device = "cpu", inplace: bool = True, fuse: bool = False
) -> tuple[YamlModel, dict[str, Any]]:
    """Do the same as `load_checkpoint` (the older name)."""
    return load_checkpoint(weight, device, inplace, fuse)


def torch_safe_load(weight: str | Path, safe_only: bool = True) -> tuple[dict[str, Any], str]:
    """Return the content of a weights file and its path; the file is read as data, whatever `safe_only` says."""
    return read_checkpoint(weight), str(weight)


if not TYPE_CHECKING:  # a type checker shall see what is missing
    __getattr__ = absent_names(__name__)
