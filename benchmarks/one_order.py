"""What resampling with a gradient of one order costs on a CPU, and whether runs with it end with equal weights.

    python benchmarks/one_order.py --out DIR

Timed forward and backward, with one thread and with two: `grid_sample`, and deformable attention at the sizes of
rtdetr-l at 640 px with denoising queries. Then runs of a tiny network with `deterministic=True` in processes of their
own, in which the form with one order is taken on the CPU too, as a GPU takes it. Last, which operations give other
bits with two threads than with one: why runs with other numbers of threads differ.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest import mock

import torch
import torch.nn.functional as F
from common import HERE, ROOT, Report, arguments, environment, machine, take_turns, timed
from detection import demo_yaml
from torch import Tensor

sys.path.insert(0, str(ROOT))

from ultralytics.nn.modules import deformable
from ultralytics.utils.torch_tools import reproducible

LEVELS = [(80, 80), (40, 40), (20, 20)]
QUERIES, HEADS, WIDTH, POINTS = 500, 8, 32, 4


def backward_of(call: Callable[..., Tensor], *inputs: Tensor) -> Callable[[], None]:
    """Return a forward and a backward pass; no gradient is kept."""
    leaves = [x.clone().requires_grad_() for x in inputs]

    def run() -> None:
        torch.autograd.grad(call(*leaves).sum(), leaves)

    return run


def time_samplers(report: Report, threads: int, rounds: int) -> None:
    """Time both forms of plain resampling and of deformable attention."""
    torch.set_num_threads(threads)
    draw = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 64, 40, 40, generator=draw)
    grid = torch.rand(2, 80, 80, 2, generator=draw) * 2 - 1
    plain = {
        "ours": timed(backward_of(reproducible.grid_sample_in_order, maps, grid)),
        "grid_sample": timed(backward_of(lambda x, g: F.grid_sample(x, g, align_corners=False), maps, grid)),
    }
    report.compare(f"map of 64 x 40 x 40 at 80 x 80 points, {threads} thread(s)", take_turns(plain, rounds))
    tokens = sum(h * w for h, w in LEVELS)
    value = torch.randn(2, tokens, HEADS, WIDTH, generator=draw)
    places = torch.rand(2, QUERIES, HEADS, len(LEVELS) * POINTS, 2, generator=draw)
    weights = torch.rand(places.shape[:-1], generator=draw).softmax(-1)

    def in_order(x: Tensor, locations: Tensor, weight: Tensor) -> Tensor:
        with mock.patch.object(deformable, "sum_rows", reproducible.sum_rows_in_order):
            return deformable._sample_by_gather(x, LEVELS, locations, weight)

    attention = {
        "ours": timed(backward_of(in_order, value, places, weights)),
        "grid_sample": timed(
            backward_of(lambda *x: deformable._sample_by_grid(x[0], LEVELS, *x[1:]), value, places, weights)
        ),
        "the CPU's form": timed(
            backward_of(lambda *x: deformable._sample_by_gather(x[0], LEVELS, *x[1:]), value, places, weights)
        ),
    }
    report.compare_each(f"deformable attention, {threads} thread(s)", take_turns(attention, rounds))


def operations() -> dict[str, tuple[Callable[..., Tensor], list[Tensor]]]:
    """Operations of a training step with inputs at sizes of a small network, ours of one order among them."""
    draw = torch.Generator().manual_seed(0)

    def made(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw)

    levels, count = [(20, 20), (10, 10)], 500
    locations = torch.rand(2, 100, HEADS, 2 * POINTS, 2, generator=draw)
    weights = torch.rand(locations.shape[:-1], generator=draw).softmax(-1)

    def attended(x: Tensor, places: Tensor, weight: Tensor) -> Tensor:
        with mock.patch.object(deformable, "sum_rows", reproducible.sum_rows_in_order):
            return deformable._sample_by_gather(x, levels, places, weight)

    bilinear = reproducible.interpolate_bilinear
    return {
        "deformable attention, one order": (attended, [made(2, count, HEADS, 16), locations, weights]),
        "grid_sample, one order": (
            reproducible.grid_sample_in_order,
            [made(2, 32, 20, 20), torch.rand(2, 40, 40, 2, generator=draw) * 2 - 1],
        ),
        "grid_sample of torch": (
            lambda x, g: F.grid_sample(x, g, align_corners=False),
            [made(2, 32, 20, 20), torch.rand(2, 40, 40, 2, generator=draw) * 2 - 1],
        ),
        "bilinear resizing, one order": (lambda x: bilinear(x, (33, 47)), [made(2, 16, 20, 20)]),
        "convolution 3x3": (lambda x, w: F.conv2d(x, w, padding=1), [made(4, 64, 40, 40), made(64, 64, 3, 3)]),
        "convolution 1x1": (F.conv2d, [made(4, 64, 40, 40), made(64, 64, 1, 1)]),
        "linear": (F.linear, [made(4, 300, 256), made(256, 256), made(256)]),
        "batch norm": (
            lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
            [made(4, 64, 40, 40), made(64), made(64)],
        ),
        "layer norm": (lambda x, w, b: F.layer_norm(x, (256,), w, b), [made(4, 300, 256), made(256), made(256)]),
        "attention": (F.scaled_dot_product_attention, [made(2, 8, 300, 32) for _ in range(3)]),
        "sum of all": (lambda x: x.sum()[None], [made(4, 64, 40, 40)]),
    }


def bits(call: Callable[..., Tensor], inputs: Sequence[Tensor], threads: int) -> list[Tensor]:
    """Return an operation's output and gradients, computed with so many threads."""
    torch.set_num_threads(threads)
    leaves = [x.clone().requires_grad_() for x in inputs]
    y = call(*leaves)
    weights = torch.linspace(0.3, 1.7, y.numel()).view(y.shape)
    return [y.detach(), *torch.autograd.grad((y * weights).sum(), leaves)]


