"""A table of the estimated peak memory of a training step by model, image size, batch and precision.

    python benchmarks/memory_table.py                           # Markdown
    python benchmarks/memory_table.py --check rtdetr-r18.yaml    # the estimate beside the memory of a real step, CPU

An estimate is a run without values, `ultralytics.nn.profile.activation_memory.estimate_training`: no weights are
loaded and no GPU is needed. Weights, gradients, two moments of the optimizer and the average are part of it; work
spaces of kernels and the memory of CUDA itself, some hundred MB, are not.
"""

from __future__ import annotations

import argparse
import sys

import torch
from common import ROOT, peak_mb

sys.path.insert(0, str(ROOT))

from ultralytics import YOLO
from ultralytics.nn.profile.activation_memory import TrainingMemory, estimate_training

MODELS = (
    *("rtdetr-l.yaml", "rtdetr-r18.yaml", "rtdetr-r50.yaml", "rtdetr-hgnetv2-l.yaml", "rtdetr-x.yaml"),
    *("dfine-n.yaml", "dfine-s.yaml", "dfine-l.yaml", "yolo11n.yaml", "yolo11s.yaml"),
)
GIB = 2**30


def estimate(yaml: str, imgsz: int, amp: bool) -> TrainingMemory | None:
    """Estimate a model of the package."""
    return estimate_training(YOLO(yaml).model, imgsz, amp=torch.bfloat16 if amp else None)


def markdown(models: list[str], sizes: list[int], batches: list[int]) -> str:
    """The table; a row for each model, size and precision."""
    heads = ["model", "px", "precision", "fixed, GiB", "an image, GiB", *(f"batch {b}" for b in batches)]
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
    for yaml in models:
        for imgsz in sizes:
            for amp in (False, True):
                found = estimate(yaml, imgsz, amp)
                if found is None:
                    lines.append(f"| {yaml} | {imgsz} | no estimate: it needs values |" + " |" * (len(heads) - 3))
                    continue
                figures = [found.peak(0) / GIB, found.image / GIB, *(found.peak(b) / GIB for b in batches)]
                cells = [yaml, str(imgsz), "bf16" if amp else "fp32", *(f"{f:.2f}" for f in figures)]
                lines.append("| " + " | ".join(cells) + " |")
                print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join(lines)


def check(yaml: str, imgsz: int, batch: int) -> str:
    """Run a real step in fp32 and set its memory beside the estimate, both beside weights and gradients."""
    model = YOLO(yaml).model.train()
    found = estimate_training(model, imgsz)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    objects = 10 * batch
    data = {"img": torch.rand(batch, 3, imgsz, imgsz), "cls": torch.zeros(objects, 1)}
    data |= {"bboxes": torch.rand(objects, 4) * 0.5 + 0.2, "batch_idx": torch.arange(batch).repeat_interleave(10)}
    before = peak_mb()
    model(data)[0].sum().backward()
    rise = peak_mb() - before
    image = 0.0 if found is None else found.image / 2**20 * batch
    return f"{yaml}, {imgsz} px, batch {batch}, fp32: estimated {image:.0f} MB, resident memory rose by {rise:.0f} MB"


def main() -> None:
    """Print the table, or one comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=list(MODELS))
    parser.add_argument("--imgsz", type=int, nargs="*", default=[640])
    parser.add_argument("--batch", type=int, nargs="*", default=[8, 16, 32])
    parser.add_argument("--check", metavar="YAML")
    args = parser.parse_args()
    if args.check:
        print(check(args.check, args.imgsz[0], args.batch[0]))
        return
    print(markdown(args.models, args.imgsz, args.batch))


if __name__ == "__main__":
    main()
