"""Kill short training runs at random moments, fill their disk, take away their folder: is `last.pt` always whole?

    python benchmarks/kill.py kills=30 seed=0

Each run trains a tiny network on a few drawn images in a process of its own, which SIGKILL ends after a random time.
Then `last.pt`, if it was ever written, must load, and resuming must reach the end. Nothing else in the folder may be
taken for a checkpoint. One line a run; exit status 1 when anything failed.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from ultralytics.nn.checkpoint import read_checkpoint
from ultralytics.utils.errors import UserError
from ultralytics.utils.files import latest_run

EPOCHS = 4
MODEL = """\
nc: 2
backbone:
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
head:
  - [-1, 1, Conv, [32, 1, 1, None, 1, 1, False]]
  - [-1, 1, AIFI, [48, 4]]
  - [[2, 3, 6], 1, RTDETRDecoder, [nc, 32, 30, 4, 4, 2, 64]]
"""


def prepare(root: Path) -> None:
    """Draw eight images a split and write the model."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for i in range(8):
            cv2.imwrite(str(root / "images" / split / f"{i}.png"), rng.integers(0, 255, (64, 64, 3), np.uint8))
            (root / "labels" / split / f"{i}.txt").write_text(f"{i % 2} 0.5 0.5 0.4 0.3\n")
    (root / "data.yaml").write_text(f"path: {root}\ntrain: images/train\nval: images/val\nnames: [a, b]\n")
    (root / "tiny.yaml").write_text(MODEL)


def start(root: Path, *words: str, limit: Callable[[], None] | None = None) -> subprocess.Popen[str]:
    """Start `yolo detect train` with these words."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "ultralytics", "detect", "train", "device=cpu", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, cwd=root, env=env, text=True, preexec_fn=limit, **pipes)  # type: ignore[call-overload, no-any-return]


def new_run(root: Path, name: str, limit: Callable[[], None] | None = None) -> subprocess.Popen[str]:
    """Start a run in the folder `runs/name`."""
    words = ("model=tiny.yaml", "data=data.yaml", f"epochs={EPOCHS}", "imgsz=64", "batch=2", "workers=0", "plots=False")
    return start(
        root, *words, "amp=False", "project=runs", f"name={name}", "save_period=1", "exist_ok=True", limit=limit
    )


def check(root: Path, name: str) -> str:
    """Return what a stopped run left behind, after it was resumed; raises AssertionError when it is damaged."""
    weights = root / "runs" / name / "weights"
    last = weights / "last.pt"
    if not last.exists():
        assert latest_run(root / "runs" / name) is None, "something else is taken for a checkpoint"
        return "no last.pt yet"
    for file in weights.glob("*.pt"):
        read_checkpoint(file)
    assert latest_run(root / "runs" / name) == last, "something else is taken for the newest checkpoint"
    state = read_checkpoint(last)["train_state"]
    if state["epoch"] >= EPOCHS:
        return "last.pt of the whole run"
    resumed = start(root, f"resume={last}")
    output, _ = resumed.communicate()
    assert resumed.returncode == 0, output[-2000:]
    assert read_checkpoint(last)["train_state"]["epoch"] == EPOCHS
    return f"last.pt of epoch {state['epoch']}, resumed to {EPOCHS}"


def killed(root: Path, name: str, after: float) -> str:
    """Kill a run some seconds after its first sign of life."""
    process = new_run(root, name)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    temps = len(list((root / "runs" / name).rglob(".*.tmp")))
    return f"killed after {after:.2f} s, {temps} temporary file(s): {check(root, name)}"


def full_disk(root: Path, name: str, size: int) -> str:
    """Let no file grow beyond `size` bytes, as on a full disk; then without that limit."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    process = new_run(root, name, limit)
    output, _ = process.communicate()
    assert process.returncode == 1 and "cannot write" in output, output[-2000:]
    message = next(line for line in output.splitlines() if "cannot write" in line)
    return f"no file above {size} bytes: {check(root, name)}; {message}"


def read_only(root: Path, name: str) -> str:
    """Take the right to write into the folder of the weights away after the first checkpoint."""
    process = new_run(root, name)
    weights = root / "runs" / name / "weights"
    while process.poll() is None and not (weights / "last.pt").exists():
        time.sleep(0.01)
    weights.chmod(0o500)
    output, _ = process.communicate()
    weights.chmod(0o700)
    said = "cannot write" in output
    if os.geteuid() == 0 and process.returncode == 0:
        return f"read-only folder: not tried, root may write anywhere: {check(root, name)}"
    assert process.returncode == 1 and said, output[-2000:]
    return f"read-only folder: {check(root, name)}"


def main() -> None:
    """Do everything and print one line each."""
    options = {"kills": 30, "seed": 0, **{k: int(v) for k, _, v in (w.partition("=") for w in sys.argv[1:])}}
    rng, failures = random.Random(options["seed"]), 0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        prepare(root)
        begin = time.monotonic()
        new_run(root, "whole").communicate()
        span = time.monotonic() - begin
        jobs: list[tuple[str, Callable[[], str]]] = []
        for i in range(options["kills"]):
            jobs.append((f"kill{i}", lambda i=i: killed(root, f"kill{i}", rng.uniform(0, 0.8 * span))))  # type: ignore[misc]
        for size in (100_000, 500_000, 1_000_000):
            jobs.append((f"full{size}", lambda size=size: full_disk(root, f"full{size}", size)))  # type: ignore[misc]
        jobs.append(("readonly", lambda: read_only(root, "readonly")))
        for name, job in jobs:
            try:
                print(f"ok      {name}: {job()}", flush=True)
            except (AssertionError, UserError) as e:
                failures += 1
                print(f"FAILED  {name}: {e}", flush=True)
        print(f"{len(jobs) - failures} of {len(jobs)} as they should be", flush=True)
    raise SystemExit(bool(failures))


if __name__ == "__main__":
    main()
