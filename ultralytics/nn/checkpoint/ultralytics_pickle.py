"""From a genuine Ultralytics checkpoint (a pickled module tree) to this package's checkpoint dict.

The tree comes as inert records (see `pickle_reader`). Taken from it: YAML, class names, class count, strides, training
arguments, batch-norm epsilon, and the tensors under the keys that `state_dict()` would give them. The model itself is
built by our builder from the YAML. Layers that were folded when the file was saved are unfolded again: a folded
convolution gets a batch norm that does nothing but add the bias.

Files of forks are read the same way, wherever their classes come from (`ultralytics.nn.extra_modules`, `Addmodules`):
what a layer is follows from its row in the YAML and the name of its class, never from the path, which is not imported.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ultralytics.nn.checkpoint.pickle_reader import Record, StoredTensor
from ultralytics.nn.checkpoint.zip_archive import Archive, numel
from ultralytics.utils.errors import CheckpointError

MAX_MODULES = 20_000
MAX_ENTRIES = 400_000  # children, parameters and buffers of all modules, each counted as often as it is reached
MAX_STRIDES = 64
MAX_MODULE_DEPTH = 40
MODEL_KEYS = ("ema", "model")
COPIED = ("train_args", "train_metrics", "train_results")
NORM = "torch.nn.modules.batchnorm.BatchNorm2d"
KNOWN_ROOTS = frozenset(
    """torch torchvision timm ultralytics collections builtins __builtin__ pathlib numpy _codecs copyreg argparse types
    models""".split()
)
HARMLESS_BUILTINS = frozenset("set list dict frozenset object slice getattr bytes".split())
"""Getattr stands for a bound method of a fused block."""


def is_module(value: object) -> bool:
    """Whether a value is the record of a pickled `torch.nn.Module`."""
    return isinstance(value, Record) and isinstance(value.state.get("_modules"), dict)


def is_upstream(root: object) -> bool:
    """Whether the object of a file is a module, or a checkpoint dict that holds one."""
    return is_module(root) or (isinstance(root, dict) and any(is_module(root.get(k)) for k in MODEL_KEYS))


def suspicious(names: frozenset[str]) -> list[str]:
    """Names in a pickle that a checkpoint has no use for, such as `os.system`; they are never called."""
    pairs = [n.split(".", 1) for n in names]
    odd = [
        (root, name)
        for root, name in pairs
        if root not in KNOWN_ROOTS or ("builtin" in root and name not in HARMLESS_BUILTINS)
    ]
    return sorted(f"{root}.{name}" for root, name in odd)


def convert_ultralytics(archive: Archive) -> dict[str, Any]:
    """Return the checkpoint dict of a genuine file: weights for use, without an optimizer state to resume from."""
    root = {"model": archive.root} if is_module(archive.root) else archive.root
    records = {k: model_record(archive, root[k]) for k in MODEL_KEYS if is_module(root.get(k))}
    copied = {k: _mapping(archive, root.get(k)) for k in COPIED}
    texts = {k: root[k][:200] for k in ("date", "version", "license", "docs") if isinstance(root.get(k), str)}
    epoch = root.get("epoch")
    return {
        **copied,
        **texts,
        "epoch": epoch if isinstance(epoch, int) else -1,
        "source": "ultralytics",
        "names_in_file": suspicious(archive.names),
        **records,
    }


def _mapping(archive: Archive, value: object) -> dict[str, Any]:
    """A dict, or the attributes of an argument namespace, as plain values; empty for anything else."""
    if isinstance(value, Record):
        value = value.state
    return {str(k): archive.plain(v) for k, v in value.items()} if isinstance(value, dict) else {}


def model_record(archive: Archive, module: Record) -> dict[str, Any]:
    """The model record (see `format.pack_model`) of a pickled detection model."""
    tree = list(walk_modules(module))
    _check_entries(tree)
    state = {key: archive.tensor(t) for _, prefix, m in tree for key, t in _tensors(prefix, m)}
    epsilons = {float(m.state["eps"]) for _, _, m in tree if m.name == NORM and isinstance(m.state.get("eps"), float)}
    eps = epsilons.pop() if len(epsilons) == 1 else None
    state = unfold(state, tree, eps or 1e-3)
    yaml = module.state.get("yaml")
    if not isinstance(yaml, dict):
        raise CheckpointError(f"the pickled {_short(module)} carries no model YAML, so it cannot be built again")
    names = archive.plain(module.state.get("names"))
    names = dict(enumerate(names)) if isinstance(names, list) else names
    yaml = archive.plain(yaml)
    _name_pooling(yaml, tree)
    nc = module.state.get("nc", yaml.get("nc"))
    return {
        "class": _short(module),
        "yaml": yaml,
        "nc": nc if isinstance(nc, int) else len(names or ()),
        "ch": yaml.get("channels", yaml.get("ch", 3)),
        "names": names if isinstance(names, dict) else {},
        "bn_eps": eps,
        "stride": _strides(archive, module.state.get("stride")),
        "args": _mapping(archive, module.state.get("args")),
        "fused": False,
        "state_dict": {k: v.float() if v.is_floating_point() else v for k, v in state.items()},
    }


def _name_pooling(yaml: Mapping[str, object], tree: Sequence[tuple[int, str, Record]]) -> None:
    """Write into the rows of a YAML which SPPF blocks have no activation behind their first convolution, in place.

    Releases differ in it for the same row `[c2, k]`. A row with the number of poolings and the shortcut means none.
    """
    parts = [yaml.get(part) for part in ("backbone", "head")]
    rows = [row for part in parts if isinstance(part, list) for row in part]
    for _, prefix, module in tree:
        match = re.fullmatch(r"model\.(\d{1,4})\.", prefix)
        row = rows[int(match[1])] if match and int(match[1]) < len(rows) else None
        if _short(module) == "SPPF" and _starts_plain(module) and isinstance(row, list) and len(row) == 4:
            args = row[3]
            if isinstance(args, list) and len(args) <= 2:
                row[3] = [*args, *([5] if len(args) < 2 else []), 3, False]


def _starts_plain(module: Record) -> bool:
    """Whether the first convolution of a block has no activation."""
    first = module.state["_modules"].get("cv1")
    act = first.state["_modules"].get("act") if is_module(first) else None
    return isinstance(act, Record) and _short(act) == "Identity"


def _strides(archive: Archive, stride: object) -> list[float]:
    """The strides of the levels, none where the file has no tensor of a few numbers."""
    if not isinstance(stride, StoredTensor) or numel(stride) > MAX_STRIDES:
        return []
    return [float(s) for s in archive.tensor(stride).flatten().tolist()]


def _short(module: Record) -> str:
    return module.name.rsplit(".", 1)[-1]


def walk_modules(module: Record, prefix: str = "", depth: int = 0) -> Iterator[tuple[int, str, Record]]:
    """All modules of a tree with their depth and key prefix, in the order of `state_dict()`."""
    count = entries = 0
    stack = [(depth, prefix, module)]
    while stack:
        depth, prefix, current = stack.pop()
        children = current.state["_modules"]
        count, entries = count + 1, entries + len(children)
        if count > MAX_MODULES or depth > MAX_MODULE_DEPTH or entries > MAX_ENTRIES:
            raise CheckpointError(f"the pickled model has more than {MAX_MODULES:,} modules, or nests them without end")
        yield depth, prefix, current
        for name, child in reversed(list(children.items())):
            if is_module(child) and name != "criterion":
                stack.append((depth + 1, f"{prefix}{name}.", child))


def _tensors(prefix: str, module: Record) -> Iterator[tuple[str, StoredTensor]]:
    """Parameters and persistent buffers of one module, without its children."""
    hidden = _names_in(module.state.get("_non_persistent_buffers_set"))
    for kind in ("_parameters", "_buffers"):
        values = module.state.get(kind)
        for name, value in values.items() if isinstance(values, dict) else ():
            if isinstance(value, StoredTensor) and not (kind == "_buffers" and name in hidden):
                yield f"{prefix}{name}", value


def _names_in(value: object) -> frozenset[str]:
    """The strings of a set, which the reader gives as a list; none of anything else."""
    return frozenset(v for v in value if isinstance(v, str)) if isinstance(value, (list, tuple)) else frozenset()


def _check_entries(tree: Sequence[tuple[int, str, Record]]) -> None:
    """Bound what is looked at: one big collection may be that of every module."""
    kinds = ("_parameters", "_buffers", "_non_persistent_buffers_set")
    values = (m.state.get(kind) for _, _, m in tree for kind in kinds)
    if sum(len(v) for v in values if isinstance(v, (dict, list, tuple))) > MAX_ENTRIES:
        raise CheckpointError(f"the pickled model has more than {MAX_ENTRIES:,} parameters and buffers")


def unfold(state: Mapping[str, Tensor], tree: list[tuple[int, str, Record]], eps: float) -> dict[str, Tensor]:
    """Give every folded `Conv` and `ConvNormLayer` its batch norm back, and every folded `RepConv` its two branches.

    The new batch norm has mean 0 and variance 1 - eps, so it only adds the bias that the convolution had.
    """
    out = dict(state)
    for _, prefix, module in tree:
        kind, children = _short(module), module.state["_modules"]
        if kind == "RepConv" and is_module(children.get("conv")):
            _split_rep(out, prefix, eps)
        elif kind in {"Conv", "DWConv", "GhostConv", "LightConv"} and "conv" in children and "bn" not in children:
            _split_bias(out, f"{prefix}conv", f"{prefix}bn", eps)
        elif kind == "ConvNormLayer" and "norm" not in children:
            _split_bias(out, f"{prefix}conv", f"{prefix}norm", eps)
    return out


def _split_bias(state: dict[str, Tensor], conv: str, norm: str, eps: float) -> None:
    """Move the bias of a convolution into a batch norm that does nothing else."""
    bias = state.pop(f"{conv}.bias", None)
    if bias is None:
        return
    state[f"{norm}.weight"] = torch.ones_like(bias)
    state[f"{norm}.bias"] = bias
    state[f"{norm}.running_mean"] = torch.zeros_like(bias)
    state[f"{norm}.running_var"] = torch.full_like(bias, 1 - eps)
    state[f"{norm}.num_batches_tracked"] = torch.tensor(0)


def _split_rep(state: dict[str, Tensor], prefix: str, eps: float) -> None:
    """Turn the folded 3x3 of a RepConv into its 3x3 branch, with a 1x1 branch of zeros beside it."""
    weight, bias = state.pop(f"{prefix}conv.weight", None), state.pop(f"{prefix}conv.bias", None)
    if weight is None or bias is None or weight.dim() != 4:
        raise CheckpointError(f"the folded RepConv at {prefix[:-1]!r:.60} lacks its convolution of 4 axes, or the bias")
    for branch, kernel, shift in (("conv1", weight, bias), ("conv2", weight[:, :, 1:2, 1:2] * 0, bias * 0)):
        state[f"{prefix}{branch}.conv.weight"] = kernel.contiguous()
        state[f"{prefix}{branch}.conv.bias"] = shift
        _split_bias(state, f"{prefix}{branch}.conv", f"{prefix}{branch}.bn", eps)
