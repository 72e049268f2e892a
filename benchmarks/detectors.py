"""RT-DETR R50, this tree's, stock `ultralytics`' and Hugging Face's: the network alone, same shapes, on the CPU."""

from __future__ import annotations

import sys

from common import Report, Worker, arguments, machine, take_turns

MODEL = "rtdetr-resnet50.yaml"


def main() -> None:
    """Measure and report."""
    args = arguments(__doc__ or "", "peer", "models", rounds=(2, 9))
    imgsz, batch = 256 if args.quick else 640, 1
    report = Report("detectors", "RT-DETR R50", {"imgsz": imgsz, "batch": batch, "fp32": ""}, machine(args.threads))
    how = {"imgsz": imgsz, "batch": batch}
    named = {"yaml": MODEL, **how}
    sides = {"ours": Worker(sys.executable, "detector", "forward", named, args.threads)}
    if args.peer:
        sides["stock"] = Worker(args.peer, "detector", "forward", named, args.threads)
    if args.models:
        sides["transformers"] = Worker(args.models, "hf", "forward", how, args.threads)
    times = take_turns(sides, args.rounds, warm=2)
    for name in [n for n in times if n != "ours"] or ["ours"]:
        report.compare(f"fused network, against {name}", {"ours": times["ours"], name: times[name]}, 1)
    for side in sides.values():
        side.close()
    report.write(args.out)


if __name__ == "__main__":
    main()