def compare_threads(report: Report) -> None:
    """Report which operations give other bits with two threads than with one."""
    with mock.patch.object(reproducible, "needs_one_order", lambda x: True):
        for name, (call, inputs) in operations().items():
            one, two = (bits(call, inputs, n) for n in (1, 2))
            parts = ["output", *(f"gradient {i + 1}" for i in range(len(inputs)))]
            apart = [p for p, a, b in zip(parts, one, two, strict=True) if not torch.equal(a, b)]
            report.fact(f"{name}: other bits with two threads than with one", ", ".join(apart) or "none")


def run_once(threads: int, folder: Path) -> str:
    """Train in a process of its own; return a hash of the weights."""
    command = [sys.executable, str(HERE / "one_order.py"), "--run", str(folder)]
    done = subprocess.run(
        command, env=environment(sys.executable, threads), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return done.stdout.strip().splitlines()[-1]


def train(folder: Path) -> str:
    """Train a tiny network for two epochs with the form of one order; return a hash of the weights."""
    from ultralytics import RTDETR
    from ultralytics.data.demo import generate_demo

    data = demo_yaml(generate_demo(folder / "demo", train=8, val=2, imgsz=128))
    model = RTDETR(str(HERE / "rtdetr-tiny-l.yaml"))
    quiet = {"plots": False, "val": False, "verbose": False, "project": str(folder), "name": "run", "amp": False}
    with (
        mock.patch.object(deformable, "sum_rows", reproducible.sum_rows_in_order),
        mock.patch.object(reproducible, "needs_one_order", lambda x: torch.is_grad_enabled()),
    ):
        model.train(data=data, epochs=2, imgsz=128, batch=4, workers=0, device="cpu", deterministic=True, **quiet)
    digest = hashlib.sha256()
    state = torch.load(folder / "run/weights/last.pt", weights_only=True)["model"]["state_dict"]
    for name in sorted(state):
        digest.update(state[name].numpy().tobytes())
    return digest.hexdigest()


def main() -> None:
    """Measure and report; `--run FOLDER` is one of the runs."""
    if sys.argv[1:2] == ["--run"]:
        print(train(Path(sys.argv[2])))
        return
    args = arguments(__doc__ or "", rounds=(3, 9))
    report = Report("one_order", "Resampling with a gradient of one order", {}, machine())
    for threads in (1, 2):
        time_samplers(report, threads, args.rounds)
    with tempfile.TemporaryDirectory() as folder:
        found = {n: [run_once(n, Path(folder, f"{n}-{i}")) for i in range(2)] for n in (1, 2)}
    for threads, (first, second) in found.items():
        report.fact(f"two runs with {threads} thread(s): equal weights", first == second, "yes", first == second)
    report.fact("a run with 1 thread and one with 2: equal weights", found[1][0] == found[2][0])
    compare_threads(report)
    report.write(args.out)


if __name__ == "__main__":
    main()
