"""The steps of `gpu.py`, each run as `python gpu_steps.py NAME OPTIONS`; a row is one line of JSON.

Options: device, smoke (tiny sizes), peer (an interpreter or null), seconds (for what repeats).
"""

from __future__ import annotations

import copy
import json
import logging
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from block_exports import example, inputs
from detection import both, close, demo_images, demo_yaml, same_weights
from gpu_setting import Setting, batch_of, boxes_of, calibrated, check, loss_and_gradient, network, row, same_queries
from torch import Tensor

from ultralytics import YOLO
from ultralytics.data.demo import generate_demo
from ultralytics.nn.profile.block_facts import BlockFacts, block_facts
from ultralytics.nn.registry import REGISTRY
from ultralytics.utils import LOGGER
from ultralytics.utils.torch_utils import autocast

WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpyAsync", "cudaMemcpy")
"""Calls of the host that wait or may wait; a copy waits where it is of memory that is not pinned."""
LIMITED_GIB = 6.0
"""Memory of a card that running out of it is tried with."""


# ------------------------------------------------------------------------------------------------------------ steps
def card(at: Setting) -> None:
    """Name the device and its libraries."""
    if not at.cuda:
        row("device", at.device)
        return
    info = torch.cuda.get_device_properties(at.device)
    libraries = f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    row("device", f"{info.name}, {info.total_memory / 2**30:.0f} GiB, {info.major}.{info.minor}; {libraries}")
    if tool := shutil.which("nvidia-smi"):
        command = [tool, "--query-gpu=driver_version,power.limit", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        row("driver, power limit", done.stdout.strip().replace("\n", " ; "))


def agreement(at: Setting) -> None:
    """Losses, gradients and boxes of each family against the CPU."""
    kinds = ((False, 1e-4, 2e-3), (True, 1e-2, 5e-2)) if at.cuda else ((False, 1e-4, 2e-3),)  # TF32, bounds
    host, far = batch_of(2, at.size, torch.device("cpu")), batch_of(2, at.size, at.device)
    for family, model in at.models().items():
        module, known = calibrated(network(model), host["img"]), []
        with same_queries(module, known):
            wanted = boxes_of(module, host["img"]), *loss_and_gradient(copy.deepcopy(module), host)
        for tf32, loss_bound, bound in kinds:
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
            there = copy.deepcopy(module).to(at.device)
            with same_queries(there, known):
                found = boxes_of(there, far["img"]), *loss_and_gradient(there, far)
            name = f"{family}, fp32{' with TF32' if tf32 else ''}"
            (shown, a, ga), (seen, b, gb) = wanted, found
            check(f"{name}: loss, relative difference", f"{abs(a - b) / abs(a):.1e}", abs(a - b) <= loss_bound * abs(a))
            difference = float((ga - gb).norm() / ga.norm())
            check(f"{name}: gradient, relative difference", f"{difference:.1e}", difference <= bound)
            # near ties in the rows' order may swap them, so the median counts
            row(f"{name}: output, median difference", f"{float((shown - seen).abs().median()):.1e}")


def blocks(at: Setting) -> None:
    """Every row with an example: outputs and gradients against the CPU, with reproducible forms alone."""
    names = ("SHSA", "DCNv2", "DySample", "CGAFusion", "SDI", "ACmix") if at.smoke else tuple(REGISTRY)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.use_deterministic_algorithms(True)
    unordered, apart, ran, end = [], [], 0, time.monotonic() + at.seconds
    for name in names:
        described = block_facts(name)
        if described.args is None or time.monotonic() > end:
            continue
        ran += 1
        try:
            difference = _block_difference(described, at.device)
        except RuntimeError as e:
            unordered.append(f"{name} ({str(e).splitlines()[0][:80]})")
            continue
        if not difference <= 1e-2:
            apart.append(f"{name} {difference:.1e}")
    row("rows compared", f"{ran} of {sum(block_facts(n).args is not None for n in names)}")
    check("rows that fail or have no reproducible gradient", ", ".join(unordered) or "none", not unordered)
    check("rows whose output or gradient differs by over 1e-2 of its largest", ", ".join(apart) or "none", not apart)


def _block_difference(described: BlockFacts, device: torch.device) -> float:
    """Largest difference of outputs and gradients of a row's example from those of the CPU, relative."""
    found = []
    for place in (torch.device("cpu"), device):
        block: Any = example(described).to(place).requires_grad_()
        maps = [x.to(place).requires_grad_() for x in inputs(described, 0)]
        outputs = [y for y in block(*maps) if y.is_floating_point()]
        torch.stack([y.square().mean() for y in outputs]).sum().backward()
        grads = [x.grad for x in maps if x.grad is not None]
        found.append([t.detach().cpu() for t in (*outputs, *grads)])
    pairs = zip(*found, strict=True)
    return max(float((a - b).abs().max() / a.abs().max().clamp(min=1e-6)) for a, b in pairs)


def precision(at: Setting) -> None:
    """Mixed precision, and an overflow that is provoked."""
    for dtype in (torch.bfloat16, torch.float16):
        name = str(dtype).split(".")[-1]
        if not at.cuda and dtype is torch.float16:
            row(f"{name} with its scaler", "a GPU's; the CPU trains in bfloat16", "not run")
            continue
        module: Any = network(at.models()["RT-DETR"]).to(at.device).train()
        batch = batch_of(2, at.size, at.device)
        exact = float(module(dict(batch))[0].sum())
        with autocast(True, at.device, dtype):
            loss = module(dict(batch))[0].sum()
        near = abs(float(loss) - exact) <= 0.1 * abs(exact)
        check(f"{name}: loss, and that of float32", f"{float(loss):.4f}, {exact:.4f}", near)
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
    for model in (at.models()["RT-DETR"],) if at.smoke else (at.models()["RT-DETR"], "rtdetr-r18.yaml"):
        count = 2 if at.smoke else 16
        while count:
            try:
                _speed(at, model, count)
                break
            except torch.OutOfMemoryError:
                row(f"{Path(model).stem}, {at.size} px, batch {count}", "does not fit", "not run")
                count //= 2
                torch.cuda.empty_cache()
    _loader(at)


def _step(at: Setting, model: str, count: int) -> Callable[[], None]:
    """A training step on one batch, as the trainer's."""
    module: Any = network(model).to(at.device).train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-5, fused=True)
    data = batch_of(count, at.size, at.device)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast(True, at.device, torch.bfloat16):
            loss = module(dict(data))[0].sum()
        loss.backward()
        optimizer.step()

    return step


