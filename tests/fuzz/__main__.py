"""Long runs: `python -m tests.fuzz --kind all --count 10000 --seed 1`; exit status 1 when an input failed."""

from __future__ import annotations

import argparse
import time

import torch

from tests.fuzz.kinds import KINDS
from tests.fuzz.sandbox import run_kind


def main() -> None:
    """Run the kinds one after the other: a line each, and the first input of each signature."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--kind", default="all", choices=["all", *KINDS])
    parser.add_argument("--count", type=int, default=1000, help="inputs of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first input, to run one again")
    options = parser.parse_args()
    torch.set_num_threads(1)
    failed = 0
    for name in KINDS if options.kind == "all" else [options.kind]:
        start = time.monotonic()
        tally = run_kind(name, options.count, options.seed, options.first)
        spent = time.monotonic() - start
        failures = sum(map(len, tally.failures.values()))
        failed += failures
        figures = (
            f"{tally.total:>7} inputs, {tally.accepted:>7} accepted, {tally.refused:>7} refused, {failures} failed"
        )
        print(f"{name:<12} {figures}, {spent:.0f} s", flush=True)
        for signature, numbers in tally.failures.items():
            print(f"    {len(numbers):>5} x {signature} (--first {numbers[0]})", flush=True)
    raise SystemExit(bool(failed))


if __name__ == "__main__":
    main()
