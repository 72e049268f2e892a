"""SHViT-S4 against timm's own, MobileViTv2 x1.0 and FastViT-SA12: by the paper's protocol, and each as fast as it goes.

The paper's protocol on a CPU: one thread, batch 16, batch norms folded, traced, fp32. It reports 8.1 times the speed of
MobileViTv2 x1.0 (arXiv 2401.16456). Images and the others' weights lie as they come, channels first; ours lie
channels-last once they are folded. In the other rows all of them do.
"""

from __future__ import annotations

import sys
from typing import Any

from common import Report, Worker, arguments, has_bf16, machine, take_turns

OTHERS = {"timm shvit_s4": "shvit_s4", "mobilevitv2_100": "mobilevitv2_100", "fastvit_sa12": "fastvit_sa12"}
GOALS = {"timm shvit_s4": 1.2}


def measure(report: Report, args: Any, how: dict[str, Any], threads: int | None, title: str) -> None:
    """All networks in turns; one row for each of the others."""
    sides = {"ours": Worker(sys.executable, "classifier", "images", {"name": "ours", **how}, threads)}
    if args.models:
        for label, name in OTHERS.items():
            sides[label] = Worker(args.models, "classifier", "images", {"name": name, **how}, threads)
    times = take_turns(sides, args.rounds, warm=3)
    report.compare_each(title, times, GOALS)
    for side in sides.values():
        side.close()


def main() -> None:
    """Measure and report."""
    args = arguments(__doc__ or "", "models", rounds=(3, 9))
    batch, imgsz = (4, 128) if args.quick else (16, 256)
    report = Report("shvit", "SHViT-S4", {"batch": batch, "imgsz": imgsz}, machine(args.threads))
    native = has_bf16(report.machine)
    how = {"imgsz": imgsz, "batch": batch}
    measure(report, args, {**how, "fast": False, "bf16": False}, 1, "paper's protocol, 1 thread, fp32")
    measure(report, args, {**how, "fast": True, "bf16": False}, 1, "all channels-last, 1 thread, fp32")
    measure(report, args, {**how, "fast": True, "bf16": False}, args.threads, "channels-last, fp32")
    if native:
        measure(report, args, {**how, "fast": True, "bf16": True}, args.threads, "channels-last, bf16")
    report.write(args.out)


if __name__ == "__main__":
    main()
