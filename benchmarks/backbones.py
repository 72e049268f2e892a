"""Backbones of timm and torchvision as one row of a model YAML: an epoch, a stop, resume, validation, export.

    python benchmarks/backbones.py --data data.yaml --out backbones.json          # about a minute each on one core
    python benchmarks/backbones.py --data data.yaml --only swin_t resnet18

The neck and decoder are small, the images 160 px, no weights are fetched. A run of two epochs is stopped after the
first, resumed from its `last.pt`, validated, and exported; an ONNX file that differs from its model is a failure. The
backbone's parameters are compared with those of the library's own network. Prints a line a backbone; the exit status is
the number of failures.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import timm
import torchvision
from torch import nn

from ultralytics import RTDETR
from ultralytics.utils.errors import UserError
from ultralytics.utils.files import atomic_write

TIMM = {
    "mobilenetv3_small_050": "CNN",
    "resnet18": "CNN",
    "convnext_atto": "CNN",
    "fasternet_t0": "CNN",
    "repvit_m0_9": "CNN",
    "pvt_v2_b0": "transformer",
    "swin_tiny_patch4_window7_224": "transformer",
    "efficientvit_b0": "hybrid",
    "edgenext_xx_small": "hybrid",
    "fastvit_t8": "hybrid",
}
TORCHVISION = {
    "resnet18": "CNN",
    "mobilenet_v3_small": "CNN",
    "efficientnet_b0": "CNN",
    "convnext_tiny": "CNN",
    "swin_t": "transformer",
}
IMGSZ, FRACTION = 160, 0.05
PLAIN = frozenset({"fastvit_t8"})
"""Networks whose backward pass crashes the CPU kernels of torch 2.14.1 in the layout channels-last."""


class _Stopped(Exception):
    """Raised after the first epoch's checkpoint, in the place of a lost machine."""


@dataclass
class Report:
    """What was found for one backbone."""

    source: str
    name: str
    kind: str
    strides: str = ""
    params: int = 0
    reference_params: int = 0
    epochs: str = ""
    map50: float = float("nan")
    export: str = ""
    error: str = ""
    seconds: float = 0.0

    @property
    def passes(self) -> bool:
        """Whether everything holds."""
        return not self.error and self.export == "onnx" and self.params == self.reference_params

    def line(self) -> str:
        """One line of the table."""
        verdict = self.error or ("passes" if self.passes else "fails")
        return (
            f"{self.source:<12}{self.name:<30}{self.kind:<12}{self.strides:<10}{self.params:>12,}"
            f"{self.reference_params:>12,}  epochs {self.epochs:<6}mAP50 {self.map50:.3f}  {self.export:<6}{verdict}"
            f"  ({self.seconds:.0f} s)"
        )


def yaml_of(library: str, name: str) -> dict[str, Any]:
    """A detector with a backbone of one row, all maps from stride 8 on, and a small neck."""
    head: list[list[Any]] = [
        [-1, 1, "Conv", [64, 1, 1]],  # 5
        [-1, 1, "AIFI", [128, 4]],
        [-1, 1, "nn.Upsample", [None, 2, "nearest"]],
        [3, 1, "Conv", [64, 1, 1]],
        [[-2, -1], 1, "Concat", [1]],
        [-1, 1, "RepC3", [64, 0.5]],  # 10, stride 16
        [-1, 1, "nn.Upsample", [None, 2, "nearest"]],
        [2, 1, "Conv", [64, 1, 1]],
        [[-2, -1], 1, "Concat", [1]],
        [-1, 1, "RepC3", [64, 0.5]],  # 14, stride 8
        [[14, 10, 6], 1, "RTDETRDecoder", ["nc", 64, 100, 4, 4, 2, 128]],
    ]
    return {"nc": 3, "backbone": [[-1, 1, library, [name, False]]], "head": head}


def reference_count(library: str, name: str, backbone: nn.Module) -> int:
    """Parameters of the library's own network of feature maps; of torchvision those that our row has by name."""
    if library == "Timm":
        features = timm.create_model(name, features_only=True, out_indices=backbone.picked)
        return sum(p.numel() for p in features.parameters())
    own = dict(torchvision.models.get_model(name, weights=None).named_parameters())
    ours = {key.removeprefix("m."): p for key, p in backbone.named_parameters()}
    return sum(own[key].numel() for key, p in ours.items() if key in own and own[key].shape == p.shape)


def check(library: str, name: str, kind: str, data: str) -> Report:
    """Train, stop, resume, validate and export one backbone."""
    started = time.perf_counter()
    report = Report(library, name, kind)
    with tempfile.TemporaryDirectory() as folder:
        try:
            _run(report, data, Path(folder))
        except UserError as e:
            report.error = " | ".join(str(e).strip().splitlines())[:250]
        except (RuntimeError, ValueError, TypeError, KeyError, AttributeError, IndexError) as e:
            report.error = f"{type(e).__name__}: {str(e).strip().splitlines()[0][:200]}"
    report.seconds = time.perf_counter() - started
    return report


def _run(report: Report, data: str, folder: Path) -> None:
    def stop(_trainer: Any) -> None:
        raise _Stopped

    model = RTDETR(yaml_of(report.source, report.name))
    backbone = model.model.model[0]
    report.params = sum(p.numel() for p in backbone.parameters())
    report.reference_params = reference_count(report.source, report.name, backbone)
    report.strides = "-".join(str(int(s)) for s in model.model.stride)
    model.add_callback("on_model_save", stop)
    plain = report.name in PLAIN
    options = {"imgsz": IMGSZ, "batch": 4, "workers": 0, "device": "cpu", "plots": False, "fraction": FRACTION}
    options |= {"channels_last": False} if plain else {}
    try:
        model.train(data=data, epochs=2, save_dir=str(folder / "run"), amp=False, seed=0, **options)
    except _Stopped:
        pass
    last = folder / "run" / "weights" / "last.pt"
    again = RTDETR(str(last))
    results = again.train(resume=True)
    report.epochs = f"1+{(folder / 'run' / 'results.csv').read_text(encoding='utf-8').strip().count(chr(10)) - 1}"
    report.map50 = float(results.box.map50)
    best = RTDETR(str(folder / "run" / "weights" / "best.pt"))
    best.val(data=data, imgsz=IMGSZ, batch=4, workers=0, device="cpu", plots=False, save_dir=str(folder / "val"))
    best.export(format="onnx", imgsz=IMGSZ, simplify=False)
    report.export = "onnx"


def main() -> int:
    """Check the backbones; return how many fail."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, metavar="YAML")
    parser.add_argument("--only", nargs="+", default=[], help="names of some backbones")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write all figures as JSON")
    args = parser.parse_args()
    jobs = [("Timm", n, k) for n, k in TIMM.items()] + [("TorchVision", n, k) for n, k in TORCHVISION.items()]
    reports = []
    for library, name, kind in jobs:
        if args.only and name not in args.only:
            continue
        reports.append(check(library, name, kind, args.data))
        print(reports[-1].line(), flush=True)
        if args.out:
            with atomic_write(args.out) as f:
                json.dump([asdict(r) for r in reports], f, indent=1)
    return sum(not r.passes for r in reports)


if __name__ == "__main__":
    sys.exit(main())
