"""Runs the golden cases of the newer DETR families; `detr/cases.json.gz` and `detr/arrays.npz` hold them.

A case is data: a kind, a configuration, official state-dict keys whose values follow from their names, inputs, and the
numbers of the original projects with a tolerance for each. `adapters/detr_adapter.py` builds and calls ours.
"""

from __future__ import annotations

import copy
import functools
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.golden import fill
from tests.golden import runner as base
from tests.golden.adapters import detr_adapter as adapter
from tests.golden.comparison import close, same_keys

HERE = Path(__file__).parent / "detr"
KEPT = fill.KEEP | {"num_points_scale", "up", "reg_scale", "periods"}  # computed by the module, not filled

Case = dict[str, Any]


@functools.cache
def cases() -> dict[str, Case]:
    """Return all cases by name."""
    with gzip.open(HERE / "cases.json.gz", "rt", encoding="utf-8") as file:
        found = {case["id"]: case for case in json.load(file)}
    for case in found.values():
        for key in ("state_dict", "grad_names"):
            if isinstance(case.get(key), str):  # "@name": as in that case
                case[key] = found[case[key][1:]][key]
    return found


@functools.cache
def arrays() -> dict[str, np.ndarray[Any, Any]]:
    """Return the expected arrays."""
    with np.load(HERE / "arrays.npz") as held:
        return {name: held[name] for name in held.files}


def make(spec: Any, dtype: torch.dtype = torch.float32) -> Any:
    """Turn a JSON value spec into a value: those of `runner.make`, boxes, targets and denoising noise."""
    if isinstance(spec, list):
        return [make(x, dtype) for x in spec]
    if not isinstance(spec, dict):
        return spec
    if "$boxes" in spec:
        t = spec["$boxes"]
        u = fill.tensor(t["name"], [*t["shape"], 4], "uniform").double()
        wh = t.get("least", 0.05) + t.get("spread", 0.3) * u[..., 2:]
        return torch.cat([wh / 2 + u[..., :2] * (1 - wh), wh], -1).float().to(dtype)
    if "$near" in spec:
        t = spec["$near"]
        boxes = make(t["boxes"], dtype).double()
        u = fill.tensor(t["name"], boxes.shape, "uniform").double() - 0.5
        centre = boxes[..., :2] + t["by"] * u[..., :2] * boxes[..., 2:]
        return torch.cat([centre, boxes[..., 2:] * (1 + t["by"] * 2 * u[..., 2:])], -1).float().to(dtype)
    if "$targets" in spec:
        return _targets(spec["$targets"], dtype)
    if "$noise" in spec:
        return functools.partial(_noise, spec["$noise"], dtype)
    if "$scaled" in spec:
        return make(spec["$scaled"], dtype) * spec["by"]
    if any(key.startswith("$") for key in spec):
        return base.make(spec, dtype)
    return {key: make(value, dtype) for key, value in spec.items()}


def _targets(t: Case, dtype: torch.dtype) -> list[dict[str, torch.Tensor]]:
    found = []
    for i, n in enumerate(t["counts"]):
        boxes = make({"$boxes": {"name": f"{t['name']}/box{i}", "shape": [n]}}, dtype)
        labels = (fill.tensor(f"{t['name']}/cls{i}", (n,), "uniform") * t["nc"]).long()
        found.append({"labels": labels, "boxes": boxes})
    return found


def _noise(name: str, dtype: torch.dtype, images: int, slots: int) -> dict[str, torch.Tensor]:
    shapes = {"flip": (), "label": (), "sign": (4,), "part": (4,)}
    return {k: fill.tensor(f"{name}/{k}", (images, slots, *s), "uniform").to(dtype) for k, s in shapes.items()}


def named(out: Any, prefix: str = "") -> dict[str, torch.Tensor]:
    """Return the tensors of a nested output by their place in it."""
    if torch.is_tensor(out):
        return {prefix or "out": out}
    pairs = out.items() if isinstance(out, dict) else enumerate(out) if isinstance(out, (list, tuple)) else None
    if pairs is None:
        return {} if out is None else {prefix or "out": torch.tensor(out)}
    found: dict[str, torch.Tensor] = {}
    for key, value in pairs:
        found.update(named(value, f"{prefix}.{key}" if prefix else str(key)))
    return found


def kept(key: str) -> bool:
    """Return whether a key holds computed numbers."""
    return key.rsplit(".", 1)[-1] in KEPT


