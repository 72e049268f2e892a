"""Copying weights from one model into another: layer lists are aligned, then tensors are copied layer by layer.

Layers are aligned along the sequence by edit distance over what they are (module, tensor names and shapes), not by
index, so a row that was put in, taken out or widened does not shift the rest. Keys: `model.<layer index>.<parameter>`.
Rows of `score_head` and `class_embed` tensors, and of the last layer of a Detect head's class towers, stand for classes
and are matched by class name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ultralytics.nn.build.spec import LayerSpec, ModelSpec, load_model_yaml
from ultralytics.utils.errors import ModelYAMLError

CLASS_KEYS = re.compile(r"score_head|class_embed|\b(one2one_)?cv3\.\d+\.2\.(weight|bias)$")
# Costs of the edit distance. A row without tensors decides nothing by itself; a row of the same module whose shapes
# differ is rather the same row changed than one row out and another in; other arguments only break ties.
GAP, GAP_EMPTY, CHANGED, OTHER_ARGS = 40, 10, 50, 1

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Layer:
    """One layer for the alignment: its YAML row where that is known, and the shapes of its tensors by name.

    In `shapes` the class axis of class tensors is left out, so that another class count is not another shape.
    """

    index: int
    row: LayerSpec | None
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def module(self) -> str:
        """Name of the module, '?' when the source has no YAML."""
        return self.row.module if self.row else "?"

    def gap(self) -> int:
        """Cost of leaving this layer without a partner."""
        return GAP if self.shapes else GAP_EMPTY


class AlignedPair(NamedTuple):
    """One step of an alignment; None stands for no partner."""

    target: Layer | None
    source: Layer | None


@dataclass
class LayerReport:
    """The result for one layer. `state` is kept, moved, changed (left fresh), new or dropped; `note` says more."""

    state: str
    module: str
    target: int | None
    source: int | None
    tensors: int = 0
    note: str = ""


@dataclass
class TransferReport:
    """The result of a transfer.

    Keys of the target: `copied` whole, `rows` of which only class rows were copied, `fresh` (left as they were). Keys
    of the source: `dropped`. `row_names` are the classes whose rows were copied; `mismatched` are those fresh keys that
    the source has in another shape. `layers` reports it layer by layer, where layers were `aligned`;
    `same_outputs` says that the target now computes what the source computes.
    """

    copied: list[str] = field(default_factory=list)
    rows: list[str] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    row_names: list[str] = field(default_factory=list)
    layers: list[LayerReport] = field(default_factory=list)
    same_outputs: bool = False
    mismatched: list[str] = field(default_factory=list)
    aligned: bool = True

    def lines(self) -> list[str]:
        """The report as text: totals, then a table in which neighbours with the same result share a line."""
        if not self.aligned:
            return self._lines_by_key()
        total = len(self.copied) + len(self.rows) + len(self.fresh)
        counts = [f"{n} {s}" for s in LAYER_STATES if (n := sum(r.state == s for r in self.layers))]
        head = f"Transferred {len(self.copied)}/{total} tensors"
        text = [head + (f"; layers: {', '.join(counts)}" if counts else "")]
        if self.rows:
            text.append(f"  class rows by name ({', '.join(self.row_names[:8])}): {len(self.rows)} tensors")
        if any(r.state != "kept" or r.note for r in self.layers):
            text += _table(self.layers)
        if self.same_outputs:
            text.append("  outputs equal the source's: all its layers are in place, new ones start as the identity")
        return text

    def _lines_by_key(self) -> list[str]:
        """The counts of keys that were matched without an alignment, then the first of each kind that is not empty."""
        missing = [key for key in self.fresh if key not in set(self.mismatched)]
        text = [
            f"Loaded weights: {len(self.copied)} matched, {len(missing)} missing, "
            f"{len(self.dropped)} unexpected, {len(self.mismatched)} of another shape"
        ]
        for kind, keys in (("missing", missing), ("unexpected", self.dropped), ("mismatched", self.mismatched)):
            if keys:
                text.append(f"  {kind}: {', '.join(keys[:6])}{f' and {len(keys) - 6} more' if len(keys) > 6 else ''}")
        return text


LAYER_STATES = ("kept", "moved", "changed", "new", "dropped")
STATE_LABELS = {"changed": "re-initialised"}


def _table(layers: Sequence[LayerReport]) -> list[str]:
    """Aligned lines of layer, source layer, state, modules, note; runs of the same state and shift become one."""

    def outcome(r: LayerReport) -> tuple[str, int, str]:
        shift = r.target - r.source if r.target is not None and r.source is not None else 0
        return r.state, shift, r.note

    rows: list[tuple[str, ...]] = [("layer", "source", "", "modules")]
    for (state, _, note), run in groupby(layers, outcome):
        members = list(run)
        names = [name for name, _ in groupby(m.module for m in members)]
        shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        ends = [_span([m.target for m in members]), _span([m.source for m in members])]
        rows.append((*ends, STATE_LABELS.get(state, state), f"{shown}: {note}" if note else shown))
    widths = [max(len(row[k]) for row in rows) for k in range(3)]
    return ["  " + "  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[3]]) for row in rows]


def _span(indices: Sequence[int | None]) -> str:
    known = [i for i in indices if i is not None]
    if not known:
        return "-"
    return str(known[0]) if len(known) == 1 else f"{known[0]}-{known[-1]}"


# ---------------------------------------------------------------------------------------------------------- alignment
def describe_layers(state: State, spec: ModelSpec | None) -> list[Layer]:
    """Return the layers of a state dict; rows without tensors come from the spec, or from gaps between the indices."""
    by_layer: dict[int, dict[str, tuple[int, ...]]] = {}
    for key, value in state.items():
        index, name = split_key(key)
        if index is not None:
            by_layer.setdefault(index, {})[name] = tuple(value.shape[1:]) if is_class(key) else tuple(value.shape)
    count = len(spec.layers) if spec else max(by_layer, default=-1) + 1
    return [Layer(i, spec.layers[i] if spec else None, by_layer.get(i, {})) for i in range(count)]


def split_key(key: str) -> tuple[int | None, str]:
    """Layer index (None: not the key of a layer) and the rest of a key.

    >>> split_key("model.4.proj.1.bn.bias"), split_key("weight")
    ((4, 'proj.1.bn.bias'), (None, 'weight'))
    """
    parts = key.split(".", 2)
    if len(parts) == 3 and parts[0] == "model" and parts[1].isdigit():
        return int(parts[1]), parts[2]
    return None, key


def is_class(key: str) -> bool:
    """Whether the first axis of a tensor counts classes."""
    return CLASS_KEYS.search(key) is not None


def pair_cost(target: Layer, source: Layer) -> int | None:
    """Cost of taking two layers for the same one; None: they cannot be."""
    known = target.row is not None and source.row is not None
    if known and target.module != source.module:
        return None
    if not known and bool(target.shapes) != bool(source.shapes):
        return None
    if target.shapes != source.shapes:
        return CHANGED if known or target.shapes.keys() == source.shapes.keys() else None
    return 0 if not known or _own_args(target) == _own_args(source) else OTHER_ARGS


def _own_args(layer: Layer) -> tuple[Any, ...]:
    """Row arguments without the class count, which stands first in a head's row."""
    args = layer.row.args if layer.row else ()
    return args[1:] if any(is_class(name) for name in layer.shapes) else args


