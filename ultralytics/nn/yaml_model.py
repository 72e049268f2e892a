"""A network built from a model YAML, and weights taken from any source.

Channel inference, for adding a module: each block declares its rule beside itself (`@register(rule)`, see
`registry.py`), `build/builder.py` applies the rules row by row and checks every row with a dry run, and `YamlModel`
only asks for the result. SHSA in `modules/shsa.py` is the worked example.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ultralytics.nn.base_model import BaseModel
from ultralytics.nn.build.advice import warn_model
from ultralytics.nn.build.builder import build_model, feature_stride, log_layers, plan_model
from ultralytics.nn.build.plans import PlannedLayer
from ultralytics.nn.build.spec import ModelSpec, load_model_yaml
from ultralytics.nn.checkpoint.format import pack_model, read_checkpoint
from ultralytics.nn.checkpoint.remap import remap_weights
from ultralytics.nn.transfer import TransferReport
from ultralytics.utils.errors import CheckpointError, ConfigTypeError
from ultralytics.utils.tables import names_by_id


class YamlModel(BaseModel):
    """A network from a model YAML; detectors and classifiers are siblings below it.

    Args:
        cfg: YAML file, name or mapping.
        ch: Image channels.
        nc: Number of classes, instead of the YAML's.
        verbose: Log the layer table.
        scale: Letter of the YAML's `scales`.

    Raises:
        ModelYAMLError: The YAML cannot be built.
    """

    def __init__(
        self,
        cfg: str | Path | Mapping[str, Any],
        ch: int = 3,
        nc: int | None = None,
        verbose: bool = True,
        scale: str | None = None,
    ) -> None:
        super().__init__()
        spec = load_model_yaml(cfg, scale=scale, nc=nc)
        plans = plan_model(spec, ch)
        self.check_last_row(spec, plans[-1])
        self.model, self.save = build_model(spec, ch, plans)
        self.yaml = {**copy.deepcopy(dict(spec.data)), "channels": ch}
        self.nc = spec.nc
        self.names = {i: str(i) for i in range(spec.nc)}
        self.inplace = bool(spec.data.get("inplace", True))
        self.stride = torch.tensor([float(max(feature_stride(plans), 32))], device="cpu")  # read by the host
        self.args = {}
        self.pt_path: str | None = None
        if verbose:
            log_layers(self.model, plans)
            self.info()
        warn_model(spec, plans)

    @property
    def names(self) -> dict[int, str]:
        """Class names by id; they may be set as a list too."""
        names: dict[int, str] = self.__dict__.get("names", {})  # where copies of plain attributes find them
        return names

    @names.setter
    def names(self, names: Mapping[int, str] | Sequence[str] | None) -> None:
        if not isinstance(names, (Mapping, Sequence)) and names is not None:
            raise ConfigTypeError(f"names={names!r}: give class names by id, or a list of them")
        self.__dict__["names"] = {} if names is None else names_by_id(names)

    def check_last_row(self, spec: ModelSpec, last: PlannedLayer) -> None:
        """Raise ModelYAMLError when the last row cannot end a network of this class."""

    def load(self, weights: str | Path | Mapping[str, Any] | nn.Module, verbose: bool = True) -> TransferReport:
        """Copy what fits from a source of weights, log it when `verbose`, and return a report of each tensor."""
        raise NotImplementedError(f"{type(self).__name__} takes no weights")


WRAPPERS = ("module.", "_orig_mod.", "module.", "model.")
"""Prefixes that wrappers put before the keys of a state dict, in the order in which they are taken off."""


class Weights(NamedTuple):
    """A source of weights: what it holds beside the tensors is empty where it is unknown."""

    state: dict[str, Tensor]
    names: dict[int, str]
    eps: float
    yaml: Mapping[str, Any]
    fused: bool


def weights_of(weights: str | Path | Mapping[str, Any] | nn.Module) -> Weights:
    """Return state dict, class names, batch-norm epsilon and YAML of a file, checkpoint dict, state dict or module."""
    if isinstance(weights, nn.Module):
        packed = isinstance(weights, BaseModel)
        record: Mapping[str, Any] = pack_model(weights) if packed else {"state_dict": weights.state_dict()}
    else:
        record = remap_weights(weights) if isinstance(weights, Mapping) else read_checkpoint(weights)
        for key in ("ema", "model"):
            if isinstance(record.get(key), (Mapping, nn.Module)):
                return weights_of(record[key])
    state = _own_keys(record.get("state_dict", record))
    tensors = {k: v.float() if v.is_floating_point() else v for k, v in state.items() if isinstance(v, Tensor)}
    if not tensors:
        raise CheckpointError(f"no tensors to load; found the keys {', '.join(map(str, list(record)[:8]))}")
    return Weights(
        state=tensors,
        names=dict(record.get("names") or {}),
        eps=float(record.get("bn_eps") or 0.0),
        yaml=record.get("yaml") or {},
        fused=bool(record.get("fused")),
    )


def _own_keys(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a state dict without the prefixes of wrappers before all its keys: DataParallel, torch.compile, a façade.

    Keys of a network here begin with `model.` and the index of a layer; in the state dict of its rows that is left out,
    and a module of the user's own that holds the network puts the name of its attribute in front.
    """
    for prefix in WRAPPERS:
        keys = [str(k).removeprefix(prefix) for k in state]
        inner = all(str(k).startswith(prefix) for k in state)
        if inner and state and all(re.match(r"(module|_orig_mod|model)\.", key) for key in keys):
            state = dict(zip(keys, state.values(), strict=True))
    holder = re.match(r"(?!model\.\d)(.+?\.)model\.\d+\.", str(next(iter(state), "")))
    prefix = holder[1] if holder else ""
    if prefix and all(str(k).startswith(f"{prefix}model.") for k in state):
        return {str(k).removeprefix(prefix): v for k, v in state.items()}
    if all(re.match(r"\d+\.", str(k)) for k in state):
        return {f"model.{k}": v for k, v in state.items()}
    return state
