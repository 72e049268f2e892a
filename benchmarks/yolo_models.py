"""A YOLO beside the interface's own package: from an image file to `Results`, a training step, and peak memory.

    python benchmarks/yolo_models.py --peer PYTHON --model yolo11n.yaml
    python benchmarks/yolo_models.py --peer PYTHON --model yolo11n.yaml --weights best.pt

Without `--weights` a prediction uses random weights, which show nothing to suppress. A training step reads its images
in the same process, without mosaic, and every batch is a step of AdamW.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import Report, arguments, has_bf16, machine, take_turns
from detection import both, close, demo_images

GOALS = {False: 1.5, True: 2.5}
"""Ratios in fp32, and in the precision that a run takes by default."""


def measure(report: Report, args: argparse.Namespace, part: str, what: str, how: dict[str, Any]) -> None:
    """Time both sides in turns in each precision, and compare their peak memory."""
    for default in (False, True) if has_bf16(report.machine) else (False,):
        precision = "default precision" if default else "fp32"
        sides = both(args.peer, part, {**how, "amp": default}, args.threads)
        report.compare(f"{what}, {precision}", take_turns(sides, args.rounds, warm=2), GOALS[default])
        if part == "predict_yolo":
            report.fact(f"boxes (sum of scores), {precision}", " / ".join(side.value for side in sides.values()))
        peaks = [side.peak_mb for side in sides.values()]
        shown = " / ".join(f"{p:.0f}" for p in peaks)
        report.fact(f"peak memory, {what}, {precision}, MB", shown, "not above", peaks[0] <= peaks[-1])
        close(sides)


def main() -> None:
    """Measure and report."""
    weights = argparse.ArgumentParser(add_help=False)
    weights.add_argument("--weights", type=Path)
    given, sys.argv[1:] = weights.parse_known_args()
    args = arguments(__doc__ or "", "peer", "model", rounds=(4, 15))
    yaml, imgsz, batch = args.model or "yolo11n.yaml", 320 if args.quick else 640, 2
    settings = {"model": yaml, "imgsz": imgsz, "training batch": batch}
    report = Report(f"{Path(yaml).stem}", f"{Path(yaml).stem}", settings, machine(args.threads))
    file = str(given.weights.resolve()) if given.weights else yaml
    with tempfile.TemporaryDirectory() as name:
        data = demo_images(Path(name), 16, 2, 640)
        source = str(next(Path(name, "demo", "images", "train").glob("*.jpg")))
        measure(report, args, "predict_yolo", "file to Results", {"file": file, "source": source, "imgsz": imgsz})
        how: dict[str, Any] = {"yaml": yaml, "data": data, "imgsz": imgsz, "batch": batch, "nbs": batch, "workers": 0}
        how |= {"optimizer": "AdamW", "lr0": 1e-4, "mosaic": 0.0, "warmup_epochs": 0}
        measure(report, args, "step_yolo", "training step", how)
    report.write(args.out)


if __name__ == "__main__":
    main()
