"""A drawn video of known truth through each tracker: HOTA, MOTA, IDF1, ids by batch size, memory, share of the time.

python benchmarks/tracking.py --frames 1000 --out results
python benchmarks/tracking.py --detector best.pt        # the detector beside which the trackers' time is seen

Twelve squares bounce in a frame of 640 x 480 px, cross each other, and are away now and then for 5 to 15 frames. The
detector is the truth with noise in its boxes and scores, one box in twenty missing, so that the figures are those of
the trackers; frames come one by one, and again in batches. The memory is the resident size after a collection.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import ROOT, Report, machine

sys.path.insert(0, str(ROOT))

from ultralytics import RTDETR
from ultralytics.engine.results.results import Results
from ultralytics.engine.tracking.evaluate import evaluate_tracks
from ultralytics.engine.tracking.settings import TRACKER_CLASSES, read_tracker
from ultralytics.engine.tracking.tracks import Tracks
from ultralytics.engine.writers import MotFile

WIDTH, HEIGHT, OBJECTS, SIDE = 640, 480, 12, 40
MISSED, NOISE, AWAY = 0.05, 1.5, (5, 15)
SHOWN_AT = (100, 500, 1000)
"""Frames after which the memory is read."""


class Frame:
    """A frame of the video, and the boxes (n, 4) xyxy in px and numbers (n,) of the objects that it shows."""

    def __init__(self, image: np.ndarray, boxes: np.ndarray, ids: np.ndarray) -> None:
        self.image, self.boxes, self.ids = image, boxes, ids


def video(frames: int) -> Iterator[Frame]:
    """Yield the frames; an object that is away moves on unseen, and belongs to the truth again when it is back."""
    rng = np.random.default_rng(0)
    limit = np.array([WIDTH - SIDE, HEIGHT - SIDE])
    place, speed = rng.uniform(0, 1, (OBJECTS, 2)) * limit, rng.uniform(-4, 4, (OBJECTS, 2))
    texture = rng.integers(0, 60, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    away = np.zeros(OBJECTS, int)
    for _ in range(frames):
        speed = np.where((place + speed < 0) | (place + speed > limit), -speed, speed)
        place = place + speed
        leaves = (rng.random(OBJECTS) < 0.01) & (away == 0)
        away = np.where(leaves, rng.integers(*AWAY, OBJECTS), np.maximum(away - 1, 0))
        image, shown = texture.copy(), np.flatnonzero(away == 0)
        for i in shown:
            x, y = place[i].astype(int)
            image[y : y + SIDE, x : x + SIDE] = 60 + 15 * i
        yield Frame(image, np.concatenate([place, place + SIDE], 1)[shown], shown + 1)


def events(frames: int) -> tuple[int, int]:
    """Return how often two objects start to overlap in the video, and how often one comes back."""
    overlaps: list[set[tuple[int, int]]] = []
    shown: list[set[int]] = []
    for frame in video(frames):
        near = np.abs(frame.boxes[:, None, :2] - frame.boxes[None, :, :2]).max(2) < SIDE
        overlaps.append({(int(i), int(j)) for i, j in np.argwhere(np.triu(near, 1))})
        shown.append({int(i) for i in frame.ids})
    ever = [set[int]().union(*shown[:f]) for f in range(len(shown))]
    back = sum(len((b - a) & seen) for (a, b), seen in zip(pairwise(shown), ever[1:], strict=True))
    return sum(len(b - a) for a, b in pairwise(overlaps)), back


def detected(rng: np.random.Generator, boxes: np.ndarray) -> torch.Tensor:
    """Return rows (n, 6) xyxy, score, class of a detector that is not perfect."""
    seen = rng.random(len(boxes)) > MISSED
    noisy = boxes[seen] + rng.normal(0, NOISE, (int(seen.sum()), 4))
    scores = rng.uniform(0.3, 0.95, (len(noisy), 1))
    return torch.from_numpy(np.concatenate([noisy, scores, np.zeros_like(scores)], 1)).float()


def resident_mb() -> float:
    """The resident memory of this process now, MB (Linux)."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def tracked(kind: str, frames: int, batch: int) -> Iterator[tuple[Frame, Results, float]]:
    """Yield each frame with its tracks and the seconds of the tracker."""
    rng, tracks = np.random.default_rng(1), Tracks(read_tracker(kind))
    waiting: list[tuple[Frame, Results]] = []
    for f, frame in enumerate(video(frames), 1):
        waiting.append((frame, Results(frame.image, "video.avi", {0: "square"}, detected(rng, frame.boxes))))
        if len(waiting) == batch or f == frames:
            start = time.perf_counter()
            found = tracks.update([result for _, result in waiting], ["video.avi"] * len(waiting))
            spent = (time.perf_counter() - start) / len(waiting)
            yield from ((shown, result, spent) for (shown, _), result in zip(waiting, found, strict=True))
            waiting = []