def _edit_costs(target: Sequence[Layer], source: Sequence[Layer]) -> list[list[int]]:
    """Return cost[i][j], the least cost of aligning the layers from target i and source j on."""
    m, n = len(target), len(source)
    cost = [[0] * (n + 1) for _ in range(m + 1)]
    for i in range(m - 1, -1, -1):
        cost[i][n] = cost[i + 1][n] + target[i].gap()
    for j in range(n - 1, -1, -1):
        cost[m][j] = cost[m][j + 1] + source[j].gap()
    for i in range(m - 1, -1, -1):
        for j in range(n - 1, -1, -1):
            together = pair_cost(target[i], source[j])
            apart = min(cost[i + 1][j] + target[i].gap(), cost[i][j + 1] + source[j].gap())
            cost[i][j] = apart if together is None else min(apart, together + cost[i + 1][j + 1])
    return cost


def align(target: Sequence[Layer], source: Sequence[Layer]) -> list[AlignedPair]:
    """Return the cheapest alignment of two layer lists (edit distance); among equals, the one that pairs earliest."""
    m, n = len(target), len(source)
    cost = _edit_costs(target, source)
    pairs: list[AlignedPair] = []
    i = j = 0
    while i < m or j < n:
        both = pair_cost(target[i], source[j]) if i < m and j < n else None
        if both is not None and cost[i][j] == both + cost[i + 1][j + 1]:
            pairs.append(AlignedPair(target[i], source[j]))
            i, j = i + 1, j + 1
        elif j < n and cost[i][j] == cost[i][j + 1] + source[j].gap():
            pairs.append(AlignedPair(None, source[j]))
            j += 1
        else:
            pairs.append(AlignedPair(target[i], None))
            i += 1
    return pairs


