"""Which rows of a model YAML keep their output as TorchScript and as ONNX: every block with an example, by itself.

    python benchmarks/block_exports.py                      # all rows, about two minutes on one core
    python benchmarks/block_exports.py CSPOmniKernel SHSA   # some
    python benchmarks/block_exports.py --dynamic            # as ONNX with open sizes (dynamic=True): which cannot

Each block is built as `yolo blocks` shows it, filled with numbers, put in eval mode and fused where it can be. Its file
is run on other inputs than the one that it was written with. Prints a line a block, marked where it is not what the
block declares (`register(not_exported=...)`); the exit status is the number of these. With `--dynamic` the graph has
open axes for images, height and width, and is run on maps of other sizes, two at a time; the exit status is then the
number of blocks that export for one size and not for open ones.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

import ultralytics.nn.tasks  # noqa: F401  registers every block
from ultralytics.nn.export.onnx import DEFAULT_OPSET
from ultralytics.nn.export.prepare import suppress_warnings
from ultralytics.nn.profile.block_facts import EXPORT_FORMS, BlockFacts, block_facts
from ultralytics.nn.registry import REGISTRY, Plan, RowContext

WIDTH = 256
SIDE = 20
BOUND = 1e-3
"""Largest difference, as a part of the largest output."""

OTHER_SIDES = ((24, 16), (16, 28))
"""Height and width of the maps that a file with open sizes is run on."""
DYNAMIC = "onnx-dynamic"

Maps = list[Tensor]


class _Example(nn.Module):
    """A block with its inputs as arguments, and its outputs as a tuple."""

    def __init__(self, block: nn.Module, many: bool) -> None:
        super().__init__()
        self.block, self.many = block, many

    def forward(self, *maps: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs of the block."""
        y = self.block(list(maps)) if self.many else self.block(maps[0])
        return tuple(y) if isinstance(y, (list, tuple)) else (y,)


def example(described: BlockFacts) -> nn.Module:
    """Build the example of a row, filled, fused and in eval mode."""
    torch.manual_seed(0)
    entry = REGISTRY.get(described.name)
    assert entry is not None and described.args is not None
    row = RowContext((WIDTH,) * described.inputs, described.args)
    plan = entry.rule(row) if entry.rule else Plan((WIDTH, *described.args), -1)
    block = entry.cls(*plan.args).eval()
    with torch.no_grad():
        for module in block.modules():
            for name, value in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
                if isinstance(module, nn.modules.batchnorm._BatchNorm) and value.is_floating_point():
                    value.uniform_(0.5, 1.5) if name in {"weight", "running_var"} else value.uniform_(-0.2, 0.2)
    if callable(getattr(block, "fuse", None)):
        block = block.fuse() or block
    return _Example(block, entry.multi_input).eval().requires_grad_(False)


def inputs(described: BlockFacts, seed: int, images: int = 1, sides: tuple[int, int] = (SIDE, SIDE)) -> Maps:
    """Maps of numbers for an example."""
    make = torch.Generator().manual_seed(seed)
    return [torch.randn(images, WIDTH, *sides, generator=make) for _ in range(described.inputs)]


def run_torchscript(model: nn.Module, first: Maps, others: Sequence[Maps]) -> Iterator[Maps]:
    """Outputs of the traced model."""
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(model, tuple(first), check_trace=False), buffer)
    buffer.seek(0)
    loaded = torch.jit.load(buffer)
    yield from (list(loaded(*maps)) for maps in others)


def run_onnx(model: nn.Module, first: Maps, others: Sequence[Maps], open_sizes: bool = False) -> Iterator[Maps]:
    """Outputs of the ONNX file in ONNX Runtime."""
    import onnxruntime

    names, buffer = [f"input{i}" for i in range(len(first))], io.BytesIO()
    with contextlib.redirect_stdout(io.StringIO()):  # torch prints the whole graph when an operator is missing
        torch.onnx.export(
            model,
            tuple(first),
            buffer,
            dynamo=False,
            opset_version=DEFAULT_OPSET,
            input_names=names,
            dynamic_axes={name: {0: "images", 2: "height", 3: "width"} for name in names} if open_sizes else None,
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(buffer.getvalue(), options, providers=["CPUExecutionProvider"])
    used = {value.name for value in session.get_inputs()}
    for maps in others:
        feed = {name: x.numpy() for name, x in zip(names, maps, strict=True) if name in used}
        yield [torch.from_numpy(np.asarray(y)) for y in session.run(None, feed)]


def failure(described: BlockFacts, form: str) -> str:
    """Why a row's block does not export, '' when its file gives the same output."""
    model, first = example(described), inputs(described, 0)
    others = [inputs(described, 1), inputs(described, 2)]
    run = {"onnx": run_onnx, "torchscript": run_torchscript, DYNAMIC: partial(run_onnx, open_sizes=True)}[form]
    if form == DYNAMIC:
        others = [inputs(described, 1 + k, 2, sides) for k, sides in enumerate(OTHER_SIDES)]
        for module in model.modules():
            if isinstance(getattr(module, "dynamic", None), bool):
                module.dynamic = True  # type: ignore[assignment]
    try:
        with torch.no_grad(), suppress_warnings():
            wanted = [model(*maps) for maps in others]
            results = list(run(model, first, others))
    except Exception as e:  # every error of a writer or runtime is a result here
        return f"{type(e).__name__}: {(str(e).strip().splitlines() or [''])[0][:150]}"
    pairs = [pair for got, want in zip(results, wanted, strict=True) for pair in zip(got, want, strict=True)]
    worst = max(_difference(got, want) for got, want in pairs)
    return "" if worst <= BOUND else f"its output differs by {worst:.2g} of its largest value"


def _difference(got: Tensor, want: Tensor) -> float:
    """Largest difference as a part of the largest value; infinite for another shape."""
    if got.shape != want.shape:
        return float("inf")
    return float((got - want).abs().max() / want.abs().max().clamp(min=1e-6))


def measured(names: Sequence[str], forms: Sequence[str]) -> Iterator[tuple[BlockFacts, dict[str, str]]]:
    """Each block with an example, and the failure of each form."""
    for name in names or list(REGISTRY):
        described = block_facts(name)
        if described.args is None:
            print(f"{name:<44} no example", flush=True)
            continue
        yield described, {form: failure(described, form) for form in forms}


def main() -> int:
    """Print the table; return the number of blocks that are not as they declare, or fail with open sizes alone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="rows; all when none is named")
    parser.add_argument("--dynamic", action="store_true", help="ONNX with open sizes instead")
    args = parser.parse_args()
    wrong = 0
    for described, results in measured(args.names, ("onnx", DYNAMIC) if args.dynamic else EXPORT_FORMS):
        if args.dynamic:
            differs, mark = bool(results[DYNAMIC] and not results["onnx"]), "  <- one size only"
        else:
            differs = {form for form, reason in results.items() if not reason} != set(described.exports)
            mark = "  <- not as declared"
        wrong += differs
        text = "; ".join(f"{form}: {reason or 'same'}" for form, reason in results.items())
        print(f"{described.name:<44} {text}{mark if differs else ''}", flush=True)
    return wrong


if __name__ == "__main__":
    sys.exit(min(main(), os.EX_DATAERR))
