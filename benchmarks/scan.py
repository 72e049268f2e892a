"""Reading a data set for the first time (every image and label is checked), and again from the cache."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from common import Report, arguments, machine, take_turns
from detection import both, close

CLASSES = 20


def draw(folder: Path, count: int) -> None:
    """Small JPEGs of noise with 1 to 9 label rows each."""
    rng = np.random.default_rng(0)
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    pictures = [cv2.imencode(".jpg", rng.integers(0, 255, (48, 64, 3), np.uint8))[1].tobytes() for _ in range(16)]
    for i in range(count):
        Path(folder, "images", f"{i:06}.jpg").write_bytes(pictures[i % 16])
        rows = rng.uniform(0.3, 0.5, (int(rng.integers(1, 10)), 4))
        text = "".join(f"{rng.integers(CLASSES)} {' '.join(f'{v:.6f}' for v in row)}\n" for row in rows)
        Path(folder, "labels", f"{i:06}.txt").write_text(text, encoding="utf-8")


def main() -> None:
    """Measure and report; each side has a copy of the files, so that neither finds the other's cache."""
    args = arguments(__doc__ or "", "peer", rounds=(1, 5))
    count = 300 if args.quick else 10_000
    report = Report("scan", "Reading a data set", {"images": count, "classes": CLASSES}, machine(args.threads))
    with tempfile.TemporaryDirectory() as name:
        folders = {side: Path(name, side) for side in ("ours", "stock")}
        draw(folders["ours"], count)
        shutil.copytree(folders["ours"], folders["stock"])
        sides: dict[str, Any] = both(args.peer, "scan", {"folder": str(folders["ours"]), "names": CLASSES})
        if args.peer:
            sides["stock"].close()
            sides["stock"] = both(args.peer, "scan", {"folder": str(folders["stock"]), "names": CLASSES})["stock"]

        def cold(side: str) -> Any:
            def run() -> float:
                for cache in folders[side].rglob("*.cache*"):
                    cache.unlink()
                return float(sides[side]())

            return run

        first = {side: cold(side) for side in sides}
        report.compare("first scan", take_turns(first, args.rounds, warm=1), 2)
        report.compare("second start, from the cache", take_turns(sides, args.rounds, warm=1), 2)
        report.fact("images kept", " / ".join(str(side.value) for side in sides.values()))
        close(sides)
    report.write(args.out)


if __name__ == "__main__":
    main()