def state_of(case: Case) -> dict[str, torch.Tensor]:
    """Return the official state dict of a case, filled by name."""
    state: dict[str, torch.Tensor] = {}
    for key, shape in case["state_dict"].items():
        name = key
        for old, new in case.get("alias", []):
            name = new + name.removeprefix(old) if name.startswith(old) else name
        if name.endswith("num_batches_tracked"):
            state[key] = torch.zeros(shape, dtype=torch.long)
        elif not kept(name):
            values = fill.values(case["fill"]["prefix"] + name, shape, case["fill"]["conv_gain"])
            state[key] = torch.from_numpy(np.asarray(values)).float()
    return state


def run(case: Case) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, list[int]]]:
    """Run a case; return arrays by name, and the shapes of the official keys."""
    kind, config = case["kind"], copy.deepcopy(case["config"])
    obj = adapter.build(kind, config)
    shapes: dict[str, list[int]] = {}
    is_module = isinstance(obj, torch.nn.Module)
    if is_module and kind != "Init":
        shapes = {k: list(v.shape) for k, v in adapter.official_state(obj, kind, config).items()}
        if case.get("state_dict"):
            adapter.load(obj, kind, config, state_of(case))
    args, kwargs = make(case.get("inputs", [])), make(case.get("input_kwargs", {}))
    grad = case.get("grad")
    floats = [t for t in base.flatten(args) if t.is_floating_point()]
    leaves = {k: kwargs[k] for k in case["leaves"]} if case.get("leaves") else {f"in{i}": t for i, t in enumerate(floats)}
    if is_module:
        obj = obj.train(case["mode"] == "train")
        obj = adapter.fuse(obj, kind, config) if case.get("fuse") else obj
    for leaf in leaves.values() if grad else ():
        leaf.requires_grad_(True)
    torch.manual_seed(0)
    with torch.set_grad_enabled(bool(grad)):
        out = named(adapter.call(kind, config, obj, args, kwargs))
    found: dict[str, np.ndarray[Any, Any]] = {}
    if grad:
        _backward(case, out)
        if leaves:
            found["grad/inputs"] = base.summarize_grads([(f"{case['id']}/{n}", t.grad) for n, t in leaves.items()])
        if is_module and case.get("state_dict"):
            own = adapter.grads(obj, kind, config)
            found["grad/params"] = base.summarize_grads([(n, own[n]) for n in case["grad_names"]])
    found.update({f"out/{k}": v.detach().numpy() for k, v in out.items()})
    if case.get("state_after"):
        after = adapter.official_state(obj, kind, config)
        found.update({f"after/{k}": v.numpy() for k, v in after.items() if k.endswith(("running_mean", "running_var"))})
    return found, shapes


def _backward(case: Case, out: dict[str, torch.Tensor]) -> None:
    """Run the backward pass of the plain sum, or of a dot product with fixed tensors."""
    floats = {k: o for k, o in out.items() if o.is_floating_point() and o.requires_grad}
    if case["grad"] == "sum":
        total = torch.stack([o.sum() for o in floats.values()]).sum()
    else:
        parts = [(o * fill.tensor(f"{case['id']}/g/{k}", o.shape)).sum() for k, o in floats.items()]
        total = torch.stack(parts).sum()
    total.backward()


def check(name: str) -> list[str]:
    """Run a case and return what differs."""
    case = cases()[name]
    found, shapes = run(case)
    errors = []
    if shapes:
        official = {k: s for k, s in (case.get("state_dict") or {}).items() if not kept(k)}
        errors += same_keys({k: s for k, s in shapes.items() if not kept(k)}, official)
    for output in case["outputs"]:
        key = output["name"]
        if key not in found:
            errors.append(f"{key}: missing")
            continue
        want = arrays()[f"{name}/{key}"]
        if key.startswith("grad/"):
            errors += _close_grads(key, found[key], want)
        elif list(found[key].shape) != output["shape"]:
            errors.append(f"{key}: shape {list(found[key].shape)}, want {output['shape']}")
        else:
            flat = found[key]
            step = -(-flat.size // case["limit"]) if flat.size > case["limit"] else 0
            errors += close(key, flat.reshape(-1)[::step] if step else flat, want, output["rtol"], output["atol"])
    extra = [k for k in found if k.startswith("out/") and k not in {o["name"] for o in case["outputs"]}]
    return errors + ([f"extra outputs {extra[:4]}"] if extra else [])


def _close_grads(name: str, got: np.ndarray[Any, Any], want: np.ndarray[Any, Any]) -> list[str]:
    """Compare rows [norm, dot product, tolerance]."""
    if len(got) != len(want):
        return [f"{name}: {len(got)} gradients, want {len(want)}"]
    off = ~(np.abs(got - want[:, :2]).max(1) <= want[:, 2])
    return [f"{name}: {off.sum()} of {len(want)} off, first {int(off.argmax())}"] if off.any() else []
