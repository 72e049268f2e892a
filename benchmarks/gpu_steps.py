"""The steps of `gpu.py`, each run as `python gpu_steps.py NAME OPTIONS`; a row is one line of JSON.

Options: device, smoke (tiny sizes), peer (an interpreter or null), seconds (for what repeats).
"""

from __future__ import annotations

import copy
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import HERE
from detection import both, close, demo_images, demo_yaml, same_weights
from torch import Tensor, nn

from ultralytics import YOLO
from ultralytics.data.demo import generate_demo
from ultralytics.utils.torch_utils import autocast

TINY = str(HERE / "rtdetr-tiny-l.yaml")
FAMILIES = {"RT-DETR": "rtdetr-l.yaml", "D-FINE": "dfine-s.yaml", "YOLO": "yolo11n.yaml"}
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpy")


@dataclass(frozen=True)
class Setting:
    """Where and how large."""

    device: torch.device
    smoke: bool
    peer: str | None
    seconds: float

    @property
    def cuda(self) -> bool:
        """Whether this is a GPU of CUDA."""
        return self.device.type == "cuda"

    @property
    def size(self) -> int:
        """Image side in px."""
        return 64 if self.smoke else 640

    def models(self) -> dict[str, str]:
        """The YAML of each family."""
        return {**FAMILIES, "RT-DETR": TINY, "D-FINE": "dfine-n.yaml"} if self.smoke else FAMILIES

    def wait(self) -> None:
        """Wait for the device."""
        if self.cuda:
            torch.cuda.synchronize(self.device)


def row(what: str, value: object, state: str = "measured") -> None:
    """Print a row: `passed`, `failed`, `measured`, or `not run` with its reason as the value."""
    print(json.dumps({"what": what, "value": str(value), "state": state}), flush=True)


def check(what: str, value: object, holds: bool) -> None:
    """Print a row that passes or fails."""
    row(what, value, "passed" if holds else "failed")


def network(yaml: str) -> nn.Module:
    """A network with fixed weights, without denoising queries, which each device would draw for itself."""
    torch.manual_seed(0)
    made: Any = YOLO(yaml).model
    head = made.model[-1]
    if hasattr(head, "num_denoising"):
        head.num_denoising = 0
    module: nn.Module = made
    return module


def batch_of(count: int, size: int, device: torch.device) -> dict[str, Tensor]:
    """Drawn images with four boxes each."""
    draw = torch.Generator().manual_seed(1)
    owner = torch.arange(count).repeat_interleave(4)
    boxes = torch.rand(len(owner), 4, generator=draw) * 0.4 + 0.3  # cx, cy, w, h in 0..1
    made = {"img": torch.rand(count, 3, size, size, generator=draw), "bboxes": boxes, "batch_idx": owner}
    return {k: v.to(device) for k, v in {**made, "cls": torch.zeros(len(owner), 1)}.items()}


def loss_and_gradient(module: Any, batch: Mapping[str, Tensor]) -> tuple[float, Tensor]:
    """Loss of a training step, and all gradients in one vector on the CPU."""
    module.train().zero_grad(set_to_none=True)
    loss = module(dict(batch))[0].sum()
    loss.backward()
    grads = [p.grad.flatten().float().cpu() for p in module.parameters() if p.grad is not None]
    return float(loss), torch.cat(grads)


def boxes_of(module: nn.Module, images: Tensor) -> Tensor:
    """What the network gives in inference, on the CPU."""
    with torch.inference_mode():
        out: Any = module.eval()(images)
    first: Tensor = out[0] if isinstance(out, list | tuple) else out
    return first.float().cpu()


# ------------------------------------------------------------------------------------------------------------ steps
def agreement(at: Setting) -> None:
    """Losses, gradients and boxes of each family against the CPU."""
    kinds = ((False, 1e-4, 2e-3), (True, 1e-2, 5e-2))  # TF32, bounds of loss and gradient
    for tf32, loss_bound, bound in kinds if at.cuda else kinds[:1]:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        for family, yaml in at.models().items():
            here = network(yaml)
            there = copy.deepcopy(here).to(at.device)
            host, far = batch_of(2, at.size, torch.device("cpu")), batch_of(2, at.size, at.device)
            shown = boxes_of(there, far["img"]) - boxes_of(here, host["img"])
            (a, ga), (b, gb) = loss_and_gradient(here, host), loss_and_gradient(there, far)
            name = f"{family}, fp32{' with TF32' if tf32 else ''}"
            check(f"{name}: loss, relative difference", f"{abs(a - b) / abs(a):.1e}", abs(a - b) <= loss_bound * abs(a))
            difference = float((ga - gb).norm() / ga.norm())
            check(f"{name}: gradient, relative difference", f"{difference:.1e}", difference <= bound)
            # near ties in the selection of queries may swap rows, so the median counts
            row(f"{name}: output, median difference", f"{float(shown.abs().median()):.1e}")