# ----------------------------------------------------------------------------------------------------------- transfer
def transfer(
    target: nn.Module,
    source: State,
    target_names: Mapping[int, str] | None = None,
    source_names: Mapping[int, str] | None = None,
    target_yaml: Mapping[str, Any] | None = None,
    source_yaml: Mapping[str, Any] | None = None,
    partial: bool = False,
) -> TransferReport:
    """Copy into `target` the tensors of every source layer that it still has, wherever that layer stands now.

    A layer whose shapes differ is left fresh as a whole; of a head, and with `partial` of any, the parts that fit are
    taken. Class rows are matched by name when both sides have real names (not `0`, `1`, ...) and their order or count
    differ; rows without a partner stay as they were. A new block that can (`start_as_identity`) is made to pass its
    input on. The YAMLs name the modules of the layers; without them, shapes alone decide.
    """
    own = target.state_dict()
    specs = _spec(target_yaml), _spec(source_yaml)
    pairs = align(describe_layers(own, specs[0]), describe_layers(source, specs[1]))
    matched = match_names(target_names or {}, source_names or {})
    copier = _Copier(own, source, matched, partial, (len(target_names or ()), len(source_names or ())))
    report = TransferReport()
    report.row_names = [str((target_names or {})[i]) for i, _ in copier.classes]
    for pair in pairs:
        report.layers.append(copier.layer(pair))
    copier.others()
    target.load_state_dict(copier.loaded, strict=False)
    _start_new(target, report)
    report.rows = copier.rows
    report.copied = [k for k in own if k in copier.loaded and k not in set(copier.rows)]
    report.fresh = [k for k in own if k not in copier.loaded]
    report.dropped = [k for k in source if k not in copier.used]
    report.same_outputs = _same_outputs(report, pairs, *specs)
    return report


def copy_matching(target: nn.Module, source: State) -> TransferReport:
    """Copy into `target` every tensor whose key and shape agree; layers are not aligned."""
    own = target.state_dict()
    report = TransferReport(
        copied=[k for k, v in own.items() if k in source and source[k].shape == v.shape],
        dropped=[k for k in source if k not in own],
        mismatched=[k for k, v in own.items() if k in source and source[k].shape != v.shape],
        aligned=False,
    )
    report.fresh = [k for k in own if k not in set(report.copied)]
    target.load_state_dict({k: source[k] for k in report.copied}, strict=False)
    return report


def _spec(yaml: Mapping[str, Any] | None) -> ModelSpec | None:
    if not yaml:
        return None
    try:
        return load_model_yaml(yaml)
    except ModelYAMLError:  # weights of a model that cannot be built here still have shapes
        return None


class _Copier:
    """Gathers the tensors to load, and which keys of the source went into them.

    `counts` are the numbers of class names of both sides.
    """

    def __init__(
        self, own: State, source: State, classes: list[tuple[int, int]], partial: bool, counts: tuple[int, int]
    ) -> None:
        self.own, self.source, self.classes, self.partial, self.counts = own, source, classes, partial, counts
        self.loaded: dict[str, Tensor] = {}
        self.used: set[str] = set()
        self.rows: list[str] = []

    def layer(self, pair: AlignedPair) -> LayerReport:
        """Take over one layer of the alignment."""
        to, of = pair
        if to is None or of is None:
            return _unpaired_report(pair)
        report = LayerReport("kept" if to.index == of.index else "moved", to.module, to.index, of.index)
        names = set(to.shapes) if to.shapes == of.shapes else self._fitting(to.shapes, of.shapes)
        for name in to.shapes:
            if name in names:
                report.tensors += self._copy(f"model.{to.index}.{name}", f"model.{of.index}.{name}")
        missing = [n for n in to.shapes if f"model.{to.index}.{n}" not in self.loaded]
        if to.shapes != of.shapes and not names:
            report.state = "changed"
        if missing:
            report.note = self._why(to, of, missing)
        return report

    def others(self) -> None:
        """Tensors outside of any layer: by key and shape."""
        for key in self.own:
            if split_key(key)[0] is None and key in self.source and self.source[key].shape == self.own[key].shape:
                self._copy(key, key)

    def _copy(self, to: str, of: str) -> bool:
        value, new = self.own[to], self.source[of]
        if is_class(to) and self.classes:
            padded = (len(value), len(new)) == tuple(count + 1 for count in self.counts)  # a last row for no class
            last = [(len(value) - 1, len(new) - 1)] if padded else []
            self.loaded[to] = _copy_rows(value, new, [*self.classes, *last])
            self.rows.append(to)
        elif new.shape == value.shape:
            self.loaded[to] = new
        else:
            return False
        self.used.add(of)
        return True

    def _fitting(self, to: Mapping[str, tuple[int, ...]], of: Mapping[str, tuple[int, ...]]) -> set[str]:
        """Names to copy of a layer whose shapes differ: the modules that fit whole, of a head or with `partial`.

        A head is known by its class tensors. A norm behind a fresh convolution is of no use, so members of a sequence
        stand or fall together.
        """
        if not self.partial and not any(is_class(name) for name in to):
            return set()
        misfits = {_unit(n) for n in to.keys() | of.keys() if to.get(n) != of.get(n)}
        return {n for n in to if _unit(n) not in misfits}

    def _why(self, to: Layer, of: Layer, missing: Sequence[str]) -> str:
        """What keeps tensors fresh: the class count, a shape, or other tensors."""
        if all(is_class(name) for name in missing):
            return f"{len(missing)} class tensors fresh"
        name = next((n for n in missing if to.shapes[n] != of.shapes.get(n)), missing[0])
        if name not in of.shapes:
            return f"the source's layer has other tensors (no {name})"
        shapes = (_size(to.shapes[name]), _size(of.shapes[name]))
        text = f"{name} is {shapes[0]}, in the source {shapes[1]}"
        return text if len(missing) == len(to.shapes) else f"{len(missing)} tensors fresh; {text}"


