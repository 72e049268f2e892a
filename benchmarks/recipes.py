"""Train each recipe on each data set with each seed: mean and standard deviation, and all curves in one picture.

    python benchmarks/recipes.py --data bccd/data.yaml trees/data.yaml --recipes auto official --out results

A run that `--out` already holds is read, not repeated, so the table can be made in several sittings. Its figures are
those of the epoch whose weights are in best.pt. Times of runs side by side (`--jobs`) do not count.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from common import ROOT, describe, environment, machine

sys.path.insert(0, str(ROOT))

from ultralytics.utils.plotting.figure import add_legend, literal

MAP50, MAP = "metrics/mAP50(B)", "metrics/mAP50-95(B)"
MODEL = "rtdetr-tiny-l.yaml"


@dataclass(frozen=True)
class Run:
    """One training run: data set, recipe, seed, and the folder that holds the folders of all."""

    data: Path
    recipe: str
    seed: int
    runs: Path

    @property
    def set_name(self) -> str:
        """The data set in a word: its folder's name where the file is a mere data.yaml."""
        return self.data.parent.name if self.data.stem == "data" else self.data.stem

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self.runs / f"{self.set_name}-{self.recipe}-{self.seed}"

    @property
    def log(self) -> Path:
        """What the training printed."""
        return self.folder.with_suffix(".log")

    def rows(self) -> list[dict[str, float]]:
        """The epochs so far, from results.csv."""
        file = self.folder / "results.csv"
        if not file.is_file():
            return []
        with file.open(encoding="utf-8") as f:
            return [{k.strip(): float(v) for k, v in row.items()} for row in csv.DictReader(f)]

    def best(self) -> dict[str, float]:
        """The epoch that best.pt is of: the highest mAP50-95."""
        return max(self.rows(), key=lambda row: row[MAP])


def plan(args: argparse.Namespace) -> list[Run]:
    """All runs, those of one data set and recipe beside each other."""
    folder = args.out.resolve() / "runs"
    return [Run(d.resolve(), r, s, folder) for d, r, s in product(args.data, args.recipes, args.seeds)]


def command(run: Run, args: argparse.Namespace) -> list[str]:
    """The command line of a training run."""
    given = {"model": args.model, "data": run.data, "recipe": run.recipe, "seed": run.seed}
    given |= {"imgsz": args.imgsz, "epochs": args.epochs, "workers": 0, "plots": False}
    given |= {"project": run.runs, "name": run.folder.name, "exist_ok": True}
    tokens = [f"{k}={v}" for k, v in given.items()]
    return [sys.executable, "-m", "ultralytics", "detect", "train", *tokens, *args.set]


def train(run: Run, args: argparse.Namespace) -> bool:
    """Train unless it was done; return whether all epochs are there."""
    if len(run.rows()) < args.epochs:
        run.runs.mkdir(parents=True, exist_ok=True)
        with run.log.open("w", encoding="utf-8") as log:
            env = environment(sys.executable, args.threads)
            subprocess.run(command(run, args), stdout=log, stderr=subprocess.STDOUT, env=env, cwd=ROOT, check=False)
    done = len(run.rows()) >= args.epochs
    summary = f"mAP50 {run.best()[MAP50]:.4f}, mAP50-95 {run.best()[MAP]:.4f}" if done else f"stopped, see {run.log}"
    print(f"{run.set_name} {run.recipe} seed {run.seed}: {summary}", flush=True)
    return done


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation of a sample; one value has no deviation.

    >>> spread([0.5, 0.7]), spread([0.5])
    ('0.600 ± 0.141', '0.500')
    """
    mean = f"{statistics.fmean(values):.3f}"
    return f"{mean} ± {statistics.stdev(values):.3f}" if len(values) > 1 else mean


def cells(runs: Sequence[Run]) -> Iterator[tuple[str, str, list[Run]]]:
    """Runs that differ in nothing but the seed."""
    names = dict.fromkeys((run.set_name, run.recipe) for run in runs)
    for set_name, recipe in names:
        yield set_name, recipe, [r for r in runs if (r.set_name, r.recipe) == (set_name, recipe)]


def table(runs: Sequence[Run]) -> str:
    """Data set x recipe: seeds, best epoch's mAP50 and mAP50-95, mean minutes of a run."""
    names = ("data set", "recipe", "seeds", "mAP50", "mAP50-95", "epoch of the best", "minutes")
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for set_name, recipe, same in cells(runs):
        best = [run.best() for run in same]
        seeds = " ".join(str(run.seed) for run in same)
        epochs = " ".join(f"{row['epoch']:.0f}" for row in best)
        minutes = statistics.fmean(run.rows()[-1]["time"] / 60 for run in same)
        scores = (spread([row[key] for row in best]) for key in (MAP50, MAP))
        lines.append(f"| {set_name} | {recipe} | {seeds} | {' | '.join(scores)} | {epochs} | {minutes:.1f} |")
    return "\n".join(lines)


