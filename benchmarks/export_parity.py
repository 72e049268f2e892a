"""Exported files beside their models on photographs: boxes in px, scores, and AP of the data set's val split.

    python benchmarks/export_parity.py rtdetr-l.pt rtdetr-resnet18.yaml --data data.yaml --imgsz 640 --images 50

A YAML is built with weights drawn at random, of which those that decide boxes and scores are made large enough for
distinct places and classes; AP is not measured then. Prints a line a file; `--json` writes all figures.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from ultralytics import RTDETR
from ultralytics.cfg import get_cfg
from ultralytics.engine.export import exporter
from ultralytics.engine.export.exporter import Export
from ultralytics.engine.export.parity import TOLERANCES, ParityReport
from ultralytics.nn.autobackend import AutoBackend
from ultralytics.utils.checks import collect_system_info
from ultralytics.utils.errors import UserError
from ultralytics.utils.files import atomic_write, has_yaml_suffix
from ultralytics.utils.tables import aligned

KINDS: dict[str, dict[str, Any]] = {
    "torchscript": {"format": "torchscript"},
    "torchscript-dynamic": {"format": "torchscript", "dynamic": True},
    "torchscript-fp16": {"format": "torchscript", "quantize": 16},
    "onnx-17": {"format": "onnx", "opset": 17},
    "onnx-17-dynamic": {"format": "onnx", "opset": 17, "dynamic": True},
    "onnx-20": {"format": "onnx", "opset": 20},
    "onnx-23": {"format": "onnx", "opset": 23},
    "onnx-23-dynamic": {"format": "onnx", "opset": 23, "dynamic": True},
    "onnx-17-fp16": {"format": "onnx", "quantize": 16},
    "onnx-17-int8": {"format": "onnx", "quantize": 8},
    "openvino": {"format": "openvino"},
    "openvino-dynamic": {"format": "openvino", "dynamic": True},
    "openvino-fp16": {"format": "openvino", "quantize": 16},
    "openvino-int8": {"format": "openvino", "quantize": 8},
}
COLUMNS = (
    "model",
    "file",
    "images",
    "rows",
    "unpaired",
    "box px max",
    "mean",
    "score max",
    "AP model",
    "AP file",
    "verdict",
)


def load(name: str) -> RTDETR:
    """Open weights, or build a YAML with weights that are not all equal."""
    model = RTDETR(name)
    if has_yaml_suffix(name):
        torch.manual_seed(0)
        head = model.model.model[-1]
        with torch.no_grad():
            for part in (*head.dec_score_head, *head.dec_bbox_head, head.enc_score_head, head.enc_bbox_head):
                for p in part.parameters():
                    p.add_(torch.randn_like(p) * 0.05)
            _settle(model)
    return model


def _settle(model: RTDETR) -> None:
    """Let the batch norms see noise, so that the maps of an untrained network do not vanish or explode."""
    model.model.train()
    for _ in range(5):
        x: Any = torch.rand(4, 3, 128, 128)
        kept: list[Any] = []
        for layer in model.model.model[:-1]:
            x = layer(model.model._gather(layer, x, kept))
            kept.append(x if layer.i in model.model.save else None)
    model.model.eval()


class Measured(Export):
    """An export whose model is validated once for all files of its: `known` holds what that gave."""

    known: dict[str, float]
    with_metrics: bool

    def _metrics(self, backend: AutoBackend) -> dict[str, float]:
        if backend is not self.reference:
            return super()._metrics(backend)
        if not self.known:
            self.known.update(super()._metrics(backend))
        return self.known

    def _compare_metrics(self, file: AutoBackend, found: ParityReport) -> None:
        if self.with_metrics:
            super()._compare_metrics(file, found)


def compare(name: str, kind: str, options: argparse.Namespace, known: dict[str, float]) -> dict[str, Any]:
    """Export one form and return its figures; an error is a figure too."""
    model = load(name)
    given = {"imgsz": options.imgsz, "batch": 1, "workers": 0, "simplify": False, "allow_mismatch": True}
    given |= {"data": options.data, **KINDS[kind]}
    start = time.perf_counter()
    figures: dict[str, Any] = {"model": Path(name).stem, "file": kind}
    with tempfile.TemporaryDirectory() as folder:
        parts = model._class("predictor"), model._class("validator")
        try:
            run = Measured(model.model, get_cfg(overrides=given), Path(folder) / "m", model.ckpt_path, *parts)
            run.known, run.with_metrics = known, options.ap and not has_yaml_suffix(name)
            path, found = run()
            figures |= found.numbers() | {"seconds": time.perf_counter() - start, "bytes": _bytes(path)}
            figures["reasons"] = found.reasons(TOLERANCES[run.precision])
        except UserError as e:
            figures["error"] = str(e)
    return figures


def _bytes(path: Path) -> int:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(p.stat().st_size for p in files)


def row(figures: dict[str, Any]) -> tuple[str, ...]:
    """Return the cells of one file."""
    if "error" in figures:
        return (figures["model"], figures["file"], *[""] * 8, figures["error"].splitlines()[0])
    pair = figures["metrics"].get("metrics/mAP50-95(B)")
    return (
        figures["model"],
        figures["file"],
        str(figures["images"]),
        str(figures["rows_0.001"]),
        str(figures["unpaired_0.001"]),
        f"{figures['box_px_max_0.001']:.1e}",
        f"{figures['box_px_mean_0.001']:.1e}",
        f"{figures['score_max_0.001']:.1e}",
        *((f"{pair[0]:.4f}", f"{pair[1]:.4f}") if pair else ("-", "-")),
        "; ".join(figures["reasons"]) or "equal",
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--data", required=True)
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--ap", action="store_true", help="measure AP on the val split too")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    exporter.COMPARED = options.images
    found = []
    for name in options.models:
        known: dict[str, float] = {}
        for kind in options.kinds:
            found.append(compare(name, kind, options, known))
            print("  ".join(row(found[-1])), flush=True)
            if options.json:
                record = {"machine": collect_system_info(), "threads": torch.get_num_threads(), "imgsz": options.imgsz}
                with atomic_write(options.json) as f:
                    json.dump({**record, "files": found}, f, indent=1)
    print("\n".join(aligned([COLUMNS, *map(row, found)], left=(0, 1, 10))))
    return int(any(f.get("error") or (f["reasons"] and not f["file"].endswith(("fp16", "int8"))) for f in found))


if __name__ == "__main__":
    sys.exit(main())
