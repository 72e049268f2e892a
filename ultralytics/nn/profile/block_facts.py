"""What can be said of every registered row: signature, purpose, cost and whether it can start as the identity.

`yolo blocks` and the page of blocks are written from this.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import ultralytics.nn.modules  # noqa: F401  registers every block
from ultralytics.nn.build.dry_run import ProbeBlock
from ultralytics.nn.build.names import signature_text
from ultralytics.nn.build.row_forms import row_forms
from ultralytics.nn.registry import CHANNELS_ONCE, REGISTRY, Entry, Plan, RowContext
from ultralytics.utils import tables
from ultralytics.utils.errors import NotFoundError, UserError
from ultralytics.utils.user_modules import Files, load_user_modules, origin

WIDTH_SHOWN, SIDE = 256, 40
# _Arguments with which a row is tried, and channels of the inputs of those that take several maps.
_Arguments = tuple[tuple[Any, ...], ...]
TRIED_ARGUMENTS: _Arguments = (
    (),
    (WIDTH_SHOWN,),
    (WIDTH_SHOWN, 3),
    (WIDTH_SHOWN, 3, 2),
    (WIDTH_SHOWN, WIDTH_SHOWN, 128, 1),
)
KEPT_WIDTH: _Arguments = ((), (8,), (WIDTH_SHOWN,), (WIDTH_SHOWN, 3))  # of rows that state no channels
TRIED_INPUTS = ((WIDTH_SHOWN,) * 2, (WIDTH_SHOWN,) * 3, (WIDTH_SHOWN,) * 4)
_MISFITS = (TypeError, ValueError, IndexError, RuntimeError, AttributeError, AssertionError, UserError)


class BlockFacts(NamedTuple):
    """Facts of one row. `args` are the example's arguments; None, and no cost, where no example was found.

    `row` has the forms of the row's arguments, '' where they are not known. `exports` are the `EXPORT_FORMS` in which
    the example's file gives the same output, as `benchmarks/block_exports.py` measures; none without an example.
    """

    name: str
    signature: str
    purpose: str
    file: str
    args: tuple[Any, ...] | None
    inputs: int
    params: int | None
    gflops: float | None
    identity: bool
    row: str = ""
    exports: tuple[str, ...] = ()

    def cells(self) -> tuple[str, ...]:
        """The cells of a table, see `BLOCK_COLUMNS`."""
        params = "-" if self.params is None else f"{self.params:,}"
        gflops = "-" if self.gflops is None else f"{self.gflops:.3f}"
        exports = "all" if self.exports == EXPORT_FORMS else ", ".join(self.exports) or "-"
        identity = "yes" if self.identity else ""
        return self.name, self.row or self.signature, params, gflops, identity, exports, self.purpose

    def example(self) -> str:
        """A row of a model YAML."""
        source = "-1" if self.inputs == 1 else str([-1, *range(4, 4 + self.inputs - 1)])
        return f"- [{source}, 1, {self.name}, {list(self.args or ())}]"


class _Cost(NamedTuple):
    """What one run of an example shows."""

    params: int
    gflops: float
    identity: bool


BLOCK_COLUMNS = ("row", "arguments", "parameters", "GFLOPs", "identity", "exports", "what it is")
EXPORT_FORMS = ("torchscript", "onnx")
"""Files for one input size, with which the output of a block is compared."""


def block_facts(name: str) -> BlockFacts:
    """Facts of a registered row, of a user's too; KeyError for another name."""
    entry = REGISTRY.get(name)
    if entry is None:
        raise KeyError(name)
    file = origin(entry.cls)
    forms = " or ".join(map(str, row_forms(entry)))
    properties = BlockFacts(
        name, signature_text(entry.cls), entry.purpose, str(file or ""), None, 1, None, None, False, forms
    )
    if entry.is_head or (entry.fills_slots is not None and entry.cls.__module__.startswith("ultralytics.")):
        return properties
    for row, plan in _plans(entry):
        cost = _cost(entry, plan, row)
        if cost is not None:
            exports = () if file else tuple(form for form in EXPORT_FORMS if form not in entry.not_exported)
            found = properties._replace(args=row.args, inputs=len(row.in_channels), exports=exports)
            return found._replace(**cost._asdict())
    return properties


def all_block_facts() -> list[BlockFacts]:
    """Facts of every registered row, by name."""
    return [block_facts(name) for name in REGISTRY]


