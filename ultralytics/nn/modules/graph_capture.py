"""Whether a call is being turned into a graph: then only standard operators may be used, or no state kept."""

from __future__ import annotations

import torch


def is_exporting() -> bool:
    """Return whether the call is being turned into a graph, which must hold standard operators only."""
    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined]
    return torch.compiler.is_exporting() or bool(tracing)  # one of them in an ONNX export as well


def is_capturing_graph() -> bool:
    """Return whether the call is being turned into a graph of any kind, compiled ones included."""
    return is_exporting() or torch.compiler.is_compiling()
