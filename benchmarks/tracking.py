"""A drawn video of known truth through each tracker: HOTA, MOTA, IDF1, growth of memory, time of the tracker.

python benchmarks/tracking.py --frames 1000 --out results

Twelve squares bounce in a frame of 640 x 480 px, cross each other, and are hidden now and then. The detector is the
truth with noise in its boxes and scores, one box in twenty missing, so that the figures are those of the trackers.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import ROOT, Report, machine, peak_mb

sys.path.insert(0, str(ROOT))

from ultralytics.engine.results.results import Results
from ultralytics.engine.tracking.evaluate import evaluate_tracks
from ultralytics.engine.tracking.settings import TRACKER_CLASSES, read_tracker
from ultralytics.engine.tracking.tracks import Tracks
from ultralytics.engine.writers import MotFile

WIDTH, HEIGHT, OBJECTS, SIDE = 640, 480, 12, 40
MISSED, NOISE = 0.05, 1.5


def video(frames: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield each frame and its boxes (OBJECTS, 4), xyxy in px."""
    rng = np.random.default_rng(0)
    limit = np.array([WIDTH - SIDE, HEIGHT - SIDE])
    place, speed = rng.uniform(0, 1, (OBJECTS, 2)) * limit, rng.uniform(-4, 4, (OBJECTS, 2))
    texture = rng.integers(0, 60, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for _ in range(frames):
        speed = np.where((place + speed < 0) | (place + speed > limit), -speed, speed)
        place = place + speed
        image = texture.copy()
        for i, (x, y) in enumerate(place.astype(int)):
            image[y : y + SIDE, x : x + SIDE] = 60 + 15 * i
        yield image, np.concatenate([place, place + SIDE], 1)


def detected(rng: np.random.Generator, boxes: np.ndarray) -> torch.Tensor:
    """Return rows (n, 6) xyxy, score, class of a detector that is not perfect."""
    seen = rng.random(len(boxes)) > MISSED
    noisy = boxes[seen] + rng.normal(0, NOISE, (int(seen.sum()), 4))
    scores = rng.uniform(0.3, 0.95, (len(noisy), 1))
    return torch.from_numpy(np.concatenate([noisy, scores, np.zeros_like(scores)], 1)).float()


def run(kind: str, frames: int, folder: Path) -> tuple[list[float], float]:
    """Track, write MOT text of tracks and truth; return the peak memory in MB after each frame, and the seconds."""
    rng, tracks = np.random.default_rng(1), Tracks(read_tracker(kind))
    sequence = folder / kind
    (sequence / "gt").mkdir(parents=True)
    file, peaks, spent, truth = MotFile(folder / "tracks" / f"{kind}.txt"), [], 0.0, []
    for f, (image, boxes) in enumerate(video(frames), 1):
        result = Results(image, "video.avi", {0: "square"}, detected(rng, boxes))
        start = time.perf_counter()
        (tracked,) = tracks.update([result], ["video.avi"])
        spent += time.perf_counter() - start
        file.write(tracked)
        truth += [
            f"{f},{i},{x1:.2f},{y1:.2f},{SIDE},{SIDE},1,1,1\n" for i, (x1, y1, *_) in enumerate(boxes.tolist(), 1)
        ]
        peaks.append(peak_mb())
    file.close()
    (sequence / "gt" / "gt.txt").write_text("".join(truth), encoding="utf-8")
    return peaks, spent


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--out", type=Path, metavar="DIR", help="write tracking.json and tracking.md there")
    args = parser.parse_args()
    settings: dict[str, Any] = {"frames": args.frames, "objects": OBJECTS, "missed": MISSED}
    report = Report("tracking", "Trackers on a drawn video", settings, machine())
    with tempfile.TemporaryDirectory() as name:
        for kind in TRACKER_CLASSES:
            peaks, spent = run(kind, args.frames, Path(name))
            scores = evaluate_tracks([Path(name) / kind], Path(name) / "tracks").combined
            report.fact(f"{kind}: scores", ", ".join(f"{k} {v:.3f}" for k, v in scores.items()))
            report.fact(f"{kind}: time of the tracker, ms a frame", round(spent / args.frames * 1e3, 2))
            early = peaks[min(100, len(peaks) - 1)]
            report.fact(f"{kind}: growth of peak memory after frame 100, MB", round(peaks[-1] - early, 1))
    report.write(args.out)


if __name__ == "__main__":
    main()
