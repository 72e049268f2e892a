"""Stop short training runs in every way, kill them, fill their disk, take the right to write away: what is left?

    python benchmarks/kill.py kills=30 stops=3 seed=0
    python benchmarks/kill.py kills=30 stops=1 network=yolo      # or dfine; rtdetr when none is named

Each run trains a tiny network on a few drawn images in a process of its own, which SIGKILL ends after a random time.
Then `last.pt`, if it was ever written, must load, and resuming must reach the end. Nothing else in the folder may be
taken for a checkpoint. A run that is stopped (a signal to its process group, with loader workers; a closed terminal; a
worker that dies) must leave a `last.pt` at once, and the resumed run must equal the uninterrupted one in every bit of
its network, average, optimizer and table. One line a run; exit status 1 when anything failed.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import itertools
import logging
import multiprocessing
import os
import random
import resource
import signal
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

import ultralytics.models.rtdetr.train  # noqa: F401  (before any fork)
from ultralytics.cli.main import entrypoint
from ultralytics.nn.checkpoint.format import read_checkpoint
from ultralytics.utils.errors import UserError
from ultralytics.utils.files import latest_run
from ultralytics.utils.log import LOGGER

EPOCHS = 4
TINY_RUN = [
    *("model=tiny.yaml", "data=data.yaml", f"epochs={EPOCHS}", "imgsz=64", "batch=2", "workers=0"),
    *("plots=False", "amp=False"),
]
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
  - [[2, 3, 6], 1, {head}]
"""
HEADS = {
    "rtdetr": "RTDETRDecoder, [nc, 32, 30, 4, 4, 2, 64]",
    "dfine": "DFINEDecoder, [nc, 32, 30, [3, 6, 3], 4, 2, 64, 16, 4.0]",
    "yolo": "Detect, [nc]",
}


def obey_permissions() -> Callable[[], None]:
    """Let permission bits bind this thread even as root, and return what undoes it (Linux; others need not ask).

    Root passes over them by two capabilities, "override" and "read search"; here they are put down (capset(2)).
    """
    if os.geteuid() != 0:
        return lambda: None
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this thread
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable: bits 0..31, then 32..63
    if libc.capget(header, sets):
        raise OSError(ctypes.get_errno(), "capget")
    before = sets[0]

    def put(effective: int) -> None:
        sets[0] = effective
        if libc.capset(header, sets):
            raise OSError(ctypes.get_errno(), "capset")

    put(before & ~(1 << 1 | 1 << 2))
    return lambda: put(before)


def prepare(root: Path, network: str) -> None:
    """Draw eight images a split and write the model with the head of a network."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for i in range(8):
            cv2.imwrite(str(root / "images" / split / f"{i}.png"), rng.integers(0, 255, (64, 64, 3), np.uint8))
            (root / "labels" / split / f"{i}.txt").write_text(f"{i % 2} 0.5 0.5 0.4 0.3\n")
    (root / "data.yaml").write_text(f"path: {root}\ntrain: images/train\nval: images/val\nnames: [a, b]\n")
    (root / "tiny.yaml").write_text(MODEL.format(head=HEADS[network]))


class Run:
    """A run in a process that was forked after the imports, so that it starts at once; its output goes to a file.

    It leads a process group of its own. `limit` is called before it starts.
    """

    def __init__(self, root: Path, tokens: Sequence[str], limit: Callable[[], object] | None = None) -> None:
        self.log = root / "log.txt"
        self.log.write_text("")
        self.process = multiprocessing.get_context("fork").Process(target=self._work, args=(root, tokens, limit))
        self.process.start()

    def _work(self, root: Path, tokens: Sequence[str], limit: Callable[[], object] | None) -> None:
        os.chdir(root)
        os.setsid()
        sys.stdout = sys.stderr = self.log.open("a", buffering=1)
        if limit is not None:
            limit()
        entrypoint(["detect", "train", "device=cpu", *tokens])

    def wait(self) -> tuple[int | None, str]:
        """Return exit status and output."""
        self.process.join()
        return self.process.exitcode, self.log.read_text()


def new_run(root: Path, name: str, limit: Callable[[], object] | None = None) -> Run:
    """Start a run in the folder `runs/name`."""
    return Run(root, [*TINY_RUN, "project=runs", f"name={name}", "save_period=1", "exist_ok=True"], limit)


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
    status, output = Run(root, [f"resume={last}"]).wait()
    assert status == 0, output[-2000:]
    assert read_checkpoint(last)["train_state"]["epoch"] == EPOCHS
    return f"last.pt of epoch {state['epoch']}, resumed to {EPOCHS}"


def killed(root: Path, name: str, after: float) -> str:
    """Kill a run some seconds after its start."""
    run = new_run(root, name)
    time.sleep(after)
    run.process.kill()
    run.wait()
    temps = len(list((root / "runs" / name).rglob(".*.tmp")))
    return f"killed after {after:.2f} s, {temps} temporary file(s): {check(root, name)}"


def full_disk(root: Path, name: str, size: int) -> str:
    """Let no file grow beyond `size` bytes, as on a full disk; then without that limit."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    status, output = new_run(root, name, limit).wait()
    assert status == 1 and "cannot write" in output, output[-2000:]
    message = next(line for line in output.splitlines() if "cannot write" in line)
    return f"no file above {size} bytes: {check(root, name)}; {message}"


