"""Describe the content of a weights file without building the model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ultralytics.cfg.schema import Trait, keys_with
from ultralytics.nn.checkpoint.format import file_kind, read_checkpoint
from ultralytics.utils.archives.pack_file import is_pack, open_pack
from ultralytics.utils.errors import printable
from ultralytics.utils.files import file_size, user_path


def describe_file(path: str | Path) -> list[str]:
    """Lines about a weights file: where it comes from, the model, its tensors, how it was trained.

    Raises what `read_checkpoint` raises.
    """
    data = read_checkpoint(path)
    record = data.get("ema") or data.get("model")
    path = user_path(path)
    rows = [("file", f"{path} ({file_size(path):.1f} MB, {file_kind(path)})"), ("form", _form(data))]
    if is_pack(path):
        rows.append(("pack", ", ".join(open_pack(path).files)))
    if isinstance(record, Mapping):
        rows += _model_rows(record, "EMA" if data.get("ema") else "model")
    else:
        rows.append(("model", "none: tensors only, a source for load()"))
    rows.append(("tensors", _tensor_text((record or data).get("state_dict") or {})))
    rows += _training_rows(data)
    width = max(len(name) for name, _ in rows)
    return [f"{name:<{width}}  {printable(text)}" for name, text in rows]


def _form(data: Mapping[str, Any]) -> str:
    """Whose file it is, with version, date and licence where they are known."""
    if data.get("format"):
        form = f"this package, format {data['format_version']}"
    else:
        form = str(data.get("source") or "plain state dict")
    parts = [f"{key} {data[key]}" for key in ("version", "date", "license") if data.get(key)]
    return ", ".join([form, *parts])


def _model_rows(record: Mapping[str, Any], which: str) -> list[tuple[str, str]]:
    yaml = record["yaml"]
    layers = sum(len(yaml[part]) for part in ("backbone", "head") if isinstance(yaml.get(part), list))
    scale = f", scale {yaml['scale']}" if yaml.get("scale") else ""
    names = [str(v) for v in (record.get("names") or {}).values()]
    shown = ", ".join(names[:10]) + (f", ... ({len(names)})" if len(names) > 10 else "")
    return [
        ("model", f"{record['class']} ({which}) from {yaml.get('yaml_file') or 'a dict'}{scale}, {layers} layers"),
        ("classes", f"{record['nc']}" + (f": {shown}" if names else "")),
        ("input", f"{record.get('ch', 3)} channels; batch-norm epsilon {record.get('bn_eps')}"),
    ]


def _tensor_text(state: Mapping[str, Tensor]) -> str:
    parameters = sum(v.numel() for k, v in state.items() if not k.endswith(("running_mean", "running_var", "_tracked")))
    kinds = sorted({str(v.dtype).removeprefix("torch.") for v in state.values()})
    return f"{len(state)}, {parameters:,} parameters, {', '.join(kinds)}"


def shown_arguments(args: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a run that descriptions show, in the order of the table of arguments."""
    return {key: args[key] for key in keys_with(Trait.SHOWN) if args.get(key) is not None}


def number_metrics(data: Mapping[str, Any]) -> dict[str, float]:
    """`train_metrics` of a checkpoint dict that are numbers."""
    return {k: v for k, v in (data.get("train_metrics") or {}).items() if isinstance(v, (int, float))}


def _metric_rows(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    metrics = number_metrics(data)
    if not metrics:
        return []
    precision = f", computed in {data['metrics_precision']}" if data.get("metrics_precision") else ""
    return [("metrics", ", ".join(f"{k} {v:.4g}" for k, v in list(metrics.items())[:8]) + precision)]


def _training_rows(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    if data.get("train_state"):
        rows.append(("run", f"can be resumed after epoch {data['epoch'] + 1}"))
    elif isinstance(data.get("epoch"), int) and data["epoch"] >= 0:
        rows.append(("run", f"saved after epoch {data['epoch'] + 1}; for use, not to be resumed"))
    if arguments := shown_arguments(data.get("train_args") or {}):
        rows.append(("arguments", " ".join(f"{k}={v}" for k, v in arguments.items())))
    rows += _metric_rows(data)
    for entry in data.get("modules") or []:
        known = entry if isinstance(entry, Mapping) else {"name": entry}
        rows.append(("needs", f"modules={known.get('name')} (sha256 {str(known.get('sha256'))[:12]}...)"))
    if data.get("names_in_file"):
        rows.append(("warning", f"its pickle names {', '.join(data['names_in_file'][:5])}; nothing of it was run"))
    return rows
