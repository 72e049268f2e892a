"""Where the loss or gradient of a step became NaN or infinite: the layer, the loss terms, the images.

While all values are finite, only the check of a batch's labels on the host costs time. After a failure the step is run
once more with hooks on every module (`trace`); its random numbers depend on (seed, rank, step) alone, so it fails again
in the same place. Shapes: B images in a batch, N targets of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ultralytics.engine.training.state import seed_step
from ultralytics.utils.torch_utils import autocast

StepBatch = Mapping[str, Any]

BOX_SLACK = 1e-3
"""How far a box may leave 0..1 before it counts as wrong."""

DATA_CAUSES = ("image", "label")
"""Causes that another precision does not remove."""

ADVICE: Mapping[str, str] = {
    "image": "fix or remove this image",
    "label": "fix this label: boxes are cx, cy, w, h in 0..1, class ids below the number of classes",
    "weight": "the weights hold NaN or Inf: resume from an older checkpoint, with a lower lr0",
    "forward": "lower lr0, raise warmup_epochs, or set amp=False",
    "loss": "check the labels of these images; else lower lr0, raise warmup_epochs, or set amp=False",
    "gradient": "lower lr0 or clip_norm, raise warmup_epochs, or set amp=False",
    "none": "run again with amp=False; a second run of the step was finite",
}
"""What to do, by cause."""


class StepFailure(Exception):
    """A step must not be used. `exact`: the weights are still those that it began with, and `batch` is the one."""

    def __init__(self, kind: str, batch: StepBatch, exact: bool) -> None:
        super().__init__(kind)
        self.kind, self.batch, self.exact = kind, batch, exact


@dataclass(frozen=True)
class Step:
    """What the random numbers and the precision of a step depend on."""

    seed: int
    rank: int
    number: int
    dtype: torch.dtype | None = None
    scale: float = 1.0
    """Factor of the loss in float16."""
    partial: bool = False
    """Whether other batches belong to the same optimizer step."""


@dataclass(frozen=True)
class NanFinding:
    """Where a step went wrong. `cause` is a key of `ADVICE`; `what` describes it; `terms` are the loss terms that
    are not finite; `images` the files at fault, or all of the batch.
    """

    cause: str
    what: str
    terms: tuple[str, ...] = ()
    images: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for a file."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> NanFinding:
        """Return the finding of a record."""
        return cls(str(record["cause"]), str(record["what"]), tuple(record["terms"]), tuple(record["images"]))


def bad_labels(batch: StepBatch, nc: int) -> NanFinding | None:
    """Name the first box outside of 0..1, or class outside of 0..nc-1; None when there is none."""
    cls, boxes = batch["cls"].flatten(), batch.get("bboxes")
    if len(cls) and not (0 <= float(cls.min()) and float(cls.max()) < nc):
        row = int(((cls < 0) | (cls >= nc) | cls.isnan()).nonzero()[0])
        return _label(batch, row, f"class {float(cls[row]):g}, but there are {nc} classes")
    if boxes is None or not len(boxes):
        return None
    low, high = boxes.aminmax()
    if float(low) >= -BOX_SLACK and float(high) <= 1 + BOX_SLACK:
        return None
    wrong = ~((boxes >= -BOX_SLACK) & (boxes <= 1 + BOX_SLACK))  # (N, 4), true for NaN too
    row = int(wrong.any(1).nonzero()[0])
    return _label(batch, row, f"box {', '.join(f'{v:g}' for v in boxes[row].tolist())}, which leaves 0..1")


def _label(batch: StepBatch, row: int, text: str) -> NanFinding:
    owner = batch.get("batch_idx")
    image = int(owner.flatten()[row]) if owner is not None else row
    file = str(batch["im_file"][image])
    first = int((owner.flatten() < image).sum()) if owner is not None else row
    return NanFinding("label", f"label {row - first + 1} of {file}: {text}", images=(file,))


def bad_images(batch: StepBatch) -> NanFinding | None:
    """Name the images of a batch (B, C, H, W) that hold values which are not finite; None when there is none."""
    wrong = (~batch["img"].isfinite()).flatten(1).any(1).nonzero().flatten().tolist()
    if not wrong:
        return None
    files = tuple(str(batch["im_file"][i]) for i in wrong)
    return NanFinding("image", f"{files[0]} holds pixels that are not finite", images=files)


def bad_weight(model: nn.Module) -> str | None:
    """Name the first parameter that is not finite, or statistic of a norm in eval mode; None when there is none."""
    for name, module in model.named_modules():
        state = dict(module.named_parameters(recurse=False))
        if not module.training:
            state |= dict(module.named_buffers(recurse=False))
        for key, tensor in state.items():
            if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                return f"{key} of {layer_name(model, name)} is not finite"
    return None


def layer_name(model: nn.Module, name: str) -> str:
    """Name a module by the layer of the YAML that it is in: `layer 7 (Conv), model.7.conv (Conv2d)`."""
    kind = type(model.get_submodule(name)).__name__
    parts = name.split(".")
    if len(parts) < 2 or parts[0] != "model" or not parts[1].isdigit():
        return f"{name} ({kind})" if name else kind
    layer = type(model.get_submodule(".".join(parts[:2]))).__name__
    return f"layer {parts[1]} ({layer})" + (f", {name} ({kind})" if len(parts) > 2 else "")


def _tensors(value: object) -> Iterator[Tensor]:
    """All floating tensors of a nested output."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, Mapping):
        for v in value.values():
            yield from _tensors(v)
    elif isinstance(value, (list, tuple)):
        for v in value:
            yield from _tensors(v)


