"""Where the time of a training step and of a prediction goes: the operators of torch by their own time.

python benchmarks/optable.py --plain --out results               # NCHW, fp32, memory as the system gives it
python benchmarks/optable.py --before results/optable.json       # as a run does it on this CPU, beside the other
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import ROOT, describe, machine
from torch.profiler import ProfilerActivity, profile

sys.path.insert(0, str(ROOT))

from ultralytics.engine.training import optimizer as optim
from ultralytics.nn.autobackend import AutoBackend
from ultralytics.nn.cpu.malloc import keep_freed_memory
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils.torch_tools.training import ModelEMA
from ultralytics.utils.torch_utils import amp_dtype, autocast

TOP = 15


def network(yaml: str, plain: bool) -> tuple[RTDETRDetectionModel, torch.dtype | None]:
    """A network, and what autocast has it computed in."""
    torch.manual_seed(0)
    return RTDETRDetectionModel(yaml, verbose=False), None if plain else amp_dtype(True, "cpu")


def lay_out(model: torch.nn.Module, plain: bool) -> None:
    """Put the kernels where a run has them; after folding, which makes new ones."""
    model.to(memory_format=torch.contiguous_format if plain else torch.channels_last)


def prediction(yaml: str, imgsz: int, plain: bool) -> Callable[[], None]:
    """The folded network on one image, as `predict` has it."""
    model, dtype = network(yaml, plain)
    backend = AutoBackend(model, dtype=dtype)
    lay_out(backend, plain)
    x = torch.rand(1, 3, imgsz, imgsz)

    def run() -> None:
        with torch.inference_mode():
            backend(x)

    return run


def training_step(yaml: str, imgsz: int, plain: bool, batch: int = 2, objects: int = 8) -> Callable[[], None]:
    """Forward, backward, step and average, on random images with random boxes."""
    model, dtype = network(yaml, plain)
    model.train()
    lay_out(model, plain)
    choice = optim.OptimizerChoice("AdamW", 1e-4, 0.9, 0.0)
    optimizer, ema = optim.build_optimizer(model, choice, 1e-4), ModelEMA(model)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    scaler, accumulator = torch.amp.GradScaler("cpu", enabled=False), optim.GradientAccumulator()
    images = torch.arange(batch).repeat_interleave(objects).float()
    data = {"img": torch.rand(batch, 3, imgsz, imgsz), "batch_idx": images, "im_file": [""] * batch}
    data |= {"cls": torch.zeros(batch * objects, 1), "bboxes": torch.rand(batch * objects, 4) * 0.4 + 0.2}

    def run() -> None:
        with autocast(dtype is not None, "cpu", dtype):
            loss, _ = model(data)
        loss.backward()
        accumulator.factor(1.0)
        optim.optimizer_step(parameters, optimizer, scaler, accumulator, 0.1)
        optimizer.zero_grad()
        ema.update(model)

    return run


def operators(run: Callable[[], None], rounds: int) -> dict[str, float]:
    """Milliseconds of one round that each operator spends itself, largest first."""
    run()
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        for _ in range(rounds):
            run()
    rows = {event.key: event.self_cpu_time_total / 1e3 / rounds for event in seen.key_averages()}
    return dict(sorted(rows.items(), key=lambda row: -row[1]))


def show(title: str, now: dict[str, float], before: dict[str, float]) -> str:
    """A Markdown table of the largest operators and the whole."""
    columns = "| operator | before, ms | ms | share |" if before else "| operator | ms | share |"
    lines = [f"#### {title}", "", columns, "|---" * (columns.count("|") - 1) + "|"]
    whole = sum(now.values())
    for name in [*list(now)[:TOP], None]:
        value = whole if name is None else now[name]
        earlier = sum(before.values()) if name is None else before.get(name, 0.0)
        cells = [name or "all", *([f"{earlier:.1f}"] if before else []), f"{value:.1f}", f"{value / whole:.1%}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Profile and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="rtdetr-hgnetv2-l.yaml")
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plain", action="store_true", help="NCHW, fp32, memory as the system gives it")
    parser.add_argument("--before", type=Path, help="JSON of an earlier run")
    parser.add_argument("--out", type=Path, help="folder of optable.json")
    args = parser.parse_args()
    earlier: dict[str, Any] = json.loads(args.before.read_text(encoding="utf-8")) if args.before else {}
    made: dict[str, Any] = {"machine": machine(), "model": args.model, "imgsz": args.imgsz}
    if not args.plain:
        keep_freed_memory()
    print(describe(made["machine"], {"model": args.model, "imgsz": args.imgsz}))
    for part, run in (("prediction", prediction), ("training_step", training_step)):
        made[part] = operators(run(args.model, args.imgsz, args.plain), args.rounds)
        print("\n" + show(part.replace("_", " "), made[part], earlier.get(part, {})), flush=True)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "optable.json").write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
