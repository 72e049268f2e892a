"""An epoch of a small RT-DETR, validation and saving included, on a data set of one's own (`--data`, such as BCCD)."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from common import Report, arguments, machine, take_turns
from detection import both, close, demo_images

MODEL = "rtdetr-tiny-l.yaml"


def main() -> None:
    """Measure and report."""
    args = arguments(__doc__ or "", "peer", "data", "model", rounds=(1, 3))
    imgsz, batch = (96, 4) if args.quick else (320, 8)
    with tempfile.TemporaryDirectory() as name:
        data = args.data or demo_images(Path(name), 12 if args.quick else 160, 8 if args.quick else 40, imgsz)
        yaml = args.model or str(Path(__file__).with_name(MODEL))
        settings = {"model": Path(yaml).name, "data": Path(data).name, "imgsz": imgsz, "batch": batch}
        report = Report("epoch", "An epoch with its validation", settings, machine(args.threads))
        how: dict[str, Any] = {"yaml": yaml, "data": data, "imgsz": imgsz, "batch": batch, "save": True}
        for workers in (0, 2):
            sides = both(args.peer, "epoch", {**how, "workers": workers}, args.threads)
            times = take_turns(sides, args.rounds, warm=0, rest=2.0)  # loaders fill up while they rest
            report.compare(f"epoch, workers={workers}", times, 2)
            close(sides)
    report.write(args.out)


if __name__ == "__main__":
    main()
