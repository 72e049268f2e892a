"""Weights of other projects: recognised by their key names, and renamed by the tables of `key_maps`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ultralytics.nn.build.spec import load_model_yaml
from ultralytics.nn.checkpoint.detr_files import add_batch_counters, published_record, published_state, stock_yaml
from ultralytics.nn.checkpoint.key_maps import WEIGHT_FORMATS, WeightFormat
from ultralytics.utils.log import LOGGER


@dataclass(frozen=True)
class Mapped:
    """A state dict under our keys. `dropped` are keys whose values are computed here, `unknown` those without a row."""

    source: WeightFormat
    state: dict[str, Tensor]
    dropped: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    @property
    def yaml(self) -> str | None:
        """Name of the model YAML that the weights fit, None when it is not known."""
        for key, shape, name in self.source.yamls:
            if key in self.state and tuple(self.state[key].shape) == shape:
                return name
        return None

    @property
    def classes(self) -> int:
        """Class count of a whole detector, else 0."""
        heads = [v for k, v in self.state.items() if k.endswith("enc_score_head.bias")]
        return len(heads[0]) if heads else 0

    def line(self) -> str:
        """One line for the user."""
        note = f"; {self.source.note}" if self.source.note else ""
        lost = f", {len(self.unknown)} unknown ({', '.join(self.unknown[:3])})" if self.unknown else ""
        return f"Weights of {self.source.name}: {len(self.state)} tensors mapped{lost}{note}"


def recognise_format(state: Mapping[str, Tensor]) -> WeightFormat | None:
    """Return the format of a state dict, None when no table fits."""
    for source in WEIGHT_FORMATS:
        marker = re.compile(source.marker)
        if any(marker.fullmatch(key) for key in state):
            return source
    return None


def map_state(state: Mapping[str, Tensor]) -> Mapped | None:
    """Rename a state dict of another project; None when its format is unknown."""
    state = {k.removeprefix("module."): v for k, v in state.items()}
    source = recognise_format(state)
    if source is None:
        return None
    rest, out = _join(state, source)
    mapped = Mapped(source, out)
    rows = [(re.compile(pattern), target) for pattern, target in source.rows]
    for key, value in rest.items():
        match, target = next(((m, t) for p, t in rows if (m := p.fullmatch(key))), (None, ""))
        if match is None:
            mapped.unknown.append(key)
        elif not target:
            mapped.dropped.append(key)
        else:
            out[match.expand(target)] = value
    _drop_padding_rows(out, source, mapped.classes)
    if source.add_batch_counters:
        add_batch_counters(out)
    return mapped


def remap_weights(weights: Mapping[str, Any], name: str = "") -> dict[str, Any]:
    """Turn `{"state_dict": tensors}` of a known format into the form of this package; anything else stays as it is.

    A whole detector becomes a checkpoint with a model record, so that it can be built; a backbone stays a state dict,
    with the epsilon and, where known, the YAML that its layers belong to. The `name` of a file distinguishes DEIM from
    D-FINE.
    """
    state = weights.get("state_dict")
    detr = _newer_detr(state, name) if isinstance(state, Mapping) and "yaml" not in weights else None
    if detr is not None:
        return detr
    mapped = map_state(state) if isinstance(state, Mapping) and "yaml" not in weights else None
    if mapped is None:
        return dict(weights)
    LOGGER.info(mapped.line())
    record: dict[str, Any] = {"state_dict": mapped.state, "bn_eps": mapped.source.eps}
    if mapped.yaml:
        record["yaml"] = {**load_model_yaml(mapped.yaml).data, **({"nc": mapped.classes} if mapped.classes else {})}
    if not (mapped.classes and mapped.yaml):
        return {**record, "source": mapped.source.name}
    detector = {**record, "class": "RTDETRDetectionModel", "nc": mapped.classes, "ch": 3}
    return {"model": detector, "source": mapped.source.name}


def _newer_detr(state: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """Return the checkpoint of a published state dict of D-FINE, DEIM, DEIMv2 or RT-DETRv2, None for any other."""
    named = published_state(state)
    yaml = None if named is None else stock_yaml(named, name)
    if named is None or yaml is None:
        return None
    record = published_record(named, yaml)
    unknown = record.pop("unknown")
    lost = f", {len(unknown)} unknown ({', '.join(unknown[:3])})" if unknown else ""
    LOGGER.info(f"Published weights of {yaml}: {len(record['state_dict'])} tensors mapped{lost}")
    classes = next(
        len(v) for k, v in record["state_dict"].items() if re.fullmatch(r"model\.\d+\.dec_score_head\.0\.bias", k)
    )
    detector = {**record, "yaml": {**record["yaml"], "nc": classes}, "class": "DFINEDetectionModel"}
    return {"model": {**detector, "nc": classes, "ch": 3}, "source": f"the project of {yaml}"}


def _join(state: Mapping[str, Tensor], source: WeightFormat) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Concatenate parts (query, key, value) into our tensors; return what is left, and the joined ones."""
    rest, joined = dict(state), {}
    for pattern, order, target in source.joins:
        parts: dict[str, dict[str, str]] = {}
        for key in state:
            match = re.fullmatch(pattern, key)
            if match:
                part = next(g for g in match.groups() if g in order)
                parts.setdefault(match.expand(target), {})[part] = key
        for name, keys_by_part in parts.items():
            if set(keys_by_part) == set(order):
                joined[name] = torch.cat([rest.pop(keys_by_part[part]) for part in order])
    return rest, joined


def _drop_padding_rows(state: dict[str, Tensor], source: WeightFormat, classes: int) -> None:
    """Cut class tensors that carry a row for padding."""
    for key in source.drop_padding_rows:
        if key in state and len(state[key]) == classes + 1:
            state[key] = state[key][:classes]


def without_padding_class(state: Mapping[str, Any]) -> dict[str, Any]:
    """Drop the last row of a denoising embedding that has one more than the head has classes; nothing reads that row.

    Forks of early releases write it. A copy is returned; other tensors are the same objects.
    """
    done = dict(state)
    for key, value in state.items():
        scores = state.get(key.removesuffix("denoising_class_embed.weight") + "enc_score_head.weight")
        if key.endswith("denoising_class_embed.weight") and scores is not None and len(value) == len(scores) + 1:
            done[key] = value[:-1]
    return done
