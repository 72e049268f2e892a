"""Does `yolo tune` repair a crippled recipe, and does it survive a kill? Acceptance of the search on BCCD.

Run: python benchmarks/tune_crippled.py --data bccd/data.yaml [--iterations 12] [--epochs 3] [--imgsz 96]

The base trains at a rate of 1e-6, at which next to nothing is learned. The search runs as a process of its own, is
killed with SIGKILL once a third of the trials has ended, and is started again. Checked are: the trials of before the
kill are kept as they are, all trials end, and the best one beats the base on the held-out images and on `val`, which
chose nothing. Exit code 1 when one of these does not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def command(options: argparse.Namespace) -> list[str]:
    """Return the command line of the search."""
    return [
        sys.executable, "-m", "ultralytics", "tune", f"model={options.model}", f"data={options.data}",
        f"iterations={options.iterations}", f"epochs={options.epochs}", f"imgsz={options.imgsz}", "batch=8",
        "workers=0", "amp=False", "device=cpu", "recipe=small", "lr0=1e-6", "space=optimizer",
        f"project={options.project}", "name=crippled",
    ]  # fmt: skip


def finished(folder: Path) -> dict[str, int]:
    """Return the time of change of the outcome of each trial that has ended."""
    return {file.parent.name: file.stat().st_mtime_ns for file in folder.glob("trials/*/outcome.json")}


def run_and_kill(options: argparse.Namespace, folder: Path) -> dict[str, int]:
    """Start the search, kill it once a third of its trials has ended; return those."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command(options), env=environment)
    try:
        while process.poll() is None and len(finished(folder)) < options.iterations // 3:
            time.sleep(0.5)
        time.sleep(options.delay)  # into the next trial
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
    return finished(folder)


def main() -> int:
    """Run the search in two parts and check it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", default=str(ROOT / "benchmarks" / "rtdetr-tiny-l.yaml"))
    parser.add_argument("--iterations", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--imgsz", type=int, default=96)
    parser.add_argument("--delay", type=float, default=8.0, help="seconds into a trial at which the search is killed")
    parser.add_argument("--project", default="runs/tune")
    options = parser.parse_args()
    folder = Path(options.project) / "crippled"
    started = time.monotonic()
    before = run_and_kill(options, folder)
    print(f"killed after {len(before)} of {options.iterations} trials", flush=True)
    subprocess.run(command(options), env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
    after = finished(folder)
    records = {name: json.loads((folder / "trials" / name / "outcome.json").read_text()) for name in sorted(after)}
    reported = json.loads((folder / "reported.json").read_text()) if (folder / "reported.json").exists() else {}
    best = max(records.values(), key=lambda r: r["value"])["value"]
    checks = {
        "trials of before the kill are kept": all(after.get(name) == stamp for name, stamp in before.items()),
        "the search was killed on the way": 0 < len(before) < options.iterations,
        "all trials have ended": len(records) == options.iterations,
        "the best trial beats the base on the held-out images": best > records["000"]["value"],
        "and on val, which chose nothing": reported.get("difference", 0.0) > 0,
    }
    for name, holds in checks.items():
        print(f"{'ok  ' if holds else 'FAIL'} {name}")
    pruned = sum(r["state"] == "pruned" for r in records.values())
    print(f"{pruned} trials were pruned; {time.monotonic() - started:.0f} s in all; {reported}")
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