def full_later(root: Path, name: str) -> str:
    """Let the disk be full from the first checkpoint on (Linux)."""
    run = new_run(root, name, lambda: signal.signal(signal.SIGXFSZ, signal.SIG_IGN))
    last = root / "runs" / name / "weights" / "last.pt"
    while run.process.is_alive() and not last.exists():
        time.sleep(0.01)
    resource.prlimit(run.process.pid or 0, resource.RLIMIT_FSIZE, (100_000, 100_000))
    status, output = run.wait()
    assert status == 1 and "cannot write" in output, output[-2000:]
    return f"full after the first checkpoint: {check(root, name)}"


def no_folder(root: Path, name: str) -> str:
    """Start a run where its folder cannot be made: one message, and nothing is trained."""
    place = root / name
    place.mkdir(mode=0o555)
    tokens = (f"project={place}", f"name={name}", "exist_ok=False")
    status, output = Run(root, [*TINY_RUN, *tokens], obey_permissions).wait()
    assert status == 1 and not list(place.iterdir()), output[-2000:]
    assert "Traceback" not in output and "Training for" not in output, output[-2000:]
    (message,) = [line for line in output.splitlines() if "cannot write" in line]
    return f"no folder can be made: {message}"


def read_only(root: Path, name: str, part: str) -> str:
    """Take the right to write into a part of the run folder away after the first checkpoint."""
    run = new_run(root, name, obey_permissions)
    folder = root / "runs" / name
    while run.process.is_alive() and not (folder / "weights" / "last.pt").exists():
        time.sleep(0.01)
    (folder / part).chmod(0o555)
    status, output = run.wait()
    (folder / part).chmod(0o755)
    assert status == 1 and "Traceback" not in output, output[-2000:]
    (message,) = [line for line in output.splitlines() if "cannot write" in line]
    return f"read-only after the first checkpoint: {check(root, name)}; {message}"


def same_run(root: Path, name: str) -> None:
    """Compare the end of a run with that of the uninterrupted one; raises AssertionError at the first difference."""
    ours, whole = (read_checkpoint(root / "runs" / n / "weights" / "last.pt") for n in (name, "whole"))
    for part in ("model", "ema"):
        for key, value in whole[part]["state_dict"].items():
            assert torch.equal(value, ours[part]["state_dict"][key]), f"{part}: {key} differs"
    for number, state in whole["optimizer"]["state"].items():
        for key, value in state.items():
            assert torch.equal(value, ours["optimizer"]["state"][number][key]), f"optimizer: {key} of {number} differs"
    for column, values in whole["train_results"].items():
        assert column == "time" or values == ours["train_results"][column], f"results: {column} differs"


