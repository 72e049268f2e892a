"""Every model YAML of the package: what must hold for each of them, checked one after another.

    python benchmarks/every_yaml.py --out every_yaml.json            # about an hour on one core
    python benchmarks/every_yaml.py rtdetr dfine --part 1/4          # files whose names begin so, a quarter of them
    python benchmarks/every_yaml.py --identity                       # the blocks that start as the identity

For each file, at its smallest scale and on small images: it builds; within twelve steps of AdamW on one batch its loss
falls; in float64 the fused network equals the unfused one, and a batch of two images equals two single ones (largest
difference at the inputs of the head and of the scores, as a part of the largest value); the ONNX file passes the
package's own comparison with the model. Prints a line a file; the exit status is the number of files that fail.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ultralytics import YOLO
from ultralytics.nn.base_model import BaseModel
from ultralytics.nn.build.spec import load_model_yaml
from ultralytics.nn.profile.block_facts import block_facts
from ultralytics.nn.registry import REGISTRY
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils import ROOT
from ultralytics.utils.errors import UserError
from ultralytics.utils.files import atomic_write

FILES = sorted((ROOT / "cfg" / "models").rglob("*.yaml"))
CLASSES, STEPS, RATE = 3, 12, 1e-4
EQUAL = 1e-5


@dataclass
class Report:
    """What was found for one file. Differences are parts of the largest value; empty strings mean a pass."""

    name: str
    scale: str = ""
    imgsz: int = 0
    params: int = 0
    loss: tuple[float, float] = (0.0, 0.0)
    fused: float = float("inf")
    single: float = float("inf")
    onnx: str = "not run"
    error: str = ""
    seconds: float = 0.0

    @property
    def failures(self) -> list[str]:
        """What does not hold."""
        found = [self.error] if self.error else []
        found += [] if self.loss[1] < self.loss[0] else [f"loss {self.loss[0]:.4g} -> {self.loss[1]:.4g}"]
        found += [] if self.fused <= EQUAL else [f"fused differs by {self.fused:.2g}"]
        found += [] if self.single <= EQUAL else [f"a batch differs by {self.single:.2g}"]
        return found + ([f"onnx: {self.onnx}"] if self.onnx else [])

    def line(self) -> str:
        """One line of the table."""
        verdict = "; ".join(self.failures) or "passes"
        return (
            f"{self.name:<34}{self.scale:<3}{self.imgsz:>4}{self.params:>13,}  loss {self.loss[0]:>8.3f} ->"
            f"{self.loss[1]:>8.3f}  fused {self.fused:.0e}  single {self.single:.0e}  {verdict}  ({self.seconds:.0f} s)"
        )


def smallest_scale(data: Any) -> str:
    """The letter of the scale with the fewest channels, '' without scales."""
    scales: dict[str, list[float]] = data.get("scales") or {}
    return min(scales, key=lambda letter: scales[letter][:2]) if scales else ""


def batch_of(side: int, task: str) -> dict[str, Tensor]:
    """Two images of noise with blobs, and three boxes on them; for a classifier two classes."""
    make = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, side, side, generator=make) * 0.2
    boxes = torch.tensor([[0.3, 0.3, 0.3, 0.3], [0.7, 0.6, 0.4, 0.3], [0.5, 0.5, 0.5, 0.5]])
    owner = torch.tensor([0, 0, 1])
    for (cx, cy, w, h), i, kind in zip(boxes.tolist(), owner.tolist(), (0, 1, 2), strict=True):
        left, top = int((cx - w / 2) * side), int((cy - h / 2) * side)
        image[i, kind, top : top + int(h * side), left : left + int(w * side)] += 0.7
    if task == "classify":
        return {"img": image, "cls": torch.tensor([0, 1])}
    return {"img": image, "cls": torch.tensor([[0.0], [1.0], [2.0]]), "bboxes": boxes, "batch_idx": owner.float()}


def train(network: BaseModel, batch: dict[str, Tensor]) -> tuple[float, float]:
    """Loss of the batch before the steps and its lowest value after them, with the same random numbers in each.

    One step need not lower it: the assignment of targets to places jumps, in yolo12 for about eight steps.
    """
    network.train().requires_grad_(True)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE)
    losses = []
    for _ in range(STEPS + 1):
        torch.manual_seed(0)
        loss = network(batch)[0].sum()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses[0], min(losses[1:])


def seen(network: BaseModel, images: Tensor) -> list[Tensor]:
    """The inputs of the head, and its output in eval."""
    maps: list[Any] = []
    hook = network.model[-1].register_forward_pre_hook(lambda _module, args: maps.append(args[0]))
    with torch.no_grad():
        output = network.eval()(images)
    hook.remove()
    first = output[0] if isinstance(output, (tuple, list)) else output
    scores = first[..., 4] if first.dim() == 3 and first.shape[-1] == 6 else first
    found = maps[0] if isinstance(maps[0], (list, tuple)) else [maps[0]]
    return [*found, scores]


def difference(got: Sequence[Tensor], want: Sequence[Tensor]) -> float:
    """Largest difference, as a part of the largest value of its tensor."""
    pairs = zip(got, want, strict=True)
    return max(float((a - b).abs().max() / b.abs().max().clamp(min=1e-9)) for a, b in pairs)


def equalities(network: BaseModel, images: Tensor) -> tuple[float, float]:
    """Fused against unfused, and a batch against single images, in float64."""
    network, images = copy.deepcopy(network).double().eval(), images.double()
    want = seen(network, images)
    alone = [torch.cat(parts) for parts in zip(*(seen(network, x[None]) for x in images), strict=True)]
    network.fuse(verbose=False)
    return difference(seen(network, images), want), difference(alone, want)


def check(file: Path, with_onnx: bool) -> Report:
    """Check one file."""
    started = time.perf_counter()
    data = load_model_yaml(file).data
    report = Report(file.stem, smallest_scale(data))
    try:
        torch.manual_seed(0)
        model = YOLO({**data, "nc": CLASSES}, scale=report.scale or None)
        network = model.model
        report.params = sum(p.numel() for p in network.parameters())
        report.imgsz = max(2 * int(max(network.stride)), 64)
        batch = batch_of(report.imgsz, model.task)
        report.loss = train(network, batch)
        report.fused, report.single = equalities(network, batch["img"])
        if with_onnx:
            report.onnx = exported(model, report.imgsz)
    except (UserError, RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError) as e:
        report.error = f"{type(e).__name__}: {str(e).strip().splitlines()[0][:200]}"
    report.seconds = time.perf_counter() - started
    return report


def exported(model: YOLO, imgsz: int) -> str:
    """Why the ONNX file does not pass, '' when it does."""
    model.model.eval()
    with tempfile.TemporaryDirectory() as folder:
        try:
            model.export(format="onnx", imgsz=imgsz, simplify=False, save_dir=folder)
        except UserError as e:
            return " | ".join(str(e).strip().splitlines())[:300]
    return ""


# ------------------------------------------------------------------------------------------------------------- identity
def with_row(data: dict[str, Any], after: int, row: list[Any]) -> dict[str, Any]:
    """A model mapping with a row put in behind a layer of the backbone; absolute numbers behind it move by one."""

    def moved(source: Any) -> Any:
        return [moved(s) for s in source] if isinstance(source, list) else source + (source > after)

    parts = {part: [[moved(f), *rest] for f, *rest in data[part]] for part in ("backbone", "head")}
    parts["backbone"].insert(after + 1, row)
    return {**data, **parts}


def identity(name: str, args: tuple[Any, ...]) -> float:
    """How much rtdetr-l's output changes when a new block is put in and the weights are loaded."""
    data = load_model_yaml("rtdetr-l.yaml", scale="n").data
    torch.manual_seed(0)
    source = RTDETRDetectionModel(dict(data), verbose=False)
    train(source, batch_of(64, "detect"))
    target = RTDETRDetectionModel(with_row(dict(data), 6, [-1, 1, name, list(args)]), verbose=False)
    target.load(source, verbose=False)
    images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    return difference(seen(target, images), seen(source, images))