def _speed(at: Setting, model: str, count: int) -> None:
    name, step = f"{Path(model).stem}, {at.size} px, batch {count}, bfloat16", _step(at, model, count)
    for _ in range(1 if at.smoke else 3):  # kernels are chosen, memory is fetched
        step()
    at.wait()
    if at.cuda:
        torch.cuda.reset_peak_memory_stats(at.device)
    steps, end = 0, time.perf_counter() + at.seconds / 4
    start = time.perf_counter()
    while steps < (2 if at.smoke else 60) and time.perf_counter() < end:
        step()
        steps += 1
    at.wait()
    row(f"{name}: images/s over {steps} steps", f"{steps * count / (time.perf_counter() - start):.1f}")
    if not at.cuda:
        row(f"{name}: peak memory and host waits", "a GPU's", "not run")
        return
    row(f"{name}: peak memory, GiB", f"{torch.cuda.max_memory_allocated(at.device) / 2**30:.2f}")
    with torch.profiler.profile() as seen:
        step()
        at.wait()
    calls = Counter(e.name for e in seen.events() if e.name in WAITS)
    row(f"{name}: calls of a step that wait or may (one cudaDeviceSynchronize is this script's)", dict(calls))
    torch.cuda.set_sync_debug_mode("warn")  # names operations that wait; events are not among them
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        step()
    torch.cuda.set_sync_debug_mode("default")
    places = Counter(f"{Path(w.filename).name}:{w.lineno}" for w in caught if "synchroniz" in str(w.message))
    row(f"{name}: operations that made the host wait", dict(places) or "none")


