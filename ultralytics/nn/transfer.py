"""Copying weights from one model into another: by key and shape, with class rows matched by class name.

Keys: `model.<layer index>.<parameter>`. Rows of `score_head` and `class_embed` tensors stand for classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

CLASS_KEYS = ("score_head", "class_embed")


@dataclass
class TransferReport:
    """What a transfer did: keys copied whole, keys of which only class rows were copied, keys left fresh, keys unused.

    `row_names` are the classes whose rows were copied.
    """

    copied: list[str] = field(default_factory=list)
    rows: list[str] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    row_names: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The report as text: totals, then the layers left fresh and the source layers without a place."""
        total = len(self.copied) + len(self.rows) + len(self.fresh)
        text = [f"Transferred {len(self.copied)}/{total} tensors"]
        if self.rows:
            text.append(f"  class rows by name ({', '.join(self.row_names[:8])}): {len(self.rows)} tensors")
        text += [f"  fresh: {line}" for line in _by_layer(self.fresh)]
        text += [f"  not used from the source: {line}" for line in _by_layer(self.dropped)]
        return text


def _by_layer(keys: list[str]) -> list[str]:
    """Group keys by layer: `layer 4: 12 tensors (pre_norm.weight, ...)`."""
    groups: dict[str, list[str]] = {}
    for key in keys:
        parts = key.split(".")
        layer, rest = (parts[1], ".".join(parts[2:])) if parts[0] == "model" and len(parts) > 2 else (parts[0], key)
        groups.setdefault(layer, []).append(rest)
    return [
        f"layer {n}: {len(names)} tensors ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for n, names in groups.items()
    ]


def transfer(
    target: nn.Module,
    source: Mapping[str, Tensor],
    target_names: Mapping[int, str] | None = None,
    source_names: Mapping[int, str] | None = None,
) -> TransferReport:
    """Copy into `target` every source tensor whose key and shape match, and class rows by class name.

    Class rows are matched when both sides have real names (not `0`, `1`, ...) and their order or count differ; the rows
    without a partner stay as they were.
    """
    report = TransferReport()
    own = target.state_dict()
    pairs = match_names(target_names or {}, source_names or {})
    if pairs:
        report.row_names = [str((target_names or {})[i]) for i, _ in pairs]
    loaded: dict[str, Tensor] = {}
    for key, value in own.items():
        new = source.get(key)
        is_class = any(part in key for part in CLASS_KEYS)
        if new is not None and is_class and pairs and new.shape[1:] == value.shape[1:]:
            loaded[key] = _copy_rows(value, new, pairs)
            report.rows.append(key)
        elif new is not None and new.shape == value.shape:
            loaded[key] = new
            report.copied.append(key)
        else:
            report.fresh.append(key)
    report.dropped = [k for k in source if k not in loaded]
    target.load_state_dict(loaded, strict=False)
    return report


def _copy_rows(value: Tensor, new: Tensor, pairs: list[tuple[int, int]]) -> Tensor:
    rows = value.clone()
    to, of = torch.tensor(pairs, device=value.device).T  # (2, matched classes)
    keep = (to < len(value)) & (of < len(new))
    rows[to[keep]] = new.to(value)[of[keep].to(new.device)]
    return rows


def match_names(target: Mapping[int, str], source: Mapping[int, str]) -> list[tuple[int, int]]:
    """Pairs (target index, source index) of equal class names; empty when the classes agree or names are placeholders.

    >>> match_names({0: "dog", 1: "cat"}, {0: "Cat", 1: "bus"})
    [(1, 0)]
    >>> match_names({0: "0"}, {0: "0", 1: "1"})
    []
    """
    if _placeholders(target) or _placeholders(source):
        return []
    mine = {i: _normal(n) for i, n in target.items()}
    theirs = {_normal(n): i for i, n in source.items()}
    if mine == {i: n for n, i in theirs.items()}:
        return []
    return [(i, theirs[n]) for i, n in mine.items() if n in theirs]


def _placeholders(names: Mapping[int, str]) -> bool:
    return all(str(n) == str(i) for i, n in names.items())


def _normal(name: str) -> str:
    return "".join(str(name).lower().split())