def precision(at: Setting) -> None:
    """Mixed precision, and an overflow that is provoked."""
    for dtype in (torch.bfloat16, torch.float16):
        name = str(dtype).split(".")[-1]
        if not at.cuda and dtype is torch.float16:
            row(f"{name} with its scaler", "a GPU's; the CPU trains in bfloat16", "not run")
            continue
        module: Any = network(at.models()["RT-DETR"]).to(at.device).train()
        batch = batch_of(2, at.size, at.device)
        with autocast(True, at.device, dtype):
            loss = module(dict(batch))[0].sum()
        check(f"{name}: loss is finite", f"{float(loss):.4f}", bool(loss.isfinite()))
        if dtype is torch.float16:
            scaler = torch.amp.GradScaler("cuda", init_scale=2.0**60)  # above float16 by far
            optimizer = torch.optim.SGD(module.parameters(), lr=1e-3)
            before = next(module.parameters()).detach().clone()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            kept = torch.equal(before, next(module.parameters()))
            check("float16: an overflow changes no weight and halves the scale", scaler.get_scale(), kept)


def training(at: Setting) -> None:
    """Speed, memory, waits and loader of training steps."""
    for yaml, batch in ((at.models()["RT-DETR"], 16), ("rtdetr-r18.yaml", 16)):
        count = 2 if at.smoke else batch
        module: Any = network(yaml).to(at.device).train()
        optimizer = torch.optim.AdamW(module.parameters(), lr=1e-5, fused=True)  # as the trainer's
        data = batch_of(count, at.size, at.device)

        def step(module: Any = module, optimizer: Any = optimizer, data: Any = data) -> None:
            optimizer.zero_grad(set_to_none=True)
            with autocast(True, at.device, torch.bfloat16):
                loss = module(dict(data))[0].sum()
            loss.backward()
            optimizer.step()

        _speed(at, f"{Path(yaml).stem}, {at.size} px, batch {count}, bfloat16", step, count)
        if at.smoke:
            break
    _loader(at)


def _speed(at: Setting, name: str, step: Callable[[], None], count: int) -> None:
    step()
    at.wait()
    if at.cuda:
        torch.cuda.reset_peak_memory_stats(at.device)
    steps = 2 if at.smoke else 60
    start = time.perf_counter()
    for _ in range(steps):
        step()
    at.wait()
    row(f"{name}: images/s", f"{steps * count / (time.perf_counter() - start):.1f}")
    if not at.cuda:
        row(f"{name}: peak memory and host waits", "a GPU's", "not run")
        return
    row(f"{name}: peak memory, GiB", f"{torch.cuda.max_memory_allocated(at.device) / 2**30:.2f}")
    with torch.profiler.profile() as seen:
        step()
        at.wait()
    waits = Counter(e.name for e in seen.events() if e.name.startswith(WAITS))
    row(f"{name}: host waits of a step (one is this script's)", dict(waits))


def _loader(at: Setting) -> None:
    """Time that a run of the trainer waits for images."""
    with tempfile.TemporaryDirectory() as folder:
        results = Path(_train(at, Path(folder), profile=True), "profile.csv")
        if not results.is_file():
            row("parts of a step", "the run wrote no profile.csv", "not run")
            return
        lines = results.read_text(encoding="utf-8").splitlines()
        row("parts of a step, profile.csv", " ; ".join(lines))


def _train(at: Setting, folder: Path, **changes: Any) -> str:
    """A short run on drawn images; its folder."""
    count = 4 if at.smoke else 128
    data = demo_yaml(generate_demo(folder / "demo", train=count, val=2, imgsz=at.size))
    fixed = {"epochs": 1, "imgsz": at.size, "batch": 2 if at.smoke else 16, "workers": 0 if at.smoke else 8}
    quiet = {"plots": False, "val": False, "verbose": False, "project": str(folder), "name": "run"}
    model = YOLO(at.models()["RT-DETR"])
    model.train(data=data, device=_device(at), **{**fixed, **quiet, **changes})
    trainer: Any = model.trainer
    return str(trainer.save_dir)


def _device(at: Setting) -> str:
    return str(at.device.index or 0) if at.cuda else "cpu"


def _weights(run: str) -> dict[str, Tensor]:
    module: Any = YOLO(str(Path(run, "weights", "last.pt"))).model
    state: dict[str, Tensor] = module.state_dict()
    return state


