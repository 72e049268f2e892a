"""Prove or refute the tree on a GPU within a few minutes: each step alone in a process, the most informative first.

    python benchmarks/gpu.py --minutes 6 --out gpu-results
    python benchmarks/gpu.py --device cpu --smoke          # every step at a tiny size, to try the script itself

`gpu.jsonl` and `gpu.md` in the output folder grow as the steps end, and a log for each step holds what it printed. A
step that cannot run says why in its row; one that fails or passes its limit does not stop the others: it is ended with
all processes that it started. `--peer` is the interpreter of an environment with stock `ultralytics`, whose training
step is timed beside ours.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import HERE, environment, machine


@dataclass(frozen=True)
class Step:
    """A step of `gpu_steps.py`: its name, what it shows, its part of the time, and why a CPU cannot run it."""

    name: str
    shows: str
    weight: float = 1.0
    card_only: str = ""


STEPS = (
    Step("card", "which device, driver and libraries these are", 1),
    Step(
        "agreement",
        "losses, gradients and boxes of each family on the device against the CPU, with and without TF32",
        2,
    ),
    Step("blocks", "outputs and gradients of every row of the package against the CPU, reproducible forms on", 3),
    Step("precision", "mixed precision in bfloat16 and float16; an overflow is skipped by the scaler", 1),
    Step("training", "images/s, peak memory, host waits of a step and time of the loader", 4),
    Step("deterministic", "two runs with deterministic=True end with equal weights; what it costs", 2),
    Step("resume", "a run that was cut and resumed ends with the weights of the whole one", 2),
    Step("out_of_memory", "the error names a batch that fits", 1, "it would take the machine's memory, not a card's"),
    Step("auto_batch", "batch=-1", 1, "memory is measured on a GPU; a CPU takes 16"),
    Step("latency", "prediction of 1 and 16 images, from array to Results", 2),
    Step("two_processes", "two runs side by side on one card end like one alone", 2),
    Step(
        "compiled",
        "compile=True gives the losses of the plain network",
        3,
        "compilation for a CPU needs a C++ compiler and minutes",
    ),
    Step("tensorrt", "an engine file gives the boxes of the network", 2),
    Step("peer", "stock's training step beside ours", 2),
)


def main() -> int:
    """Run the steps and return how many failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="*", help=f"of {', '.join(s.name for s in STEPS)}; all when none is named")
    parser.add_argument("--minutes", type=float, default=6.0, help="for all steps together")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--smoke", action="store_true", help="tiny networks and images")
    parser.add_argument("--peer", metavar="PYTHON", help="interpreter of an environment with stock ultralytics")
    parser.add_argument("--out", type=Path, default=Path("gpu-results"), metavar="DIR")
    args = parser.parse_args()
    unknown = set(args.steps) - {s.name for s in STEPS}
    if unknown:
        parser.error(f"no step {', '.join(sorted(unknown))}")
    args.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for row in _rows(args):
        rows.append(row)
        with (args.out / "gpu.jsonl").open("a", encoding="utf-8") as f:
            f.write(json.dumps(row) + "\n")
        (args.out / "gpu.md").write_text(_page(rows, args), encoding="utf-8")
        print(f"{row['step']}: {row['what']}: {row['value']} [{row['state']}]", flush=True)
    return sum(row["state"] == "failed" for row in rows)


def _rows(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Rows of all steps; each gets its part of the time that is left."""
    chosen = [s for s in STEPS if not args.steps or s.name in args.steps]
    end = time.monotonic() + 60 * args.minutes
    for i, step in enumerate(chosen):
        left = end - time.monotonic()
        if why := _missing(step, args):
            yield _row(step.name, step.shows, why, "not run")
            continue
        if left < 5:
            yield _row(step.name, step.shows, "the time was used up", "not run")
            continue
        limit = left * step.weight / sum(s.weight for s in chosen[i:]) * (1 if args.smoke else 1.5)
        yield from _run(step, args, max(limit, 120.0 if args.smoke else 60.0))


def _missing(step: Step, args: argparse.Namespace) -> str:
    """What a step lacks here, '' for nothing; found without starting it."""
    if step.card_only and args.device == "cpu":
        return step.card_only
    if step.name == "tensorrt" and importlib.util.find_spec("tensorrt") is None:
        return "the package tensorrt is not installed"
    return "no environment was given (--peer)" if step.name == "peer" and args.peer is None else ""


def _run(step: Step, args: argparse.Namespace, limit: float) -> Iterator[dict[str, Any]]:
    """Run one step in a process of its own, in a session of its own, so that all that it starts can be ended."""
    options = {"device": args.device, "smoke": args.smoke, "peer": args.peer, "seconds": limit * 0.6}
    command = [sys.executable, str(HERE / "gpu_steps.py"), step.name, json.dumps(options)]
    env = environment(sys.executable, 1 if args.smoke else None)  # tiny sizes: threads would cost more than they give
    log = args.out / f"{step.name}.log"
    with log.open("w+", encoding="utf-8", errors="replace") as out:
        process = subprocess.Popen(command, env=env, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            status: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            _end(process)
    text = log.read_text(encoding="utf-8", errors="replace")
    yield from _answers(step, text)
    if status is None:
        yield _row(step.name, step.shows, f"stopped after its limit of {limit:.0f} s", "failed")
    elif status:
        other = [line for line in text.strip().splitlines() if not line.startswith('{"what"')]
        yield _row(step.name, step.shows, (" / ".join(other[-2:]) or f"exit status {status}")[-400:], "failed")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a step and what it has started: loader workers and runs beside it would keep the card."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # nothing is left of it
    process.wait()


def _answers(step: Step, text: str) -> Iterator[dict[str, Any]]:
    """The rows that a step printed; other lines are the program's."""
    for line in text.splitlines():
        if line.startswith('{"what"'):
            yield {"step": step.name, **json.loads(line)}


def _row(step: str, what: str, value: str, state: str) -> dict[str, Any]:
    return {"step": step, "what": what, "value": value, "state": state}


def _page(rows: list[dict[str, Any]], args: argparse.Namespace) -> str:
    """The rows as a Markdown table under the machine's description."""
    where = machine()
    size = "tiny networks and images: the script itself is tried, nothing is measured" if args.smoke else "full size"
    card = next((row["value"] for row in rows if row["step"] == "card"), args.device)
    lines = [f"device {card}; {size}; torch {where['torch']}, Python {where['python']}, {where['cpu']}", ""]
    lines += ["| step | what | value | state |", "|---|---|---|---|"]
    for row in rows:
        cells = [str(row[k]).replace("|", "\\|").replace("\n", " ") for k in ("step", "what", "value", "state")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
