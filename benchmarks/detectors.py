"""RT-DETR R50, this tree's, stock `ultralytics`' and Hugging Face's: the network alone, same shapes, on the CPU."""

from __future__ import annotations

import sys
from typing import Any

from common import Report, Worker, arguments, has_bf16, machine, take_turns

MODEL = "rtdetr-resnet50.yaml"


def measure(report: Report, args: Any, bf16: bool, imgsz: int) -> None:
    """All networks in turns; one row for each of the others. Stock `ultralytics` has no bfloat16 on a CPU."""
    how = {"imgsz": imgsz, "batch": 1}
    named = {"yaml": MODEL, **how, "amp": bf16}
    sides = {"ours": Worker(sys.executable, "detector", "forward", named, args.threads)}
    stock = "stock in fp32" if bf16 else "stock"
    if args.peer:
        sides[stock] = Worker(args.peer, "detector", "forward", named, args.threads)
    if args.models:
        sides["transformers"] = Worker(args.models, "hf", "forward", {**how, "bf16": bf16}, args.threads)
    times = take_turns(sides, args.rounds, warm=2)
    report.compare_each("bf16" if bf16 else "fp32", times, {stock: 1, "transformers": 1})
    for side in sides.values():
        side.close()


def main() -> None:
    """Measure and report."""
    args = arguments(__doc__ or "", "peer", "models", rounds=(2, 9))
    imgsz = 256 if args.quick else 640
    report = Report("detectors", "RT-DETR R50, the network alone", {"imgsz": imgsz, "batch": 1}, machine(args.threads))
    measure(report, args, False, imgsz)
    if has_bf16(report.machine):
        measure(report, args, True, imgsz)
    report.write(args.out)


if __name__ == "__main__":
    main()
