"""Peak memory of a training step with and without `activation_checkpointing`, and the time of both.

    python benchmarks/activation_memory.py --model rtdetr-l.yaml --scale n --imgsz 640 --batch 1

Peak is what the resident memory of the process rises to, above its highest before the first step (Linux, CPU).
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ultralytics.nn.tasks import RTDETRDetectionModel


def peak_mb() -> float:
    """Return the highest resident memory of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def step(model: RTDETRDetectionModel, imgsz: int, images: int) -> float:
    """Run one forward and backward pass on noise with ten objects an image; return its seconds."""
    torch.manual_seed(0)
    objects = 10 * images
    batch = {
        "img": torch.rand(images, 3, imgsz, imgsz).contiguous(memory_format=torch.channels_last),
        "cls": torch.zeros(objects),
        "bboxes": torch.rand(objects, 4) * 0.5 + 0.2,
        "batch_idx": torch.arange(images).repeat_interleave(10),
    }
    start = time.perf_counter()
    model(batch)[0].backward()
    return time.perf_counter() - start


def main() -> None:
    """Measure and print; the option comes first, since a peak cannot fall again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="rtdetr-l.yaml")
    parser.add_argument("--scale", default=None)
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--batch", type=int, default=1)
    options = parser.parse_args()
    model = RTDETRDetectionModel(options.model, scale=options.scale, verbose=False).train()
    model = model.to(memory_format=torch.channels_last)
    for p in model.parameters():  # gradients are held by both
        p.grad = torch.zeros_like(p)
    before = peak_mb()
    print(
        f"{options.model} {options.scale or ''} {options.imgsz} px, batch {options.batch}, fp32, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}, {before:.0f} MB before the step"
    )
    for on in (True, False):
        model.activation_checkpointing = on
        seconds = step(model, options.imgsz, options.batch)
        print(f"activation_checkpointing={on!s:<5}  peak +{peak_mb() - before:.0f} MB  step {seconds:.1f} s")


if __name__ == "__main__":
    main()