def draw(runs: Sequence[Run], file: Path) -> None:
    """Both metrics over the epochs: a row for each data set, a colour for each recipe, a line for each seed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sets, recipes = (list(dict.fromkeys(names)) for names in zip(*((r.set_name, r.recipe) for r in runs), strict=True))
    figure = Figure(figsize=(10, 1 + 3 * len(sets)), layout="constrained")
    axes = figure.subplots(len(sets), 2, squeeze=False, sharex=True)
    named: dict[Any, dict[str, Any]] = {}  # a line of each recipe, by axes
    for run, (column, key) in product(runs, enumerate((MAP50, MAP))):
        ax, rows = axes[sets.index(run.set_name)][column], run.rows()
        x = [row["epoch"] for row in rows]
        (line,) = ax.plot(x, [row[key] for row in rows], color=f"C{recipes.index(run.recipe)}", lw=1.2, alpha=0.8)
        named.setdefault(ax, {})[run.recipe] = line
        ax.set_title(literal(f"{run.set_name}: {key.removeprefix('metrics/').removesuffix('(B)')}"))
        ax.grid(alpha=0.3)
    for ax in axes.flat:
        ax.set_ylim(bottom=0)
        add_legend(ax, list(named[ax].items()), loc="upper left")
    for ax in axes[-1]:
        ax.set_xlabel("epoch")
    FigureCanvasAgg(figure).print_figure(file, dpi=120)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, nargs="+", required=True, metavar="YAML")
    parser.add_argument("--recipes", nargs="+", default=["auto"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--model", default=str(Path(__file__).with_name(MODEL)))
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="further arguments of every run")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time")
    parser.add_argument("--threads", type=int, help="threads of each (default: torch's own choice)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    return parser.parse_args()


def main() -> int:
    """Train what is missing, report what is there; exit status 1 when a run stopped."""
    args = parse()
    runs = plan(args)
    with ThreadPoolExecutor(args.jobs) as pool:
        done = list(pool.map(lambda run: train(run, args), runs))
    whole = [run for run, ok in zip(runs, done, strict=True) if ok]
    if whole:
        settings = {"model": Path(args.model).name, "imgsz": args.imgsz, "epochs": args.epochs, "jobs": args.jobs}
        settings |= dict(word.partition("=")[::2] for word in args.set)
        text = f"{describe(machine(args.threads), settings)}\n\n{table(whole)}\n"
        print(text)
        (args.out / "recipes.md").write_text(text, encoding="utf-8")
        figures = [{"data": r.set_name, "recipe": r.recipe, "seed": r.seed, **r.best()} for r in whole]
        (args.out / "recipes.json").write_text(json.dumps(figures, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        draw(whole, args.out / "recipes.png")
    return int(not all(done))


if __name__ == "__main__":
    sys.exit(main())
