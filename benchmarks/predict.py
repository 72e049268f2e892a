"""From an image file to `Results`, with the same weights on both sides; and the fused network alone."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from common import Report, arguments, has_bf16, machine, take_turns
from detection import both, close, demo_images, same_weights


def main() -> None:
    """Measure and report."""
    args = arguments(__doc__ or "", "peer")
    yaml, imgsz = "rtdetr-hgnetv2-l.yaml", 320 if args.quick else 640
    report = Report("predict", "Prediction", {"model": yaml, "imgsz": imgsz, "batch": 1}, machine(args.threads))
    native = has_bf16(report.machine)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        demo_images(folder, 1, 1, 640)
        source = str(next(Path(folder, "demo", "images", "train").glob("*.jpg")))
        text, weights = same_weights(yaml, folder)
        how: dict[str, Any] = {"source": source, "imgsz": imgsz, "conf": 0.001}

        def measure(what: str, part: str, given: dict[str, Any], goal: float | None, exact: bool = False) -> None:
            sides = both(args.peer, part, given, args.threads)
            report.compare(what, take_turns(sides, args.rounds, warm=2), goal)
            if part == "predict":
                boxes = [side.value for side in sides.values()]
                goal_and_met = ("equal", len(set(boxes)) == 1) if exact else ()
                report.fact(f"boxes (sum of scores), {what}", " / ".join(boxes), *goal_and_met)
            report.fact(f"peak memory, {what}, MB", " / ".join(f"{s.peak_mb:.0f}" for s in sides.values()))
            close(sides)

        how |= {"yaml": text, "weights": weights}
        measure("file to Results, fp32", "predict", {**how, "amp": False}, 1.5, exact=True)
        if native:
            measure("file to Results, default precision (bfloat16)", "predict", how, 4)
        measure("fused network alone, fp32", "forward", {"yaml": text, "imgsz": imgsz, "batch": 1, "amp": False}, None)
    report.write(args.out)


if __name__ == "__main__":
    main()
