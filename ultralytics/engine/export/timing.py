"""Time one model file in a process of its own, so that its peak memory is measured alone.

    python -m ultralytics.engine.export.timing < job.json

The job is a JSON object (see `Job`); the last line printed is a JSON object with the figures (see `measure`).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field

import numpy as np
import torch

from ultralytics.nn.autobackend import AutoBackend
from ultralytics.utils.checks import require
from ultralytics.utils.errors import MissingPackageError, UserError
from ultralytics.utils.user_modules import load_user_modules

WARM_UP = 3  # calls that are not counted
MIN_CALLS, MAX_CALLS = 10, 200


@dataclass
class Job:
    """What to time: a file, the input's shape (B, C, H, W), for how long, in how many threads, on which device."""

    path: str
    shape: list[int]
    seconds: float = 5.0
    threads: int = 1
    device: str = "cpu"
    modules: list[str] = field(default_factory=list)


def run_in_subprocess(job: Job) -> dict[str, float]:
    """Time a job in a new process. Raises UserError with the last line of that process when it fails."""
    done = subprocess.run(
        [sys.executable, "-m", __name__], input=json.dumps(asdict(job)), capture_output=True, text=True, check=False
    )
    lines = (done.stdout if done.returncode == 0 else done.stderr or done.stdout).strip().splitlines()
    if done.returncode or not lines:
        raise UserError(f"{job.path}: the timing process failed: {(lines or ['no output'])[-1][:200]}")
    figures: dict[str, float] = json.loads(lines[-1])
    return figures


def measure(job: Job) -> dict[str, float]:
    """Return milliseconds a call (mean, p50, p90, p99), images a second, calls counted, and memory in MB.

    `peak_mb` is the most that the process held, `empty_mb` the part of it that was there before the model was loaded.
    """
    torch.set_num_threads(job.threads)
    load_user_modules(job.modules)
    empty = peak_memory()
    backend = AutoBackend(job.path, device=job.device)
    images = torch.rand(job.shape, generator=torch.Generator().manual_seed(0)).to(backend.device)
    with torch.inference_mode():
        spent = time_calls(lambda: backend(images), job.seconds, backend.device)
    p50, p90, p99 = np.percentile(spent, (50, 90, 99))
    mean = float(np.mean(spent))
    figures = {"mean": mean, "p50": float(p50), "p90": float(p90), "p99": float(p99)}
    memory = {"peak_mb": peak_memory(), "empty_mb": empty}
    return {**figures, "images_per_second": job.shape[0] * 1e3 / mean, "calls": len(spent), **memory}


def time_calls(call: Callable[[], object], seconds: float, device: torch.device) -> list[float]:
    """Return the milliseconds of each call: at least 10 of them, at most 200, for about `seconds`."""
    spent: list[float] = []
    for _ in range(WARM_UP):
        call()
    start = time.perf_counter()
    while len(spent) < MIN_CALLS or (time.perf_counter() - start < seconds and len(spent) < MAX_CALLS):
        before = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        spent.append((time.perf_counter() - before) * 1e3)
    return spent


def peak_memory() -> float:
    """Return the peak memory of this process so far, MB (2**20 bytes); 0 where the system does not report it."""
    try:
        resource = require("resource", "peak memory")
    except MissingPackageError:  # Windows has none
        return 0.0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def main(text: str) -> Mapping[str, float]:
    """Run the job of a JSON string."""
    return measure(Job(**json.loads(text)))


if __name__ == "__main__":
    try:
        sys.stdout.write(json.dumps(dict(main(sys.stdin.read()))) + "\n")
    except UserError as e:
        raise SystemExit(str(e).splitlines()[0]) from None