def workers_of(pid: int) -> list[int]:
    """Return the child processes of a process (Linux)."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def wait_for_training(root: Path, run: Run, after: float) -> None:
    """Wait until a run trains, and some seconds more."""
    while run.process.is_alive() and "Training for" not in run.log.read_text():
        time.sleep(0.01)
    time.sleep(after)


def stopped(root: Path, name: str, how: str, after: float) -> str:
    """Stop a run with loader workers, resume it, and compare it with the uninterrupted run."""
    tokens = [*TINY_RUN, "project=runs", f"name={name}", "workers=2"]
    terminal, screen = os.openpty()

    def take_terminal() -> None:
        if how == "closed terminal":
            fcntl.ioctl(screen, termios.TIOCSCTTY, 0)
            os.close(terminal)
            sys.stdout = sys.stderr = os.fdopen(os.dup(screen), "w", buffering=1)
            LOGGER.addHandler(logging.FileHandler(root / "log.txt"))
        else:
            os.close(terminal)
        os.close(screen)

    run = Run(root, tokens, take_terminal)
    os.close(screen)
    pid = run.process.pid or 0
    wait_for_training(root, run, after)
    was_alive = run.process.is_alive()
    if how == "closed terminal":
        os.close(terminal)
    elif how == "killed worker":
        for worker in workers_of(pid)[:1]:
            os.kill(worker, signal.SIGKILL)
    elif was_alive:
        os.killpg(pid, signal.Signals[how])
    status, output = run.wait()
    if how != "closed terminal":
        os.close(terminal)
    last = root / "runs" / name / "weights" / "last.pt"
    assert last.exists(), f"status {status}, nothing was saved: {output[-1500:]}"
    assert "Traceback" not in output, output[-2000:]
    state = read_checkpoint(last)["train_state"]
    place = f"epoch {state['epoch'] + 1}, batch {state['batch']}"
    if not was_alive or state["epoch"] >= EPOCHS:
        return f"{how}: ended before it was stopped (status {status})"
    resumed, output = Run(root, [f"resume={last}"]).wait()
    assert resumed == 0, output[-2000:]
    same_run(root, name)
    return f"{how}: status {status}, saved at {place}, resumed bit for bit"


STOPS = ("SIGINT", "SIGTERM", "SIGHUP", "closed terminal", "killed worker")


def main() -> None:
    """Do everything and print one line each."""
    if any("=" not in word for word in sys.argv[1:]):
        raise SystemExit(__doc__)
    given = dict(word.split("=", 1) for word in sys.argv[1:])
    network = given.pop("network", "rtdetr")
    options = {"kills": 30, "stops": 3, "seed": 0, **{name: int(value) for name, value in given.items()}}
    rng, failures = random.Random(options["seed"]), 0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        prepare(root, network)
        begin = time.monotonic()
        new_run(root, "whole").wait()
        span = time.monotonic() - begin
        jobs: list[tuple[str, Callable[[], str]]] = []
        for i, how in itertools.product(range(options["stops"]), STOPS):
            after = rng.uniform(0, span / 3)
            name = f"stop{i}{how.replace(' ', '')}"
            jobs.append((name, functools.partial(stopped, root, name, how, after)))
        for i in range(options["kills"]):
            jobs.append((f"kill{i}", lambda i=i: killed(root, f"kill{i}", rng.uniform(0, span))))  # type: ignore[misc]
        for size in (100_000, 1_000_000):
            jobs.append((f"full{size}", lambda size=size: full_disk(root, f"full{size}", size)))  # type: ignore[misc]
        jobs.append(("later", lambda: full_later(root, "later")))
        jobs.append(("nofolder", lambda: no_folder(root, "nofolder")))
        jobs.append(("readonly", lambda: read_only(root, "readonly", ".")))
        jobs.append(("readonly-weights", lambda: read_only(root, "readonly-weights", "weights")))
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
