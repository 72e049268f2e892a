"""Exports of the interface's module of this name; here `Model.export` does their work."""

from __future__ import annotations

from ultralytics.engine.export.exporter import EXPORT_FORMATS
from ultralytics.utils.config.absent import absent_names

_TITLES = {"torchscript": "TorchScript", "onnx": "ONNX", "openvino": "OpenVINO", "engine": "TensorRT"}


def export_formats() -> dict[str, list[str | bool]]:
    """Return the formats as columns: name, argument, suffix, and whether a file runs on a CPU and on a GPU."""
    forms = [("PyTorch", "-", ".pt", True, True)]
    forms += [
        (_TITLES.get(name, name), name, form.suffix, form.runs_anywhere, name not in {"openvino", "coreml"})
        for name, form in EXPORT_FORMATS.items()
    ]
    names = ("Format", "Argument", "Suffix", "CPU", "GPU")
    return {name: list(column) for name, column in zip(names, zip(*forms, strict=True), strict=True)}


__getattr__ = absent_names(__name__)
