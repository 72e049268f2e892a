"""A training step, from reading the images to the updated average of the weights, and the peak memory of a run.

Every batch is an optimizer step (nbs = batch), AdamW on both sides, no mosaic, images read in the same process.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from common import Report, arguments, has_bf16, machine, take_turns
from detection import both, close, demo_images, same_weights


def main() -> None:
    """Measure and report."""
    args = arguments(__doc__ or "", "peer", rounds=(2, 8))
    yaml, imgsz, batch = "rtdetr-hgnetv2-l.yaml", 192 if args.quick else 640, 2
    settings = {"model": yaml, "imgsz": imgsz, "batch": batch}
    report = Report("train_step", "Training step", settings, machine(args.threads))
    native = has_bf16(report.machine)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = demo_images(folder, 16, 2, 640)
        text, _ = same_weights(yaml, folder)
        how: dict[str, Any] = {"yaml": text, "data": data, "imgsz": imgsz, "batch": batch, "nbs": batch, "workers": 0}
        how |= {"optimizer": "AdamW", "lr0": 1e-4, "mosaic": 0.0, "warmup_epochs": 0}
        for amp, goal in ((False, 1.3), (True, 2.5 if native else 1.3)):
            if amp and not native:
                report.fact("amp=True", "is fp32 here: this CPU has no native bfloat16")
                continue
            sides = both(args.peer, "step", {**how, "amp": amp}, args.threads)
            report.compare(f"step, amp={amp}", take_turns(sides, args.rounds, warm=1), goal)
            peaks = [side.peak_mb for side in sides.values()]
            what = f"peak memory, amp={amp}, MB"
            report.fact(what, " / ".join(f"{p:.0f}" for p in peaks), "not above", peaks[0] <= peaks[-1])
            close(sides)
    report.write(args.out)


if __name__ == "__main__":
    main()