def _equal(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def deterministic(at: Setting) -> None:
    """Equal weights of two runs, and what reproducible sampling costs."""
    with tempfile.TemporaryDirectory() as folder:
        runs, seconds = [], []
        for i, chosen in enumerate((True, True, False)):
            start = time.perf_counter()
            runs.append(_weights(_train(at, Path(folder, str(i)), deterministic=chosen)))
            seconds.append(time.perf_counter() - start)
        check("two runs, deterministic=True: equal weights", _equal(runs[0], runs[1]), _equal(runs[0], runs[1]))
        row("run with deterministic=True / False, seconds", f"{seconds[1]:.1f} / {seconds[2]:.1f}")


def resume(at: Setting) -> None:
    """A cut run ends like a whole one."""
    with tempfile.TemporaryDirectory() as folder:
        whole = _weights(_train(at, Path(folder, "whole"), epochs=2))
        cut = Path(folder, "cut")
        data = {"epochs": 2, "save_period": 1}
        run = _train(at, cut, **data)
        first = Path(run, "weights", "epoch0.pt")
        again = YOLO(str(first))
        again.train(resume=str(first), device=_device(at), save_dir=str(cut / "again"), exist_ok=True)
        trainer: Any = again.trainer
        same = _equal(whole, _weights(str(trainer.save_dir)))
        check("resumed after epoch 1 of 2: equal weights", same, same)


def out_of_memory(at: Setting) -> None:
    """The error of a batch that cannot fit."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            _train(at, Path(folder), batch=4096, imgsz=1280)
        except Exception as e:
            check("out of memory: the error", str(e).replace("\n", " "), "would fit" in str(e))
        else:
            row("out of memory", "a batch of 4,096 images fits", "not run")


def auto_batch(at: Setting) -> None:
    """`batch=-1`."""
    with tempfile.TemporaryDirectory() as folder:
        _train(at, Path(folder), batch=-1)
        row("batch=-1: peak memory of the run, GiB", f"{torch.cuda.max_memory_reserved(at.device) / 2**30:.1f}")


def latency(at: Setting) -> None:
    """Prediction from arrays to Results."""
    model: Any = YOLO(at.models()["RT-DETR"])
    picture = np.zeros((480, 640, 3), np.uint8)
    for count in (1, 16):
        call = {"imgsz": at.size, "device": _device(at), "batch": count, "verbose": False}
        images = [picture] * count
        model.predict(images, **call)
        times = []
        for _ in range(2 if at.smoke else 20):
            at.wait()
            start = time.perf_counter()
            model.predict(images, **call)
            times.append(time.perf_counter() - start)
        row(f"prediction, batch {count}, default precision: median ms", f"{1e3 * float(np.median(times)):.1f}")


def two_processes(at: Setting) -> None:
    """Two runs at once on one device."""
    with tempfile.TemporaryDirectory() as folder:
        alone = _weights(_train(at, Path(folder, "alone")))
        context = torch.multiprocessing.get_context("spawn")
        jobs = [context.Process(target=_train, args=(at, Path(folder, f"beside{i}"))) for i in range(2)]
        for job in jobs:
            job.start()
        for job in jobs:
            job.join()
        ended = [job.exitcode for job in jobs]
        same = not any(ended) and all(_equal(alone, _weights(str(Path(folder, f"beside{i}", "run")))) for i in range(2))
        check("two runs at once: each ends with the weights of one alone", same, same)


def compiled(at: Setting) -> None:
    """`torch.compile` of the network in inference."""
    plain = network(at.models()["RT-DETR"]).to(at.device).eval()
    images = batch_of(2, at.size, at.device)["img"]
    first = boxes_of(plain, images)
    after = boxes_of(torch.compile(plain), images)
    difference = float((first - after).abs().median())
    check("compiled network: median difference of outputs", f"{difference:.1e}", difference < 1e-2)


def tensorrt(at: Setting) -> None:
    """An engine file."""
    with tempfile.TemporaryDirectory() as folder:
        model: Any = YOLO(at.models()["RT-DETR"])
        model.save(Path(folder, "m.pt"))
        file = YOLO(str(Path(folder, "m.pt"))).export(format="engine", imgsz=at.size, device=_device(at))
        row("engine file passes the parity gate", file)


def peer(at: Setting) -> None:
    """Stock's training step beside ours."""
    from common import machine, take_turns

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text, _ = same_weights("rtdetr-hgnetv2-l.yaml", folder)
        size, batch = (64, 2) if at.smoke else (640, 16)
        data = demo_images(folder, 32, 2, 640)
        how = {"yaml": text, "data": data, "imgsz": size, "batch": batch, "nbs": batch, "workers": 8}
        how |= {"optimizer": "AdamW", "lr0": 1e-4, "mosaic": 0.0, "warmup_epochs": 0, "amp": True}
        sides = both(str(at.peer), "step", {**how, "device": _device(at)}, machine()["threads"])
        times = take_turns(sides, 1 if at.smoke else 5)
        close(sides)
        for side, seconds in times.items():
            row(f"training step, batch {batch}, {size} px: {side}, median s", f"{float(np.median(seconds)):.3f}")


CALLS: dict[str, Callable[[Setting], None]] = {
    f.__name__: f
    for f in (
        *(agreement, precision, training, deterministic, resume, out_of_memory),
        *(auto_batch, latency, two_processes, compiled, tensorrt, peer),
    )
}


def main() -> None:
    """Run one step."""
    options = json.loads(sys.argv[2])
    device = torch.device(options["device"])
    if device.type == "cuda" and not torch.cuda.is_available():
        row(sys.argv[1], "no CUDA device is here", "not run")
        return
    CALLS[sys.argv[1]](Setting(device, options["smoke"], options["peer"], options["seconds"]))


if __name__ == "__main__":
    main()
