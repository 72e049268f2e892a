"""Are the verdicts of `yolo ablate` right? Simulated studies without and with an effect.

Run: python benchmarks/study_calibration.py [--studies 200]

Values are drawn as arm + seed + noise, with deviations like those of AP (0.007 between seeds of one network). Printed
are, for each design: how many variants without an effect are called better, in how many studies any is, and how often a
variant with an effect is called beside the power that the tool announces.
"""

from __future__ import annotations

import argparse

import numpy as np

from ultralytics.study.statistics import BETTER, Design, judge

NOISE, SEED_EFFECT, MEAN = 0.007, 0.004, 0.55


def study(
    rng: np.random.Generator, variants: int, seeds: int, effects: dict[int, float], noise: list[float] | None = None
) -> dict[str, dict[int, float]]:
    """Draw the values of a study; `effects` maps a variant to its effect, `noise` lists a deviation for each arm."""
    common = rng.normal(0, SEED_EFFECT, seeds)
    deviations = noise or [NOISE] * (variants + 1)
    return {
        ("base" if a == 0 else f"v{a}"): {
            s: MEAN + effects.get(a, 0.0) + common[s] + rng.normal(0, deviations[a]) for s in range(seeds)
        }
        for a in range(variants + 1)
    }


def false_calls(
    studies: int, variants: int, seeds: int, pooled: bool, noise: list[float] | None = None, seed: int = 0
) -> tuple[float, float]:
    """Return the fractions of variants called better, and of studies with any, where no effect exists."""
    rng = np.random.default_rng(seed)
    calls = []
    for _ in range(studies):
        rows = judge(study(rng, variants, seeds, {}, noise), "base", pooled=pooled)
        calls.append([row.verdict == BETTER for row in rows[1:]])
    table = np.array(calls)
    return float(table.mean()), float(table.any(1).mean())


def power(studies: int, variants: int, seeds: int, pooled: bool, wanted: float, seed: int = 1) -> tuple[float, ...]:
    """Return the effect, the announced power, and how often the one variant with the effect is called better."""
    rng = np.random.default_rng(seed)
    design = Design(variants, pooled)
    deviation = float(np.sqrt(2) * NOISE)
    effect = design.least(deviation, seeds) or 0.0
    effect *= wanted / 0.8 if wanted < 0.8 else 1.0
    announced = design.power(effect, deviation, seeds)
    calls = [
        next(row for row in judge(study(rng, variants, seeds, {1: effect}), "base", pooled=pooled) if row.arm == "v1")
        for _ in range(studies)
    ]
    return effect, announced, float(np.mean([row.verdict == BETTER for row in calls]))


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=200)
    studies = parser.parse_args().studies
    print(f"{studies} studies without an effect: called better at 5 % (Holm, two-sided)")
    for variants, seeds in ((1, 3), (4, 3), (4, 5), (8, 3)):
        for pooled in (True, False):
            of_variants, of_studies = false_calls(studies, variants, seeds, pooled)
            title = f"{variants} variants, {seeds} seeds, {'pooled' if pooled else 'own'}"
            print(f"  {title}: {of_variants:.1%} of variants, {of_studies:.1%} of studies")
    noise = [NOISE] * 4 + [3 * NOISE]
    for pooled in (True, False):
        of_variants, of_studies = false_calls(studies, 4, 3, pooled, noise)
        title = f"4 variants, one with three times the noise, 3 seeds, {'pooled' if pooled else 'own'}"
        print(f"  {title}: {of_variants:.1%} of variants, {of_studies:.1%} of studies")
    print("a known effect of one variant: announced power, and how often it is called better")
    for variants, seeds in ((1, 3), (4, 3), (4, 5), (8, 3)):
        for pooled, wanted in ((True, 0.8), (True, 0.4), (False, 0.8)):
            effect, announced, actual = power(studies, variants, seeds, pooled, wanted)
            name = "pooled" if pooled else "own"
            print(f"  {variants} variants, {seeds} seeds, {name}, effect {effect:.4f}: {announced:.1%}, {actual:.1%}")


if __name__ == "__main__":
    main()
