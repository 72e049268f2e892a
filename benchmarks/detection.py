"""What detector benchmarks give to both sides: the same network with the same weights, the same images."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from common import Worker, environment

_EXPORT = """
import sys
from pathlib import Path
import torch
import ultralytics
from ultralytics.nn.export.stock_state_dict import export_state_dict
yaml, weights, stem = sys.argv[1:]
torch.manual_seed(0)
model = ultralytics.RTDETR(weights or yaml).model
if not weights:  # else features fade layer by layer, all places get equal scores, and no two sides choose the same ones
    norms = [m for m in model.eval().modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.train().momentum = None
    with torch.no_grad():
        model(torch.rand(2, 3, 320, 320))
    for norm in norms:
        norm.eval()
print(*export_state_dict(model, Path(stem)), sep="\\n")
"""
_DRAW = """
import sys
from ultralytics.data.demo import generate_demo
generate_demo(sys.argv[1], train=int(sys.argv[2]), val=int(sys.argv[3]), seed=0, imgsz=int(sys.argv[4]))
"""


def _ours(code: str, *args: str) -> list[str]:
    command = [sys.executable, "-c", code, *args]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(sys.executable))
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return done.stdout.splitlines()


def same_weights(yaml: str, folder: Path, weights: str = "") -> tuple[str, str]:
    """Write a model by `yolo export format=state_dict`; return its YAML and weights, which both sides load."""
    file, text = _ours(_EXPORT, yaml, weights, str(folder / "model"))[-2:]
    return text, file


def demo_images(folder: Path, train: int, val: int, imgsz: int) -> str:
    """Draw a small data set; return its YAML."""
    root = folder / "demo"
    _ours(_DRAW, str(root), str(train), str(val), str(imgsz))
    return demo_yaml(root)


def demo_yaml(root: Path) -> str:
    """Write the YAML of a drawn data set beside its folder; return its path."""
    yaml = root.with_suffix(".yaml")
    names = "\n".join(f"  {i}: {name}" for i, name in enumerate(("ball", "block", "wedge", "star", "ring")))
    yaml.write_text(f"path: {root}\ntrain: images/train\nval: images/val\nnames:\n{names}\n", encoding="utf-8")
    return str(yaml)


def both(peer: str | None, part: str, args: dict[str, Any], threads: int | None = None) -> dict[str, Worker]:
    """Start a part on our side and, if there is one, on the peer's."""
    sides = {"ours": Worker(sys.executable, "detector", part, args, threads)}
    if peer:
        sides["stock"] = Worker(peer, "detector", part, args, threads)
    return sides


def close(sides: dict[str, Worker]) -> None:
    """End the processes."""
    for side in sides.values():
        side.close()
