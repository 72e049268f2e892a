"""Networks through `torch.compile`: one compilation for each input shape, logged, and never skipped silently.

Shapes: B batch, C channels, H x W input, K rows of the output, nc classes.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ultralytics.nn.tasks import BaseModel
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.log import LOGGER
from ultralytics.utils.torch_utils import autocast_dtype

Output = TypeVar("Output")

BACKEND: str | Callable[..., Any] = "inductor"
COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
MAX_SHAPES = 32
"""Compilations of one network; each takes seconds to minutes and stays in memory."""


def compile_mode(value: bool | str) -> str | None:
    """Return the mode that a value of `compile` names, None for the default; raises ConfigError for an unknown mode."""
    if isinstance(value, bool) or value in COMPILE_MODES:
        return value if isinstance(value, str) and BACKEND == "inductor" else None
    raise ConfigError(f"compile={value}: not a mode of torch.compile", f"True, or one of {', '.join(COMPILE_MODES)}")


class Compiled(Generic[Output]):
    """A function of an image batch, compiled as one graph for each shape of it.

    Raises ConfigError where it cannot be compiled, with what is missing, and for more than `MAX_SHAPES` shapes.
    """

    def __init__(self, function: Callable[[Tensor], Output], value: bool | str) -> None:
        self.value = value
        self.known: set[Hashable] = set()
        mode = {"mode": name} if (name := compile_mode(value)) else {}
        known = inspect.signature(torch.compile).parameters  # torch before 2.14 has but one limit for all networks
        limits = {"recompile_limit": MAX_SHAPES + 1, "isolate_recompiles": True} if "recompile_limit" in known else {}
        options: dict[str, Any] = {"backend": BACKEND, "dynamic": False, "fullgraph": True, **mode, **limits}
        self._run: Callable[[Tensor], Output] = torch.compile(function, **options)

    def __call__(self, im: Tensor, state: Hashable = None) -> Output:
        """Call the function; `state` is what else its graph depends on."""
        amp = autocast_dtype(im.device.type)
        key = (tuple(im.shape), im.stride(), im.dtype, amp, torch.is_grad_enabled(), state)
        if key in self.known:
            return self._run(im)
        return self._first(im, key)

    def _first(self, im: Tensor, key: Hashable) -> Output:
        """Call the function for the first time with such an input, which compiles it."""
        size = "x".join(map(str, im.shape))
        if len(self.known) >= MAX_SHAPES:
            raise ConfigError(f"compile={self.value}: {size} is input shape {MAX_SHAPES + 1}", "leave compile out")
        LOGGER.info(f"Compiling the network for inputs of {size} ...")
        start = time.perf_counter()
        try:
            output = self._run(im)
        except RuntimeError as e:
            text = _why(e)
            if text is None:
                raise
            raise ConfigError(f"compile={self.value}: {text[0]}", text[1]) from e
        LOGGER.info(
            f"Compiling for {size} took {time.perf_counter() - start:.1f} s; the next ones of this shape do not"
        )
        self.known.add(key)
        return output


def _why(error: RuntimeError) -> tuple[str, str] | None:
    """Return why a compilation failed and what helps; None for an error that is not the compiler's."""
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    names = {c.__name__: c.__module__ for e in chain for c in type(e).__mro__}
    text = str(error).strip()
    last = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
    if "InvalidCxxCompiler" in names or "No working C++ compiler" in text:
        return "no working C++ compiler was found", "install one (g++ or clang++), or leave compile out"
    if names.keys() & {"TritonMissing", "TritonUnavailableError", "GPUTooOldForTriton"}:
        return "the compiler of this GPU needs Triton", "pip install triton (GPUs from 2017 on), or leave compile out"
    if any(module.startswith(("torch._dynamo", "torch._inductor")) for module in names.values()):
        return f"the network cannot be compiled: {last:.200}", "leave compile out"
    return None


class CompiledRows:
    """The rows (B, K, 6) of a detector, or the logits (B, nc) of a classifier, by its compiled network.

    A batch that is smaller than the one before, as the last of a source, is padded to that with zeros instead of
    being compiled for; if it comes again right after, it is compiled. Embeddings run uncompiled.
    """

    def __init__(self, model: BaseModel, value: bool | str) -> None:
        self.model = model
        self._last: tuple[int, ...] = ()
        self._padded: tuple[int, ...] = ()

        def rows(im: Tensor) -> Tensor:
            output = model(im)
            first: Tensor = output[0] if isinstance(output, (tuple, list)) else output
            return first

        self._rows = Compiled(rows, value)

    def __call__(self, im: Tensor, embed: Sequence[int] | None = None, **kwargs: Any) -> Tensor | tuple[Tensor, ...]:
        """Return the output for images (B, C, H, W) in 0..1."""
        if embed is not None or kwargs:
            vectors: tuple[Tensor, ...] = self.model(im, embed=embed, **kwargs)
            return vectors
        classes = getattr(self.model.model[-1], "classes", None)
        images = len(im)
        im = F.pad(im, (0, 0, 0, 0, 0, 0, 0, self._missing(tuple(im.shape))))  # (B', C, H, W), B' >= B
        rows: Tensor = self._rows(im, None if classes is None else tuple(classes))
        return rows[:images].clone()  # a graph may write its next output to the same memory

    def _missing(self, shape: tuple[int, ...]) -> int:
        """Number of images that this batch lacks of the previous one, 0 when it is not a remainder."""
        remainder = self._last[1:] == shape[1:] and shape[0] < self._last[0] and shape != self._padded
        self._padded = shape if remainder else ()
        if remainder:
            return self._last[0] - shape[0]
        self._last = shape
        return 0