def _unpaired_report(pair: AlignedPair) -> LayerReport:
    """Report a layer that only one of the two models has."""
    to, of = pair
    if to is not None:
        return LayerReport("new", to.module, to.index, None)
    return LayerReport("dropped", of.module if of else "?", None, of.index if of else None)


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _unit(name: str) -> str:
    """The module that owns a tensor, or the sequence that this module is a member of."""
    parts = name.split(".")[:-1]
    while parts and parts[-1].isdigit():
        parts.pop()
        if parts and parts[-1].isdigit():
            break
    return ".".join(parts)


def _copy_rows(value: Tensor, new: Tensor, pairs: list[tuple[int, int]]) -> Tensor:
    rows = value.clone()
    to, of = torch.tensor(pairs, device=value.device).T  # (2, matched classes)
    keep = (to < len(value)) & (of < len(new))
    rows[to[keep]] = new.to(value)[of[keep].to(new.device)]
    return rows


# ------------------------------------------------------------------------------------------------- identity, equality
IDENTITY = "starts as the identity"


def _start_new(target: nn.Module, report: TransferReport) -> None:
    """Make new layers pass their input on where they can, and note it.

    A block that can has a method `start_as_identity() -> bool`, which sets its weights so and says whether it did.
    """
    layers = getattr(target, "model", None)
    trainable = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in target.modules())  # fused ones are not
    if not isinstance(layers, nn.Sequential) or not trainable:
        return
    for entry in report.layers:
        if entry.state == "new" and entry.target is not None:
            layer = layers[entry.target]
            copies = list(layer) if type(layer) is nn.Sequential else [layer]
            done = [isinstance(c, nn.Identity) or getattr(c, "start_as_identity", bool)() for c in copies]
            entry.note = IDENTITY if all(done) else ""


def _same_outputs(
    report: TransferReport, pairs: Sequence[AlignedPair], target: ModelSpec | None, source: ModelSpec | None
) -> bool:
    """Whether the target computes the source's function: all tensors taken, new rows the identity, routes the same."""
    if target is None or source is None or report.rows or not _comparable(target, source):
        return False
    passing = {r.target for r in report.layers if r.state == "new" and r.note == IDENTITY}
    if not all(split_key(key)[0] in passing for key in report.fresh):
        return False
    shared = [(to, of) for to, of in pairs if to is not None and of is not None]
    partner = {to.index: of.index for to, of in shared}

    def origin(i: int) -> int | None:
        """The source's layer whose output target layer `i` gives; -1 is the network's input, None no such layer."""
        while i in passing:
            i = target.layers[i].inputs[0]
        return i if i < 0 else partner.get(i)

    for to, of in shared:
        inputs = tuple(origin(i) for i in target.layers[to.index].inputs)
        if pair_cost(to, of) != 0 or inputs != source.layers[of.index].inputs:
            return False
    return origin(len(target.layers) - 1) == len(source.layers) - 1


def _comparable(target: ModelSpec, source: ModelSpec) -> bool:
    """Whether routes can be traced in both, which slots of one-row backbones prevent, and activations are the same."""
    return target.activation == source.activation and not (target.shift or source.shift)


# -------------------------------------------------------------------------------------------------------- class names
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
