"""Start-up: the small commands, and what `import ultralytics` adds to importing torch; each in a fresh process."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import Report, Side, arguments, environment, machine, take_turns


def fresh(python: str, *command: str) -> Side:
    """A side that runs `python command` to its end, in an empty folder."""
    env = environment(python)

    def run() -> float:
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            subprocess.run([python, *command], env=env, cwd=folder, capture_output=True, check=True)
            return time.perf_counter() - start

    return run


def yolo(python: str) -> str:
    """The `yolo` command that lies beside an interpreter."""
    return str(Path(python).with_name("yolo"))


def main() -> None:
    """Measure and report."""
    args = arguments(__doc__ or "", "peer", rounds=(3, 15))
    report = Report("startup", "Start-up", {"each": "a fresh process, files in the system's cache"}, machine())
    for word in ("version", "help"):
        sides = {"ours": fresh(sys.executable, yolo(sys.executable), word)}
        if args.peer:
            sides["stock"] = fresh(args.peer, yolo(args.peer), word)
        times = take_turns(sides, args.rounds)
        report.compare(f"yolo {word}", times, 8)
        own = statistics.median(times["ours"])
        report.fact(f"yolo {word}, ms", round(own * 1e3, 1), "at most 150", own <= 0.15)
    code = {"torch": "import torch", "ours": "import torch, ultralytics; ultralytics.RTDETR"}
    code |= {"package": "import torch, ultralytics", "python": "pass"}
    times = take_turns({name: fresh(sys.executable, "-c", text) for name, text in code.items()}, args.rounds)
    median = {name: statistics.median(values) * 1e3 for name, values in times.items()}
    beyond = median["package"] - median["torch"]
    report.fact("import ultralytics beyond torch, ms", round(beyond, 1), "at most 30", beyond <= 30)
    report.fact("ultralytics.RTDETR beyond torch, ms", round(median["ours"] - median["torch"], 1))
    report.fact("python alone, ms", round(median["python"], 1))
    report.write(args.out)


if __name__ == "__main__":
    main()
