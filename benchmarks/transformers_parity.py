"""Not time: do files of `transformers` give the same queries here?

    python benchmarks/transformers_parity.py --models PYTHON             # RT-DETRv2 of four sizes, about two minutes

Each model is built at random by the library, in an environment of its own, and saved in its format; here the file opens
as any weights. Queries are compared as a set, since equal scores in the selection leave their order to rounding: each
has as its partner the one whose box and logits are nearest. Exit status: how many sizes have a query beyond 1e-4.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from common import HERE, environment
from torch import Tensor

from ultralytics import RTDETR

SIZES = ("r18", "r34", "r50", "r101")
BOUND = 1e-4


def answers(file: Path, image: Tensor) -> tuple[str, Tensor, Tensor]:
    """The class of the network that a file opens as, and its logits (B, Q, nc) and boxes (B, Q, 4)."""
    network = RTDETR(str(file)).model.eval()
    with torch.no_grad():
        raw = network(image)[1]
    first, second = (raw.dec_scores, raw.dec_bboxes) if hasattr(raw, "dec_scores") else (raw[1], raw[0])
    return type(network).__name__, first[-1], second[-1]


def difference(logits: Tensor, boxes: Tensor, want_logits: Tensor, want_boxes: Tensor) -> tuple[float, float, int]:
    """Largest difference of paired logits and boxes, and how many queries of one image lie beyond the bound."""
    ours, theirs = (torch.cat(pair, -1) for pair in ((logits, boxes), (want_logits, want_boxes)))
    worst_logits = worst_boxes = 0.0
    beyond = 0
    for a, b in zip(ours, theirs, strict=True):
        gap = torch.cdist(a.double(), b.double(), p=float("inf"))
        near = gap.argmin(1)
        off = gap.amin(1) > BOUND
        beyond += int(off.sum())
        change = (a - b[near]).abs()[~off]
        worst_logits = max(worst_logits, float(change[:, :-4].max()))
        worst_boxes = max(worst_boxes, float(change[:, -4:].max()))
    return worst_logits, worst_boxes, beyond


def main() -> int:
    """Compare each size; print a line for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", required=True, metavar="PYTHON", help="interpreter with transformers")
    parser.add_argument("--sizes", nargs="+", default=list(SIZES))
    parser.add_argument("--imgsz", type=int, default=320)
    args = parser.parse_args()
    wrong = 0
    for size in args.sizes:
        with tempfile.TemporaryDirectory() as folder:
            text = json.dumps({"out": folder, "size": size, "imgsz": args.imgsz})
            command = [args.models, str(HERE / "sides" / "random_models.py"), text]
            subprocess.run(command, env=environment(args.models), check=True, capture_output=True)
            data = np.load(Path(folder) / "answers.npz")
            image, *want = (torch.from_numpy(data[name]) for name in ("image", "logits", "boxes"))
            name, logits, boxes = answers(Path(folder) / "model.safetensors", image)
        worst_logits, worst_boxes, beyond = difference(logits, boxes, *want)
        queries = logits.shape[0] * logits.shape[1]
        print(
            f"rt_detr_v2 {size:<6} {name}: logits {worst_logits:.1e}, boxes {worst_boxes:.1e}, {beyond} of {queries} "
            f"queries beyond {BOUND:.0e}",
            flush=True,
        )
        wrong += beyond > 0
    return wrong


if __name__ == "__main__":
    sys.exit(main())