def _finite(value: object) -> bool:
    return all(bool(t.detach().isfinite().all()) for t in _tensors(value))


class _Watch:
    """Hooks on every module: what came first among outputs, and among gradients, that is not finite."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.output = self.gradient = ""
        self.terms: dict[str, float] = {}
        self.handles: list[Any] = []

    def __enter__(self) -> _Watch:
        for name, module in self.model.named_modules():
            if name == "criterion":
                self.handles.append(module.register_forward_hook(self._loss_hook))
            elif name and not name.startswith("criterion"):
                self.handles.append(module.register_forward_hook(self._forward_hook(name)))
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                owner, _, key = name.rpartition(".")
                hook = self._gradient_hook(f"the gradient of {key} of {layer_name(self.model, owner)}")
                self.handles.append(parameter.register_hook(hook))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()

    def _loss_hook(self, module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Mapping):
            self.terms = {k: float(v.detach()) for k, v in output.items()}

    def _forward_hook(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            if not self.output and not _finite(output):
                side = "output" if _finite(inputs) else "input"
                self.output = f"the {side} of {layer_name(self.model, name)} is not finite"
            for tensor in _tensors(output):
                if tensor.requires_grad:
                    tensor.register_hook(self._gradient_hook(f"the gradient at {layer_name(self.model, name)}"))

        return hook

    def _gradient_hook(self, text: str) -> Any:
        def hook(gradient: Tensor) -> None:
            if not self.gradient and not _finite(gradient):
                self.gradient = f"{text} is not finite"

        return hook


def trace(model: Any, batch: StepBatch, step: Step) -> NanFinding:
    """Run a step again, without its update, and find what is wrong with it.

    The network is left with its weights; the statistics of its norms move as in any step. In a distributed run all
    processes must come here together.
    """
    if hasattr(model, "ensure_criterion"):
        model.ensure_criterion()  # which is watched, too
    device = next(model.parameters()).device
    seed_step(step.seed, step.rank, step.number)
    model.zero_grad()
    with _Watch(model) as watch:
        with autocast(step.dtype is not None, device, step.dtype):
            loss, items = model(batch, **({"partial": True} if step.partial else {}))
        (loss * step.scale).backward()
    model.zero_grad()
    terms = watch.terms or {f"item {i}": v for i, v in enumerate(items.flatten().tolist())}
    bad = tuple(k for k, v in terms.items() if not math.isfinite(v))
    return _conclude(model, batch, watch, bad, bool(loss.isfinite()))


def _conclude(model: nn.Module, batch: StepBatch, watch: _Watch, terms: tuple[str, ...], finite: bool) -> NanFinding:
    """Choose the earliest cause: image, weight, layer output, loss, gradient."""
    files = tuple(map(str, batch["im_file"]))
    found = bad_images(batch)
    if found is not None:
        return NanFinding(found.cause, found.what, terms, found.images)
    weight = bad_weight(model)
    if weight:
        return NanFinding("weight", weight, terms, files)
    if watch.output:
        return NanFinding("forward", watch.output, terms, files)
    if terms or not finite:
        return NanFinding("loss", "the loss itself is not finite, all outputs are", terms, files)
    if watch.gradient:
        return NanFinding("gradient", watch.gradient, terms, files)
    return NanFinding("none", "a second run of the step is finite", (), files)


def shown_images(images: Sequence[str], limit: int = 3) -> str:
    """Names of the first images of a batch, and how many more there are."""
    more = f" and {len(images) - limit} more" if len(images) > limit else ""
    return ", ".join(str(i) for i in images[:limit]) + more