def _loader(at: Setting) -> None:
    """Time that a run of the trainer waits for images."""
    with tempfile.TemporaryDirectory() as folder:
        results = Path(_train(at, Path(folder), profile=True), "profile.csv")
        if not results.is_file():
            row("parts of a step", "the run wrote no profile.csv", "not run")
            return
        lines = results.read_text(encoding="utf-8").splitlines()
        row("parts of a step, profile.csv", " ; ".join(lines))


def _train(at: Setting, folder: Path, images: int = 128, **changes: Any) -> str:
    """A short run on drawn images; its folder."""
    count = 4 if at.smoke else images
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


class _Warnings(logging.Handler):
    """Keeps the warnings of the package."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage().splitlines()[0])


def deterministic(at: Setting) -> None:
    """Equal weights of two runs, and what reproducible sampling costs."""
    heard = _Warnings()
    LOGGER.addHandler(heard)
    with tempfile.TemporaryDirectory() as folder:
        runs, seconds = [], []
        for i, chosen in enumerate((True, True, False)):
            start = time.perf_counter()
            runs.append(_weights(_train(at, Path(folder, str(i)), images=64, deterministic=chosen)))
            seconds.append(time.perf_counter() - start)
            if i == 1:
                equal = _equal(runs[0], runs[1])
                check("two runs, deterministic=True: equal weights", equal, equal)
                refused = [text for text in heard.texts if "deterministic" in text]
                check("operations without a reproducible form", " ; ".join(refused[:1]) or "none", not refused)
        row("run with deterministic=True / False, seconds", f"{seconds[1]:.1f} / {seconds[2]:.1f}")


def resume(at: Setting) -> None:
    """A run that is resumed from its first epoch ends as it did."""
    with tempfile.TemporaryDirectory() as folder:
        run = _train(at, Path(folder, "whole"), images=64, epochs=2, save_period=1)
        first = Path(run, "weights", "epoch0.pt")
        again = YOLO(str(first))
        again.train(resume=str(first), device=_device(at), save_dir=str(Path(folder, "again")), exist_ok=True)
        trainer: Any = again.trainer
        same = _equal(_weights(run), _weights(str(trainer.save_dir)))
        check("resumed after epoch 1 of 2: equal weights", same, same)


def out_of_memory(at: Setting) -> None:
    """The error of a batch that cannot fit into a part of the card's memory."""
    total = torch.cuda.get_device_properties(at.device).total_memory / 2**30
    torch.cuda.set_per_process_memory_fraction(min(1.0, LIMITED_GIB / total), at.device)
    with tempfile.TemporaryDirectory() as folder:
        try:
            _train(at, Path(folder), images=64, batch=64, imgsz=1280)
        except Exception as e:
            check("out of memory: the error", str(e).replace("\n", " "), "would fit" in str(e))
        else:
            row("out of memory", f"64 images of 1280 px fit into {LIMITED_GIB:g} GiB", "not run")


def auto_batch(at: Setting) -> None:
    """`batch=-1`."""
    with tempfile.TemporaryDirectory() as folder:
        run = _train(at, Path(folder), batch=-1)
        chosen = yaml.safe_load(Path(run, "args.yaml").read_text(encoding="utf-8"))["batch"]
        peak, total = (
            torch.cuda.max_memory_reserved(at.device),
            torch.cuda.get_device_properties(at.device).total_memory,
        )
        row("batch=-1: batch (a step takes the 128 images of the set at most)", chosen)
        row("batch=-1: largest part of the card's memory, trial steps included", f"{peak / total:.0%}")


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
        alone = _weights(_train(at, Path(folder, "alone"), images=64))
        context = torch.multiprocessing.get_context("spawn")
        jobs = [context.Process(target=_train, args=(at, Path(folder, f"beside{i}"), 64)) for i in range(2)]
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
        *(card, agreement, blocks, precision, training, deterministic, resume, out_of_memory),
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
