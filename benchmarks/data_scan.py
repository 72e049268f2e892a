"""A set of 10,000 drawn images: its first scan, the start from the cache, and two processes at once on a cold cache.

Each start is a fresh process that builds the training data set as a run does; its peak memory stands beside that of
a process that imports the package alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import ROOT, Report, arguments, environment, machine

COUNTS = {"quick": 500, "full": 10_000}
SIDE = (480, 640)
DISTINCT = 20  # pictures that are drawn; the files differ by the bytes behind their end

_START = """
import json, resource, sys, time
from ultralytics.data import YOLODataset
from ultralytics.data.utils import check_det_dataset
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before, start = peak(), time.perf_counter()
if len(sys.argv) > 1:
    data = check_det_dataset(sys.argv[1])
    found = YOLODataset(data["train"], imgsz=640, hyp={}, data=data)
    objects = sum(len(label["cls"]) for label in found.labels)
    answer = {"images": len(found), "objects": objects, "cache": str(found.cache_path)}
else:
    answer = {}
print("ANSWER" + json.dumps({**answer, "seconds": time.perf_counter() - start, "import_mb": before, "peak_mb": peak()}))
"""


def draw(root: Path, n: int) -> Path:
    """Write `n` JPEG files of noise and shades with one to five boxes each; return the data YAML."""
    import cv2

    rng = np.random.default_rng(0)
    images, labels = root / "images" / "train", root / "labels" / "train"
    for folder in (images, labels):
        folder.mkdir(parents=True)
    pictures = []
    for _ in range(DISTINCT):
        shades = cv2.resize(rng.integers(0, 256, (9, 12, 3)).astype(np.uint8), SIDE[::-1])
        noisy = np.clip(shades + rng.normal(0, 3, (*SIDE, 3)), 0, 255).astype(np.uint8)
        pictures.append(cv2.imencode(".jpg", noisy)[1].tobytes())
    for i in range(n):
        (images / f"{i:06}.jpg").write_bytes(pictures[i % DISTINCT] + i.to_bytes(8, "little"))
        rows = [(rng.integers(80), *rng.uniform(0.3, 0.7, 2), *rng.uniform(0.05, 0.3, 2)) for _ in range(i % 5 + 1)]
        text = "".join(f"{c} {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n" for c, x, y, w, h in rows)
        (labels / f"{i:06}.txt").write_text(text)
    (root / "data.yaml").write_text("train: images/train\nval: images/train\nnc: 80\n")
    return root / "data.yaml"


def start(*arguments: str) -> subprocess.Popen[str]:
    """Start a process that builds the data set."""
    command = [sys.executable, "-c", _START, *arguments]
    env = environment(sys.executable) | {"YOLO_CONFIG_DIR": tempfile.gettempdir()}
    return subprocess.Popen(command, env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for a process and return what it measured."""
    text, _ = process.communicate()
    lines = [line for line in text.splitlines() if line.startswith("ANSWER")]
    if process.returncode or not lines:
        raise RuntimeError(f"the process ended with {process.returncode}:\n{text[-2000:]}")
    return json.loads(lines[-1][len("ANSWER") :])


def main() -> None:
    """Measure and report."""
    args = arguments(__doc__ or "", rounds=(1, 3))
    n = COUNTS["quick" if args.quick else "full"]
    report = Report(
        "data_scan", "Scan of labels and images", {"images": n, "size": f"{SIDE[1]}x{SIDE[0]} JPEG"}, machine()
    )
    with tempfile.TemporaryDirectory(prefix="scan-") as folder:
        began = time.perf_counter()
        yaml = str(draw(Path(folder), n))
        report.settings["drawn in"] = f"{time.perf_counter() - began:.0f} s"
        bare = answer(start())
        report.fact("peak of a process that imports only, MB", round(bare["peak_mb"]))
        cold, warm = [], []
        for _ in range(args.rounds):
            cold.append(answer(start(yaml)))
            cache = Path(cold[-1]["cache"])
            warm.append(answer(start(yaml)))
            size = cache.stat().st_size
            cache.unlink()
        for what, runs in (("first scan", cold), ("cached start", warm)):
            seconds, peak = [r["seconds"] for r in runs], max(r["peak_mb"] for r in runs)
            report.compare(what, {"ours": seconds})
            report.fact(f"{what}, images a second", round(n / sorted(seconds)[len(seconds) // 2]))
            report.fact(f"{what}, peak MB", round(peak))
        report.fact("cache file, MB", round(size / 2**20, 2))
        pair = [start(yaml), start(yaml)]
        both = [answer(p) for p in pair]
        third = answer(start(yaml))
        same = all(r["images"] == n and r["objects"] == third["objects"] for r in (*both, third))
        report.fact("two at once on a cold cache, s", f"{both[0]['seconds']:.2f}, {both[1]['seconds']:.2f}")
        report.fact("both finish, the cache is whole", same, "yes", same)
        left = [p.name for p in cache.parent.iterdir() if p.name.endswith(".tmp")]
        report.fact("temporary files left", len(left), "0", not left)
    report.write(args.out)


if __name__ == "__main__":
    main()
