"""Run all benchmarks one after another, the most informative ones first; one that fails does not stop the others.

    python benchmarks/run_all.py --peer /path/to/stock/bin/python --models /path/to/timm/bin/python --out results

Nothing else should run on the machine meanwhile. `results/summary.md` grows as the parts end.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from common import HERE


@dataclass(frozen=True)
class Part:
    """A script, the environments it takes, and its minutes on two cores (quick, full)."""

    name: str
    line: str
    minutes: tuple[float, float]
    takes: tuple[str, ...] = ("peer",)


PARTS = (
    Part("startup", "g", (1, 3)),
    Part("predict", "b", (1, 3)),
    Part("shsa", "a", (1, 2), ()),
    Part("metrics", "e", (1, 3), ()),
    Part("train_step", "c", (2, 8)),
    Part("detectors", "i", (1, 2), ("peer", "models")),
    Part("shvit", "f", (2, 5), ("models",)),
    Part("scan", "h", (1, 4)),
    Part("epoch", "d", (2, 12), ("peer", "data")),
    Part("data_scan", "scan", (1, 4), ()),
    Part("reduced_decode", "loading", (1, 1), ()),
    Part("scale", "growth", (2, 10), ()),
)


def main() -> int:
    """Run the parts that were named, all by default; return how many failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(p.name for p in PARTS)}; all when none is named")
    parser.add_argument("--peer", metavar="PYTHON", help="interpreter of an environment with stock ultralytics")
    parser.add_argument("--models", metavar="PYTHON", help="interpreter of an environment with timm and transformers")
    parser.add_argument("--data", metavar="YAML", help="data set of the epoch benchmark (default: drawn)")
    parser.add_argument("--threads", type=int, help="threads of each side")
    parser.add_argument("--out", type=Path, default=Path("benchmark-results"), metavar="DIR")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true")
    size.add_argument("--full", action="store_true")
    args = parser.parse_args()
    unknown = set(args.parts) - {p.name for p in PARTS}
    if unknown:
        parser.error(f"no part {', '.join(sorted(unknown))}")
    chosen = [p for p in PARTS if not args.parts or p.name in args.parts]
    args.out.mkdir(parents=True, exist_ok=True)
    print("minutes expected:", ", ".join(f"{p.name} {p.minutes[not args.quick]:g}" for p in chosen), flush=True)
    states = [(part, _run(part, args)) for part in chosen]
    _summarize(states, args.out)
    return sum(state != "done" for _, state in states)


def _run(part: Part, args: argparse.Namespace) -> str:
    """Run one part in a process of its own; say how it ended."""
    command = [sys.executable, str(HERE / f"{part.name}.py"), "--quick" if args.quick else "--full"]
    command += ["--out", str(args.out)]
    for name in part.takes:
        if getattr(args, name):
            command += [f"--{name}", getattr(args, name)]
    if args.threads:
        command += ["--threads", str(args.threads)]
    limit, start = part.minutes[not args.quick] * 60 * 5, time.monotonic()
    print(f"\n--- {part.name} ({part.line}): {' '.join(command[1:])}", flush=True)
    with open(args.out / f"{part.name}.log", "w", encoding="utf-8") as log:
        try:
            code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, timeout=limit, check=False).returncode
        except subprocess.TimeoutExpired:
            code = -1
    text = (args.out / f"{part.name}.log").read_text(encoding="utf-8")
    print("\n".join(text.splitlines()[-40:]), flush=True)
    state = {0: "done", -1: f"stopped after {limit / 60:g} minutes"}.get(code, f"failed with exit code {code}")
    print(f"--- {part.name}: {state}, {(time.monotonic() - start) / 60:.1f} minutes", flush=True)
    return state


def _summarize(states: list[tuple[Part, str]], folder: Path) -> None:
    """Write all tables into one file."""
    texts = []
    for part, state in states:
        table = folder / f"{part.name}.md"
        texts.append(table.read_text(encoding="utf-8") if state == "done" else f"### {part.name}\n\n{state}\n")
    (folder / "summary.md").write_text("\n".join(texts), encoding="utf-8")
    print(f"\nwritten: {folder / 'summary.md'}")


if __name__ == "__main__":
    sys.exit(main())
