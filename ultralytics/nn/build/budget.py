"""A bound on what is built from a YAML: a file of a few bytes may ask for a network that no memory holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ultralytics.utils.errors import ModelYAMLError

MAX_ROWS = 5_000
MAX_TENSORS = 15_000
"""Several times those of the largest network here; planning one of these takes some ten seconds."""
MAX_PLANNED = 10**11
"""Elements of all tensors of a network that is planned without memory."""
MAX_BUILT = 4 * 10**9
"""Elements of all tensors of a network that is built: 16 GB in float32, several times the largest detector."""

_FACTORIES = frozenset(
    [
        *(
            getattr(torch, name)
            for name in "empty zeros ones full rand randn arange linspace tensor eye normal".split()
        ),
        *(getattr(torch, name) for name in "randint empty_strided empty_like zeros_like ones_like".split()),
        torch.Tensor.clone,  # as a deep copy of a module makes them
    ]
)


class ConstructionBudget(TorchFunctionMode):
    """Inside `with`, tensors that are made are counted; ModelYAMLError when they are more than a number of elements or
    of tensors, or than the memory holds.
    """

    def __init__(self, elements: int, tensors: int, problem: str = "") -> None:
        super().__init__()
        self.elements, self.tensors = elements, tensors
        self.problem = problem or f"it asks for more than {elements:,} numbers in {tensors:,} tensors"

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> object:
        """Count what a factory makes."""
        if func not in _FACTORIES:
            return func(*args, **(kwargs or {}))
        try:
            made = func(*args, **(kwargs or {}))
        except (RuntimeError, MemoryError) as e:
            if isinstance(e, MemoryError) or "alloc" in str(e):
                raise ModelYAMLError(f"it asks for more memory than there is: {str(e).splitlines()[0]:.100}") from None
            raise
        if isinstance(made, Tensor):
            self.elements -= made.numel() if made.device.type == "meta" or made.untyped_storage().nbytes() else 0
            self.tensors -= 1
            if self.elements < 0 or self.tensors < 0:
                raise ModelYAMLError(self.problem)
        return made
