"""`yolo blocks`: the registered rows of model YAMLs. Nothing here imports torch before the tool runs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ultralytics.utils import tables
from ultralytics.utils.errors import NotFoundError
from ultralytics.utils.log import write_text
from ultralytics.utils.user_modules import load_user_modules


class Call(Protocol):
    """What the tools here read of a command's tokens."""

    @property
    def files(self) -> Sequence[str]: ...

    @property
    def own(self) -> Mapping[str, Any]: ...


def blocks(call: Call) -> None:
    """Print all rows as a table, or each named one with its constructor, cost and an example.

    Raises:
        NotFoundError: A name is not registered.
    """
    import ultralytics.nn.tasks  # noqa: F401  registers every block
    from ultralytics.nn.profile.block_facts import HEADER, all_block_facts, block_facts, markdown_page
    from ultralytics.nn.registry import REGISTRY

    load_user_modules(call.own.get("modules"))
    for name in call.files:
        if name not in REGISTRY:
            near = ", ".join(REGISTRY.nearest(name)) or "none"
            raise NotFoundError(f"no row is called {name}; near names: {near}\nyolo blocks lists them all")
        facts = block_facts(name)
        lines = [facts.purpose, f"  {facts.signature}", f"  {facts.example()}"]
        if facts.params is not None:
            lines.append(f"  {facts.params:,} parameters, {facts.gflops:.3f} GFLOPs at 256 channels, 40x40")
        lines += ["  a new row can start as the identity"] if facts.identity else []
        lines += [f"  from {facts.file}"] if facts.file else []
        write_text(sys.stdout, "\n".join([f"{name}", *lines]) + "\n")
    if call.files:
        return
    if call.own.get("format") == "markdown":
        write_text(sys.stdout, markdown_page())
        return
    rows = [HEADER, *(facts.cells() for facts in all_block_facts())]
    write_text(sys.stdout, "\n".join(tables.FORMATS[call.own.get("format", "text")](rows)) + "\n")