def _plans(entry: Entry) -> Iterator[tuple[RowContext, Plan]]:
    """Rows that the rule takes."""
    for channels in TRIED_INPUTS if entry.multi_input else ((WIDTH_SHOWN,),):
        for args in KEPT_WIDTH if entry.rule in CHANNELS_ONCE else TRIED_ARGUMENTS:
            row = RowContext(channels, args)
            try:
                plan = entry.rule(row) if entry.rule else Plan((row.c1, *args), -1)
                inspect.signature(entry.cls).bind(*plan.args)
            except _MISFITS:
                continue
            yield row, plan


def _cost(entry: Entry, plan: Plan, row: RowContext) -> _Cost | None:
    """Parameters and GFLOPs of a block on the meta device; None when it does not run on such inputs."""
    try:
        block = ProbeBlock(entry.cls, plan.args)
        maps = [torch.empty(1, c, SIDE, SIDE, device="meta") for c in row.in_channels]
        counter = FlopCounterMode(display=False)
        with counter:
            block.run(maps if entry.multi_input else maps[0])
    except _MISFITS:
        return None
    params = sum(p.numel() for p in block.module.parameters())
    return _Cost(params, counter.get_total_flops() / 1e9, _starts_as_identity(block.module))


def _starts_as_identity(module: nn.Module) -> bool:
    """Whether a block makes itself pass its input on; some have the method and refuse, such as with an attention."""
    start = getattr(module, "start_as_identity", None)
    return bool(start()) if callable(start) else False


def markdown_page() -> str:
    """The page of blocks: a table of every row of this package."""
    rows = [properties.cells() for properties in all_block_facts() if not properties.file]
    lines = [
        "# Blocks",
        "",
        "Every row of a model YAML, written by `yolo blocks format=markdown`. Parameters and GFLOPs are those of an",
        f"example row at {WIDTH_SHOWN} channels and a map of {SIDE}x{SIDE}; `-`: it needs arguments or inputs of its",
        "own.",
        "`identity`: a new row can start as the identity, so that loaded weights keep their outputs.",
        "`exports`: the files in which the example gives the same output, measured block by block by",
        f"`benchmarks/block_exports.py`; `all` are {' and '.join(EXPORT_FORMS)}, for one size of images.",
        "`yolo blocks NAME` shows one with an example.",
        "",
        "| " + " | ".join(BLOCK_COLUMNS) + " |",
        "|:---|:---|---:|---:|:---|:---|:---|",
    ]
    for name, arguments, *rest in rows:
        cells = [f"`{name}`", f"`{arguments}`", *rest]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def describe_blocks(names: Sequence[str] = (), format: str = "text", modules: Files | None = None) -> str:
    """Return what is known of the named rows, or a table of all (`text`, `csv`, `latex`; `markdown`: the page).

    `modules` are Python files of the user with further rows.

    Raises:
        NotFoundError: A name is not registered.
    """
    load_user_modules(modules)
    if names:
        return "\n".join(_describe(name) for name in names) + "\n"
    if format == "markdown":
        return markdown_page()
    rows = [BLOCK_COLUMNS, *(properties.cells() for properties in all_block_facts())]
    return "\n".join(tables.TABLE_FORMATS[format](rows)) + "\n"


def _describe(name: str) -> str:
    entry = REGISTRY.get(name)
    if entry is None:
        near = ", ".join(REGISTRY.nearest(name)) or "none"
        raise NotFoundError(f"no row is called {name}; near names: {near}\nyolo blocks lists them all")
    properties = block_facts(name)
    lines = [name, f"  {properties.purpose}", f"  {properties.signature}"]
    lines += [f"  row: {properties.row}"] if properties.row else []
    lines += [f"  example: {properties.example()}"]
    if properties.params is not None:
        size = f"{WIDTH_SHOWN} channels, {SIDE}x{SIDE}"
        lines.append(f"  {properties.params:,} parameters, {properties.gflops:.3f} GFLOPs at {size}")
    lines += ["  a new row can start as the identity"] if properties.identity else []
    lines += [f"  the same output as {', '.join(properties.exports)}"] if properties.exports else []
    lines += [f"  {form}: {why}" for form, why in entry.not_exported.items()]
    lines += [f"  from {properties.file}"] if properties.file else []
    return "\n".join(lines)
