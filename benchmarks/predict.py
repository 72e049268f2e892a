"""From an image file to `Results`, with the same weights on both sides; and the fused network alone."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from common import Report, arguments, machine, take_turns
from detection import both, close, demo_images, same_weights


def main() -> None:
    """Measure and report."""
    args = arguments(__doc__ or "", "peer")
    yaml, imgsz = "rtdetr-hgnetv2-l.yaml", 320 if args.quick else 640
    report = Report("predict", "Prediction", {"model": yaml, "imgsz": imgsz, "batch": 1}, machine(args.threads))
    native = {"avx512_bf16", "amx_bf16"} & set(report.machine["flags"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        demo_images(folder, 1, 1, 640)
        source = str(next(Path(folder, "demo", "images", "train").glob("*.jpg")))
        text, weights = same_weights(yaml, folder)
        how: dict[str, Any] = {"source": source, "imgsz": imgsz, "conf": 0.001}

        def measure(what: str, part: str, given: dict[str, Any], goal: float | None) -> None:
            sides = both(args.peer, part, given, args.threads)
            report.compare(what, take_turns(sides, args.rounds, warm=2), goal)
            if part == "predict":
                boxes = [side.value for side in sides.values()]
                report.fact("boxes (sum of scores)", " / ".join(boxes), "equal", len(set(boxes)) == 1)
            report.fact(f"peak memory, {what}, MB", " / ".join(f"{s.peak_mb:.0f}" for s in sides.values()))
            close(sides)

        measure("file to Results, default precision", "predict", {"yaml": text, "weights": weights, **how}, 1.5)
        if native:
            report.rows[0]["goal"], report.rows[0]["met"] = 4.0, (report.rows[0]["ratio"] or 0) >= 4
        measure("fused network alone, fp32", "forward", {"yaml": text, "imgsz": imgsz, "batch": 1}, None)
    report.write(args.out)


if __name__ == "__main__":
    main()
