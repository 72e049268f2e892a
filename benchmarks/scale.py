"""How time and memory grow: with the image side, the images of a data set, the objects of an image, the classes.

Growth is the exponent of a power law fitted to the larger half of the sizes: 1 is linear, 2 quadratic. The cost of an
image is proportional to its area, so the side's exponent is 2 when nothing is worse than it need be.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import Report, arguments, duration, environment, machine
from scan import draw

_CODE = """
import json, resource, sys, time
import torch
kind, value, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
YAML = "rtdetr-l.yaml"
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
def side():
    from ultralytics.nn.tasks import RTDETRDetectionModel
    model = RTDETRDetectionModel(YAML, verbose=False).eval().fuse(verbose=False)
    x = torch.rand(1, 3, value, value)
    def run():
        with torch.inference_mode():
            model(x)
    return run
def criterion(objects, nc):
    from ultralytics.models.utils.loss import RTDETRDetectionLoss
    loss = RTDETRDetectionLoss(nc=nc, use_vfl=True)
    boxes = torch.rand(4, 2, 300, 4).mul(0.4).add(0.2).requires_grad_()
    scores = torch.randn(4, 2, 300, nc, requires_grad=True)
    batch = {"cls": torch.randint(nc, (2 * objects,)), "gt_groups": [objects, objects]}
    batch["bboxes"] = torch.rand(2 * objects, 4) * 0.4 + 0.2
    def run():
        sum(loss((boxes, scores), batch).values()).backward()
    return run
def objects():
    return criterion(value, 80)
def classes():
    return criterion(20, value)
def scan():
    from ultralytics.data.dataset import YOLODataset
    data = {"names": {i: str(i) for i in range(20)}, "nc": 20, "channels": 3}
    return lambda: YOLODataset(img_path=sys.argv[4], data=data, imgsz=640, augment=False)
run = {"side": side, "objects": objects, "classes": classes, "scan": scan, "cached": scan}[kind]()
before, times = peak(), []
for _ in range(rounds):
    start = time.perf_counter()
    run()
    times.append(time.perf_counter() - start)
print("ANSWER" + json.dumps({"seconds": times, "mb": peak() - before}))
"""


def measure(kind: str, value: int, rounds: int, *more: str) -> dict[str, Any]:
    """Median seconds, and MB beyond the start, in a process of its own; the first round warms up if there are more."""
    command = [sys.executable, "-c", _CODE, kind, str(value), str(rounds), *more]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(sys.executable), check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    answer: dict[str, Any] = json.loads(done.stdout.split("ANSWER")[-1])
    return {"seconds": statistics.median(answer["seconds"][1:] or answer["seconds"]), "mb": answer["mb"]}


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Slope of the larger half of the sizes (two at least) in logarithms; values below a thousandth count as that.

    >>> round(exponent([1, 2, 4, 8], [5, 4, 16, 64]), 3)
    2.0
    """
    first = min(len(sizes) // 2, len(sizes) - 2)
    x, y = np.log(sizes[first:]), np.log(np.maximum(values[first:], 1e-3))
    return float(np.polyfit(x, y, 1)[0])


def row(report: Report, kind: str, sizes: Sequence[int], answers: Sequence[dict[str, Any]], most: float) -> None:
    """Add what was measured for one kind of growth."""
    seconds, memory = ([a[key] for a in answers] for key in ("seconds", "mb"))
    text = ", ".join(f"{s}: {duration(t)}, {m:.0f} MB" for s, t, m in zip(sizes, seconds, memory, strict=True))
    grown = exponent(sizes, seconds)
    report.fact(kind, text)
    report.fact(f"{kind}: exponent of the time", round(grown, 2), f"at most {most:g}", grown <= most)


def main() -> None:
    """Measure and report."""
    args = arguments(__doc__ or "", rounds=(2, 5))
    report = Report("scale", "Growth", {"model": "rtdetr-l.yaml"}, machine(args.threads))
    small = args.quick
    sizes = {
        "side": (64, 128, 256) if small else (320, 640, 960, 1280, 1920),
        "objects": (1, 10, 50) if small else (1, 10, 50, 100, 200, 500),
        "classes": (1, 10, 100) if small else (1, 10, 100, 300, 1000),
    }
    most = {"side": 2.6, "objects": 1.6, "classes": 1.2}
    for kind, values in sizes.items():
        row(report, kind, values, [measure(kind, v, args.rounds) for v in values], most[kind])
    counts = (50, 200) if small else (100, 1000, 10_000, 100_000)
    first, second = [], []
    with tempfile.TemporaryDirectory() as name:
        for count in counts:
            start, folder = time.perf_counter(), Path(name, str(count))
            draw(folder, count)
            print(f"drew {count} images in {duration(time.perf_counter() - start)}", file=sys.stderr)
            first.append(measure("scan", count, 1, str(folder / "images")))
            second.append(measure("cached", count, 1, str(folder / "images")))
    row(report, "images, first scan", counts, first, 1.15)
    row(report, "images, start from the cache", counts, second, 1.15)
    report.write(args.out)


if __name__ == "__main__":
    main()