def identities() -> int:
    """Print a line for each block that can start as the identity; return how many change the output."""
    wrong = 0
    for name in REGISTRY:
        entry = REGISTRY.get(name)
        if entry is None or not callable(getattr(entry.cls, "start_as_identity", None)):
            continue
        described = block_facts(name)
        if described.args is None or not described.identity:
            continue
        width = load_model_yaml("rtdetr-l.yaml", scale="n").scale  # of the row's channels, which the builder scales
        args = tuple(a if a != 256 else 512 for a in described.args) if width else described.args
        try:
            change = identity(described.name, args)
        except UserError as e:
            change = float("inf")
            print(str(e).splitlines()[0])
        wrong += change > EQUAL
        print(f"{described.name:<24}{args!s:<12} the output changes by {change:.1e}", flush=True)
    return wrong


def main() -> int:
    """Check the files; return how many fail."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="beginnings of names; all files when none is given")
    parser.add_argument("--part", default="1/1", metavar="K/N", help="every N-th file, from the K-th on")
    parser.add_argument("--no-onnx", action="store_true", help="leave out the exports")
    parser.add_argument("--identity", action="store_true", help="check the blocks that start as the identity instead")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write all figures as JSON")
    args = parser.parse_args()
    if args.identity:
        return identities()
    part, parts = map(int, args.part.split("/"))
    chosen = [f for f in FILES if not args.names or f.stem.startswith(tuple(args.names))][part - 1 :: parts]
    reports = []
    for file in chosen:
        reports.append(check(file, not args.no_onnx))
        print(reports[-1].line(), flush=True)
        if args.out:
            with atomic_write(args.out) as f:
                json.dump([asdict(r) for r in reports], f, indent=1)
    return sum(bool(r.failures) for r in reports)


if __name__ == "__main__":
    sys.exit(main())
