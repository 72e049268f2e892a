"""Not time: is `val` and `predict` of YOLO files what stock `ultralytics` makes of the same files?

    python benchmarks/peer_val.py --peer PYTHON --data bccd/data.yaml --train yolov8n.yaml yolo26n.yaml --out results
    python benchmarks/peer_val.py --peer PYTHON --data bccd/data.yaml best.pt --out results

`--train` lets the peer train a file of each YAML from scratch first. AP of the val split is compared in rectangular and
in square batches, as each side reports it. This package reports COCO's AP (a mean over 101 recalls, at most 100 boxes),
so its matches are also put into the interface's formula (trapezoids, 0.995 at most): how much of a difference is the
formula? Boxes after NMS are compared image by image. A row's partner is the nearest box of its class, since rows of
nearly equal scores may change places; a row without a partner within a pixel is counted. Suppression decides by a
threshold, so of a pair whose overlap lies within rounding of it either box may remain. Exit status 1 beyond the bounds:
0.001 of AP, 0.05 px and 0.001 of score.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import HERE, environment
from numpy.typing import NDArray

AP_BOUND, PX_BOUND, SCORE_BOUND = 1e-3, 0.05, 1e-3
NEAR_PX = 1.0

Rows = NDArray[np.float64]


def run(python: str, part: str, out: Path, **args: Any) -> None:
    """Run a part of `sides/boxes.py` under an interpreter; its settings stay in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        env = environment(python) | {"YOLO_CONFIG_DIR": folder}
        text = json.dumps({"out": str(out), **args})
        command = [python, str(HERE / "sides" / "boxes.py"), part, text]
        done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode or not out.exists():
        raise RuntimeError(f"{part} under {python} failed:\n{done.stderr[-2000:]}")


def as_rows(values: Sequence[Sequence[float]]) -> Rows:
    """Rows (n, 6) of one image: corners, score, class."""
    return np.asarray(values, dtype=np.float64).reshape(-1, 6)


def compare_image(ours: Rows, theirs: Rows) -> tuple[float, float, int]:
    """Largest difference in pixels and in score of paired rows, and the number of rows without a partner.

    >>> row = as_rows([[0, 0, 10, 10, 0.5, 0]])
    >>> compare_image(row, row + [0, 0, 0.25, 0, 0, 0]), compare_image(row, as_rows([]))
    ((0.25, 0.0, 0), (0.0, 0.0, 1))
    """
    free, px, score = np.ones(len(theirs), dtype=bool), 0.0, 0.0
    alone = 0
    for row in ours:
        distance = np.abs(theirs[:, :4] - row[:4]).max(1, initial=0.0)
        distance[~free | (theirs[:, 5] != row[5])] = np.inf
        best = int(distance.argmin()) if len(distance) else -1
        if best < 0 or distance[best] > NEAR_PX:
            alone += 1
            continue
        free[best] = False
        px, score = max(px, float(distance[best])), max(score, abs(float(theirs[best, 4] - row[4])))
    return px, score, alone + int(free.sum())


def lines(name: str, ours: dict[str, Any], theirs: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    """The rows of the table for one file, and whether each is within the bounds."""
    for shape in ("rect", "square"):
        mine, peer = ours["val"][shape], theirs["val"][shape]
        same = [abs(mine[f"interface_{key}"] - peer[key]) for key in ("map", "map50")]
        cells = (
            f"{peer['map']:.4f} / {peer['map50']:.4f}",
            f"{mine['map']:.4f} / {mine['map50']:.4f}",
            f"{mine['map'] - peer['map']:+.4f} / {mine['map50'] - peer['map50']:+.4f}",
            f"{same[0]:.1e} / {same[1]:.1e}",
        )
        yield f"| {name} | val, {shape} | {' | '.join(cells)} |", max(*same, abs(mine["map"] - peer["map"])) <= AP_BOUND
    found = [compare_image(as_rows(a), as_rows(b)) for a, b in zip(ours["boxes"], theirs["boxes"], strict=True)]
    px, score, alone = max(f[0] for f in found), max(f[1] for f in found), sum(f[2] for f in found)
    total = [sum(map(len, side["boxes"])) for side in (theirs, ours)]
    parts = f"{px:.1e} px, {score:.1e}, {alone} alone"
    good = px <= PX_BOUND and score <= SCORE_BOUND and not alone
    yield f"| {name} | boxes, {len(found)} images | {total[0]} | {total[1]} | {parts} | |", good


def trained(args: argparse.Namespace) -> list[Path]:
    """The files of the peer, trained where `--out` does not hold them."""
    files = []
    for yaml in args.train:
        files.append(args.out / f"{Path(yaml).stem}.pt")
        if not files[-1].exists():
            run(args.peer, "train", files[-1], yaml=yaml, data=str(args.data), imgsz=args.imgsz, epochs=args.epochs)
            print(f"trained {files[-1]}", flush=True)
    return files


def main() -> int:
    """Train what is missing, examine each file on both sides, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, nargs="*", help="files that both sides open")
    parser.add_argument("--peer", required=True, metavar="PYTHON", help="interpreter with stock ultralytics")
    parser.add_argument("--data", type=Path, required=True, metavar="YAML")
    parser.add_argument("--train", nargs="*", default=[], metavar="YAML", help="models that the peer trains first")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--images", type=int, default=20, help="images whose boxes are compared")
    parser.add_argument("--conf", type=float, default=0.05, help="lowest score of compared boxes")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    args = parser.parse_args()
    args.out, args.data = args.out.resolve(), args.data.resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    files = [*trained(args), *(w.resolve() for w in args.weights)]
    images = sorted(str(p) for p in (args.data.parent / "images" / "val").iterdir())[: args.images]
    table = [
        "| file | what | stock | ours as reported | difference | by one formula |",
        "|:---|:---|---:|---:|---:|---:|",
    ]
    wrong = 0
    print("\n".join(table), flush=True)
    for file in files:
        how = {"weights": str(file), "data": str(args.data), "imgsz": args.imgsz, "images": images, "conf": args.conf}
        sides = []
        for side, python in (("ours", sys.executable), ("stock", args.peer)):
            out = args.out / f"{file.stem}-{side}.json"
            run(python, "examine", out, **how, recompute=side == "ours")
            sides.append(json.loads(out.read_text(encoding="utf-8")))
        for text, good in lines(file.stem, *sides):
            table.append(text if good else f"{text} beyond the bounds")
            print(table[-1], flush=True)
            wrong += not good
    (args.out / "peer_val.md").write_text("\n".join(table) + "\n", encoding="utf-8")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
