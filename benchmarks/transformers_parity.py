"""Not time: do files of `transformers` give the same queries here?

    python benchmarks/transformers_parity.py --models PYTHON             # RT-DETRv2 of five sizes, about two minutes
    python benchmarks/transformers_parity.py --models PYTHON --sizes rtdetr-r18 dfine-n   # any other YAML by its name

Each model is built at random by the library, in an environment of its own, and saved in its format; here the file opens
as any weights, and is loaded into the model YAML of the size. RT-DETRv2 follows a configuration that is written down;
for the others it is that of `export format=hf`. Queries are compared as a set, since equal scores in the
selection leave their order to rounding: each has as its partner the one whose box and logits are nearest. Exit status:
how many networks have a query beyond 1e-4.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from common import HERE, environment
from torch import Tensor

from ultralytics import RTDETR
from ultralytics.engine.export.hub_folder import network_outputs
from ultralytics.nn.export.transformers_folder import transformers_form, write_transformers
from ultralytics.nn.tasks import DetectionModel

SIZES = ("r18", "r34", "r50-m", "r50", "r101")
"""RT-DETRv2's; any other size is the name of a model YAML."""
BOUND = 1e-4


def answers(network: DetectionModel, images: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (B, Q, nc) and boxes (B, Q, 4) of a network."""
    found = [network_outputs(network.eval(), image) for image in images.split(1)]
    return torch.stack([one.logits for one in found]), torch.stack([one.boxes for one in found])


def networks(file: Path, yaml: str) -> Iterator[tuple[str, DetectionModel]]:
    """The network that a file opens as, and the one of the size's YAML with its weights."""
    yield "opened", RTDETR(str(file)).model
    model = RTDETR(yaml)
    model.load(str(file))
    yield f"in {yaml}", model.model


def difference(logits: Tensor, boxes: Tensor, want_logits: Tensor, want_boxes: Tensor) -> tuple[float, float, int]:
    """Largest difference of paired logits and boxes, and how many queries of one image lie beyond the bound."""
    ours, theirs = (torch.cat(pair, -1) for pair in ((logits, boxes), (want_logits, want_boxes)))
    worst_logits = worst_boxes = 0.0
    beyond = 0
    for a, b in zip(ours, theirs, strict=True):
        gap = torch.cdist(a.double(), b.double(), p=float("inf"))
        near = gap.argmin(1)
        off = gap.amin(1) > BOUND
        beyond += int(off.sum())
        change = (a - b[near]).abs() * ~off[:, None]
        worst_logits = max(worst_logits, float(change[:, :-4].max()))
        worst_boxes = max(worst_boxes, float(change[:, -4:].max()))
    return worst_logits, worst_boxes, beyond


def random_file(python: str, size: str, imgsz: int, folder: Path) -> Path:
    """Let the library write a random model of a size into the folder, with its answers; return the file."""
    args: dict[str, object] = {"out": str(folder), "imgsz": imgsz}
    if size in SIZES:
        args["size"] = size
    else:
        write_transformers(transformers_form(RTDETR(f"{size}.yaml").model), folder, imgsz, "")
        args["config"] = str(folder)
    command = [python, str(HERE / "sides" / "random_models.py"), json.dumps(args)]
    subprocess.run(command, env=environment(python), check=True, capture_output=True)
    return folder / "model.safetensors"


def main() -> int:
    """Compare each size; print a line for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", required=True, metavar="PYTHON", help="interpreter with transformers")
    parser.add_argument("--sizes", nargs="+", default=list(SIZES))
    parser.add_argument("--imgsz", type=int, default=320)
    args = parser.parse_args()
    wrong = 0
    for size in args.sizes:
        with tempfile.TemporaryDirectory() as folder:
            file = random_file(args.models, size, args.imgsz, Path(folder))
            data = np.load(Path(folder) / "answers.npz")
            image, *want = (torch.from_numpy(data[name]) for name in ("image", "logits", "boxes"))
            yaml = f"rtdetrv2-{size}.yaml" if size in SIZES else f"{size}.yaml"
            for name, network in networks(file, yaml):
                logits, boxes = answers(network, image)
                worst_logits, worst_boxes, beyond = difference(logits, boxes, *want)
                print(
                    f"{size:<20} {name:<24} logits {worst_logits:.1e}, boxes {worst_boxes:.1e}, {beyond} of "
                    f"{logits.shape[0] * logits.shape[1]} queries beyond {BOUND:.0e}",
                    flush=True,
                )
                wrong += beyond > 0
    return wrong


if __name__ == "__main__":
    sys.exit(main())
