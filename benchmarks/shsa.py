"""SHSA's attention against the plain formula: seconds, and memory beyond the tensors that go in and come out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from common import ROOT, Report, arguments, environment, machine, take_turns, timed
from torch import Tensor

sys.path.insert(0, str(ROOT))

from ultralytics.nn.cpu.malloc import retain_freed_memory
from ultralytics.nn.modules.attention import single_head_attention

QK, V = 16, 64
Work = Callable[[], None]


def plain(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """The formula as the paper writes it."""
    return (q @ k.transpose(-2, -1) * scale).softmax(-1) @ v


FORMS: dict[str, Callable[[Tensor, Tensor, Tensor, float], Tensor]] = {"ours": single_head_attention, "plain": plain}


def tokens(n: int, dtype: torch.dtype, grad: bool) -> list[Tensor]:
    """q, k, v as slices of one projection, as SHSA makes them: (1, N, D) views of channels-first memory."""
    torch.manual_seed(0)
    qkv = torch.randn(1, 2 * QK + V, n, dtype=dtype, requires_grad=grad)
    return [t.transpose(1, 2) for t in qkv.split((QK, QK, V), 1)]


def call(form: str, n: int, dtype: torch.dtype = torch.float32, grad: bool = False) -> Work:
    """One pass of a form, with its gradient if asked for."""
    attend, (q, k, v) = FORMS[form], tokens(n, dtype, grad)

    def run() -> None:
        with torch.set_grad_enabled(grad):
            y = attend(q, k, v, QK**-0.5)
        if grad:
            y.sum().backward(retain_graph=True)

    return run


def extra_memory(form: str, n: int) -> float:
    """MB that a training pass adds to the peak of a process that has done a small one before."""
    command = [sys.executable, __file__, "--memory", form, str(n)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment(sys.executable))
    return float(done.stdout)


def _measure_memory(form: str, n: int) -> None:
    call(form, 64, grad=True)()
    work = call(form, n, grad=True)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is resident now
    before = _resident()
    work()
    print(_resident() - before)


def _resident() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def main() -> None:
    """Measure and report."""
    args = arguments(__doc__ or "", rounds=(5, 25))
    if args.threads:
        torch.set_num_threads(args.threads)
    retain_freed_memory()  # as predictions and trainings do
    n = 1600 if args.quick else 6400
    report = Report("shsa", "SHSA attention", {"qk": QK, "v": V, "batch": 1}, machine(args.threads))

    def compare(what: str, ours: Work, other: Work, goal: float | None, calls: int = 1) -> None:
        sides = {"ours": timed(ours, calls), "plain fp32": timed(other, calls)}
        report.compare(what, take_turns(sides, args.rounds), goal)

    compare(f"forward, N = {n}, fp32", call("ours", n), call("plain", n), 4)
    compare(f"forward, N = {n}, bf16", call("ours", n, torch.bfloat16), call("plain", n), 10)
    compare(f"forward and backward, N = {n}, fp32", call("ours", n, grad=True), call("plain", n, grad=True), 3)
    half = call("ours", n, torch.bfloat16, grad=True)
    compare(f"forward and backward, N = {n}, bf16", half, call("plain", n, grad=True), None)
    few = {"goal": 1, "calls": 50}
    compare("forward, N = 400, fp32", call("ours", 400), call("plain", 400), **few)
    compare("forward and backward, N = 400, fp32", call("ours", 400, grad=True), call("plain", 400, grad=True), **few)
    if Path("/proc/self/clear_refs").exists():
        ours, other = (extra_memory(form, n) for form in FORMS)
        what = f"peak memory of training, N = {n}: MB beyond the inputs, ours / plain"
        report.fact(what, f"{ours:.1f} / {other:.1f} ({ours / other:.1%})", "at most 10 %", ours <= 0.1 * other)
    report.write(args.out)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory"]:
        _measure_memory(sys.argv[2], int(sys.argv[3]))
    else:
        main()
