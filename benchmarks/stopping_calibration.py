"""How often is the early stopping of `yolo ablate` wrong, and what does it save? Simulated studies with known truth.

Run: python benchmarks/stopping_calibration.py [--studies 200] [--epochs 24] [--seeds 3]

A run's curve is `final * (1 - exp(-epoch / speed))` with noise from epoch to epoch (deviation 0.006, correlation 0.5);
its final value is arm + seed + noise with the deviations of `study_calibration.py`. Seeds come in turn, and a run sees
the curves of those before it, as in a study on one device. Printed are, for variants of a known effect and speed: how
many were stopped, the part of their epochs that was saved, and how many variants without an effect were called better.
"""

from __future__ import annotations

import argparse

import numpy as np

from ultralytics.study.statistics import BETTER, judge
from ultralytics.study.stopping import StopRule

NOISE, SEED_EFFECT, MEAN, EPOCH_NOISE, CORRELATION = 0.007, 0.004, 0.55, 0.006, 0.5
CASES = (
    ("no effect", 0.0, 1.0),
    ("+0.02", 0.02, 1.0),
    ("+0.02, learns at 2/3 of the speed", 0.02, 1.5),
    ("no effect, learns at half the speed", 0.0, 2.0),
    ("-0.02", -0.02, 1.0),
    ("-0.05", -0.05, 1.0),
    ("-0.10", -0.10, 1.0),
)
"""Name, effect on the final AP, and time constant relative to the base's."""

Curve = dict[int, float]


def curve(rng: np.random.Generator, final: float, speed: float, epochs: int) -> Curve:
    """Draw the curve of a run."""
    noise, values = 0.0, {}
    for epoch in range(1, epochs + 1):
        noise = CORRELATION * noise + rng.normal(0, EPOCH_NOISE * np.sqrt(1 - CORRELATION**2))
        values[epoch] = final * (1 - np.exp(-epoch / (speed * epochs / 5))) + noise
    return values


def study(
    rng: np.random.Generator, arms: dict[str, tuple[float, float]], seeds: int, epochs: int, rule: StopRule
) -> tuple[dict[str, dict[int, Curve]], dict[str, int]]:
    """Run a study; return the curves by arm and seed, and by arm the epochs that were not trained."""
    curves: dict[str, dict[int, Curve]] = {arm: {} for arm in arms}
    saved = dict.fromkeys(arms, 0)
    stopped: set[str] = set()
    for seed in range(seeds):
        common = rng.normal(0, SEED_EFFECT)
        for arm, (effect, speed) in arms.items():
            if arm in stopped:
                saved[arm] += epochs
                continue
            whole = curve(rng, MEAN + effect + common + rng.normal(0, NOISE), speed, epochs)
            curves[arm][seed] = {}
            for epoch in range(1, epochs + 1):
                curves[arm][seed][epoch] = whole[epoch]
                if arm != "base" and rule.verdict(curves, arm, "base", epoch, epochs):
                    stopped.add(arm)
                    saved[arm] += epochs - epoch
                    break
    return curves, {arm: n for arm, n in saved.items() if arm in stopped}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    rng, rule = np.random.default_rng(0), StopRule()
    print(f"{options.studies} studies, base and 4 variants, {options.seeds} seeds, {options.epochs} epochs, {rule}")
    for name, effect, speed in CASES:
        arms = {"base": (0.0, 1.0), "v1": (effect, speed), **{f"v{i}": (0.0, 1.0) for i in (2, 3, 4)}}
        hits, part, wrong, called, plain = 0, [], 0, 0, 0
        for _ in range(options.studies):
            curves, saved = study(rng, arms, options.seeds, options.epochs, rule)
            hits += "v1" in saved
            part += [saved["v1"] / (options.seeds * options.epochs)] if "v1" in saved else [0.0]
            wrong += sum(arm in saved for arm in ("v2", "v3", "v4"))
            values = {
                a: {s: c[options.epochs] for s, c in runs.items() if options.epochs in c} for a, runs in curves.items()
            }
            rows = judge(values, "base", stopped=set(saved))
            called += sum(row.verdict == BETTER for row in rows if row.arm in ("v2", "v3", "v4"))
            plain += 3
        print(
            f"  v1 {name}: stopped {hits / options.studies:.1%}, epochs of v1 saved {np.mean(part):.0%}; variants "
            f"without an effect: stopped {wrong / plain:.1%}, called better {called / plain:.1%}"
        )


if __name__ == "__main__":
    main()
