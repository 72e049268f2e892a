"""One number per file and precision: is `val` of best.pt the row of its epoch in results.csv, digit by digit?

    python benchmarks/one_number.py --runs 20 --out results

A tiny network learns the drawn demo set; then short runs continue from it, in turns with `amp=True` and `amp=False`,
each with a seed and a batch size of its own. The metrics of the row that best.pt is of are compared, as printed, with
those of `val` on best.pt, and those of the final validation with `val amp=False`. Exit status 1 when one differs.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ultralytics import RTDETR
from ultralytics.utils import LOGGER

NETWORK: dict[str, Any] = {
    "nc": 5,
    "backbone": [
        [-1, 1, "Conv", [16, 3, 2]],
        [-1, 1, "Conv", [32, 3, 2]],
        [-1, 1, "Conv", [32, 3, 2]],
        [-1, 1, "SHSA", []],
        [-1, 1, "Conv", [64, 3, 2]],
        [-1, 1, "Conv", [64, 3, 2]],
    ],
    "head": [
        [-1, 1, "Conv", [32, 1, 1, None, 1, 1, False]],
        [-1, 1, "AIFI", [64, 4]],
        [[3, 4, 7], 1, "RTDETRDecoder", ["nc", 32, 30, 4, 4, 2, 64]],
    ],
}
KEYS = ("metrics/precision(B)", "metrics/recall(B)", "metrics/mAP50(B)", "metrics/mAP50-95(B)")
COMMON: dict[str, Any] = {"data": "demo.yaml", "imgsz": 96, "workers": 0, "verbose": False, "plots": False}


@dataclass
class Run:
    """One run: what results.csv says of the best epoch, what the final validation found, and `val` of best.pt."""

    amp: bool
    batch: int
    row: dict[str, str]
    val: dict[str, str]
    final: dict[str, str]
    float32: dict[str, str]

    @property
    def equal(self) -> bool:
        """Whether both pairs agree in every printed digit."""
        return self.row == self.val and self.final == self.float32


def printed(values: dict[str, Any]) -> dict[str, str]:
    """The metrics as results.csv prints them."""
    return {key: f"{round(float(values[key]), 5):.6g}" for key in KEYS}


def train_and_compare(start: Path, folder: Path, amp: bool, batch: int, seed: int) -> Run:
    """Continue training for two epochs and validate what came out."""
    model = RTDETR(str(start))
    options = {**COMMON, "epochs": 2, "batch": batch, "amp": amp, "seed": seed, "optimizer": "AdamW", "lr0": 5e-4}
    final = model.train(**options, project=str(folder), name=f"run{seed}")
    best = folder / f"run{seed}" / "weights" / "best.pt"
    rows = list(csv.DictReader((folder / f"run{seed}" / "results.csv").open(encoding="utf-8")))
    row = max(rows, key=lambda r: float(r["metrics/mAP50-95(B)"]))  # the first of equals, as best.pt is
    val: dict[str, Any] = {"imgsz": 96, "workers": 0, "verbose": False, "plots": False}
    found = RTDETR(str(best)).val(**val).results_dict
    plain = RTDETR(str(best)).val(**val, amp=False).results_dict
    return Run(amp, batch, printed(row), printed(found), printed(final.results_dict), printed(plain))


def main() -> None:
    """Train, compare, print a line for each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=60, help="of the network that all runs continue from")
    parser.add_argument("--out", type=Path, default=None, help="folder of one_number.json")
    args = parser.parse_args()
    LOGGER.setLevel("ERROR")
    runs: list[Run] = []
    with tempfile.TemporaryDirectory(prefix="one-number-") as name:
        folder = Path(name)
        first = RTDETR(NETWORK)
        first.train(
            **COMMON, epochs=args.epochs, batch=8, val=False, project=name, name="start", optimizer="AdamW", lr0=2e-3
        )
        start = folder / "start" / "weights" / "last.pt"
        for k in range(args.runs):
            run = train_and_compare(start, folder, amp=k % 2 == 0, batch=(2, 4, 8)[k % 3], seed=k)
            runs.append(run)
            text = ", ".join(f"{key.split('/')[1]} {run.row[key]} / {run.val[key]}" for key in KEYS)
            more = ", ".join(f"{run.final[key]} / {run.float32[key]}" for key in KEYS)
            print(
                f"{'equal ' if run.equal else 'DIFFER'} amp={run.amp!s:<5} batch={run.batch}: {text}; final {more}",
                flush=True,
            )
    print(f"{sum(run.equal for run in runs)} of {len(runs)} equal")
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "one_number.json").write_text(json.dumps([asdict(run) for run in runs], indent=1), encoding="utf-8")
    raise SystemExit(any(not run.equal for run in runs))


if __name__ == "__main__":
    main()
