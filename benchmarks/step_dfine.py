"""D-FINE-S, this tree's and Hugging Face's: a training step and a prediction, the network alone, on the CPU."""

from __future__ import annotations

import sys
from typing import Any

from common import Report, Worker, arguments, has_bf16, machine, take_turns

MODEL = "dfine-s.yaml"
GOAL = 1.0


def measure(report: Report, args: Any, bf16: bool, imgsz: int) -> None:
    """Both sides in turns: one image through the network as each runs it, then steps of two images."""
    precision = "bf16" if bf16 else "fp32"
    forward = {"yaml": MODEL, "imgsz": imgsz, "batch": 1, "amp": bf16}
    theirs = {"imgsz": imgsz, "batch": 1, "bf16": bf16, "name": "dfine-s"}
    both = {"imgsz": imgsz, "batch": 2, "bf16": bf16}
    parts = (
        ("prediction", ("detector", "forward", forward), ("hf", "forward", theirs)),
        ("training step", ("fine", "step", both), ("hf", "step", both)),
    )
    for what, ours, other in parts:
        sides = {"ours": Worker(sys.executable, *ours, args.threads)}
        if args.models:
            sides["transformers"] = Worker(args.models, *other, args.threads)
        report.compare(f"{what}, {precision}", take_turns(sides, args.rounds, warm=2), GOAL)
        for side in sides.values():
            side.close()
        print(report.table().splitlines()[-1], flush=True)


def main() -> None:
    """Measure and report."""
    args = arguments(__doc__ or "", "models", rounds=(2, 7))
    imgsz = 256 if args.quick else 640
    report = Report("step_dfine", "D-FINE-S", {"imgsz": imgsz}, machine(args.threads))
    measure(report, args, False, imgsz)
    if has_bf16(report.machine):
        measure(report, args, True, imgsz)
    report.write(args.out)


if __name__ == "__main__":
    main()