def run(kind: str, frames: int, folder: Path) -> tuple[dict[int, float], float, list[list[int]]]:
    """Track, write MOT text of tracks and truth.

    Returns the memory in MB after the frames of `SHOWN_AT`, the median time of the tracker in ms, the ids by frame.
    """
    sequence = folder / kind
    (sequence / "gt").mkdir(parents=True)
    file, memory, spent, ids = MotFile(folder / "tracks" / f"{kind}.txt"), {}, [], []
    with (sequence / "gt" / "gt.txt").open("w", encoding="utf-8") as truth:
        for f, (frame, result, seconds) in enumerate(tracked(kind, frames, 1), 1):
            spent.append(seconds * 1e3)
            file.write(result)
            ids.append(result.boxes.id.int().tolist() if result.boxes is not None and len(result.boxes) else [])
            for i, (x1, y1, *_) in zip(frame.ids, frame.boxes.tolist(), strict=True):
                truth.write(f"{f},{i},{x1:.2f},{y1:.2f},{SIDE},{SIDE},1,1,1\n")
            if f in SHOWN_AT:
                memory[f] = resident_mb()
    file.close()
    return memory, statistics.median(spent), ids


def same_ids(kind: str, ids: list[list[int]], batch: int) -> bool:
    """Whether batches of frames give the ids of single frames."""
    found = [result.boxes for _, result, _ in tracked(kind, len(ids), batch)]
    return [boxes.id.int().tolist() if boxes is not None and len(boxes) else [] for boxes in found] == ids


def detector_ms(weights: str, imgsz: int, frames: int = 30) -> float:
    """Return the median time in ms of a detector for a frame: reading in, network, rows."""
    model: Any = RTDETR(weights)
    times = []
    for frame in video(frames):
        (result,) = model.predict(frame.image, imgsz=imgsz, device="cpu", conf=0.1, verbose=False)
        times.append(sum(v for v in result.speed.values() if v is not None))
    return statistics.median(times[3:])


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--trackers", nargs="*", default=list(TRACKER_CLASSES), choices=list(TRACKER_CLASSES))
    parser.add_argument("--batches", type=int, nargs="*", default=[7, 32], help="frames at a time, beside 1")
    parser.add_argument("--detector", default=str(Path(__file__).parent / "rtdetr-tiny-l.yaml"), metavar="FILE")
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--out", type=Path, metavar="DIR", help="write tracking.json and tracking.md there")
    args = parser.parse_args()
    settings: dict[str, Any] = {"frames": args.frames, "objects": OBJECTS, "missed": MISSED, "imgsz": args.imgsz}
    report = Report("tracking", "Trackers on a drawn video", settings, machine())
    crossings, returns = events(args.frames)
    report.fact("crossings, returns in the video", f"{crossings}, {returns}")
    detector = detector_ms(args.detector, args.imgsz)
    report.fact(f"detector {Path(args.detector).name}, ms a frame", round(detector, 2))
    with tempfile.TemporaryDirectory() as name:
        for kind in args.trackers:
            memory, spent, ids = run(kind, args.frames, Path(name))
            scores = evaluate_tracks([Path(name) / kind], Path(name) / "tracks").combined
            report.fact(f"{kind}: scores", ", ".join(f"{k} {v:.3f}" for k, v in scores.items()))
            equal = all([same_ids(kind, ids, batch) for batch in args.batches])
            report.fact(f"{kind}: ids of batch 1 and {args.batches}", "equal" if equal else "differ", "equal", equal)
            report.fact(f"{kind}: time of the tracker, ms a frame", round(spent, 2))
            report.fact(f"{kind}: share of the detector", f"{detector / (detector + spent):.1%}")
            read = ", ".join(f"{mb:.1f} at frame {f}" for f, mb in memory.items())
            grown = max(memory.values()) - next(iter(memory.values())) if memory else 0.0
            report.fact(f"{kind}: resident memory, MB", read or "too few frames", "grows by 5 at most", grown <= 5)
    report.write(args.out)


if __name__ == "__main__":
    main()
