"""What all benchmarks share: processes that are measured in turns, medians and ratios, the machine, tables and JSON.

Two sides are timed A B A B in one run, each warm and, where it can be, in a process of its own; the ratio is the
peer's median divided by ours, so bigger is better.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
REST_S = 0.05
"""Pause between turns: the other side's threads, which spin for a moment after their last work, come to rest."""

Side = Callable[[], float]


# ------------------------------------------------------------------------------------------------------------ sides
def has_bf16(machine: Mapping[str, Any]) -> bool:
    """Whether the CPU of a `machine()` computes in bfloat16 itself."""
    return bool({"avx512_bf16", "amx_bf16"} & set(machine["flags"]))


class Worker:
    """A side in a process of its own: `sides/<script>.py part {arguments}` under a given interpreter.

    Called, it does one unit of work and returns the seconds; `peak_mb` and `value` are what the last answer reported.
    """

    def __init__(
        self, python: str, script: str, part: str, args: Mapping[str, Any], threads: int | None = None
    ) -> None:
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        self._folder = tempfile.TemporaryDirectory(prefix="bench-")
        command = [python, str(HERE / "sides" / f"{script}.py"), part, json.dumps(dict(args))]
        self._command = command
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=self._folder.name,
            env=environment(python, threads) | {"YOLO_CONFIG_DIR": self._folder.name},
        )
        self.value: Any = None
        self.peak_mb = 0.0
        self.answer = self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            tail = "\n".join(self._errors.read().splitlines()[-15:])
            raise RuntimeError(f"{Path(self._command[1]).name} {self._command[2]} stopped:\n{tail}")
        answer: dict[str, Any] = json.loads(line)
        self.peak_mb, self.value = answer.get("peak_mb", 0.0), answer.get("value")
        return answer

    def __call__(self) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return float(self._read()["seconds"])

    def close(self) -> None:
        """End the process."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                stream.close()
        self._folder.cleanup()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def environment(python: str, threads: int | None = None) -> dict[str, str]:
    """The environment of a side: this tree on the path for our own interpreter only, no network, so many threads."""
    env = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "OMP_NUM_THREADS", "MKL_NUM_THREADS"}}
    if python == sys.executable:
        env["PYTHONPATH"] = str(ROOT)
    if threads:
        env["OMP_NUM_THREADS"] = env["MKL_NUM_THREADS"] = str(threads)
    return env | {"YOLO_OFFLINE": "true", "HF_HUB_OFFLINE": "1", "YOLO_AUTOINSTALL": "false"}


def timed(work: Callable[[], Any], calls: int = 1) -> Side:
    """A side in this process; of several calls the mean, where threads take as long to wake up as the work takes."""

    def run() -> float:
        start = time.perf_counter()
        for _ in range(calls):
            work()
        return (time.perf_counter() - start) / calls

    return run


def take_turns(sides: Mapping[str, Side], rounds: int, warm: int = 1, rest: float = REST_S) -> dict[str, list[float]]:
    """Time all sides in turns, `rounds` times; `warm` more at the start are not kept.

    >>> sides = {"a": iter((9.0, 1.0, 2.0)).__next__, "b": iter((9.0, 3.0, 4.0)).__next__}
    >>> take_turns(sides, rounds=2, rest=0)
    {'a': [1.0, 2.0], 'b': [3.0, 4.0]}
    """
    times: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(-warm, rounds):
        for name, side in sides.items():
            seconds = side()
            if turn >= 0:
                times[name].append(seconds)
            time.sleep(rest)
    return times


# ---------------------------------------------------------------------------------------------------------- machine
def machine(threads: int | None = None) -> dict[str, Any]:
    """Facts of this machine that a figure depends on."""
    import torch

    text = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    lines = [line.partition(":") for line in text.splitlines()]
    cpu = {key.strip(): value.strip() for key, _, value in lines}
    flags = set(cpu.get("flags", "").split())
    return {
        "cpu": cpu.get("model name", platform.processor() or platform.machine()),
        "cores": os.cpu_count(),
        "threads": threads or torch.get_num_threads(),
        "flags": [flag for flag in FLAGS if flag in flags],
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "load": load(),
    }


def peak_mb() -> float:
    """The highest resident memory of this process so far, MB (Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def load() -> float | None:
    """Processes that wanted to run over the last minute; None where the system does not report it."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


# ----------------------------------------------------------------------------------------------------------- report
@dataclass
class Report:
    """The rows of one benchmark and what they were measured on."""

    name: str
    title: str
    settings: dict[str, Any] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def compare(self, what: str, times: Mapping[str, Sequence[float]], goal: float | None = None) -> float | None:
        """Add a row: medians of `ours` and of the other sides, and the ratio of the first other one to ours."""
        medians = {name: statistics.median(values) for name, values in times.items()}
        peer = next((name for name in medians if name != "ours"), None)
        ratio = medians[peer] / medians["ours"] if peer else None
        self.rows.append(
            {"what": what, "median_s": medians, "ratio": ratio, "goal": goal}
            | {"met": None if ratio is None or goal is None else ratio >= goal}
            | {"seconds": {name: list(values) for name, values in times.items()}}
        )
        return ratio

    def compare_each(
        self, what: str, times: Mapping[str, Sequence[float]], goals: Mapping[str, float] | None = None
    ) -> None:
        """Add a row for each of the other sides, or one for `ours` alone."""
        others = [name for name in times if name != "ours"]
        for name in others:
            goal = (goals or {}).get(name)
            self.compare(f"{what}, against {name}", {"ours": times["ours"], name: times[name]}, goal)
        if not others:
            self.compare(what, times)

    def fact(self, what: str, value: Any, goal: str | None = None, met: bool | None = None) -> None:
        """Add a row that is not a ratio of times: a size, a difference, an answer."""
        self.rows.append({"what": what, "value": value, "goal": goal, "met": met})

    def table(self) -> str:
        """The rows as a Markdown table, with the machine above."""
        lines = [f"### {self.title}", "", describe(self.machine, self.settings), ""]
        lines += ["| what | ours | others | ratio | goal | met |", "|---|---|---|---|---|---|"]
        return "\n".join(lines + [_line(row) for row in self.rows])

    def write(self, folder: Path | None) -> None:
        """Print the table; write `<name>.json` and `<name>.md` when there is a folder."""
        self.machine["load_after"] = load()
        print(self.table(), flush=True)
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        data = {k: getattr(self, k) for k in ("name", "title", "machine", "settings", "rows")}
        (folder / f"{self.name}.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
        (folder / f"{self.name}.md").write_text(self.table() + "\n", encoding="utf-8")


def _line(row: Mapping[str, Any]) -> str:
    met = {True: "yes", False: "no", None: ""}[row["met"]]
    if "value" in row:
        return f"| {row['what']} | {_number(row['value'])} | | | {row['goal'] or ''} | {met} |"
    medians = row["median_s"]
    others = ", ".join(f"{name} {duration(s)}" for name, s in medians.items() if name != "ours")
    ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
    goal = "" if row["goal"] is None else f"{row['goal']:g}"
    return f"| {row['what']} | {duration(medians['ours'])} | {others} | {ratio} | {goal} | {met} |"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    """
    >>> duration(0.01234), duration(2.5)
    ('12.3 ms', '2.50 s')
    """
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.2f} s"


def describe(host: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """Machine and settings in a line or two; says so when the machine was not idle."""
    if not host:
        return ""
    busy = (host.get("load") or 0) > 0.7
    text = (
        f"{host['cpu']}, {host['cores']} cores, {host['threads']} threads, {' '.join(host['flags']) or 'no AVX2'}, "
        f"Python {host['python']}, torch {host['torch']}{'; the machine was shared (load ' if busy else ''}"
    )
    text += f"{host['load']})" if busy else ""
    return text + "".join(f"; {k} {v}" for k, v in settings.items())


# --------------------------------------------------------------------------------------------------------- arguments
OPTIONS = {
    "peer": {"metavar": "PYTHON", "help": "interpreter of an environment with stock ultralytics"},
    "models": {"metavar": "PYTHON", "help": "interpreter of an environment with timm and transformers"},
    "data": {"metavar": "YAML", "help": "data set to train on (default: drawn)"},
    "model": {"metavar": "YAML", "help": "model to train (default: rtdetr-tiny-l.yaml beside the script)"},
}


def arguments(description: str, *takes: str, rounds: tuple[int, int] = (3, 15)) -> argparse.Namespace:
    """Parse what all benchmarks have in common and, of `OPTIONS`, what this one takes.

    `rounds` are the defaults of --quick and --full. Without an environment only our side is timed.
    """
    parser = argparse.ArgumentParser(description=description)
    for name in takes:
        parser.add_argument(f"--{name}", **OPTIONS[name])  # type: ignore[arg-type]
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="few rounds on small sizes: does it run, roughly")
    size.add_argument("--full", action="store_true", help="the sizes of the published table (default)")
    parser.add_argument("--rounds", type=int, help="turns of each side")
    parser.add_argument("--threads", type=int, help="threads of each side (default: torch's own choice)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write <name>.json and <name>.md there")
    args = parser.parse_args()
    args.rounds = args.rounds or rounds[0 if args.quick else 1]
    return args
